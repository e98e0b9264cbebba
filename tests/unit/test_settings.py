"""Settings come from the environment and a file, are checked by name, and keep their secrets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from postroom.config.settings import LogFormat, Settings
from postroom.config.sources import settings_path
from postroom.delivery.config import WorkerConfig
from postroom.errors import ConfigError
from postroom.states import Lane, OnDoubt

SECRET = "correct-horse-battery"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of ours is set, and the current directory is empty."""
    for name in list(os.environ):
        if name.upper().startswith("POSTROOM_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def write(text: str) -> None:
    Path("postroom.toml").write_text(text, encoding="utf-8")


def refusal() -> str:
    with pytest.raises(ConfigError) as caught:
        Settings.load()
    return str(caught.value)


def test_without_environment_and_file_every_setting_has_its_default() -> None:
    settings = Settings.load()
    assert settings.database_url is None
    assert settings.worker_config() == WorkerConfig()
    assert settings.on_doubt is OnDoubt.RESEND
    assert settings.log_format is LogFormat.TEXT


def test_the_file_in_the_current_directory_is_read() -> None:
    write(
        'sender = "Shop <shop@example.com>"\ntemplates = ["a", "b"]\n[lane_weights]\nurgent = 9\n'
    )
    settings = Settings.load()
    assert settings.sender == "Shop <shop@example.com>"
    assert settings.templates == (Path("a"), Path("b"))
    assert settings.lane_weights == {Lane.URGENT: 9}


def test_the_environment_beats_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write("connections_per_relay = 2\nclaim_batch_size = 20\n")
    monkeypatch.setenv("POSTROOM_CONNECTIONS_PER_RELAY", "7")
    settings = Settings.load()
    assert (settings.connections_per_relay, settings.claim_batch_size) == (7, 20)


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    write('sender = "shop@example.com"\n')
    monkeypatch.setenv("POSTROOM_SENDER", "")
    assert Settings.load().sender == "shop@example.com"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("0.5", 0.5), ("90s", 90), ("2min", 120), ("500 ms", 0.5)]
)
def test_a_time_is_in_seconds_or_says_its_unit(
    monkeypatch: pytest.MonkeyPatch, text: str, seconds: float
) -> None:
    monkeypatch.setenv("POSTROOM_POLL_INTERVAL_S", text)
    assert Settings.load().poll_interval_s == seconds


def test_what_is_no_time_is_refused_with_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROOM_LEASE_S", "soon")
    assert refusal() == (
        "the setting lease_s (POSTROOM_LEASE_S): must be a number of seconds or a duration such as "
        "30s, 5m, 2h or 30d, not 'soon'"
    )


def test_postroom_config_names_another_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    other.write_text("claim_batch_size = 3\n")
    monkeypatch.setenv("POSTROOM_CONFIG", str(other))
    assert Settings.load().claim_batch_size == 3
    assert settings_path() == other


def test_a_file_that_is_named_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROOM_CONFIG", "missing.toml")
    assert "POSTROOM_CONFIG" in refusal()
    assert "missing.toml" in refusal()


def test_lanes_and_folders_can_be_said_in_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROOM_LANE_WEIGHTS", "urgent=8, bulk=2")
    monkeypatch.setenv("POSTROOM_TEMPLATES", os.pathsep.join(["mail", "shared"]))
    settings = Settings.load()
    assert settings.lane_weights == {Lane.URGENT: 8, Lane.BULK: 2}
    assert settings.templates == (Path("mail"), Path("shared"))


def test_a_lane_that_is_left_out_keeps_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROOM_LANE_WEIGHTS", "bulk=3")
    weights = Settings.load().worker_config().lane_weights
    assert weights == {**WorkerConfig().lane_weights, Lane.BULK: 3}


def test_relays_can_be_a_table_of_names() -> None:
    write('[relay]\nmain = "smtp://one.example"\nbulk = "smtp://two.example"\n')
    relay = Settings.load().relay
    assert isinstance(relay, dict)
    assert {name: url.get_secret_value() for name, url in relay.items()} == {
        "main": "smtp://one.example",
        "bulk": "smtp://two.example",
    }


def test_relays_become_routes_and_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        'connections_per_relay = 9\n[relay]\none = "smtp://one.example"\ntwo = "smtp://two.example"\n'
        'both = "failover(one two)"\n[relay_by_lane]\nbulk = "two"\n'
    )
    monkeypatch.setenv("POSTROOM_RELAY_BY_SENDER", "news.example=both")
    routing = Settings.load().routing()
    assert routing is not None
    assert [route.name for route in routing.routes] == ["one", "two", "both"]
    assert {relay.connections for relay in routing.relays.values()} == {9}
    assert routing.by_sender == {"news.example": "both"}
    assert routing.by_lane == {Lane.BULK: "two"}


def test_a_rule_that_leads_nowhere_is_named() -> None:
    write('relay = "smtp://one.example"\n[relay_by_lane]\nbulk = "two"\n')
    with pytest.raises(ConfigError, match=r"one\.example, got: two"):
        Settings.load().routing()


def test_an_unknown_setting_in_the_file_is_named_with_the_nearest_one() -> None:
    write('sendr = "shop@example.com"\n')
    assert "'sendr'; did you mean sender?" in refusal()


def test_an_unknown_variable_is_named_with_the_nearest_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POSTROOM_DATABSE_URL", f"postgresql://u:{SECRET}@h/d")
    assert refusal() == "unknown variable POSTROOM_DATABSE_URL; did you mean POSTROOM_DATABASE_URL?"


def test_a_value_that_does_not_fit_is_named_with_what_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POSTROOM_CONNECTIONS_PER_RELAY", "many")
    monkeypatch.setenv("POSTROOM_LOG_FORMAT", "xml")
    text = refusal()
    assert "POSTROOM_CONNECTIONS_PER_RELAY" in text
    assert "'many'" in text
    assert "'text' or 'json'" in text


def test_a_file_that_is_not_toml_is_named_with_the_line() -> None:
    write(f'relay = "smtp://u:{SECRET}@h"\nsender =\n')
    text = refusal()
    assert "postroom.toml" in text
    assert "line 2" in text
    assert SECRET not in text


def test_no_error_and_no_repr_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROOM_RELAY", f'{{"main": ["smtp://u:{SECRET}@h"]}}')
    with pytest.raises(ConfigError) as caught:
        Settings.load()
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    monkeypatch.setenv("POSTROOM_RELAY", f"smtp://u:{SECRET}@h")
    assert SECRET not in repr(Settings.load())


def test_settings_made_by_hand_beat_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROOM_CLAIM_BATCH_SIZE", "5")
    assert Settings(claim_batch_size=9).claim_batch_size == 9


def test_the_page_of_settings_says_what_the_settings_say() -> None:
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    text = " ".join(page.read_text(encoding="utf-8").split())
    for name, field in Settings.model_fields.items():
        assert f"`{name}` | `POSTROOM_{name.upper()}`" in text
        assert field.description is not None
        assert field.description in text
