"""Rendering has a budget: no template takes for ever, or all the memory."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import jinja2
import pytest

from postroom.errors import ConfigError, TemplateError, TemplateTooSlow
from postroom.message.message import Draft
from postroom.message.templates import RenderBudget, Template, Templates
from tests.mime.drafts import draft
from tests.unit.templates import folder, source_of, text_of


def ticking(seconds: float) -> Callable[[], float]:
    """Return a clock that goes on by ``seconds`` whenever it is looked at."""
    return itertools.count(0.0, seconds).__next__


def templated(source: str, **context: Any) -> Draft:
    return draft(text=source_of(Template.from_string(source, **context)))


def rendered(source: str, budget: RenderBudget | None = None, **context: Any) -> Any:
    return templated(source, **context).rendered({}, budget or RenderBudget()).text


NESTED = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"


def test_a_loop_that_never_seems_to_end_is_refused_with_the_way_to_raise_the_bound() -> None:
    with pytest.raises(TemplateTooSlow) as error:
        rendered(f"Hello\n{NESTED}", RenderBudget(seconds=600))

    assert str(error.value) == (
        "<string>, line 2: rendering took more than 1,000,000 steps (turns of loops, calls, long "
        "texts); simplify the template, or raise steps of the outbox's RenderBudget"
    )


def test_a_slow_template_is_refused_by_the_clock() -> None:
    with pytest.raises(TemplateTooSlow, match=r"more than 5 seconds.*POSTROOM_TEMPLATE_SECONDS"):
        rendered("{% for a in range(9999) %}x{% endfor %}", RenderBudget(clock=ticking(1.0)))


def test_many_short_pieces_without_a_loop_are_refused_by_the_clock() -> None:
    with pytest.raises(TemplateTooSlow, match="seconds"):
        rendered("{{ n }} " * 1000, RenderBudget(clock=ticking(2.0)), n=1)


def test_what_a_small_budget_refuses_a_larger_one_renders() -> None:
    one = templated("{% for a in range(600) %}x{% endfor %}")
    small = RenderBudget(seconds=0.5, clock=ticking(1.0))

    with pytest.raises(TemplateTooSlow):
        one.rendered({}, small)
    assert one.rendered({}, replace(small, seconds=60.0)).text == "x" * 600


def test_subject_text_and_html_share_one_budget() -> None:
    body = source_of(Template.from_string("{% for a in range(400) %}x{% endfor %}"))

    assert draft(text=body).rendered({}, RenderBudget(steps=500)).text == "x" * 400
    with pytest.raises(TemplateTooSlow):
        draft(text=body, html=body).rendered({}, RenderBudget(steps=500))


def test_the_budget_holds_at_enqueue_too() -> None:
    templates = Templates.of(None, budget=RenderBudget(steps=100))

    with pytest.raises(TemplateTooSlow):
        text_of(Template.from_string("{% for a in range(99999) %}{% endfor %}"), templates)


@pytest.mark.parametrize("bound", ["seconds", "steps", "characters"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), "1", None, True])
def test_a_bound_that_is_none_is_refused(bound: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=bound):
        RenderBudget(**{bound: value})


LAUGHS = "".join(f"{{% set l{n + 1} = [{', '.join([f'l{n}'] * 10)}] %}}" for n in range(10))
DOUBLED = "".join("{% set s = s ~ s %}" for _ in range(40))

HOSTILE: Mapping[str, str] = {
    "a loop": NESTED,
    "a loop over a filter": "{% for a in range(99999) | map('upper') %}" * 3 + "{% endfor %}" * 3,
    "a recursive loop": "{% for a in [0] recursive %}{{ loop(range(99999)) }}{% endfor %}",
    "a loop in a macro": "{% macro m() %}" + NESTED + "{% endmacro %}{{ m() }}",
    "macros that call each other": "{% macro a(n) %}{{ a(n) }}{% endmacro %}{{ a(1) }}",
    "a text times": "{{ 'x' * 10 ** 9 }}",
    "times a text": "{{ 10 ** 9 * 'x' }}",
    "a list times": "{{ [1] * 10 ** 9 }}",
    "a long text, many times": "{% set s = 'x' * 10 ** 6 %}{{ [s] * 10 ** 6 }}",
    "a power": "{{ 10 ** (10 ** 10) }}",
    "a product": "{% set n = namespace(a=9 ** 9) %}{% for i in range(99) %}"
    "{% set n.a = n.a * n.a %}{% endfor %}",
    "a sum of texts": "{% set n = namespace(s='x') %}{% for i in range(99) %}"
    "{% set n.s = n.s + n.s %}{% endfor %}",
    "texts put together": "{% set s = 'x' %}" + DOUBLED,
    "texts put together in a loop": "{% set n = namespace(s='x') %}{% for i in range(99) %}"
    "{% set n.s = n.s ~ n.s %}{% endfor %}",
    "blocks put together": "{% set n = namespace(s='x') %}{% for i in range(99) %}"
    "{% set t %}{{ n.s }}{{ n.s }}{% endset %}{% set n.s = t %}{% endfor %}",
    "lists of lists": "{% set l0 = 'ha' * 9 %}" + LAUGHS + "{{ l10 }}",
    "center": "{{ 'x'.center(10 ** 9) }}",
    "ljust": "{{ 'x'.ljust(10 ** 9) }}",
    "zfill": "{{ 'x'.zfill(10 ** 9) }}",
    "expandtabs": "{{ '\t'.expandtabs(10 ** 9) }}",
    "expandtabs by name": "{{ '\t'.expandtabs(tabsize=10 ** 9) }}",
    "to_bytes": "{{ (1).to_bytes(10 ** 9, 'big') }}",
    "replace": "{{ ('x' * 9999).replace('x', 'y' * 99999) }}",
    "join": "{{ ('y' * 99999).join('x' * 9999) }}",
    "translate": "{{ ('x' * 9999).translate({120: 'y' * 99999}) }}",
    "format": "{{ '{:1000000000}'.format(1) }}",
    "format by a variable": "{{ '{:{w}}'.format(1, w=10 ** 9) }}",
    "format_map": "{{ '{x:1000000000}'.format_map({'x': 1}) }}",
    "printf": "{{ '%1000000000d' % 1 }}",
    "printf by a variable": "{{ '%*d' % (10 ** 9, 1) }}",
    "the filter center": "{{ 'x' | center(1000000000) }}",
    "the filter center, mapped": "{{ range(9) | map('center', 10 ** 9) | join }}",
    "the filter format": "{{ '%1000000000d' | format(1) }}",
    "the filter indent": "{{ 'x' | indent(10 ** 9, true) }}",
    "the filter join": "{{ range(99999) | join('y' * 99999) }}",
    "the filter replace": "{{ ('x' * 9999) | replace('x', 'y' * 99999) }}",
    "the filter wordwrap": "{{ ('x' * 9999) | wordwrap(1, wrapstring='y' * 99999) }}",
    "the filter round": "{{ 1.5 | round(10 ** 9, 'ceil') }}",
    "the filter tojson": "{{ [1] | tojson(indent=10 ** 9) }}",
    "the filter batch": "{{ [1] | batch(10 ** 9, 'x') | list }}",
    "the filter slice": "{{ [1] | slice(10 ** 9) | list }}",
    "the filter sum": "{{ (['x'] * 9999) | map('list') | sum(start=[]) }}",
    "lipsum": "{{ lipsum(10 ** 9) }}",
    "a range": "{{ range(10 ** 9) | list }}",
    "a huge decimal": "{{ '{:f}'.format(huge) }}",
    "a huge decimal as a number": "{{ huge | int }}",
    "an output longer than a mail": "{% for i in range(99) %}{{ 'x' * 10 ** 6 }}{% endfor %}",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
def test_whatever_a_template_asks_for_ends_soon_and_in_little_memory(source: str) -> None:
    frozen = (
        templated(source, huge=Decimal("1E+9999999")) if "huge" in source else templated(source)
    )
    clock = itertools.count().__next__  # turns only where the budget looks at it
    tracemalloc.start()
    try:
        with pytest.raises(TemplateError):
            frozen.rendered({}, RenderBudget(seconds=1e8, steps=100_000, clock=clock))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 60_000_000


def test_a_file_that_includes_itself_is_refused() -> None:
    templates = folder(a_txt="{% include 'a.txt' %}")

    with pytest.raises(TemplateError, match=r"a\.txt, line 1: it includes or calls itself"):
        text_of(Template("a.txt"), templates)


DEEP = {
    "brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "signs": "{{ " + "-" * 9999 + "1 }}",
    "loops": "{% for a in [1] %}" * 50 + "{% endfor %}" * 50,
    "conditions": "{% if 1 %}" * 500 + "{% endif %}" * 500,
}


@pytest.mark.parametrize("source", DEEP.values(), ids=DEEP)
def test_a_source_nested_too_deeply_is_refused(source: str) -> None:
    with pytest.raises(TemplateError):
        text_of(Template.from_string(source))
    with pytest.raises(TemplateError):
        text_of(Template("a.txt"), folder(a_txt=source))
    with pytest.raises(TemplateError):
        draft(text=source_of(Template.from_string(source))).rendered({})


NEUTRAL = [
    "{% for x in items %}{{ loop.index }}/{{ loop.length }}{{ loop.last }} {{ x }}{% endfor %}",
    "{% for x in items if x != 2 %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in range(400) %}{% if loop.index > 3 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for k, v in table.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for x in tree recursive %}{{ x.n }}{{ loop(x.c) }}{% endfor %}",
    "{{ items | join(', ') }} {{ items | map('string') | join }} {{ items | sort | list }}",
    "{{ items | batch(2, 0) | list }} {{ items | slice(2) | list }} {{ items | sum }}",
    "{{ 'a' ~ 1 ~ none }} {{ 'x' * 3 }} {{ [1] * 2 }} {{ 2 ** 10 }} {{ 7 % 4 }} {{ 'a' + 'b' }}",
    "{{ '%s-%03d' % ('a', 7) }} {{ '%.2f' | format(1.5) }} {{ '{:>5}|{x}'.format(1, x=2) }}",
    "{{ '{a}'.format_map({'a': 1}) }} {{ 'x'.center(5) }} {{ ','.join(['a', 'b']) }}",
    "{{ 'aXb'.replace('X', '-') }} {{ 'aXb' | replace('X', '-') }} {{ 'x' | center(5) }}",
    "{{ {'a': [1, (2, 3)]} }} {{ items | tojson }} {{ 1.234 | round(2) }} {{ 'a\nb' | indent(2) }}",
    "{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m('a') }}{% set s %}{{ m('b') }}{% endset %}{{ s }}",
    "{% block b %}{{ items[0] }}{% endblock %}{{ self.b() }} {{ 3 in items }} {{ items | length }}",
    "{{ items | groupby('real') | list | length }} {{ table | dictsort }} {{ items | max }}",
    "{% filter upper %}a{{ 'b' }}{% endfilter %} {{ 'see http://x.example' | urlize }}",
    "{{ items | select('odd') | list }} {{ items | first }} {{ ['b', 'a'] | unique | list }}",
]


@pytest.mark.parametrize("source", NEUTRAL)
@pytest.mark.parametrize("html", [False, True])
def test_what_is_counted_renders_as_jinja_renders_it(source: str, html: bool) -> None:
    context: dict[str, Any] = {
        "items": [3, 1, 2],
        "table": {"b": "<1>", "a": 2},
        "tree": [{"n": 1, "c": [{"n": 2, "c": []}]}],
    }
    plain = jinja2.Environment(autoescape=html, extensions=["jinja2.ext.loopcontrols"]).from_string(
        source
    )

    template = Template.from_string(source, **context)
    assert text_of(template, html=html) == plain.render(context)
    assert source_of(template, html=html).render({}) == plain.render(context)
