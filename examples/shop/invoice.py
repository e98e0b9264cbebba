"""An invoice, as a PDF of one page: enough to attach, and nothing to install."""

from __future__ import annotations

from collections.abc import Iterator

from examples.shop.models import CustomerOrder

#: Lines of the order that fit on the page.
MOST_LINES = 40


def invoice_pdf(order: CustomerOrder) -> bytes:
    """Return the invoice for ``order``."""
    page = "\n".join(_drawing(order)).encode("cp1252", "replace")
    font = b"<< /Type /Font /Subtype /Type1 /Encoding /WinAnsiEncoding /BaseFont /%b >>"
    return _file(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /Plain 5 0 R /Bold 6 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(page), page),
        font % b"Helvetica",
        font % b"Helvetica-Bold",
    )


def _drawing(order: CustomerOrder) -> Iterator[str]:
    yield _text("Paper & Ink", x=56, y=770, size=22, bold=True)
    yield _text(f"Invoice for order {order.order_number}", x=56, y=720, size=14, bold=True)
    yield _text(f"{order.user.username}, {order.user.email}", x=56, y=700)
    y = 660
    for line in order.lines[:MOST_LINES]:
        yield _text(f"{line.quantity} × {line.article}", x=56, y=y)
        yield _text(line.amount, x=440, y=y)
        y -= 14
    yield f"56 {y} m 520 {y} l S"
    yield _text("Total", x=56, y=y - 18, bold=True)
    yield _text(order.total, x=440, y=y - 18, bold=True)


def _text(text: str, *, x: int, y: int, size: int = 11, bold: bool = False) -> str:
    for special in "\\()":
        text = text.replace(special, f"\\{special}")
    font = "Bold" if bold else "Plain"
    return f"BT /{font} {size} Tf {x} {y} Td ({text}) Tj ET"


def _file(*objects: bytes) -> bytes:
    """Return a PDF file of ``objects``, the first of which is its catalogue."""
    written = bytearray(b"%PDF-1.4\n")
    places = []
    for number, content in enumerate(objects, start=1):
        places.append(len(written))
        written += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = len(written)
    written += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    written += b"".join(b"%010d 00000 n \n" % place for place in places)
    written += b"trailer\n<< /Size %d /Root 1 0 R >>\n" % (len(objects) + 1)
    return bytes(written + b"startxref\n%d\n%%%%EOF\n" % table)
