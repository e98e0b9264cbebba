"""Everyone an order goes to, each once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import SelectBase

from postroom.storage.engine import Executor
from postroom.storage.order import Everyone, Order, Someone
from postroom.storage.people import People
from postroom.storage.selection import Selection
from postroom.storage.spooled_variables import Variables, VariablesSpool
from postroom.values.address import Address, parse_all
from postroom.values.checks import items_of
from postroom.values.errors import ConfigError, MessageError, RecipientError
from postroom.values.headers import shown
from postroom.values.message import Recipient
from postroom.values.states import Kind
from postroom.values.template import pack


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressee:
    """One who receives a copy. ``variables`` are packed for JSON."""

    address: Address
    key: str
    kind: Kind
    variables: Variables | None = None
    user_ref: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressees:
    """Those of one order: ``all`` have each address once, ``asked`` has it as often as asked.

    Beside them, the order goes to whomever its ``selections`` find.
    """

    all: tuple[Addressee, ...]
    asked: tuple[Addressee, ...]
    together: bool
    selections: tuple[Selection, ...] = ()

    @property
    def have_variables(self) -> bool:
        """Whether anyone brings variables."""
        return any(one.variables is not None for one in self.all) or any(
            one.has_variables for one in self.selections
        )


def addressees(order: Order, executor: Executor, people: People | None) -> Addressees:
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
    asked = (*(one for one in direct if one.kind is Kind.TO), *users)
    asked += tuple(one for one in direct if one.kind is not Kind.TO)
    unique: dict[str, Addressee] = {}
    for one in asked:
        unique.setdefault(one.key, one)
    if not unique and not queries:
        raise RecipientError("expected at least one recipient, got: none; pass to=[…] or users=[…]")
    shared = any(one.kind is not Kind.TO for one in direct)
    found = Addressees(
        all=tuple(unique.values()),
        asked=asked,
        together=order.message.together or shared,
        selections=tuple(Selection.of(query, executor) for query in queries),
    )
    if found.together and queries:
        raise MessageError(
            "expected a message sent together (or with cc or bcc) to go to people given one by "
            "one, got: a query; send separate copies with to=select(…) alone"
        )
    if found.together and found.have_variables:
        raise MessageError(
            "expected a message sent together (or with cc or bcc) to be the same for everyone, "
            "got: recipients with variables; send separate copies with to=[…] alone"
        )
    return found


def _divided(
    to: Everyone, spool: VariablesSpool
) -> tuple[list[Someone | Addressee], list[SelectBase]]:
    """Return people given one by one, and queries.

    Who brings variables is taken in at once: a generator may bring more than fits into memory.
    """

    def taken_in(one: Any) -> Any:
        has_variables = isinstance(one, Recipient) and one.variables
        return _addressee(Kind.TO, one, spool) if has_variables else one

    items = (to,) if isinstance(to, SelectBase) else items_of(to, "to", taken_in)
    people = [one for one in items if not isinstance(one, SelectBase)]
    return people, [one for one in items if isinstance(one, SelectBase)]


def _direct(
    to: Iterable[Someone | Addressee], order: Order, spool: VariablesSpool
) -> list[Addressee]:
    """Return the addresses given directly; the wrong ones are named at once."""
    given: list[tuple[Kind, Someone | Addressee]] = [(Kind.TO, one) for one in to]
    given += [(Kind.CC, one) for one in items_of(order.cc, "cc")]
    given += [(Kind.BCC, one) for one in items_of(order.bcc, "bcc")]
    parsed = iter(parse_all(one for _, one in given if isinstance(one, str)))
    return [
        _addressee(kind, next(parsed) if isinstance(one, str) else one, spool)
        for kind, one in given
    ]


def _addressee(kind: Kind, one: Someone | Addressee, spool: VariablesSpool) -> Addressee:
    match one:
        case Addressee():
            return one
        case Address():
            return Addressee(address=one, key=one.key, kind=kind)
        case Recipient(address=Address() as address):
            packed = one.variables and pack(one.variables, f"the variables of {address}")
            variables = spool.keep(packed) if packed else packed
            return Addressee(address=address, key=address.key, kind=kind, variables=variables)
    raise RecipientError(
        f"expected a recipient to be an address or a Recipient, got: {shown(one)}; "
        "ids of users go into users=[…]"
    )


def _users(order: Order, executor: Executor, people: People | None) -> Iterable[Addressee]:
    ids = items_of(order.users, "users")
    if not ids:
        return ()
    if people is None:
        raise ConfigError(
            "expected the outbox to know where users are, got: users without Outbox(users=User)"
        )
    return _addressees_of(people.find(executor, ids))


def _addressees_of(users: Mapping[Any, Address]) -> Iterator[Addressee]:
    for one, address in users.items():
        yield Addressee(address=address, key=address.key, kind=Kind.TO, user_ref=str(one))
