"""Email addresses: what people type, what the envelope carries, what makes two of them one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import idna

from postroom.errors import InvalidAddress
from postroom.message.headers import unpasted
from postroom.text import MAX_LINE, and_more, check_line, shorten_repr

_LABELS = re.compile(
    r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)
#: Top-level domains are alphabetic or A-labels (RFC 3696 section 2): neither an IP address
#: without its brackets nor a mistyped ending passes for one.
_TOP_LEVEL = re.compile(r"[a-z]+|xn--[a-z0-9-]+")
#: Two hyphens in the third and fourth place are reserved (RFC 5891 section 4.2.3.1).
_TAGGED = re.compile(r"(?:^|\.)[a-z0-9-]{2}--")

MAX_DOMAIN_OCTETS = 255


@lru_cache(maxsize=8192)
def ascii_domain(domain: str) -> str:
    """Return ``domain`` as lower-case A-labels (IDNA 2008, mapped as UTS 46 says).

    Raises:
        ValueError: it is not a domain that mail can be sent to; the text is the reason.
    """
    lower = domain.lower()
    if not lower.isascii() or _TAGGED.search(lower):
        lower = _encoded(lower)
    if len(lower) > MAX_DOMAIN_OCTETS:
        raise ValueError(f"the domain is longer than {MAX_DOMAIN_OCTETS} octets")
    if not _LABELS.fullmatch(lower):
        raise ValueError(_why_not(lower))
    top_level = lower.rpartition(".")[2]
    if top_level == lower:
        raise ValueError("the domain has no dot")
    if not _TOP_LEVEL.fullmatch(top_level):
        raise ValueError("the domain does not end in a top-level domain")
    return lower


@lru_cache(maxsize=8192)
def readable_domain(domain: str) -> str:
    """Return ``domain`` as people read it: in U-labels."""
    return idna.decode(ascii_domain(domain))


def _encoded(domain: str) -> str:
    try:
        return idna.encode(domain, uts46=True, std3_rules=True).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise ValueError(f"the domain is not valid in IDNA 2008: {error}") from None


def _why_not(domain: str) -> str:
    if not domain:
        return "there is nothing after the @"
    if domain.startswith("["):
        return "domain literals are not written to: use a domain name"
    if "(" in domain:
        return "comments are not part of an address"
    if domain.startswith(".") or domain.endswith(".") or ".." in domain:
        return "a part of the domain is empty"
    if any(len(label) > 63 for label in domain.split(".")):
        return "a part of the domain is longer than 63 characters"
    return "the domain holds a character that no host name has"


_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_DOT_ATOM = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
#: What stands between the commas outside of quotes.
_LISTED = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^",]|"(?=[^"]*$))+')
_SPECIAL_IN_NAME = re.compile(r"[<>@,;:]")
#: What a name cannot hold outside of quotes (RFC 5322 section 3.2.3), but for the dot.
_NEEDS_QUOTES = re.compile(r'[()<>\[\]:;@\\,"]')
_ESCAPED_IN_QUOTES = re.compile(r'(["\\])')

MAX_LOCAL_OCTETS = 64
#: A path is at most 256 octets with its angle brackets (RFC 5321 section 4.5.3.1.3).
MAX_OCTETS = 254
#: The longest name, each character of it escaped, and the longest address.
_LONGEST_TEXT = 2 * MAX_LINE + MAX_OCTETS + len('"" <>')
_MOST_NAMED = 20


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Address:
    """One mailbox (RFC 5322 section 3.4): ``Address("Ann Lee <ann@shop.example>")``.

    The text is one address, with or without a name before it; never a list. ``str(address)``
    gives a text that the constructor reads back as an equal address. Which forms are refused on
    purpose, and why: docs/addresses.md.

    Args:
        text: ``ann@shop.example`` or ``Ann Lee <ann@shop.example>``. A name that holds a comma or
            another special character stands in double quotes.

    Attributes:
        local: The part before the @, in Unicode form NFC.
        domain: The part after the @ as it was written, in NFC.
        name: The display name, without quotes; empty where there is none.

    Raises:
        InvalidAddress: The text is not exactly one address, or mail cannot be sent to it.
    """

    local: str
    domain: str
    name: str

    def __init__(self, text: str) -> None:
        text = check_line(unpasted(text), "an address", InvalidAddress, longest=_LONGEST_TEXT)
        text = text.strip(" ")
        if text.endswith(">"):
            name, opening, addr_spec = text[:-1].rpartition("<")
            if not opening or not name.strip(" "):
                raise _invalid(text, "angle brackets follow a name: leave them out")
            name = _display_name(name.strip(" "), text)
        else:
            name, addr_spec = "", text
        local, at, domain = addr_spec.rpartition("@")
        if not at:
            raise _invalid(text, "there is no @")
        self._set(local, domain, name)

    @classmethod
    def from_parts(cls, *, local: str, domain: str, name: str = "") -> Self:
        """Return the address that the parts make, checked like a text.

        Args:
            local: The part before the @.
            domain: The part after it, in any script or as A-labels.
            name: The display name, as people read it: without quotes.

        Raises:
            InvalidAddress: Mail cannot be sent to it.
        """
        parts: tuple[Any, ...] = (local, domain)
        if not all(isinstance(part, str) for part in parts):
            raise InvalidAddress(
                f"the parts of an address must be text, not {shorten_repr(local)} and "
                f"{shorten_repr(domain)}"
            )
        address = object.__new__(cls)
        address._set(local, domain, name)
        return address

    def with_name(self, name: str) -> Self:
        """Return the same address with another display name.

        Args:
            name: The name, as people read it: without quotes. Empty for none.

        Raises:
            InvalidAddress: The name cannot stand in a header.
        """
        return self.from_stored(self.addr_spec, _checked_name(name))

    @classmethod
    def from_stored(cls, addr_spec: str, name: str = "") -> Self:
        """Return an address that was checked before it was stored, without checking it again.

        A worker makes one for each mail: checking would cost as much as composing.

        Args:
            addr_spec: The address as `addr_spec` gave it.
            name: The display name as `name` gave it.
        """
        local, _, domain = addr_spec.rpartition("@")
        address = object.__new__(cls)
        object.__setattr__(address, "local", local)
        object.__setattr__(address, "domain", domain)
        object.__setattr__(address, "name", name)
        return address

    def _set(self, local: str, domain: str, name: str) -> None:
        """Normalise to NFC and refuse what no relay would take."""
        if not (local.isascii() and domain.isascii()):
            local, domain = _normalised(local, domain)
        if reason := _objection(local, domain):
            raise _invalid(f"{local}@{domain}", reason)
        object.__setattr__(self, "local", local)
        object.__setattr__(self, "domain", domain)
        object.__setattr__(self, "name", _checked_name(name) if name != "" else "")

    @property
    def addr_spec(self) -> str:
        """The address as it was written, without the name."""
        return f"{self.local}@{self.domain}"

    @property
    def ascii_domain(self) -> str:
        """The domain in lower-case A-labels."""
        return ascii_domain(self.domain)

    @property
    def envelope(self) -> str:
        """What RCPT TO carries: the domain in A-labels, the local part as it is."""
        return f"{self.local}@{ascii_domain(self.domain)}"

    @property
    def dedup_key(self) -> str:
        """What is equal for two spellings of one mailbox: case and Unicode form folded."""
        if self.local.isascii():
            return f"{self.local.lower()}@{ascii_domain(self.domain)}"
        local = unicodedata.normalize("NFC", self.local.casefold())
        return f"{local}@{ascii_domain(self.domain)}"

    @property
    def needs_smtputf8(self) -> bool:
        """Whether only a relay with SMTPUTF8 (RFC 6531) can take it."""
        return not self.local.isascii()

    def __str__(self) -> str:
        """Return the address as people write it; the constructor reads it back."""
        if not self.name:
            return self.addr_spec
        name = self.name
        if _NEEDS_QUOTES.search(name):
            name = '"' + _ESCAPED_IN_QUOTES.sub(r"\\\1", name) + '"'
        return f"{name} <{self.addr_spec}>"

    def __repr__(self) -> str:
        """Return the call that makes the address."""
        return f"Address({str(self)!r})"


def parse_all(texts: Iterable[str]) -> list[Address]:
    """Read many addresses.

    Raises:
        InvalidAddress: one error that names every wrong one (the first 20, then how many more).
    """
    addresses: list[Address] = []
    wrong: list[str] = []
    for text in texts:
        try:
            addresses.append(Address(text))
        except InvalidAddress as error:
            wrong.append(str(error))
    if wrong:
        raise InvalidAddress(_summary(wrong))
    return addresses


def parse_list(text: str) -> list[Address]:
    """Read the addresses of a header: separated by commas, each with or without a name.

    Raises:
        InvalidAddress: one of them is none.
    """
    addresses = []
    for one in _LISTED.findall(text):
        bare = one.strip(" ")
        without_name = bare[1:-1] if bare.startswith("<") and bare.endswith(">") else bare
        addresses.append(Address(without_name))
    return addresses


def _summary(wrong: list[str]) -> str:
    if len(wrong) == 1:
        return wrong[0]
    named = and_more([text.partition("got: ")[2] for text in wrong], _MOST_NAMED)
    return (
        f"expected addresses to be like name@domain.example, got {len(wrong)} that are not: {named}"
    )


def _normalised(local: str, domain: str) -> tuple[str, str]:
    written = check_line(f"{local}@{domain}", "an address", InvalidAddress)
    if len(written.encode()) > MAX_OCTETS:
        raise _invalid(written, f"it is longer than {MAX_OCTETS} octets")
    return unicodedata.normalize("NFC", local), unicodedata.normalize("NFC", domain)


def _checked_name(name: str) -> str:
    return check_line(unpasted(name), "a display name", InvalidAddress).strip(" ")


def _invalid(text: str, reason: str) -> InvalidAddress:
    return InvalidAddress(
        f"expected an address to be like name@domain.example, got: {shorten_repr(text)} ({reason})"
    )


def _display_name(name: str, text: str) -> str:
    if quoted := _QUOTED.fullmatch(name):
        return _ESCAPED.sub(r"\1", quoted[1])
    if _SPECIAL_IN_NAME.search(name):
        raise _invalid(text, "one address at a time; put a name with , ; : @ in double quotes")
    if name.count('"') % 2:
        raise _invalid(text, "a double quote in the name is not closed")
    return name


def _objection(local: str, domain: str) -> str:
    """Return why mail cannot be written to ``local@domain``; empty if it can."""
    if not _DOT_ATOM.fullmatch(local) and (reason := _local_objection(local)):
        return reason
    try:
        ascii_form = ascii_domain(domain)
    except ValueError as error:
        return str(error)
    octets = len(local.encode())
    if octets > MAX_LOCAL_OCTETS:
        return f"the part before the @ is longer than {MAX_LOCAL_OCTETS} octets"
    if octets + 1 + max(len(ascii_form), len(domain.encode())) > MAX_OCTETS:
        return f"it is longer than {MAX_OCTETS} octets"
    return ""


def _local_objection(local: str) -> str:
    if not local:
        return "there is nothing before the @"
    if local.startswith('"'):
        return "quoted local parts are not written to"
    if "(" in local:
        return "comments are not part of an address"
    if "@" in local:
        return "one address at a time, with one @"
    if local.startswith(".") or local.endswith(".") or ".." in local:
        return "dots before the @ stand between other characters"
    if not all(_is_local_character(character) for character in local):
        return "the part before the @ holds a character that cannot stand there"
    if unicodedata.category(local[0]).startswith("M"):
        return "it begins with a combining mark"
    return ""


def _is_local_character(character: str) -> bool:
    """Tell whether a local part may hold it: beyond ASCII only letters, marks and digits.

    RFC 6531 allows any character; the rest are symbols, look-alikes and invisible ones.
    """
    if character.isascii():
        return character == "." or _DOT_ATOM.fullmatch(character) is not None
    return unicodedata.category(character)[0] in "LMN"
