"""The shop as somebody meets it who types `make shop`: in a browser, with its inbox."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from examples.shop.people import ADA, GRACE, JOAN
from tests.project.sources import ROOT
from tests.services.chromium import chromium
from tests.services.programs import require

#: For a machine with other work to do.
PATIENCE_MS = 60_000

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module", params=["threads", "celery"])
def shop_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the shop is open, as another process; it ends in order at Ctrl-C."""
    if request.param == "celery":
        require("redis-server")
    command = [sys.executable, "-m", "examples.shop", "--port", "0", "--engine", request.param]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        welcome = child.stdout.readline()
        yield re.findall(r"http://\S+", welcome)[0]
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=60) == 0


@pytest.fixture
def page(browser: Browser, shop_url: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A window of its own, without cookies; nothing in it may fail unseen."""
    context = browser.new_context(base_url=shop_url, viewport={"width": 1000, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    yield page
    context.close()
    assert errors == []


def sign_in(page: Page, email: str) -> None:
    """Ask for a link, find its mail in the inbox, and follow it."""
    page.goto("/")
    page.get_by_role("link", name="Sign in", exact=True).first.click()
    page.get_by_label("Your email address").fill(email)
    page.get_by_role("button", name="Mail me a link").click()
    page.get_by_role("link", name="Open the inbox of this machine").click()
    letter = page.get_by_role("row").filter(has_text=email)
    letter.get_by_role("link", name="Sign in to Paper & Ink").first.click()
    page.frame_locator("iframe").get_by_role("link", name="Sign in").click()
    expect(page.get_by_role("button", name=re.compile("Sign out"))).to_be_visible()


def state_of(page: Page, address: str, mail: str) -> str:
    """Wait for a mail on a page that loads itself again, and return what became of it."""
    article = page.get_by_role("article").filter(has_text=mail)
    row = article.get_by_role("row").filter(has_text=address)
    expect(row.locator(".state")).to_have_text(re.compile("accepted|rejected"))
    return row.locator(".state").inner_text()


def look(page: Page, folder: Path, name: str) -> None:
    """Leave a picture, for people."""
    page.screenshot(path=folder / f"{name}.png", full_page=True)


@pytest.mark.slow
def test_an_order_is_placed_and_its_confirmation_arrives(page: Page, tmp_path: Path) -> None:
    sign_in(page, ADA)
    page.get_by_label("Fountain pen").fill("1")
    page.get_by_label("Notebook A5, dotted").fill("3")
    look(page, tmp_path, "shop")
    page.get_by_role("button", name="Place order").click()
    number = page.url.rpartition("/")[2]
    expect(page.get_by_role("heading", name=f"Order {number}", exact=True)).to_be_visible()
    assert state_of(page, ADA, f"Order {number} is confirmed") == "accepted"
    look(page, tmp_path, "order")
    page.get_by_role("link", name="Inbox").click()
    look(page, tmp_path, "inbox")
    page.get_by_role("link", name=f"Order {number} is confirmed").click()
    expect(page.frame_locator("iframe").get_by_text("Thank you, Ada!")).to_be_visible()
    look(page, tmp_path, "confirmation")
    with page.expect_download() as download:
        page.get_by_role("link", name=f"invoice-{number}.pdf").click()
    assert download.value.path().read_bytes().startswith(b"%PDF-")


@pytest.mark.slow
def test_parcels_are_booked_and_their_results_arrive(page: Page, tmp_path: Path) -> None:
    sign_in(page, GRACE)
    page.get_by_role("link", name="Parcels").click()
    page.get_by_label("CSV file").set_input_files(ROOT / "examples" / "shop" / "parcels.csv")
    page.get_by_label("Send the results to this address").fill("warehouse@partner.example")
    look(page, tmp_path, "parcels")
    page.get_by_role("button", name="Book parcels").click()
    for reader in (GRACE, "warehouse@partner.example"):
        assert state_of(page, reader, "Results for parcels.csv") == "accepted"
    look(page, tmp_path, "upload")
    page.get_by_role("link", name="Inbox").click()
    letters = page.get_by_role("row").filter(has_text="Results for parcels.csv")
    expect(letters).to_have_count(2)
    letters.get_by_role("link").first.click()
    expect(page.frame_locator("iframe").get_by_text("3 of 4 parcels are booked")).to_be_visible()
    expect(page.locator("a.file")).to_have_text(["results.csv", "results.xlsx"])
    look(page, tmp_path, "results")


@pytest.mark.slow
def test_a_file_that_fails_alarms_every_administrator(page: Page, tmp_path: Path) -> None:
    wrong = tmp_path / "photo.csv"
    wrong.write_bytes(b"\x89PNG\r\n\x1a\n")
    sign_in(page, GRACE)
    page.get_by_role("link", name="Parcels").click()
    page.get_by_label("CSV file").set_input_files(wrong)
    page.get_by_role("button", name="Book parcels").click()
    for administrator in (GRACE, JOAN):
        assert state_of(page, administrator, "photo.csv was not booked") == "accepted"
    look(page, tmp_path, "failed")
