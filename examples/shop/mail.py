"""Every mail that the shop sends.

Each function runs in the transaction of its caller: what it enqueues is sent if, and only if, that
transaction commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from flask import url_for
from sqlalchemy import select

from examples.shop.invoice import invoice_pdf
from examples.shop.models import CustomerOrder, Upload, User, db
from examples.shop.parcels import COLUMNS, Parcel, Result
from examples.shop.visitor import current_user_id
from postroom import Attachment, CsvStyle, Lane, Message, MessageStatus, Template
from postroom.integrations.flask import Postroom

postroom = Postroom(users=select(User.id, User.email, User.username), user_id=current_user_id)

#: Cells hold what others typed: none of it is to run as a formula.
_FOR_SPREADSHEETS = CsvStyle(escape_formulas=True)

TOKEN_LIVES_FOR = timedelta(minutes=15)


def send_token(user: User, token: str) -> None:
    """Send the link that signs ``user`` in; before anything else, and never when it is too late."""
    link = url_for("accounts.enter", token=token, _external=True)
    message = Message(
        subject="Sign in to Paper & Ink",
        html=Template("mail/sign_in.html", user=user, link=link),
        lane=Lane.URGENT,
        expires_at=datetime.now(UTC) + TOKEN_LIVES_FOR,
    )
    postroom.enqueue(message, user_ids=[user.id])


def confirm(order: CustomerOrder) -> None:
    """Confirm an order to the customer who has just placed it, with the invoice."""
    message = Message(
        subject=f"Order {order.order_number} is confirmed",
        html=Template("mail/order.html", order=order),
        attachments=[
            Attachment.from_bytes(f"invoice-{order.order_number}.pdf", invoice_pdf(order))
        ],
    )
    postroom.enqueue_to_current_user(message, idempotency_key=confirmation_of(order))


def announce(order: CustomerOrder) -> None:
    """Tell a customer that the parcel is on its way."""
    message = Message(
        subject=f"Order {order.order_number} is on its way",
        html=Template("mail/shipped.html", order=order),
    )
    postroom.enqueue(message, user_ids=[order.user_id], idempotency_key=announcement_of(order))


def report(upload: Upload, parcels: Sequence[Parcel]) -> None:
    """Send what became of each line, to who uploaded the file and to whom they named: each once."""
    message = Message(
        subject=f"Results for {upload.file_name}",
        html=Template(
            "mail/results.html",
            upload=upload,
            read=len(parcels),
            shipped=sum(parcel.result is Result.SHIPPED for parcel in parcels),
        ),
        attachments=[
            Attachment.csv("results.csv", parcels, columns=COLUMNS, style=_FOR_SPREADSHEETS),
            Attachment.excel("results.xlsx", {"Results": parcels}, columns=COLUMNS),
        ],
    )
    also = [upload.receiver_email] if upload.receiver_email else []
    postroom.enqueue(message, user_ids=[upload.user_id], to=also, idempotency_key=report_of(upload))


def alarm(upload: Upload) -> None:
    """Tell every administrator that a file could not be booked."""
    message = Message(
        subject=f"{upload.file_name} was not booked",
        html=Template("mail/alarm.html", upload=upload),
        headers={"Importance": "high"},
        lane=Lane.URGENT,
    )
    administrators = select(User.email).where(User.is_admin)
    postroom.enqueue(message, to=administrators, idempotency_key=alarm_of(upload))


def confirmation_of(order: CustomerOrder) -> str:
    """Return the key of the confirmation: there is one for each order, however often this runs."""
    return f"order-confirmed:{order.order_number}"


def announcement_of(order: CustomerOrder) -> str:
    """Return the key of the news that the parcel is on its way."""
    return f"order-shipped:{order.order_number}"


def report_of(upload: Upload) -> str:
    """Return the key of an upload's results."""
    return f"upload-results:{upload.id}"


def alarm_of(upload: Upload) -> str:
    """Return the key of the alarm about an upload."""
    return f"upload-failed:{upload.id}"


def history(*keys: str) -> list[MessageStatus]:
    """Return how the mails with these keys stand, recipient by recipient."""
    outbox = postroom.outbox
    found = [outbox.search(db.session, idempotency_key=key) for key in keys]
    return [outbox.status(db.session, one.id) for summaries in found for one in summaries]


def is_moving(mails: Iterable[MessageStatus]) -> bool:
    """Return whether something more will happen to one of them by itself."""
    return any(recipient.due_at for mail in mails for recipient in mail.recipients)
