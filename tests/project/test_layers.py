"""The floors of the house: who may import whom."""

from __future__ import annotations

from tests.project.sources import modules

#: The floors of the house, from the ground up, and the floors under each. A module belongs to the
#: longest name that it begins with. What is not listed is an edge, and may import all of them.
_WORDS = {"version", "errors", "states", "text", "checks", "backoff", "clock", "duration"} | {
    "log",
    "smtp.reply",
}
_MESSAGE = _WORDS | {"message"}
_ADDRESSES = _MESSAGE | {f"relays.{name}" for name in ("relay", "url", "options", "route")}
FLOORS = {
    **dict.fromkeys(
        [*_WORDS, "smtp.fault_rules"], _WORDS | {"smtp.fault_rules", "message.headers"}
    ),
    "message": _MESSAGE,
    **dict.fromkeys(_ADDRESSES - _MESSAGE, _ADDRESSES),
    "smtp": _ADDRESSES | {"smtp"},
    "storage": _MESSAGE | {"storage"},
    "relays": _ADDRESSES | {"smtp", "relays"},
    "delivery": _ADDRESSES | {"smtp", "storage", "relays", "delivery"},
}

#: Where alone something foreign may be imported.
HOMES = {
    "alembic": ("storage.migrations", "cli"),
    "socket": ("smtp", "testing", "cli"),
    "ssl": ("smtp", "testing"),
    "smtplib": ("smtp", "testing"),
    "multiprocessing": ("delivery", "cli"),
    "concurrent": ("delivery",),
    "greenlet": ("smtp.readiness", "delivery.scheduler", "delivery.loop_guard"),
    "gevent": ("delivery.scheduler", "delivery.loop_guard"),
    "typer": ("cli",),
    "rich": ("cli",),
    "aiosmtpd": ("cli",),
    "flask": ("integrations.flask",),
    "flask_sqlalchemy": ("integrations.flask",),
    "fastapi": ("integrations.fastapi",),
    "starlette": ("integrations.fastapi",),
    "celery": ("integrations.celery",),
    "redis": ("relays.redis_store", "integrations"),
    "pytest": ("testing.plugin",),
}


def floor_of(name: str) -> str:
    """Return the floor of a module, or of a name in it; its package's where it is an edge."""
    rest = name.removeprefix("postroom").removeprefix(".")
    floors = [floor for floor in FLOORS if f"{rest}.".startswith(f"{floor}.")]
    return max(floors, key=len, default=rest.split(".")[0])


def lies_in(name: str, home: str) -> bool:
    return f"{name}.".startswith(f"postroom.{home}.")


def test_a_floor_imports_only_downward() -> None:
    wrong = [
        f"{module.name} imports {imported}"
        for module in modules()
        for imported in module.imports()
        if imported.startswith("postroom.") and floor_of(module.name) in FLOORS
        if floor_of(imported) not in FLOORS[floor_of(module.name)]
    ]
    assert wrong == []


def test_what_is_foreign_is_imported_in_its_own_place_only() -> None:
    wrong = [
        f"{module.name} imports {imported}; only {', '.join(homes)} may"
        for module in modules()
        for imported in module.imports()
        if module.name != "pytest_postroom"  # pytest's own entrance
        if (homes := HOMES.get(imported.split(".")[0]))
        and not any(lies_in(module.name, home) for home in homes)
    ]
    assert wrong == []


def test_only_storage_and_delivery_know_of_the_database() -> None:
    wrong = [
        f"{module.name} imports {imported}"
        for module in modules()
        for imported in module.imports()
        if floor_of(module.name) in FLOORS.keys() - {"storage", "delivery"}
        and imported.startswith("sqlalchemy")
    ]
    assert wrong == []


def test_only_delivery_and_the_edges_start_threads() -> None:
    # A lock starts nothing. The resolver knows no deadline, so that looking up a name needs one.
    excepted = {"postroom.smtp.dial", "postroom.relays.pool"}
    starts = {"threading.Thread", "threading.Timer", "_thread"}
    wrong = [
        f"{module.name} uses {used}"
        for module in modules()
        if floor_of(module.name) in FLOORS.keys() - {"delivery"} and module.name not in excepted
        for used in starts & {*module.imports(), *module.attributes()}
    ]
    assert wrong == []


def test_there_is_something_on_every_floor() -> None:
    found = {floor_of(module.name) for module in modules()}
    assert set(FLOORS) <= found
