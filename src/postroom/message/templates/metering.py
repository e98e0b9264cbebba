"""What templates may do without bound in Jinja, counted here against the rendering's budget.

Loops and long texts are found in the syntax tree before it is compiled, filters by their name,
methods and functions where they are called.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from decimal import Decimal
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.filters import FILTERS as DEFAULT_FILTERS
from jinja2.nodes import EvalContext
from jinja2.runtime import markup_join, str_join
from jinja2.utils import generate_lorem_ipsum, pass_eval_context
from jinja2.visitor import NodeTransformer

from postroom.errors import TemplateError
from postroom.message.templates.rendering import meter

#: Names that no template can write, before those of Jinja's filters and for filters of our own.
_METERED = "postroom:"
_COUNTED, _HELD, _JOINED, _ENTERED = (
    f"{_METERED}{name}" for name in ("counted", "held", "joined", "entered")
)

#: Longer numbers than anybody shows; Python itself writes out no more than 4,300 digits.
_MOST_BITS = 100_000
_MOST_DIGITS = 10_000
_MOST_PLACES = 1000

#: Shorter texts cost less than counting them.
_WORTH_COUNTING = 1024

_NUMBER = re.compile(r"\d+")
_PRINTF = re.compile(r"%[^%a-zA-Z]*")


class Metered(NodeTransformer):
    """Rewrites a syntax tree so that whatever can take long is counted.

    ``names`` are the filters of Jinja's that are still its own.
    """

    def __init__(self, names: Set[str]) -> None:
        self._names = names

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - Jinja's names
        """Count the turns of a loop, each as heavy as what it writes."""
        weight = 1 + _written(node.body) // 64
        self.generic_visit(node)
        node.iter = _filter(node.iter, _COUNTED, nodes.Const(weight))
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        """Put what is metered in the place of a filter of Jinja's."""
        if node.name in self._names:
            node.name = _METERED + node.name
        return self.generic_visit(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        """Measure a text before it is put together."""
        self.generic_visit(node)
        return _filter(nodes.Tuple(node.nodes, "load", lineno=node.lineno), _JOINED)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        """Measure what would be written if the list were."""
        self.generic_visit(node)
        return node if _is_constant(node.items) else _filter(node, _HELD)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        """Do the same for what is no target of an assignment."""
        self.generic_visit(node)
        return node if node.ctx != "load" or _is_constant(node.items) else _filter(node, _HELD)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        """Do the same."""
        self.generic_visit(node)
        is_constant = _is_constant([pair.value for pair in node.items])
        return node if is_constant else _filter(node, _HELD)

    def visit_Include(self, node: nodes.Include) -> list[nodes.Node]:  # noqa: N802
        """Count a file each time; lists of names are left be, the compiler looks at them."""
        return [nodes.ExprStmt(_filter(nodes.Const(1, lineno=node.lineno), _ENTERED)), node]

    visit_Import = visit_FromImport = visit_Include  # noqa: N815

    def visit_Extends(self, node: nodes.Extends) -> nodes.Node:  # noqa: N802
        """Leave it be."""
        return node


def _filter(node: nodes.Node, name: str, *arguments: nodes.Expr) -> nodes.Filter:
    assert isinstance(node, nodes.Expr)
    return nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)


def _is_constant(items: Iterable[nodes.Node]) -> bool:
    return all(isinstance(item, nodes.Const) for item in items)


def _written(body: Sequence[nodes.Node]) -> int:
    """Return how many characters and pieces a body writes each time by itself."""
    return sum(
        len(piece.data) if isinstance(piece, nodes.TemplateData) else 8
        for node in body
        for output in (node, *node.find_all(nodes.Output))
        if isinstance(output, nodes.Output)
        for piece in output.nodes
    )


def held(value: Any) -> Any:
    """Return ``value``, a list or the like, where all of it could be written out.

    A list of ten times the same list of ten times the same text is short in memory only.
    """
    size, pending = 0, [value]
    while pending:
        one = pending.pop()
        if isinstance(one, str | bytes):
            size += len(one)
        elif isinstance(one, list | tuple | set | frozenset | dict):
            meter().spend(1 + len(one) // 16)
            size += 4 * len(one)
            pending.extend(one)
            if isinstance(one, dict):
                pending.extend(one.values())
        if size > _WORTH_COUNTING:
            meter().refuse_beyond(size)
    return value


def room(characters: int) -> None:
    """Count a text that is about to be made."""
    meter().make(characters)


def counted(items: Any, steps: int = 1) -> Any:
    """Return ``items`` to be gone through at ``steps`` each."""
    return meter().counted(items, steps)


@pass_eval_context
def _joined(context: EvalContext, values: tuple[Any, ...]) -> str:
    size = 0
    for value in values:
        if isinstance(value, str):
            size += len(value)
    if size > _WORTH_COUNTING:
        room(size)
    return markup_join(values) if context.autoescape else str_join(values)


@jinja2.pass_context
def _entered_now(_context: Any, weight: int) -> None:
    """Take the context, so that the compiler does not evaluate it once and for all."""
    meter().spend(weight)


def check_operation(operator: str, left: Any, right: Any) -> None:
    """Refuse an operation whose result would be beyond all bounds.

    Raises:
        TemplateError: it would.
    """
    if operator == "%":
        if isinstance(left, str | bytes):
            room(_printf_size(left, right))
    elif isinstance(left, int) and isinstance(right, int):
        _check_integers(operator, left, right)
    elif operator == "*":
        _check_repeated(left, right)
    elif operator == "+" and isinstance(left, str) and isinstance(right, str):
        room(len(left) + len(right))


def _check_integers(operator: str, left: int, right: int) -> None:
    bits = left.bit_length()
    if operator == "**":
        bits *= max(right, 0)
    elif operator == "*":
        bits += right.bit_length()
    if bits > _MOST_BITS:
        raise TemplateError(f"a number of {bits:,} bits came up, where at most {_MOST_BITS:,} may")


def _check_repeated(left: Any, right: Any) -> None:
    times, repeated = (left, right) if isinstance(left, int) else (right, left)
    if isinstance(times, int) and isinstance(repeated, str | bytes | list | tuple):
        room(max(times, 0) * len(repeated))


def _printf_size(template: str | bytes, values: Any) -> int:
    text = template if isinstance(template, str) else template.decode("latin-1")
    specs = _PRINTF.findall(text)
    size = sum(int(number) for spec in specs for number in _NUMBER.findall(spec))
    for value in values if isinstance(values, tuple) else (values,):
        if isinstance(value, int) and any("*" in spec for spec in specs):
            size += abs(value)
        elif isinstance(value, Decimal):
            check_decimal(value)
    return len(text) + size


def check_decimal(value: Decimal) -> None:
    """Refuse a number that would be written, or computed, with millions of digits.

    Raises:
        TemplateError: it is one.
    """
    if value.is_finite() and abs(value.adjusted()) > _MOST_DIGITS:
        raise TemplateError(f"a number must have at most {_MOST_DIGITS:,} digits, not {value}")


def format_size(value: Any, spec: str) -> int:
    """Return about how much ``format(value, spec)`` writes."""
    if isinstance(value, Decimal):
        check_decimal(value)
    return sum(map(int, _NUMBER.findall(spec)))


def checked_arguments(method: str, owner: Any, arguments: Sequence[Any]) -> Sequence[Any]:
    """Return the arguments of a method of a text or a number whose result has a bound.

    Raises:
        TemplateError: it has none, or one too far away.
    """
    if method == "join" and len(arguments) == 1:
        parts = list(counted(arguments[0]))
        sizes = [len(part) for part in parts if isinstance(part, str | bytes)]
        room(sum(sizes) + len(owner) * len(parts))
        return (parts,)
    if method == "replace" and len(arguments) >= 2 and isinstance(owner, str | bytes):
        room(_replaced_size(owner, *arguments[:2]))
    elif method in {"center", "ljust", "rjust", "zfill", "to_bytes"}:
        room(max(_numbers(arguments), default=0))
    elif method == "expandtabs":
        room(len(owner) * max(_numbers(arguments), default=8))
    elif method == "translate" and arguments and isinstance(arguments[0], Mapping):
        longest = max((len(text) for text in arguments[0].values() if _has_length(text)), default=1)
        room(len(owner) * longest)
    return arguments


def _numbers(values: Iterable[Any]) -> Iterable[int]:
    return (value for value in values if isinstance(value, int))


def _has_length(value: Any) -> bool:
    return isinstance(value, str | bytes)


def _replaced_size(text: Any, old: Any, new: Any) -> int:
    size = len(text)
    if isinstance(old, type(text)) and _has_length(new):
        size += int(text.count(old)) * len(new)
    return size


def _bounded_number(value: Any, most: int, what: str) -> None:
    if isinstance(value, int | float) and abs(value) > most:
        raise TemplateError(f"{what} must be at most {most:,}, not {value:,}")


def _room_of_filter(name: str, value: Any, given: Sequence[Any]) -> None:
    """Count what a filter of Jinja's that makes text longer is about to make."""
    text = str(value) if isinstance(value, str | int | float) else ""
    texts = [one for one in given if isinstance(one, str)]
    numbers = [abs(number) for number in _numbers(given) if not isinstance(number, bool)]
    match name:
        case "center":
            room(len(text) + sum(numbers))
        case "indent":
            by = max([*numbers, *map(len, texts)], default=4)
            room(len(text) + (text.count("\n") + 1) * by)
        case "wordwrap":
            lines = len(text) // max(1, min(numbers, default=79)) + text.count("\n") + 1
            room(len(text) + lines * max(map(len, texts), default=1))
        case "replace" if len(texts) >= 2:
            room(_replaced_size(text, *texts[:2]))
        case "format":
            room(_printf_size(text, tuple(given)))
        case "urlize":
            room(len(text) * (2 + sum(map(len, texts)) // 8))
        case "round" | "tojson" | "int":
            for number in numbers:
                _bounded_number(number, _MOST_PLACES, f"the argument of the filter {name}")


def _making(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that makes text, measured before it does."""
    first = _position(original)

    def metered(*arguments: Any, **options: Any) -> Any:
        value = arguments[first]
        if isinstance(value, Decimal):
            check_decimal(value)
        _room_of_filter(name, value, [*arguments[first + 1 :], *options.values()])
        return original(*arguments, **options)

    return _marked_like(original, metered)


def _reading(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that goes through what it is given, counted as it goes."""
    first = _position(original)

    def metered(*arguments: Any, **options: Any) -> Any:
        given = [*arguments]
        if name in {"batch", "slice"}:
            meter().spend(max(_numbers([*arguments[first + 1 :], *options.values()]), default=0))
        if isinstance(given[first], Iterable):
            further = [*given[first + 1 :], *options.values()]
            given[first] = _items_for(name, given[first], further[0] if further else "")
        result = original(*given, **options)
        return held(result) if isinstance(result, list) else result

    return _marked_like(original, metered)


def _items_for(name: str, items: Iterable[Any], separator: Any) -> Iterable[Any]:
    if name == "join":
        taken = list(counted(items))
        between = len(separator) if isinstance(separator, str) else 0
        room(sum(len(item) for item in taken if isinstance(item, str)) + between * len(taken))
        return taken
    if isinstance(items, str | bytes | Mapping):
        meter().spend(len(items) // 16)
        return items
    if name != "sum":
        return meter().counted(items)
    taken = list(counted(items))
    # Lists are added up by copying them each time.
    room(len(taken) * sum(len(item) for item in taken if isinstance(item, list | tuple)))
    return taken


def _position(original: Callable[..., Any]) -> int:
    """Return which argument is the value: the first, or the one after the context."""
    return 0 if getattr(original, "jinja_pass_arg", None) is None else 1


def _marked_like(original: Callable[..., Any], metered: Callable[..., Any]) -> Callable[..., Any]:
    if (mark := getattr(original, "jinja_pass_arg", None)) is not None:
        metered.jinja_pass_arg = mark  # type: ignore[attr-defined]
    return metered


_MAKING = ("center", "format", "indent", "int", "replace", "round", "tojson", "urlize", "wordwrap")
_READING = (
    *("batch", "groupby", "join", "list", "map", "max", "min", "reject", "rejectattr", "select"),
    *("selectattr", "slice", "sort", "sum", "unique"),
)

#: Jinja's filters by the name of what stands in for them.
FILTERS: Mapping[str, Callable[..., Any]] = {
    _COUNTED: counted,
    _HELD: held,
    _JOINED: _joined,
    _ENTERED: _entered_now,
    **{_METERED + name: _making(name, DEFAULT_FILTERS[name]) for name in _MAKING},
    **{_METERED + name: _reading(name, DEFAULT_FILTERS[name]) for name in _READING},
}


def metered_name(name: str, filters: Mapping[str, Any]) -> str:
    """Return what stands in for the filter ``name``, where that is Jinja's own."""
    metered = _METERED + name
    return metered if metered in FILTERS and filters.get(name) is DEFAULT_FILTERS[name] else name


def metered_filters(filters: Mapping[str, Any]) -> frozenset[str]:
    """Return which of Jinja's filters are still its own, and are metered."""
    return frozenset(
        name for name in (*_MAKING, *_READING) if filters.get(name) is DEFAULT_FILTERS[name]
    )


def lorem_ipsum(n: int = 5, html: bool = True, min: int = 20, max: int = 100) -> str:
    """Return what Jinja's ``lipsum`` does, where somebody may read it."""
    for number in (n, min, max):
        _bounded_number(number, _MOST_PLACES, "the argument of lipsum")
    room(n * max * 12)
    return generate_lorem_ipsum(n, html, min, max)
