"""Counts everything that can take long in a template against the budget of the rendering.

Loops and long texts are found in the syntax tree before it is compiled, filters by their names, and
methods and functions when they are called.
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

#: A prefix that no template can write, for metered filters of Jinja and filters of our own.
_METERED = "postroom:"
_COUNTED, _CHECKED, _JOINED, _ENTERED = (
    f"{_METERED}{name}" for name in ("counted", "checked", "joined", "entered")
)

#: More than anybody shows; Python itself writes at most 4,300 digits.
_MAX_BITS = 100_000
_MAX_DIGITS = 10_000
_MAX_PLACES = 1000

#: Texts up to this length are not counted: counting would cost more.
_MIN_COUNTED = 1024

_NUMBER = re.compile(r"\d+")
_PRINTF = re.compile(r"%[^%a-zA-Z]*")


class Metered(NodeTransformer):
    """Rewrites a syntax tree so that everything that can take long is counted.

    Args:
        names: The filters of Jinja that the application did not replace.
    """

    def __init__(self, names: Set[str]) -> None:
        self._names = names

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - Jinja's names
        """Count the turns of a loop, each with the text that it writes."""
        weight = 1 + _written(node.body) // 64
        self.generic_visit(node)
        node.iter = _filter(node.iter, _COUNTED, nodes.Const(weight))
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        """Replace a filter of Jinja by its metered form."""
        if node.name in self._names:
            node.name = _METERED + node.name
        return self.generic_visit(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        """Count a text before it is joined."""
        self.generic_visit(node)
        return _filter(nodes.Tuple(node.nodes, "load", lineno=node.lineno), _JOINED)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        """Check the size of a list as text."""
        self.generic_visit(node)
        return node if _is_constant(node.items) else _filter(node, _CHECKED)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        """Check the size of a tuple as text, unless it is the target of an assignment."""
        self.generic_visit(node)
        return node if node.ctx != "load" or _is_constant(node.items) else _filter(node, _CHECKED)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        """Check the size of a dictionary as text."""
        self.generic_visit(node)
        is_constant = _is_constant([pair.value for pair in node.items])
        return node if is_constant else _filter(node, _CHECKED)

    def visit_Include(self, node: nodes.Include) -> list[nodes.Node]:  # noqa: N802
        """Count each included file; the names stay as they are, because the compiler reads them."""
        return [nodes.ExprStmt(_filter(nodes.Const(1, lineno=node.lineno), _ENTERED)), node]

    visit_Import = visit_FromImport = visit_Include  # noqa: N815

    def visit_Extends(self, node: nodes.Extends) -> nodes.Node:  # noqa: N802
        """Leave the node as it is."""
        return node


def _filter(node: nodes.Node, name: str, *arguments: nodes.Expr) -> nodes.Filter:
    assert isinstance(node, nodes.Expr)
    return nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)


def _is_constant(items: Iterable[nodes.Node]) -> bool:
    return all(isinstance(item, nodes.Const) for item in items)


def _written(body: Sequence[nodes.Node]) -> int:
    """Return how many characters a body writes in each turn, with 8 for each expression."""
    return sum(
        len(piece.data) if isinstance(piece, nodes.TemplateData) else 8
        for node in body
        for output in (node, *node.find_all(nodes.Output))
        if isinstance(output, nodes.Output)
        for piece in output.nodes
    )


def checked_size(value: Any) -> Any:
    """Return ``value`` if the text of all of it is not too long.

    A list with ten times the same list with ten times the same text is only short in memory.

    Args:
        value: A list, tuple, set or dictionary.

    Raises:
        TemplateError: Its text would be longer than a text may be.
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
        if size > _MIN_COUNTED:
            meter().refuse_beyond(size)
    return value


def reserve(characters: int) -> None:
    """Count a text that is about to be made.

    Args:
        characters: Its length.
    """
    meter().reserve(characters)


def counted(items: Any, steps: int = 1) -> Any:
    """Return ``items`` for an iteration that is counted.

    Args:
        items: The items.
        steps: How many steps each of them counts.
    """
    return meter().counted(items, steps)


@pass_eval_context
def _joined(context: EvalContext, values: tuple[Any, ...]) -> str:
    size = 0
    for value in values:
        if isinstance(value, str):
            size += len(value)
    if size > _MIN_COUNTED:
        reserve(size)
    return markup_join(values) if context.autoescape else str_join(values)


@jinja2.pass_context
def _entered_now(_context: Any, weight: int) -> None:
    """Count an included file; with the context, so that the compiler does not evaluate it once."""
    meter().spend(weight)


def check_operation(operator: str, left: Any, right: Any) -> None:
    """Refuse an operation with a result that is too large.

    Args:
        operator: The operator.
        left: The left operand.
        right: The right operand.

    Raises:
        TemplateError: The result would be too large.
    """
    if operator == "%":
        if isinstance(left, str | bytes):
            reserve(_printf_size(left, right))
    elif isinstance(left, int) and isinstance(right, int):
        _check_integers(operator, left, right)
    elif operator == "*":
        _check_repeated(left, right)
    elif operator == "+" and isinstance(left, str) and isinstance(right, str):
        reserve(len(left) + len(right))


def _check_integers(operator: str, left: int, right: int) -> None:
    bits = left.bit_length()
    if operator == "**":
        bits *= max(right, 0)
    elif operator == "*":
        bits += right.bit_length()
    if bits > _MAX_BITS:
        raise TemplateError(
            f"a number of {bits:,} bits is too large, at most {_MAX_BITS:,} are allowed"
        )


def _check_repeated(left: Any, right: Any) -> None:
    times, repeated = (left, right) if isinstance(left, int) else (right, left)
    if isinstance(times, int) and isinstance(repeated, str | bytes | list | tuple):
        reserve(max(times, 0) * len(repeated))


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
    """Refuse a number that would be written or computed with millions of digits.

    Args:
        value: The number.

    Raises:
        TemplateError: It has too many digits.
    """
    if value.is_finite() and abs(value.adjusted()) > _MAX_DIGITS:
        raise TemplateError(f"a number must have at most {_MAX_DIGITS:,} digits, not {value}")


def format_size(value: Any, spec: str) -> int:
    """Return about how many characters ``format(value, spec)`` writes.

    Args:
        value: The value.
        spec: The format.
    """
    if isinstance(value, Decimal):
        check_decimal(value)
    return sum(map(int, _NUMBER.findall(spec)))


def checked_arguments(method: str, owner: Any, arguments: Sequence[Any]) -> Sequence[Any]:
    """Return the arguments of a method of a text or number, after counting its result.

    Args:
        method: The name of the method.
        owner: The text or number.
        arguments: The arguments.

    Raises:
        TemplateError: The result would be too large.
    """
    if method == "join" and len(arguments) == 1:
        parts = list(counted(arguments[0]))
        sizes = [len(part) for part in parts if isinstance(part, str | bytes)]
        reserve(sum(sizes) + len(owner) * len(parts))
        return (parts,)
    if method == "replace" and len(arguments) >= 2 and isinstance(owner, str | bytes):
        reserve(_replaced_size(owner, *arguments[:2]))
    elif method in {"center", "ljust", "rjust", "zfill", "to_bytes"}:
        reserve(max(_numbers(arguments), default=0))
    elif method == "expandtabs":
        reserve(len(owner) * max(_numbers(arguments), default=8))
    elif method == "translate" and arguments and isinstance(arguments[0], Mapping):
        longest = max((len(text) for text in arguments[0].values() if _has_length(text)), default=1)
        reserve(len(owner) * longest)
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


def _reserve_for_filter(name: str, value: Any, given: Sequence[Any]) -> None:
    """Count the result of a filter of Jinja that makes text longer."""
    text = str(value) if isinstance(value, str | int | float) else ""
    texts = [one for one in given if isinstance(one, str)]
    numbers = [abs(number) for number in _numbers(given) if not isinstance(number, bool)]
    match name:
        case "center":
            reserve(len(text) + sum(numbers))
        case "indent":
            by = max([*numbers, *map(len, texts)], default=4)
            reserve(len(text) + (text.count("\n") + 1) * by)
        case "wordwrap":
            lines = len(text) // max(1, min(numbers, default=79)) + text.count("\n") + 1
            reserve(len(text) + lines * max(map(len, texts), default=1))
        case "replace" if len(texts) >= 2:
            reserve(_replaced_size(text, *texts[:2]))
        case "format":
            reserve(_printf_size(text, tuple(given)))
        case "urlize":
            reserve(len(text) * (2 + sum(map(len, texts)) // 8))
        case "round" | "tojson" | "int":
            for number in numbers:
                _bounded_number(number, _MAX_PLACES, f"the argument of the filter {name}")


def _metered_maker(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that makes text, and counts it before."""
    first = _position(original)

    def metered(*arguments: Any, **options: Any) -> Any:
        value = arguments[first]
        if isinstance(value, Decimal):
            check_decimal(value)
        _reserve_for_filter(name, value, [*arguments[first + 1 :], *options.values()])
        return original(*arguments, **options)

    return _marked_like(original, metered)


def _metered_reader(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that counts every item of its value."""
    first = _position(original)

    def metered(*arguments: Any, **options: Any) -> Any:
        given = [*arguments]
        if name in {"batch", "slice"}:
            meter().spend(max(_numbers([*arguments[first + 1 :], *options.values()]), default=0))
        if isinstance(given[first], Iterable):
            further = [*given[first + 1 :], *options.values()]
            given[first] = _items_for(name, given[first], further[0] if further else "")
        result = original(*given, **options)
        return checked_size(result) if isinstance(result, list) else result

    return _marked_like(original, metered)


def _items_for(name: str, items: Iterable[Any], separator: Any) -> Iterable[Any]:
    if name == "join":
        taken = list(counted(items))
        between = len(separator) if isinstance(separator, str) else 0
        reserve(sum(len(item) for item in taken if isinstance(item, str)) + between * len(taken))
        return taken
    if isinstance(items, str | bytes | Mapping):
        meter().spend(len(items) // 16)
        return items
    if name != "sum":
        return meter().counted(items)
    taken = list(counted(items))
    # Adding up lists copies them each time.
    reserve(len(taken) * sum(len(item) for item in taken if isinstance(item, list | tuple)))
    return taken


def _position(original: Callable[..., Any]) -> int:
    """Return the position of the value among the arguments: after the context, if there is one."""
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

#: The metered filters by their names.
FILTERS: Mapping[str, Callable[..., Any]] = {
    _COUNTED: counted,
    _CHECKED: checked_size,
    _JOINED: _joined,
    _ENTERED: _entered_now,
    **{_METERED + name: _metered_maker(name, DEFAULT_FILTERS[name]) for name in _MAKING},
    **{_METERED + name: _metered_reader(name, DEFAULT_FILTERS[name]) for name in _READING},
}


def metered_name(name: str, filters: Mapping[str, Any]) -> str:
    """Return the metered name of a filter, if the filter is Jinja's own.

    Args:
        name: The name of the filter.
        filters: The filters of the environment.
    """
    metered = _METERED + name
    return metered if metered in FILTERS and filters.get(name) is DEFAULT_FILTERS[name] else name


def metered_filters(filters: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the metered filters that the application did not replace.

    Args:
        filters: The filters of the environment.
    """
    return frozenset(
        name for name in (*_MAKING, *_READING) if filters.get(name) is DEFAULT_FILTERS[name]
    )


def lorem_ipsum(n: int = 5, html: bool = True, min: int = 20, max: int = 100) -> str:
    """Return random text, as Jinja's ``lipsum`` does, up to a limit.

    Args:
        n: How many paragraphs.
        html: Whether to write HTML.
        min: The fewest words of a paragraph.
        max: The most words of a paragraph.
    """
    for number in (n, min, max):
        _bounded_number(number, _MAX_PLACES, "the argument of lipsum")
    reserve(n * max * 12)
    return generate_lorem_ipsum(n, html, min, max)
