"""Placing orders, and looking at what became of them and of their mail."""

from __future__ import annotations

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from examples.shop import mail
from examples.shop.catalogue import CATALOGUE
from examples.shop.models import CustomerOrder, OrderLine, db
from examples.shop.visitor import current_user, signed_in

MOST_OF_AN_ARTICLE = 20

pages = Blueprint("orders", __name__)


@pages.get("/")
def index() -> ResponseReturnValue:
    """Show what there is to buy and, once signed in, what was bought."""
    user = current_user()
    placed = select(CustomerOrder).order_by(CustomerOrder.id.desc()).limit(50)
    if user is not None and not user.is_admin:
        placed = placed.where(CustomerOrder.user_id == user.id)
    orders = db.session.scalars(placed).all() if user is not None else []
    return render_template(
        "index.html", catalogue=CATALOGUE, most=MOST_OF_AN_ARTICLE, orders=orders
    )


@pages.post("/orders")
@signed_in
def place() -> ResponseReturnValue:
    """Place an order and confirm it, in one transaction."""
    lines = _ordered_lines()
    if not lines:
        flash("Choose at least one article.")
        return redirect(url_for("orders.index"))
    order = CustomerOrder(user=current_user(), lines=lines)
    db.session.add(order)
    db.session.flush()  # gives the order its number
    mail.confirm(order)
    db.session.commit()
    return redirect(url_for("orders.show", order_number=order.order_number))


@pages.get("/orders/<order_number>")
@signed_in
def show(order_number: str) -> ResponseReturnValue:
    """Show an order, and what happened to its mail."""
    order = db.session.scalar(
        select(CustomerOrder).where(CustomerOrder.order_number == order_number)
    )
    user = current_user()
    if order is None or user is None or not (user.is_admin or order.user_id == user.id):
        abort(404)
    mails = mail.history(mail.confirmation_of(order), mail.announcement_of(order))
    return render_template("order.html", order=order, mails=mails)


def _ordered_lines() -> list[OrderLine]:
    chosen = ((article, request.form.get(article.code, 0, type=int)) for article in CATALOGUE)
    return [
        OrderLine(article=article.name, quantity=quantity, price_cents=article.price_cents)
        for article, quantity in chosen
        if 0 < quantity <= MOST_OF_AN_ARTICLE
    ]
