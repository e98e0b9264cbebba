"""A mail as its reader has it: parsed from the exact bytes."""

from __future__ import annotations

from dataclasses import dataclass
from email import message_from_bytes, message_from_string
from email.message import EmailMessage
from email.policy import SMTPUTF8, default
from functools import cached_property


@dataclass(frozen=True, slots=True)
class ReceivedAttachment:
    """One attachment of a mail.

    Attributes:
        filename: Its name.
        content_type: Its media type, such as ``application/pdf``.
        content: Its bytes, decoded.
    """

    filename: str
    content_type: str
    content: bytes


class ParsedMail:
    """One copy of a mail.

    Attributes:
        raw: The bytes as they are sent.
    """

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    @cached_property
    def message(self) -> EmailMessage:
        """The mail as the standard library parses it."""
        try:
            read = message_from_string(self.raw.decode(), policy=SMTPUTF8)
        except UnicodeDecodeError:
            read = message_from_bytes(self.raw, policy=default)
        assert isinstance(read, EmailMessage)
        return read

    @property
    def subject(self) -> str:
        """The subject."""
        return str(self.message.get("Subject", ""))

    @property
    def text(self) -> str:
        """The text body, with LF line ends; empty if there is none."""
        return self._body("plain")

    @property
    def html(self) -> str:
        """The HTML body, with LF line ends; empty if there is none."""
        return self._body("html")

    @property
    def attachments(self) -> tuple[ReceivedAttachment, ...]:
        """Every part with a file name: attachments and inline images."""
        return tuple(
            ReceivedAttachment(name, part.get_content_type(), _content(part))
            for part in self.message.walk()
            if (name := part.get_filename())
        )

    def attachment(self, filename: str) -> bytes:
        """Return the content of one attachment.

        Args:
            filename: Its name.

        Raises:
            AssertionError: there is no attachment of that name; the text lists the others.
        """
        found = {one.filename: one.content for one in self.attachments}
        if filename not in found:
            raise AssertionError(
                f"there is no attachment {filename!r}; there are: {', '.join(found) or 'none'}"
            )
        return found[filename]

    def _body(self, kind: str) -> str:
        part = self.message.get_body((kind,))
        return "" if part is None else str(part.get_content()).replace("\r\n", "\n")


def _content(part: EmailMessage) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else part.as_bytes()
