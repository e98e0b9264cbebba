"""What the pages tell a reader to type exists."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator

import pytest

from tests.project.commands import COMMANDS
from tests.project.sources import ROOT, code_blocks, documents

PAGES = documents()


def shell_lines(page: str) -> Iterator[list[str]]:
    """Yield each command line of the page's shell blocks, without prompt and variables."""
    for block in code_blocks(page, "sh", "shell", "bash", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words = words[1:]
            if words:
                yield words


def targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^(\w+):", makefile, flags=re.MULTILINE))


@pytest.mark.parametrize("path", PAGES)
def test_every_make_target_exists(path: str) -> None:
    named = {word for words in shell_lines(PAGES[path]) if words[0] == "make" for word in words[1:]}
    assert {word for word in named if "=" not in word} <= targets()


@pytest.mark.parametrize("path", PAGES)
def test_every_postroom_command_exists(path: str) -> None:
    known = {tuple(name.split()) for name in COMMANDS}
    for words in shell_lines(PAGES[path]):
        if words[0] == "postroom" and len(words) > 1 and not words[1].startswith("-"):
            assert known & {tuple(words[:2]), tuple(words[:3])}, " ".join(words)


@pytest.mark.parametrize("path", PAGES)
def test_every_option_named_with_a_command_exists(path: str) -> None:
    for words in shell_lines(PAGES[path]):
        command = COMMANDS.get(" ".join(words[:3])) or COMMANDS.get(" ".join(words[:2]))
        if words[0] == "postroom" and command is not None:
            known = {name for parameter in command.params for name in parameter.opts}
            known |= {name for parameter in command.params for name in parameter.secondary_opts}
            named = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert named <= known | {"--help"}, " ".join(words)


@pytest.mark.parametrize("path", PAGES)
def test_every_python_block_is_python_and_imports_what_exists(path: str) -> None:
    for block in code_blocks(PAGES[path], "python", "py"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("postroom"):
                module = importlib.import_module(node.module or "")
                assert not [a.name for a in node.names if not hasattr(module, a.name)]


@pytest.mark.parametrize("path", PAGES)
def test_every_relative_link_leads_somewhere(path: str) -> None:
    page = re.sub(r"^```.*?^```", "", PAGES[path], flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", page)
    folder = (ROOT / path).parent
    assert [link for link in links if not (folder / link).exists()] == []
