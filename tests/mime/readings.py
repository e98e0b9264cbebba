"""What was asked, and what parsers that we did not write make of it, in one shape."""

from __future__ import annotations

import email
import email.policy
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from email.headerregistry import AddressHeader
from email.message import EmailMessage
from typing import Any

import fast_mail_parser
import idna

from postroom.message.address import Address
from postroom.message.message import Disposition, Draft, StoredAttachment

Mailbox = tuple[str, str]
Structure = str | list[Any]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A message as its reader sees it; what a parser does not tell is None.

    Texts have LF as line end, and none at their end. Files are name and content; of a message
    inside, the content is its subject.
    """

    subject: str | None = None
    sender: list[Mailbox] | None = None
    to: list[Mailbox] | None = None
    cc: list[Mailbox] | None = None
    reply_to: list[Mailbox] | None = None
    text: str | None = None
    html: str | None = None
    files: Counter[tuple[str, bytes]] | None = None
    structure: Structure | None = None
    headers: dict[str, str] | None = None

    def differences(self, asked: Reading) -> list[str]:
        """Return the fields in which this reading differs from what was asked."""
        return [
            f"{field.name}: asked {getattr(asked, field.name)!r}, read {value!r}"
            for field in fields(self)
            if (value := getattr(self, field.name)) is not None
            and _comparable(field.name, value)
            != _comparable(field.name, getattr(asked, field.name))
        ]


_PEOPLE = {"sender", "to", "cc", "reply_to"}


def _comparable(field: str, value: Any) -> Any:
    """Return names without spaces: readers squeeze several, or show one between two words.

    The standard library does both (python/cpython#128110).
    """
    if field in _PEOPLE:
        return [("".join(name.split()), addr_spec) for name, addr_spec in value]
    return value


def asked(draft: Draft, to: Address | None) -> Reading:
    """Return what a reader should see of ``draft``, in the copy for ``to``."""
    return Reading(
        subject=str(draft.subject),
        sender=mailboxes([draft.sender]),
        to=mailboxes([to] if to else draft.to),
        cc=mailboxes(draft.cc),
        reply_to=mailboxes(draft.reply_to),
        text=text(draft.text if isinstance(draft.text, str) else None),
        html=text(draft.html if isinstance(draft.html, str) else None),
        files=Counter(map(_file, draft.attachments)),
        structure=_structure(draft),
        headers={name.lower(): value.strip(" ") for name, value in draft.headers},
    )


def mailboxes(addresses: Iterable[Address]) -> list[Mailbox]:
    """Return names and addresses, the domains in A-labels."""
    return [(address.name, address.envelope) for address in addresses]


def envelope(addr_spec: str) -> str:
    """Return an address that was read, its domain in A-labels."""
    local, _, domain = addr_spec.rpartition("@")
    return f"{local}@{idna.encode(domain, uts46=True).decode()}" if domain else addr_spec


def text(text: str | None) -> str:
    return (text or "").replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")


def _file(part: StoredAttachment) -> tuple[str, bytes]:
    filename = "" if part.disposition is Disposition.ALTERNATIVE else part.filename
    octets = b"".join(part.open())
    return filename, inner_text(octets) if part.content_type == "message/rfc822" else octets


def inner_text(octets: bytes) -> bytes:
    """Return the text of a message inside, as octets; it is the same however it was encoded."""
    text = email.message_from_bytes(octets, policy=email.policy.default)
    return str(text.get_content()).replace("\r\n", "\n").encode()


def _structure(draft: Draft) -> Structure:
    texts = ["text/plain"] if draft.text is not None or draft.html is None else []
    texts += ["text/html"] if draft.html is not None else []
    kinds: dict[Disposition, list[str]] = {kind: [] for kind in Disposition}
    for part in draft.attachments:
        is_related = part.disposition is not Disposition.INLINE or draft.html is not None
        kind = part.disposition if is_related else Disposition.ATTACHMENT
        kinds[kind].append(part.content_type.partition(";")[0])
    body = _level("alternative", texts + kinds[Disposition.ALTERNATIVE])
    body = _level("related", [body, *kinds[Disposition.INLINE]])
    return _level("mixed", [body, *kinds[Disposition.ATTACHMENT]])


def _level(subtype: str, parts: list[Any]) -> Structure:
    return parts[0] if len(parts) == 1 else [f"multipart/{subtype}", *parts]


def standard_library(raw: bytes) -> Reading:
    """Read ``raw`` with Python's own email package."""
    message = email.message_from_string(raw.decode(), policy=email.policy.SMTPUTF8)
    assert isinstance(message, EmailMessage)
    leaves = list(_leaves(message))
    return Reading(
        subject=message["Subject"],
        sender=_mailboxes(message["From"]),
        to=_mailboxes(message["To"]),
        cc=_mailboxes(message["Cc"]),
        reply_to=_mailboxes(message["Reply-To"]),
        text=_body(leaves, "text/plain"),
        html=_body(leaves, "text/html"),
        files=Counter((_filename(part), _octets(part)) for part in leaves if _is_file(part)),
    )


def _mailboxes(header: AddressHeader | None) -> list[Mailbox]:
    if header is None:
        return []
    return [(one.display_name, envelope(one.addr_spec)) for one in header.addresses]


def _leaves(part: EmailMessage) -> Iterable[EmailMessage]:
    if part.get_content_maintype() == "multipart":
        for inner in part.iter_parts():
            yield from _leaves(inner)
    else:
        yield part


def _body(leaves: list[EmailMessage], content_type: str) -> str:
    bodies = [
        part.get_content()
        for part in leaves
        if part.get_content_type() == content_type and not part.get_content_disposition()
    ]
    return text("".join(bodies))


def _is_file(part: EmailMessage) -> bool:
    return bool(part.get_content_disposition()) or part.get_content_type() == "text/calendar"


def _filename(part: EmailMessage) -> str:
    # Not get_filename(), which takes off quotes that belong to the name.
    header = part["Content-Disposition"]
    return str(header.params["filename"]) if header else ""


def _octets(part: EmailMessage) -> bytes:
    if part.get_content_type() == "message/rfc822":
        return inner_text(bytes(part.get_content()))
    octets = part.get_payload(decode=True)
    assert isinstance(octets, bytes)
    return octets


def rust(raw: bytes) -> Reading:
    """Read ``raw`` with the Rust crate mailparse, through fast-mail-parser."""
    mail = fast_mail_parser.parse_email(raw, strict=True)
    tree = fast_mail_parser.parse_email_tree(raw)
    return Reading(
        subject=mail.subject,
        sender=_people([mail.from_] if mail.from_ else []),
        to=_people(mail.to),
        cc=_people(mail.cc),
        reply_to=_people(mail.reply_to),
        text=text("".join(mail.text_plain)),
        html=text("".join(mail.text_html)),
        structure=_tree(tree),
    )


def _people(people: list[fast_mail_parser.PyAddress]) -> list[Mailbox] | None:
    # In a header that holds UTF-8 the crate decodes encoded-words or not, as it happens.
    if not all(one.address.isascii() for one in people):
        return None
    return [(one.display_name or "", envelope(one.address)) for one in people]


def _tree(part: fast_mail_parser.PyMimePart) -> Structure:
    if not part.content_type.startswith("multipart/"):
        return part.content_type
    return [part.content_type, *map(_tree, part.children)]
