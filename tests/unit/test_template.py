"""Templates: what is rendered, what is escaped, and what an error says."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape

from postroom.errors import ConfigError, TemplateError
from postroom.message.templates import Template, Templates, freeze
from tests.unit.templates import NOTHING, folder, html_of, text_of

LAYOUT = "<body>{% block main %}{% endblock %}{% include 'footer.html' %}</body>"
FOOTER = "<p>{{ shop }}</p>"
MACROS = "{% macro button(label) %}<b>{{ label }}</b>{% endmacro %}"
ORDER = """{% extends "layout.html" %}{% from "macros.html" import button %}
{% block main %}{% for line in order.lines %}{{ button(line) }}{% endfor %}{% endblock %}"""

SHOP = folder(layout_html=LAYOUT, footer_html=FOOTER, macros_html=MACROS, order_html=ORDER)


def test_variables_may_be_given_as_a_mapping_or_by_keyword() -> None:
    order = {"number": 7}

    assert Template("order.html", {"order": order}) == Template("order.html", order=order)
    assert Template("order.html", {"a": 1, "b": 1}, b=2).context == {"a": 1, "b": 2}
    assert Template.from_string("{{ a }}", {"a": 1}).context == {"a": 1}
    with pytest.raises(TemplateError, match="must be a mapping"):
        Template("order.html", ["order"])  # type: ignore[arg-type]


@given(st.text())
def test_a_string_is_never_rendered(text: str) -> None:
    literal = "{{ 7 * 7 }}{% if x %}{# #}" + text
    assert text_of(literal) == literal
    assert html_of(literal) == literal
    assert freeze(literal, NOTHING, html=True, has_variables=True) == literal


@given(st.text())
def test_what_a_user_typed_is_escaped_in_html_and_left_alone_in_text(typed: str) -> None:
    template = Template.from_string("{{ name }}", name=typed)
    assert html_of(template) == str(escape(typed))
    assert text_of(template) == typed


@given(st.text())
def test_what_a_user_typed_is_no_template_either(typed: str) -> None:
    syntax = "{{ 7 * 7 }}" + typed
    assert text_of(Template.from_string("{{ name }}", name=syntax)) == syntax


def test_html_is_escaped_whatever_the_file_is_called() -> None:
    templates = folder(order_txt="{% include 'part.txt' %}", part_txt="{{ name }}")
    assert html_of(Template("order.txt", name="<b>"), templates) == "&lt;b&gt;"


def test_a_subject_is_not_escaped_whatever_the_file_is_called() -> None:
    assert text_of(Template("order.html", name="Tom & Jo"), folder(order_html="{{ name }}")) == (
        "Tom & Jo"
    )


def test_layouts_includes_imports_and_macros_work() -> None:
    rendered = html_of(Template("order.html", order={"lines": ["<Tea>"]}, shop="A & B"), SHOP)
    assert rendered == "<body><b>&lt;Tea&gt;</b><p>A &amp; B</p></body>"


def test_a_string_may_extend_a_file() -> None:
    template = Template.from_string(
        '{% extends "layout.html" %}{% block main %}Hi{% endblock %}', shop="Shop"
    )
    assert html_of(template, SHOP) == "<body>Hi<p>Shop</p></body>"


def test_any_name_can_be_given_to_a_template() -> None:
    given = {"name": "a", "self": "b", "source": "c", "cls": "d", "choices": "e"}
    source = "{{ name }}{{ source }}{{ cls }}{{ choices }}"
    assert text_of(Template("all.txt", **given), folder(all_txt=source)) == "acde"
    assert text_of(Template.from_string(source, **given)) == "acde"


def test_do_break_and_continue_are_there() -> None:
    source = "{% for n in [1, 2, 3] %}{% if n == 2 %}{% continue %}{% endif %}{{ n }}{% endfor %}"
    assert text_of(Template.from_string(source)) == "13"


def test_a_template_does_not_show_what_it_was_given() -> None:
    assert repr(Template("reset.txt", token="secret")) == "Template('reset.txt', token=…)"


def test_a_template_cannot_be_changed_afterwards() -> None:
    names = ["a"]
    context = {"names": names}
    template = Template("x.txt", **context)
    context["names"] = []
    assert template.context["names"] == names
    with pytest.raises(TypeError):
        template.context["names"] = ()


@pytest.mark.parametrize("name", ["", None, 7])
def test_a_template_needs_a_name(name: str) -> None:
    with pytest.raises(TemplateError, match="name of a template must be a file name"):
        Template(name)


def test_a_source_is_a_string() -> None:
    with pytest.raises(TemplateError, match="source of a template must be a string"):
        Template.from_string(b"x")


def test_a_file_is_read_again_once_it_changed(tmp_path: Path) -> None:
    file = tmp_path / "hello.txt"
    file.write_text("Hello", encoding="utf-8")
    templates = Templates.of(tmp_path)
    assert text_of(Template("hello.txt"), templates) == "Hello"
    file.write_text("Good day", encoding="utf-8")
    # Jinja looks at the time of the change.
    stat = file.stat()
    os.utime(file, (stat.st_atime, stat.st_mtime + 5))
    assert text_of(Template("hello.txt"), templates) == "Good day"


def test_a_file_that_is_not_utf8_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"Gr\xfc\xdfe")
    with pytest.raises(TemplateError, match=r"latin\.txt cannot be read: .*utf-8"):
        text_of(Template("latin.txt"), Templates.of(tmp_path))


def test_the_first_folder_wins(tmp_path: Path) -> None:
    for name in ("own", "shared"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.txt").write_text(name, encoding="utf-8")
    templates = Templates.of([tmp_path / "own", str(tmp_path / "shared")])
    assert text_of(Template("x.txt"), templates) == "own"


def test_a_template_outside_the_folders_cannot_be_named(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    templates = Templates.of(tmp_path / "templates")
    for name in ("../secret.txt", str(tmp_path / "secret.txt")):
        with pytest.raises(TemplateError, match="there is no template"):
            text_of(Template(name), templates)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.*does not exist"):
        Templates.of(tmp_path / "nowhere")


@pytest.mark.parametrize("source", [7, {"a": "b"}])
def test_templates_are_a_folder_or_jinjas(source: str) -> None:
    with pytest.raises(ConfigError, match="templates must be a folder"):
        Templates.of(source)


def test_an_applications_environment_lends_filters_globals_tests_and_syntax() -> None:
    environment = jinja2.Environment(
        loader=jinja2.DictLoader({"x.txt": "[[ name|shout ]] [[ shop() ]] [[ 4 is small ]]"}),
        variable_start_string="[[",
        variable_end_string="]]",
        finalize=lambda value: "yes" if value is True else value,
    )
    environment.filters["shout"] = str.upper
    environment.globals["shop"] = lambda: "Shop"
    environment.tests["small"] = lambda number: number < 10
    assert text_of(Template("x.txt", name="jo"), Templates.of(environment)) == "JO Shop yes"


def test_an_applications_translations_are_used() -> None:
    environment = jinja2.Environment(extensions=["jinja2.ext.i18n"])
    environment.install_gettext_callables(
        {"Hello %(name)s": "Hallo %(name)s"}.__getitem__,
        lambda one, many, number: one if number == 1 else many,
        newstyle=True,
    )
    template = Template.from_string("{% trans %}Hello {{ name }}{% endtrans %}", name="Jo")
    assert text_of(template, Templates.of(environment)) == "Hallo Jo"


def test_what_an_environment_learns_before_its_first_template_counts() -> None:
    environment = jinja2.Environment()
    templates = Templates.of(environment)
    environment.filters["shout"] = str.upper
    assert text_of(Template.from_string("{{ 'x'|shout }}"), templates) == "X"


def test_an_environments_own_leniency_is_not_taken_over() -> None:
    templates = Templates.of(jinja2.Environment(undefined=jinja2.ChainableUndefined))
    with pytest.raises(TemplateError, match="'name' is undefined"):
        html_of(Template.from_string("{{ name }}"), templates)
    assert html_of(Template.from_string("{{ x }}", x="<"), templates) == "&lt;"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a\n{{ nobody }}", "x.txt, line 2: 'nobody' is undefined"),
        ("{{ order.total }}", "x.txt, line 1: .* has no attribute 'total'"),
        ("{% if %}", "x.txt, line 1: not a valid template: Expected an expression"),
        ("a\nb\n{{ 1|nothing }}", "x.txt, line 3: .*No filter named 'nothing'"),
        ("a\n{{ 1 / 0 }}", "x.txt, line 2: it cannot be rendered: ZeroDivisionError"),
        ("\n{% include 'y.txt' %}", "x.txt, line 2: there is no template y.txt"),
        ("{% include ['y', 'z'] %}", "x.txt, line 1: there is no template .* y, z"),
        ("{{ order.__class__ }}", "x.txt, line 1: the sandbox does not allow it.*__class__"),
        ("{{ order.update({}) }}", "x.txt, line 1: the sandbox does not allow it"),
        ("{% for n in range(10000000) %}{% endfor %}", "x.txt, line 1: .*Range too big"),
    ],
)
def test_an_error_names_file_and_line(source: str, expected: str) -> None:
    with pytest.raises(TemplateError, match=expected) as raised:
        text_of(Template("x.txt", order={}), folder(x_txt=source))
    assert "\n" not in str(raised.value)


def test_an_error_names_the_included_file_it_is_in() -> None:
    broken = folder(order_html="\n\n{% include 'part.html' %}", part_html="\n{{ nobody }}")
    with pytest.raises(TemplateError, match=r"^part\.html, line 2: "):
        html_of(Template("order.html"), broken)
    malformed = folder(order_html="\n\n{% include 'part.html' %}", part_html="\n{{ }")
    with pytest.raises(TemplateError, match=r"^part\.html, line 2: "):
        html_of(Template("order.html"), malformed)


def test_an_error_in_an_imported_macro_names_its_file() -> None:
    broken = folder(
        order_html="{% from 'macros.html' import m %}\n{{ m() }}",
        macros_html="{% macro m() %}\n\n{{ nobody }}{% endmacro %}",
    )
    with pytest.raises(TemplateError, match=r"^macros\.html, line 3: "):
        html_of(Template("order.html"), broken)


def test_an_error_in_a_string_names_the_line() -> None:
    with pytest.raises(TemplateError, match=r"^<string>, line 2: .*'nobody' is undefined"):
        text_of(Template.from_string("\n{{ nobody }}"))
    with pytest.raises(TemplateError, match=r"^<string>, line 3: not a valid template"):
        text_of(Template.from_string("\n\n{% endif %}"))


def test_a_missing_file_is_named_with_the_folders_looked_in(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=rf"there is no template 'nope.txt' in {tmp_path}"):
        text_of(Template("nope.txt"), Templates.of(tmp_path))


def test_a_file_without_folders_is_an_error_that_names_the_setting() -> None:
    for templates in (NOTHING, Templates.of([])):
        with pytest.raises(TemplateError, match=r"Outbox\(templates=...\)"):
            text_of(Template("x.txt"), templates)


def test_the_applications_own_error_is_the_cause() -> None:
    def broken() -> str:
        raise LookupError("the tea is out")

    with pytest.raises(TemplateError, match=r"line 1: .*LookupError: the tea is out") as raised:
        text_of(Template.from_string("{{ tea() }}", tea=broken))
    assert isinstance(raised.value.__cause__, LookupError)


def test_a_template_does_not_change_what_it_was_given() -> None:
    lines = ["tea"]
    with pytest.raises(TemplateError, match="sandbox"):
        text_of(Template.from_string("{% do lines.append('x') %}", lines=lines))
    assert lines == ["tea"]


def test_inline_images_become_their_content_ids() -> None:
    template = Template.from_string('<img src="{{ inline("logo.png") }}">')
    assert html_of(template, inline={"logo.png": "l1@shop"}) == '<img src="cid:l1@shop">'


def test_an_inline_image_that_is_not_attached_is_an_error() -> None:
    template = Template.from_string('\n{{ inline("logo.png") }}')
    with pytest.raises(TemplateError, match=r"line 2: .*inline\('logo.png'\).*\(photo.png\)"):
        html_of(template, inline={"photo.png": "p"})
    with pytest.raises(TemplateError, match=r"it has none"):
        html_of(template)


def test_an_imported_file_uses_the_images_of_each_message() -> None:
    templates = folder(
        order_html="{% import 'logo.html' as logo %}{{ logo.cid }} {{ logo.image() }}",
        logo_html=(
            "{% set cid = inline('logo.png') %}"
            "{% macro image() %}<img src='{{ inline('logo.png') }}'>{% endmacro %}"
        ),
    )
    for cid in ("first", "second"):
        rendered = html_of(Template("order.html"), templates, inline={"logo.png": cid})
        assert rendered == f"cid:{cid} <img src='cid:{cid}'>"


def test_threads_do_not_see_each_others_messages() -> None:
    templates = folder(x_txt="{{ name }} {{ inline('a.png') }}")
    barrier = threading.Barrier(4)
    wrong: list[str] = []

    def render(name: str) -> None:
        barrier.wait()
        for _ in range(50):
            rendered = text_of(Template("x.txt", name=name), templates, inline={"a.png": name})
            if rendered != f"{name} cid:{name}":
                wrong.append(rendered)

    threads = [threading.Thread(target=render, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
