"""Some people and orders to begin with, so that there is something to look at."""

from __future__ import annotations

from examples.shop.catalogue import CATALOGUE
from examples.shop.models import CustomerOrder, OrderLine, User, db

ADA = "ada@analytical.example"
#: An administrator: she may upload files of tracking numbers.
GRACE = "grace@paperandink.example"
#: Another one: both get alarms.
JOAN = "joan@paperandink.example"
#: The relay of `examples.shop.inbox` knows nobody of that name.
LINUS = "linus@moved.example"
#: Her relay turns the first attempt away.
GRETA = "greta@greylist.example"

#: Of the orders that stand to begin with.
NUMBERS = frozenset({"A-1001", "A-1002", "A-1003"})


def settle() -> None:
    """Write them down, if nobody is there yet: each customer has an order that can be shipped."""
    if db.session.query(User).first() is not None:
        return
    ada, linus, greta = (
        User(email=ADA, username="Ada"),
        User(email=LINUS, username="Linus"),
        User(email=GRETA, username="Greta"),
    )
    administrators = [
        User(email=GRACE, username="Grace", is_admin=True),
        User(email=JOAN, username="Joan", is_admin=True),
    ]
    db.session.add_all([ada, linus, greta, *administrators])
    for number, user in zip(sorted(NUMBERS), (ada, greta, linus), strict=True):
        article = CATALOGUE[0]
        line = OrderLine(article=article.name, quantity=1, price_cents=article.price_cents)
        db.session.add(CustomerOrder(order_number=number, user=user, lines=[line]))
    db.session.commit()
