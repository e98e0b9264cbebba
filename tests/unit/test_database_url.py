"""A database URL is shown without its secrets, wherever they stand in it."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import URL, make_url

from postroom.storage.database_url import shown_url, without_secrets

SECRET = "s3cr/et&word"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://shop:pw@db:5433/shop", "postgresql://shop:***@db:5433/shop"),
        ("postgresql://db/shop?password=pw&user=u", "postgresql://db/shop?password=***&user=u"),
        (
            "postgresql://db/shop?sslpassword=a&passfile=%2Fb&sslmode=require",
            "postgresql://db/shop?passfile=***&sslmode=require&sslpassword=***",
        ),
        ("postgresql://db/shop?password=a&password=b", "postgresql://db/shop?password=***"),
        ("postgresql://u:p@ss@db/shop", "postgresql://u:***@***@db/shop"),
        ("postgresql://db/shop;password=pw", "postgresql://db/shop;***"),
        ("sqlite:////var/me@work;1/shop.db", "sqlite:////var/me@work;1/shop.db"),
        ("sqlite:///file:a.db?uri=true&mode=rw&key=pw", None),
    ],
)
def test_a_url_shows_where_and_not_the_secret(url: str, shown: str | None) -> None:
    seen = unquote(shown_url(make_url(url)))  # versions of SQLAlchemy differ in what they escape
    assert "pw" not in seen
    assert "p@ss" not in seen
    if shown is not None:
        assert seen == shown


@given(name=st.sampled_from(["password", "sslpassword", "passfile", "options", "any_new_one"]))
def test_no_option_that_is_not_known_to_be_harmless_is_shown(name: str) -> None:
    url = URL.create("postgresql", username="shop", host="db", query={name: SECRET})
    assert SECRET not in shown_url(url)
    assert "et%26word" not in shown_url(url)


def test_what_a_driver_says_is_shown_without_the_secrets() -> None:
    url = make_url("postgresql://u:pa@ss@db/shop?sslpassword=s3cr%2Fet%26word")
    said = 'could not translate "ss@db": s3cr/et&word, s3cr%2Fet%26word, and "pa"'
    assert without_secrets(said, url) == 'could not translate "***@db": ***, ***, and "***"'
