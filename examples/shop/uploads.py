"""Uploading files of tracking numbers, and looking at what became of them and of their mail."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from examples.shop import background, mail
from examples.shop.models import Upload, db
from examples.shop.visitor import current_user, staff_only
from postroom import Address, InvalidAddress

pages = Blueprint("uploads", __name__, url_prefix="/uploads")


@pages.get("/")
@staff_only
def index() -> ResponseReturnValue:
    """Show the form and the latest uploads."""
    uploads = db.session.scalars(select(Upload).order_by(Upload.id.desc()).limit(50)).all()
    return render_template("uploads.html", uploads=uploads)


@pages.post("/")
@staff_only
def add() -> ResponseReturnValue:
    """Keep a file; it is booked in the background."""
    file = request.files.get("file")
    receiver = request.form.get("receiver_email", "").strip()
    if file is None or not file.filename or not file.filename.isprintable():
        flash("Choose a file with a name that can be read.")
        return redirect(url_for("uploads.index"))
    try:
        receiver_email = str(Address(receiver)) if receiver else None
    except InvalidAddress as error:
        flash(str(error))
        return redirect(url_for("uploads.index"))
    upload = Upload(
        user=current_user(),
        receiver_email=receiver_email,
        file_name=file.filename,
        content=file.read(),
    )
    db.session.add(upload)
    db.session.commit()
    background.hint()
    return redirect(url_for("uploads.show", upload_id=upload.id))


@pages.get("/<int:upload_id>")
@staff_only
def show(upload_id: int) -> ResponseReturnValue:
    """Show an upload, and what happened to its mail."""
    upload = db.get_or_404(Upload, upload_id)
    mails = mail.history(mail.report_of(upload), mail.alarm_of(upload))
    return render_template("upload.html", upload=upload, mails=mails)
