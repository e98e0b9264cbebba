"""Domains of addresses, in the form DNS and the envelope carry: lower-case A-labels."""

from __future__ import annotations

import re
from functools import lru_cache

import idna

_LABELS = re.compile(
    r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)
#: Top-level domains are alphabetic or A-labels (RFC 3696 section 2): neither an IP address
#: without its brackets nor a mistyped ending passes for one.
_TOP_LEVEL = re.compile(r"[a-z]+|xn--[a-z0-9-]+")
#: Two hyphens in the third and fourth place are reserved (RFC 5891 section 4.2.3.1).
_TAGGED = re.compile(r"(?:^|\.)[a-z0-9-]{2}--")

MAX_OCTETS = 255


@lru_cache(maxsize=8192)
def ascii_domain(domain: str) -> str:
    """Return ``domain`` as lower-case A-labels (IDNA 2008, mapped as UTS 46 says).

    Raises:
        ValueError: it is not a domain that mail can be sent to; the text is the reason.
    """
    lower = domain.lower()
    if not lower.isascii() or _TAGGED.search(lower):
        lower = _encoded(lower)
    if len(lower) > MAX_OCTETS:
        raise ValueError(f"the domain is longer than {MAX_OCTETS} octets")
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
