"""Style sheets moved into the elements they style, because many mail readers drop ``<style>``."""

from __future__ import annotations

from postroom.values.errors import ConfigError, TemplateError


def inlined(html: str) -> str:
    """Return ``html`` with its ``<style>`` rules as ``style=`` attributes (extra ``css``).

    What cannot be inlined (``@media``, ``@font-face``) stays in a ``<style>``. Nothing is ever
    loaded: style sheets that are only linked to are left as they are.

    Raises:
        ConfigError: css-inline is not installed.
        TemplateError: the style rules cannot be read.
    """
    try:
        import css_inline  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise ConfigError(
            "expected css-inline to be installed for inline_css, got: no such package; install "
            "postroom[css]"
        ) from error
    try:
        return css_inline.inline(
            html, keep_at_rules=True, keep_link_tags=True, load_remote_stylesheets=False
        )
    except css_inline.InlineError as error:
        raise TemplateError(f"expected style rules that can be inlined, got: {error}") from error
