"""The floors of the house: who may import whom."""

from __future__ import annotations

from tests.project.sources import modules

#: The floors under each floor. What is not listed is an edge, and may import all of them.
FLOORS = {
    "values": {"values"},
    "storage": {"values", "storage"},
    "smtp": {"values", "smtp"},
    "delivery": {"values", "storage", "smtp", "delivery"},
}

#: Where alone something foreign may be imported.
HOMES = {
    "sqlalchemy": ("storage", "delivery", "outbox", "cli", "integrations", "testing"),
    "alembic": ("storage.migrations", "cli"),
    "socket": ("smtp", "testing", "cli"),
    "ssl": ("smtp", "testing"),
    "smtplib": ("smtp", "testing"),
    "multiprocessing": ("delivery", "cli"),
    "concurrent": ("delivery",),
    "typer": ("cli",),
    "rich": ("cli",),
    "aiosmtpd": ("testing", "cli"),
    "flask": ("integrations.flask",),
    "flask_sqlalchemy": ("integrations.flask",),
    "fastapi": ("integrations.fastapi",),
    "starlette": ("integrations.fastapi",),
    "celery": ("integrations.celery",),
    "redis": ("smtp", "integrations"),
    "pytest": ("testing",),
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
        if (homes := HOMES.get(imported.split(".")[0]))
        and not any(lies_in(module.name, home) for home in homes)
    ]
    assert wrong == []


def test_only_delivery_and_the_edges_start_threads() -> None:
    # A Lock is imported by its name, and starts nothing.
    starters = {"threading", "threading.Thread", "threading.Timer", "_thread"}
    wrong = [
        f"{module.name} imports {imported}"
        for module in modules()
        for imported in module.imports()
        if floor_of(module.name) in {"values", "storage", "smtp"} and imported in starters
    ]
    assert wrong == []


def test_there_is_something_on_every_floor() -> None:
    found = {floor_of(module.name) for module in modules() if not module.is_package}
    assert set(FLOORS) <= found
