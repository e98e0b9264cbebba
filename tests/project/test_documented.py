"""Whatever can be set, called or met is in the documentation."""

from __future__ import annotations

import re
from enum import StrEnum

import pytest

from postroom import Outbox
from postroom.config.settings import PREFIX, Settings
from postroom.states import Fault, Lane, OnDoubt, Phase, RecipientState
from tests.project.commands import COMMANDS, options
from tests.project.sources import ROOT, documents


@pytest.mark.parametrize(
    "member",
    [*RecipientState, *Fault, *Phase, *Lane, *OnDoubt],
    ids=lambda member: f"{type(member).__name__}-{member}",
)
def test_every_state_fault_and_phase_is_explained(member: StrEnum) -> None:
    explained = re.compile(rf"`(\w+=)?\"?{member.value}\"?`")
    assert any(explained.search(page) for page in documents().values())


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_explained(name: str) -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert f"`{PREFIX}{name.upper()}`" in page
    assert f"`{name}`" in page


def test_no_page_names_a_setting_that_does_not_exist() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {PREFIX + "CONFIG"}
    named = {
        (path, variable)
        for path, page in documents().items()
        for variable in re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b", page)
    }
    assert {entry for entry in named if entry[1] not in known} == set()


def test_no_page_names_a_method_that_an_outbox_does_not_have() -> None:
    named = {
        (path, name)
        for path, page in documents().items()
        for name in re.findall(r"\boutbox\.(?!py\b|sqlite\b|db\b)([a-z_]+)", page)
    }
    assert len(named) > 20
    assert {entry for entry in named if not hasattr(Outbox, entry[1])} == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_explained(name: str) -> None:
    page = (ROOT / "docs" / "command.md").read_text(encoding="utf-8")
    assert re.search(rf"`?{name}\b", page)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    page = (ROOT / "docs" / "command.md").read_text(encoding="utf-8")
    named = {max(option.opts, key=len) for option in options(COMMANDS[name])} - {"--help"}
    assert {option for option in named if option not in page} == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_helps(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert [option.name for option in options(command) if not getattr(option, "help", None)] == []
