"""Templates rendered at delivery: frozen whole, plain, the same for every worker."""

from __future__ import annotations

import json
import threading
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup, escape

from postroom.errors import TemplateError
from postroom.message.templates import FrozenTemplate, Template, Templates, pack_json, unpack_json
from postroom.message.templates.json_values import TAG
from tests.unit.templates import NOTHING, delivered, folder, source_of
from tests.unit.test_template import FOOTER, LAYOUT, MACROS, ORDER, SHOP

#: What a database can hold as JSON.
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))
KEYS = TEXT.filter(lambda text: text != TAG)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.datetimes(timezones=st.none() | st.just(UTC) | st.just(timezone(timedelta(hours=2))))
    | st.dates()
    | st.times()
    | st.decimals(allow_nan=False)
    | st.uuids()
)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


class Size(StrEnum):
    SMALL = "small"


class Count(IntEnum):
    TWO = 2


def test_a_recipients_variables_are_rendered_with_the_templates_own_context() -> None:
    source = source_of(Template.from_string("{{ greeting }} {{ name }}", greeting="Hello"))
    assert source.render({"name": "Zoë"}) == "Hello Zoë"
    assert source.render({"name": "Jo", "greeting": "Bye"}) == "Bye Jo"


def test_layouts_includes_imports_and_macros_are_frozen_with_it() -> None:
    source = source_of(Template("order.html", shop="A & B"), SHOP, html=True)
    assert source.render({"order": {"lines": ["<Tea>"]}}) == (
        "<body><b>&lt;Tea&gt;</b><p>A &amp; B</p></body>"
    )
    assert dict(source.program.sources) == {
        "layout.html": LAYOUT,
        "footer.html": FOOTER,
        "macros.html": MACROS,
        "order.html": ORDER,
    }


def test_editing_or_removing_a_file_changes_nothing_that_was_enqueued(tmp_path: Path) -> None:
    for name, text in {"x.txt": "{% include 'y.txt' %}", "y.txt": "Hello {{ name }}"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    source = source_of(Template("x.txt"), Templates.of(tmp_path))
    (tmp_path / "y.txt").write_text("changed", encoding="utf-8")
    (tmp_path / "x.txt").unlink()
    assert source.render({"name": "Jo"}) == "Hello Jo"


@given(TEXT)
def test_what_a_recipient_brings_is_escaped_in_html_and_never_a_template(typed: str) -> None:
    syntax = "{{ 7 * 7 }}" + typed
    template = Template.from_string("{{ name }}")
    assert delivered(template, variables={"name": syntax}, html=True) == str(escape(syntax))
    assert delivered(template, variables={"name": syntax}) == syntax


def test_one_recipient_cannot_change_what_the_next_one_sees() -> None:
    source = source_of(Template.from_string("{% do lines.append(1) %}", lines=[]))
    with pytest.raises(TemplateError, match="sandbox"):
        source.render({})


def test_inline_images_are_frozen_with_it() -> None:
    template = Template.from_string("{{ inline('logo.png') }}")
    assert delivered(template, inline={"logo.png": "l@shop"}) == "cid:l@shop"


@pytest.mark.parametrize(
    "source",
    ["{% include name %}", "{% extends layout %}", "{% import name ~ '.html' as x %}"],
)
def test_a_computed_name_of_a_template_is_refused(source: str) -> None:
    with pytest.raises(TemplateError, match=r"^<string>, line 2: .* written out, .*computed"):
        source_of(Template.from_string("\n" + source))


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(TemplateError, match="written out"):
        source_of(Template.from_string("{% include [1, 2] %}"))


def test_alternatives_are_all_frozen_and_chosen_from_at_delivery() -> None:
    template = Template.from_string("{% include ['special.txt', 'usual.txt'] %}")
    assert delivered(template, folder(usual_txt="usual")) == "usual"
    assert delivered(template, folder(usual_txt="usual", special_txt="special")) == "special"


def test_what_may_be_missing_may_be_missing() -> None:
    assert delivered(Template.from_string("{% include 'x.txt' ignore missing %}.")) == "."


def test_what_must_not_be_missing_is_found_at_enqueue() -> None:
    with pytest.raises(TemplateError, match=r"^<string>, line 2: .*no template 'x.txt'"):
        source_of(Template.from_string("\n{% include 'x.txt' %}"))


def test_templates_that_include_each_other_are_frozen_once() -> None:
    templates = folder(
        a_txt="{{ n }}{% if n %}{% set n = n - 1 %}{% include 'b.txt' %}{% endif %}",
        b_txt="{% include 'a.txt' %}",
    )
    assert delivered(Template("a.txt"), templates, {"n": 2}) == "210"


def test_malformed_sources_are_found_at_enqueue() -> None:
    templates = folder(a_txt="{% include 'b.txt' %}", b_txt="\n{{ }")
    with pytest.raises(TemplateError, match=r"^b\.txt, line 2: not a valid template"):
        source_of(Template("a.txt"), templates)


def test_an_unknown_filter_in_an_included_file_is_found_at_enqueue() -> None:
    templates = folder(a_txt="{% include 'b.txt' %}", b_txt="\n{{ 1|nothing }}")
    with pytest.raises(TemplateError, match=r"^b\.txt, line 2: .*No filter named 'nothing'"):
        source_of(Template("a.txt"), templates)


def test_what_another_version_stored_and_this_one_cannot_read_is_a_template_error() -> None:
    stored = source_of(Template.from_string("x")).to_json() | {"sources": {"<string>": "{{ }"}}
    with pytest.raises(TemplateError, match=r"^<string>, line 1: not a valid template"):
        FrozenTemplate.from_json(stored).render({})


def test_an_error_at_delivery_names_file_and_line() -> None:
    source = source_of(Template("order.html", shop="Shop"), SHOP, html=True)
    with pytest.raises(TemplateError, match=r"^order\.html, line 2: .*'order' is undefined"):
        source.render({})
    source = source_of(Template("order.html"), SHOP, html=True)
    with pytest.raises(TemplateError, match=r"^footer\.html, line 1: .*'shop' is undefined"):
        source.render({"order": {"lines": []}})


def test_plain_globals_of_the_environment_are_frozen_for_macros_too() -> None:
    templates = folder(
        x_txt="{% from 'm.txt' import m %}{{ m() }}",
        m_txt="{% macro m() %}{{ shop }}{% endmacro %}",
    )
    templates.base.globals["shop"] = {"name": "Shop", "since": date(1999, 1, 1)}
    assert delivered(Template("x.txt"), templates) == (
        "{'name': 'Shop', 'since': datetime.date(1999, 1, 1)}"
    )


def test_a_global_function_of_the_application_is_refused() -> None:
    templates = folder(x_txt="{{ url_for('order') }}")
    templates.base.globals["url_for"] = lambda name: name
    with pytest.raises(TemplateError, match=r"globals\['url_for'\] must be a string.*not function"):
        source_of(Template("x.txt"), templates)


def test_a_global_that_is_not_used_or_given_anew_does_not_matter() -> None:
    templates = folder(x_txt="{{ user }}")
    templates.base.globals.update(url_for=print, user=object())
    assert delivered(Template("x.txt", user="Jo"), templates) == "Jo"


@pytest.mark.parametrize(
    ("source", "kind"), [("{{ 1|ours }}", "filters"), ("{{ 1 is ours }}", "tests")]
)
def test_filters_and_tests_of_the_application_are_refused(source: str, kind: str) -> None:
    templates = folder(x_txt=source)
    templates.base.filters["ours"] = templates.base.tests["ours"] = lambda value: value
    with pytest.raises(
        TemplateError, match=rf"^x\.txt: workers do not have 'ours' among their {kind}"
    ):
        source_of(Template("x.txt"), templates)


def test_a_filter_that_replaces_jinjas_is_refused_too() -> None:
    templates = folder(x_txt="{{ 1|upper }}")
    templates.base.filters["upper"] = str
    with pytest.raises(TemplateError, match="workers do not have 'upper'"):
        source_of(Template("x.txt"), templates)


def test_extensions_and_finalize_of_the_application_are_refused() -> None:
    with pytest.raises(TemplateError, match=r"unknown tag 'trans'.* at delivery"):
        source_of(
            Template.from_string("{% trans %}x{% endtrans %}"),
            Templates.of(jinja2.Environment(extensions=["jinja2.ext.i18n"])),
        )
    with pytest.raises(TemplateError, match="must not have finalize"):
        source_of(Template.from_string("x"), Templates.of(jinja2.Environment(finalize=str)))


def test_the_syntax_of_the_application_is_kept() -> None:
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(
            {"x.txt": "<< name >>\n<% include 'y.txt' %>\n!", "y.txt": "<< 1 >>"}
        ),
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    assert delivered(Template("x.txt"), Templates.of(environment), {"name": "Jo"}) == "Jo\n1!"


@given(st.dictionaries(KEYS, PLAIN, max_size=4))
def test_plain_data_survives_the_database(variables: dict[str, Any]) -> None:
    stored = json.loads(json.dumps(pack_json(variables, "variables")))
    assert unpack_json(stored) == variables


def test_plain_data_keeps_its_types() -> None:
    variables = {
        "when": datetime(2026, 3, 1, 12, 30, tzinfo=UTC),
        "day": date(2026, 3, 1),
        "at": time(12, 30),
        "total": Decimal("12.40"),
        "id": UUID(int=7),
        "pair": (1, 2),
        "size": Size.SMALL,
        "count": Count.TWO,
    }
    restored = unpack_json(json.loads(json.dumps(pack_json(variables, "variables"))))
    assert restored == {**variables, "pair": [1, 2]}
    assert [type(restored[name]) for name in ("size", "count")] == [str, int]


def test_dictionaries_keep_their_order_where_the_database_does_not() -> None:
    source = source_of(
        Template.from_string("{% for k in prices %}{{ k }} {% endfor %}", prices={"bb": 1, "a": 2})
    )
    # As PostgreSQL's jsonb does: shorter keys first.
    stored = json.loads(json.dumps(source.to_json(), sort_keys=True))
    assert FrozenTemplate.from_json(stored).render({}) == "bb a "


@pytest.mark.parametrize(
    ("context", "where"),
    [
        ({"order": SimpleNamespace()}, r"context\['order'\] must be a string.*not SimpleNamespace"),
        ({"order": {"lines": [1, object()]}}, r"context\['order'\]\['lines'\]\[1\] .*not object"),
        ({"rate": float("nan")}, r"context\['rate'\] .*not nan"),
        ({"tags": {"a"}}, r"context\['tags'\] .*not set"),
        ({"body": Markup("<b>")}, r"context\['body'\] .*not markup.*\| safe"),
        ({"prices": {1: "a"}}, r"keys of the template's context\['prices'\] .*not 1"),
        ({"x": {"$postroom": "date"}}, r"keys of the template's context\['x'\] must be strings"),
        ({"name": "a\0b"}, r"context\['name'\] must be text without NUL and lone surrogates"),
        ({"name": "\ud800"}, r"context\['name'\] must be text without NUL and lone surrogates"),
    ],
)
def test_what_is_not_plain_is_refused_with_the_way_to_it(
    context: dict[str, Any], where: str
) -> None:
    with pytest.raises(TemplateError, match=where):
        source_of(Template.from_string("x", **context))


def test_a_circle_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(TemplateError, match="nested too deeply or in a circle"):
        pack_json({"circle": circle}, "variables")


@pytest.mark.parametrize(
    "tagged",
    [{"$postroom": "os"}, {"$postroom": "date", "value": "x"}, {"$postroom": [], "value": "1"}],
)
def test_a_tag_that_nobody_made_is_refused(tagged: dict[str, Any]) -> None:
    with pytest.raises(TemplateError, match=r"'\$postroom' must name one of datetime, date"):
        source_of(Template.from_string("x")).render({"x": tagged})


def test_equal_templates_are_stored_equal() -> None:
    template = Template("order.html", order={"b": 1, "a": Decimal(1)})
    first, second = (source_of(template, SHOP, html=True).to_json() for _ in range(2))
    assert json.dumps(first) == json.dumps(second)


def test_workers_threads_share_what_is_compiled() -> None:
    source = source_of(Template("x.txt"), folder(x_txt="{{ name }}"))
    results: list[str] = []
    threads = [
        threading.Thread(
            target=lambda name: results.append(source.render({"name": name})), args=(n,)
        )
        for n in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list("abcd")


def test_nothing_needs_the_outbox_templates_at_delivery() -> None:
    stored = source_of(Template.from_string("{{ 1 + n }}"), NOTHING).to_json()
    assert FrozenTemplate.from_json(stored).render({"n": 1}) == "2"
