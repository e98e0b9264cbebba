"""Everyone an order goes to, each once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import SelectBase

from postroom.errors import ConfigError, MessageError, RecipientError
from postroom.message.address import Address, parse_all
from postroom.message.message import Recipient
from postroom.message.templates import pack_json
from postroom.message.validation import as_tuple
from postroom.states import RecipientType
from postroom.storage.engine import SessionOrConnection
from postroom.storage.enqueue_request import EnqueueRequest, RecipientLike, RecipientsLike
from postroom.storage.json_variables import Variables, VariablesSpool
from postroom.storage.recipient_query import RecipientQuery
from postroom.storage.users import UserLookup
from postroom.text import shorten_repr


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedRecipient:
    """One who receives a copy. ``variables`` are packed for JSON."""

    address: Address
    dedup_key: str
    type: RecipientType
    variables: Variables | None = None
    user_ref: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientSet:
    """Those of one order: ``all`` have each address once, ``asked`` has it as often as asked.

    Beside them, the order goes to whomever its ``selections`` find.
    """

    unique: tuple[ResolvedRecipient, ...]
    requested: tuple[ResolvedRecipient, ...]
    shared: bool
    queries: tuple[RecipientQuery, ...] = ()

    @property
    def have_variables(self) -> bool:
        """Whether anyone brings variables."""
        return any(one.variables is not None for one in self.unique) or any(
            one.has_variables for one in self.queries
        )


def resolve_recipients(
    order: EnqueueRequest, executor: SessionOrConnection, people: UserLookup | None
) -> RecipientSet:
    """Find everyone ``order`` names; an address reached twice counts once, To before Cc before Bcc.

    Raises:
        InvalidAddress: one error that names every address that is wrong.
        RecipientError: there is nobody, or users who do not exist or have no address; a query
            that cannot be used.
        MessageError: recipients bring variables to a message sent together.
    """
    spool = VariablesSpool()
    to, queries = _divided(order.to, spool)
    direct = _direct(to, order, spool)
    users = list(_users(order, executor, people))
    asked = (*(one for one in direct if one.type is RecipientType.TO), *users)
    asked += tuple(one for one in direct if one.type is not RecipientType.TO)
    unique: dict[str, ResolvedRecipient] = {}
    for one in asked:
        unique.setdefault(one.dedup_key, one)
    if not unique and not queries:
        raise RecipientError("there is nobody to write to: pass to=… or user_ids=[…]")
    shared = any(one.type is not RecipientType.TO for one in direct)
    found = RecipientSet(
        unique=tuple(unique.values()),
        requested=asked,
        shared=order.message.shared or shared,
        queries=tuple(RecipientQuery.of(query, executor) for query in queries),
    )
    if found.shared and queries:
        raise MessageError(
            "a shared message (shared=True, cc or bcc) cannot go to people whom a query finds; "
            "send separate copies with to=select(…) alone"
        )
    if found.shared and found.have_variables:
        raise MessageError(
            "a shared message (shared=True, cc or bcc) is the same for everyone, but there are "
            "recipients with variables; send separate copies with to=[…] alone"
        )
    return found


def _divided(
    to: RecipientsLike, spool: VariablesSpool
) -> tuple[list[RecipientLike | ResolvedRecipient], list[SelectBase]]:
    """Return people given one by one, and queries.

    Who brings variables is taken in at once: a generator may bring more than fits into memory.
    """

    def taken_in(one: Any) -> Any:
        has_variables = isinstance(one, Recipient) and one.variables
        return _addressee(RecipientType.TO, one, spool) if has_variables else one

    items = (to,) if isinstance(to, SelectBase) else _listed(to, "to", taken_in)
    people = [one for one in items if not isinstance(one, SelectBase)]
    return people, [one for one in items if isinstance(one, SelectBase)]


def _listed(given: Any, what: str, each: Callable[[Any], Any] | None = None) -> tuple[Any, ...]:
    """Return who is given as a tuple: one alone, or a list."""
    if isinstance(given, str | Address | Recipient):
        given = (given,)
    elif isinstance(given, bytes) or not isinstance(given, Iterable):
        kind = "a query" if isinstance(given, SelectBase) else type(given).__name__
        raise RecipientError(f"`{what}` must be an address or a list of addresses, not {kind}")
    return as_tuple(given, what, each)


def _direct(
    to: Iterable[RecipientLike | ResolvedRecipient], order: EnqueueRequest, spool: VariablesSpool
) -> list[ResolvedRecipient]:
    """Return the addresses given directly; the wrong ones are named at once."""
    given: list[tuple[RecipientType, RecipientLike | ResolvedRecipient]] = [
        (RecipientType.TO, one) for one in to
    ]
    given += [(RecipientType.CC, one) for one in _listed(order.cc, "cc")]
    given += [(RecipientType.BCC, one) for one in _listed(order.bcc, "bcc")]
    parsed = iter(parse_all(one for _, one in given if isinstance(one, str)))
    return [
        _addressee(kind, next(parsed) if isinstance(one, str) else one, spool)
        for kind, one in given
    ]


def _addressee(
    kind: RecipientType, one: RecipientLike | ResolvedRecipient, spool: VariablesSpool
) -> ResolvedRecipient:
    match one:
        case ResolvedRecipient():
            return one
        case Address():
            return ResolvedRecipient(address=one, dedup_key=one.dedup_key, type=kind)
        case Recipient(address=Address() as address):
            packed = one.variables and pack_json(one.variables, f"the variables of {address}")
            variables = spool.keep(packed) if packed else packed
            return ResolvedRecipient(
                address=address, dedup_key=address.dedup_key, type=kind, variables=variables
            )
    raise RecipientError(
        f"a recipient must be an address or a Recipient, not {shorten_repr(one)}; "
        "ids of users go into user_ids=[…]"
    )


def _users(
    order: EnqueueRequest, executor: SessionOrConnection, people: UserLookup | None
) -> Iterable[ResolvedRecipient]:
    ids = as_tuple(order.user_ids, "user_ids")
    if not ids:
        return ()
    if people is None:
        raise ConfigError(
            "user_ids need an outbox that knows where users are: make it with Outbox(users=User)"
        )
    return _addressees_of(people.find(executor, ids))


def _addressees_of(users: Mapping[Any, Address]) -> Iterator[ResolvedRecipient]:
    for one, address in users.items():
        yield ResolvedRecipient(
            address=address, dedup_key=address.dedup_key, type=RecipientType.TO, user_ref=str(one)
        )
