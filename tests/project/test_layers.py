"""The floors of the house: who may import whom."""

from __future__ import annotations

from tests.project.sources import modules

#: The floors under each floor. What is not listed is an edge, and may import all of them.
FLOORS = {
    "version": {"version"},
    "log": {"log"},
    "backoff": {"backoff"},
    "values": {"version", "values"},
    "storage": {"version", "log", "values", "storage"},
    "smtp": {"version", "log", "values", "smtp"},
    "delivery": {"version", "log", "backoff", "values", "storage", "smtp", "delivery"},
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
    "aiosmtpd": ("testing", "cli"),
    "flask": ("integrations.flask",),
    "flask_sqlalchemy": ("integrations.flask",),
    "fastapi": ("integrations.fastapi",),
    "starlette": ("integrations.fastapi",),
    "celery": ("integrations.celery",),
    "redis": ("smtp", "integrations"),
    "pytest": ("testing.watching",),
}


def floor_of(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def lies_in(name: str, home: str) -> bool:
    return f"{name}.".startswith(f"postroom.{home}.")


def test_a_floor_imports_only_downward() -> None:
    wrong = [
        f"{module.name} imports {imported}"
        for module in modules()
        for imported in module.imports()
        if imported.startswith("postroom.")
        and floor_of(imported) not in FLOORS.get(floor_of(module.name), {floor_of(imported)})
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


def test_values_and_smtp_know_nothing_of_the_database() -> None:
    wrong = [
        f"{module.name} imports {imported}"
        for module in modules()
        for imported in module.imports()
        if floor_of(module.name) in {"values", "smtp"} and imported.startswith("sqlalchemy")
    ]
    assert wrong == []


def test_only_delivery_and_the_edges_start_threads() -> None:
    # A lock starts nothing. The resolver knows no deadline, so that looking up a name needs one.
    excepted = {"postroom.smtp.dial"}
    starts = {"threading.Thread", "threading.Timer", "_thread"}
    wrong = [
        f"{module.name} uses {used}"
        for module in modules()
        if floor_of(module.name) in {"values", "storage", "smtp"} and module.name not in excepted
        for used in starts & {*module.imports(), *module.attributes()}
    ]
    assert wrong == []


def test_there_is_something_on_every_floor() -> None:
    found = {floor_of(module.name) for module in modules() if not module.is_package}
    assert set(FLOORS) <= found
