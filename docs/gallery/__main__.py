"""Draws the gallery's pictures: ``python -m docs.gallery [NAME…]``.

Needs Chromium and pngquant; the tests need neither.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from docs.gallery.client import page_of
from docs.gallery.examples import FOLDER, deliveries

_WIDTH = 760
#: Sharp on today's screens.
_SCALE = 2
_COLORS = 48

_CHROMIUM = (
    "chromium",
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    f"--force-device-scale-factor={_SCALE}",
)

#: Without dithering, which takes more room than it is worth in what is mostly text.
_PNGQUANT = ("pngquant", "--force", "--strip", "--nofs", "--output")


def _browse(page: Path, height: int, *what: str) -> str:
    """Open a page in a browser that has never been used; return what it prints."""
    with tempfile.TemporaryDirectory() as profile:
        command = (*_CHROMIUM, f"--user-data-dir={profile}", f"--window-size={_WIDTH},{height}")
        done = subprocess.run(  # noqa: S603 - our own pages
            [*command, *what, page.as_uri()], capture_output=True, check=True
        )
    return done.stdout.decode("utf-8")


def _draw(page: Path, picture: Path) -> None:
    shown = re.search(r'data-height="(\d+)"', _browse(page, 100, "--dump-dom"))
    assert shown is not None, f"{page} did not say how high it is"
    _browse(page, int(shown[1]), f"--screenshot={picture}")
    subprocess.run([*_PNGQUANT, picture, str(_COLORS), picture], check=True)  # noqa: S603 - our own


def main(names: list[str]) -> None:
    """Draw the pictures called ``names``, else all."""
    with tempfile.TemporaryDirectory() as folder:
        for delivered in deliveries():
            name = delivered.example.name
            if names and name not in names:
                continue
            page, picture = Path(folder) / f"{name}.html", FOLDER / f"{name}.png"
            page.write_text(page_of(delivered.first), encoding="utf-8")
            _draw(page, picture)
            sys.stdout.write(f"{picture.name}: {picture.stat().st_size:,} bytes\n")


main(sys.argv[1:])
