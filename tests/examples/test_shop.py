"""The shop in `examples/shop`, end to end: its pages, its worker, and the mail that arrives."""

from __future__ import annotations

import csv
import io
import re
from email.message import EmailMessage

import openpyxl
import pytest
from sqlalchemy import event, select

from examples.shop import mail
from examples.shop.models import CustomerOrder, Upload, UploadState, db
from examples.shop.people import ADA, GRACE, GRETA, JOAN, LINUS
from postroom import IdempotencyConflict, Phase
from tests.examples.visiting import Shop, Visitor, body_of, files_of, link_in

PARCELS = "order_number,tracking_number\nA-1001,0034 1\nA-1002,\nA-9999,0034 3\n"


def file_of(text: str | bytes, name: str = "parcels.csv") -> tuple[io.BytesIO, str]:
    return io.BytesIO(text.encode() if isinstance(text, str) else text), name


def uploaded(visitor: Visitor, file: str | bytes, receiver: str = "") -> str:
    """Upload a file; return the page of the upload."""
    fields = {"file": file_of(file), "receiver_email": receiver}
    return visitor.post("/uploads/", form_on="/uploads/", **fields).request.path


def about(mails: list[EmailMessage], subject: str) -> list[EmailMessage]:
    return [one for one in mails if subject in str(one["Subject"])]


def readers(mails: list[EmailMessage]) -> list[str]:
    return sorted(one["To"].addresses[0].addr_spec for one in mails)


def said(page: str) -> str:
    """Return what a page says, without its tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_a_customer_signs_in_with_a_link_that_is_mailed(shop: Shop) -> None:
    assert "Sign out Ada" in shop.signed_in(ADA).get("/").text


def test_a_stranger_gets_the_same_answer_and_no_mail(shop: Shop) -> None:
    stranger, customer = (
        shop.visitor().post("/sign-in", form_on="/sign-in", email=email).text.replace(email, "")
        for email in ("nobody@example.com", ADA)
    )
    assert stranger == customer
    assert readers(shop.delivered()) == [ADA]


def test_a_link_that_was_tampered_with_signs_nobody_in(shop: Shop) -> None:
    visitor = shop.visitor()
    visitor.post("/sign-in", form_on="/sign-in", email=ADA)
    page = visitor.get(link_in(shop.delivered()[-1])[:-1]).text
    assert "Ask for a new one" in page
    assert "Sign out" not in visitor.get("/").text


def test_an_order_is_confirmed_with_its_invoice(shop: Shop) -> None:
    ada = shop.signed_in(ADA)
    page = ada.post("/orders", form_on="/", pen=1, notebook=3)
    number = page.request.path.removeprefix("/orders/")
    (confirmation,) = about(shop.delivered(), f"Order {number} is confirmed")
    assert confirmation["To"].addresses[0].addr_spec == ADA
    assert "3 × Notebook A5, dotted" in body_of(confirmation)
    assert "€87.40" in body_of(confirmation)
    (invoice,) = files_of(confirmation).items()
    assert invoice[0] == f"invoice-{number}.pdf"
    assert invoice[1].startswith(b"%PDF-")
    assert link_in(confirmation) == f"http://shop.example/orders/{number}"


def test_an_order_s_page_shows_its_mail_before_and_after(shop: Shop) -> None:
    ada = shop.signed_in(ADA)
    page = ada.post("/orders", form_on="/", ink=2)
    assert f"{ADA} queued 0" in said(page.text)
    assert 'http-equiv="refresh"' in page.text
    shop.delivered()
    page = ada.get(page.request.path)
    assert f"{ADA} accepted 1 250" in said(page.text)
    assert 'http-equiv="refresh"' not in page.text


def test_an_order_s_page_shows_what_the_relay_refused(shop: Shop) -> None:
    linus = shop.signed_in(LINUS)
    shop.relay.on(Phase.RCPT, "550 5.1.1 no such user here", address=LINUS)
    page = linus.post("/orders", form_on="/", ink=1)
    shop.delivered()
    assert f"{LINUS} rejected 1 550 5.1.1 no such user here" in said(
        linus.get(page.request.path).text
    )


def test_an_order_that_is_rolled_back_is_not_confirmed(shop: Shop) -> None:
    ada = shop.signed_in(ADA)
    with shop.app.app_context():

        @event.listens_for(db.session, "before_commit", once=True)
        def _fail(_session: object) -> None:
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        ada.post("/orders", form_on="/", ink=1)
    assert about(shop.delivered(), "is confirmed") == []
    with shop.app.app_context():
        assert db.session.query(CustomerOrder).count() == 3


def test_nothing_is_ordered_where_nothing_was_chosen(shop: Shop) -> None:
    ada = shop.signed_in(ADA)
    assert "Choose at least one article" in ada.post("/orders", form_on="/", ink="0").text
    assert "Choose at least one article" in ada.post("/orders", form_on="/", ink="-3").text
    assert len(shop.delivered()) == 1


def test_nobody_sees_the_orders_of_others(shop: Shop) -> None:
    assert shop.signed_in(LINUS).get("/orders/A-1001").status_code == 404
    assert shop.signed_in(GRACE).get("/orders/A-1001").status_code == 200
    assert "Sign in" in shop.visitor().get("/orders/A-1001").text


def test_only_who_works_here_books_parcels(shop: Shop) -> None:
    ada = shop.signed_in(ADA)
    assert ada.get("/uploads/").status_code == 404
    assert ada.post("/uploads/", form_on="/", file=file_of(PARCELS)).status_code == 404


def test_a_form_from_elsewhere_is_refused(shop: Shop) -> None:
    ada = shop.signed_in(ADA)
    assert ada.client.post("/orders", data={"ink": "1"}).status_code == 400
    assert ada.client.post("/orders", data={"ink": "1", "csrf_token": "guessed"}).status_code == 400
    assert len(shop.delivered()) == 1


def test_results_go_once_to_who_uploaded_and_to_the_receiver(shop: Shop) -> None:
    grace = shop.signed_in(GRACE)
    page = uploaded(grace, PARCELS, receiver="warehouse@partner.example")
    shop.booked()
    results = about(shop.delivered(), "Results for parcels.csv")
    assert readers(results) == [GRACE, "warehouse@partner.example"]
    for one in results:
        rows = list(csv.reader(io.StringIO(files_of(one)["results.csv"].decode())))
        assert rows == [
            ["order_number", "tracking_number", "result"],
            ["A-1001", "0034 1", "shipped"],
            ["A-1002", "", "no tracking number"],
            ["A-9999", "0034 3", "unknown order"],
        ]
        sheet = openpyxl.load_workbook(io.BytesIO(files_of(one)["results.xlsx"]))["Results"]
        assert [[cell or "" for cell in row] for row in sheet.values] == rows
    shown = said(grace.get(page).text)
    assert "Uploaded by Grace · booked" in shown
    assert f"{GRACE} accepted 1" in shown
    assert "warehouse@partner.example accepted 1" in shown


def test_what_others_typed_runs_as_no_formula(shop: Shop) -> None:
    uploaded(shop.signed_in(GRACE), "order_number,tracking_number\nA-9999,=1+1\n")
    shop.booked()
    (results,) = about(shop.delivered(), "Results for")
    assert b"A-9999,'=1+1,unknown order" in files_of(results)["results.csv"]


def test_a_receiver_who_uploaded_the_file_gets_the_results_once(shop: Shop) -> None:
    uploaded(shop.signed_in(GRACE), PARCELS, receiver=GRACE.upper())
    shop.booked()
    (reader,) = readers(about(shop.delivered(), "Results for"))
    assert reader.lower() == GRACE


def test_customers_hear_that_their_parcel_is_on_its_way(shop: Shop) -> None:
    uploaded(shop.signed_in(GRACE), PARCELS)
    shop.booked()
    (announcement,) = about(shop.delivered(), "Order A-1001 is on its way")
    assert announcement["To"].addresses[0].addr_spec == ADA
    assert "0034 1" in body_of(announcement)
    assert "on its way as 0034 1" in said(shop.signed_in(ADA).get("/orders/A-1001").text)


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (b"order;tracking\n", "expected a column order_number and tracking_number, got: none"),
        (b"\x89PNG\r\n\x1a\n", "expected a CSV file in UTF-8"),
        (b"", "expected a column"),
    ],
)
def test_every_administrator_is_alarmed_by_a_file_that_fails(
    shop: Shop, file: bytes, reason: str
) -> None:
    grace = shop.signed_in(GRACE)
    page = uploaded(grace, file)
    shop.booked()
    mails = shop.delivered()
    alarms = about(mails, "parcels.csv was not booked")
    assert readers(alarms) == [GRACE, JOAN]
    assert all(reason in body_of(one) for one in alarms)
    assert about(mails, "Results") == []
    shown = said(grace.get(page).text)
    assert f"Uploaded by Grace · failed {reason}" in shown
    assert f"{JOAN} accepted 1" in shown


def test_a_file_that_fails_half_way_books_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_order: CustomerOrder) -> None:
        raise IdempotencyConflict("the key stands for other content")

    monkeypatch.setattr(mail, "announce", fail)
    uploaded(shop.signed_in(GRACE), PARCELS)
    shop.booked()
    assert about(shop.delivered(), "Results") == []
    with shop.app.app_context():
        wanted = select(CustomerOrder.tracking_number).where(
            CustomerOrder.tracking_number.is_not(None)
        )
        assert db.session.scalars(wanted).all() == []
        assert db.session.scalars(select(Upload.state)).all() == [UploadState.FAILED]


def test_an_upload_is_booked_once_however_often_one_looks(shop: Shop) -> None:
    uploaded(shop.signed_in(GRACE), PARCELS)
    for _ in range(2):
        shop.booked()
    assert readers(about(shop.delivered(), "Results")) == [GRACE]


@pytest.mark.parametrize("name", ["", "par\x85cels.csv"])
def test_a_file_without_a_name_is_refused_at_once(shop: Shop, name: str) -> None:
    grace = shop.signed_in(GRACE)
    page = grace.post("/uploads/", form_on="/uploads/", file=file_of(PARCELS, name))
    assert "Choose a file" in page.text
    with shop.app.app_context():
        assert db.session.query(Upload).count() == 0


def test_a_receiver_that_is_no_address_is_refused_at_once(shop: Shop) -> None:
    grace = shop.signed_in(GRACE)
    fields = {"file": file_of(PARCELS), "receiver_email": "warehouse"}
    assert "expected" in grace.post("/uploads/", form_on="/uploads/", **fields).text
    shop.booked()
    assert len(shop.delivered()) == 1


def test_a_greylisting_relay_shows_as_deferred(shop: Shop) -> None:
    greta = shop.signed_in(GRETA)
    shop.relay.on(Phase.RCPT, "451 4.7.1 come back", address=GRETA, times=1)
    page = greta.post("/orders", form_on="/", ink=1)
    shop.delivered()
    assert f"{GRETA} deferred 1 451 4.7.1 come back next try at" in said(
        greta.get(page.request.path).text
    )
