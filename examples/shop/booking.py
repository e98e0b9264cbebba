"""Booking an upload: its parcels, its state and its mail in one transaction, or none of them."""

from __future__ import annotations

import logging

from sqlalchemy import select, update

from examples.shop import mail, parcels
from examples.shop.models import CustomerOrder, Upload, UploadState, db
from examples.shop.parcels import Result

log = logging.getLogger(__name__)


def book_waiting() -> None:
    """Book every upload that waits."""
    waiting = select(Upload.id).where(Upload.state == UploadState.WAITING).order_by(Upload.id)
    ids = db.session.scalars(waiting).all()
    db.session.rollback()  # nothing was written; the next statement begins a transaction
    for upload_id in ids:
        book_upload(upload_id)


def book_upload(upload_id: int) -> None:
    """Book one upload, unless it is booked already or by somebody else at this moment.

    Whoever is killed on the way leaves it waiting, as it was.
    """
    try:
        if _turned(upload_id, UploadState.BOOKED):
            _book(db.session.get_one(Upload, upload_id))
        db.session.commit()
    except Exception as error:  # whatever it is, the administrators are to know
        db.session.rollback()
        log.warning("upload %d was not booked", upload_id, exc_info=error)
        _give_up(upload_id, str(error))


def _turned(upload_id: int, state: UploadState) -> bool:
    """Turn an upload that waits into ``state``; of several who try at once, one succeeds."""
    waits = (Upload.id == upload_id) & (Upload.state == UploadState.WAITING)
    turned = update(Upload).where(waits).values(state=state).returning(Upload.id)
    return db.session.scalar(turned) is not None


def _book(upload: Upload) -> None:
    booked = parcels.book(upload.content)
    mail.report(upload, booked)
    shipped = [parcel.order_number for parcel in booked if parcel.result is Result.SHIPPED]
    orders = select(CustomerOrder).where(CustomerOrder.order_number.in_(shipped))
    for order in db.session.scalars(orders):
        mail.announce(order)


def _give_up(upload_id: int, reason: str) -> None:
    if _turned(upload_id, UploadState.FAILED):
        upload = db.session.get_one(Upload, upload_id)
        upload.reason = reason
        mail.alarm(upload)
    db.session.commit()
