"""However a relay repeats credentials, they are masked in the replies that are kept."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.smtp.reply import Reply
from postroom.smtp.transcript import RUN, Redactor

SECRET = "ya29.a0AfH6SMBx-Zl_hunter2/and+a=half"
RESPONSE = f"user=shop@example.com\x01auth=Bearer {SECRET}\x01\x01"
ENCODED = base64.b64encode(RESPONSE.encode()).decode()

#: The forms in which a relay might repeat it.
FORMS = {
    "as it was sent": ENCODED,
    "in capitals": ENCODED.upper(),
    "decoded": RESPONSE.partition("Bearer ")[2].strip("\x01"),
    "percent-encoded": quote(SECRET, safe=""),
    "percent-encoded, in small letters": quote(SECRET, safe="").lower(),
    "in hex": SECRET.encode().hex(),
    "in the base64 of something else": base64.b64encode(f'{{"t":"{SECRET}"}}'.encode()).decode(),
    "in base64 for URLs": base64.urlsafe_b64encode(SECRET.encode()).decode(),
}


def masked(*lines: str) -> str:
    redactor = Redactor()
    redactor.add(SECRET, ENCODED)
    return "\n".join(redactor.mask_reply(Reply(code=535, lines=lines)).lines)


def runs(text: str) -> set[str]:
    """Return every run of a text that may not be repeated, whatever its case."""
    low = text.lower()
    return {low[at : at + RUN] for at in range(len(low) - RUN + 1)}


def reveals(text: str) -> bool:
    """Return whether a run of the secret is in ``text``, also across line ends."""
    joined = text.replace("5.7.8 ", "").replace("\n", "").lower()
    return any(run in joined for run in runs(SECRET) | runs(ENCODED))


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("around", ["{}", "what is AUTH XOAUTH2 {}?", '"{}"', "<{}>..."])
def test_no_form_of_a_secret_is_kept(form: str, around: str) -> None:
    # The first bytes of that JSON are no secret.
    repeated = FORMS[form]
    shown = masked(f"5.7.8 {around.format(repeated)}")
    assert "***" in shown
    assert repeated[8:] not in shown
    assert not reveals(shown)


@given(
    form=st.sampled_from([ENCODED, ENCODED.swapcase(), SECRET, SECRET.upper()]),
    start=st.integers(0, len(ENCODED) - RUN),
    size=st.integers(RUN, 200),
    width=st.integers(1, 60),
    has_code=st.booleans(),
)
def test_no_part_of_a_secret_is_kept_however_it_is_wrapped(
    form: str, start: int, size: int, width: int, has_code: bool
) -> None:
    part = form[min(start, len(form) - RUN) :][:size]
    code = "5.7.8 " if has_code else ""
    lines = [code + part[at : at + width] for at in range(0, len(part), width)]
    assert not reveals(masked(f"{code}bad credentials:", *lines, f"{code}goodbye"))


@given(
    secret=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60),
    before=st.text(max_size=10),
)
def test_no_secret_is_repeated_whole(secret: str, before: str) -> None:
    redactor = Redactor()
    redactor.add(secret)
    shown = redactor.mask_text(f"{before}{secret}")
    assert shown == before or "***" in shown or not secret.strip()


def test_what_is_no_secret_is_kept_as_it_is() -> None:
    lines = (
        "5.7.8 Username and Password not accepted for shop@example.com. Go to",
        "5.7.8 https://",
    )
    assert masked(*lines) == "\n".join(lines)
    assert masked("5.7.8 AUTH=Bearer is not supported") == "5.7.8 AUTH=Bearer is not supported"


def test_nothing_is_masked_where_there_is_no_secret() -> None:
    redactor = Redactor()
    redactor.add("", "")
    assert redactor.mask_text("535 whatever it is") == "535 whatever it is"
