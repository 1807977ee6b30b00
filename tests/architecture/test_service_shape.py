"""Every service shows the same file names; a missing one means "does not do that"."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.architecture.sources import KEEPERS, ROOT, SERVICES, files, python_files, tree

# Architecture §3. A package may stand where a module is named: domain/, rpc/, store/, payloads/.
ALWAYS = {"__init__", "__main__", "app", "settings", "domain", "publishers", "README", "consumers"}
# Names that mean the same wherever they stand.
SHARED = {
    "rpc": "servicers: proto → domain → store → proto",
    "store": "the only place with SQL, or with Valkey commands",
    "migrations": "plain SQL, numbered, up and down",
    "jobs": "what this service does when the scheduler says so",
    "messages": "proto ⇄ domain, when more than one module needs it",
    "history": "the live history window",
    "leases": "leases, refreshed and reaped",
}
DOES_NOT = {
    ("gateway", "rpc"): "it is the HTTP edge; nobody calls it over gRPC",
    ("realtime", "migrations"): "all it keeps is in Valkey and JetStream",
}
# What only one service has. A second service that wants a name moves it to SHARED.
OWN = {
    "gateway": {
        *("accounts", "activitywatch", "activitywatch_events", "appends", "auth", "bodies"),
        *("buckets", "channel", "clients", "connection", "control", "edge", "event_stream"),
        *("feed", "hold", "http", "hub", "idempotency", "mailbox", "organization", "parting"),
        *("passwords", "payloads", "problems", "proofs", "rate_limit", "recovery", "seat"),
        *("server", "tickets", "tokens", "usage", "websocket"),
    },
    "ingest": {"commits", "edits"},
    "realtime": {"lua", "presence"},
    "scheduler": {"dispatch", "due", "replays", "system"},
    "sessions": {"recompute"},
}
# A name that says nothing about what is inside.
SAYS_NOTHING = {"utils", "util", "helpers", "helper", "common", "base", "manager", "models", "misc"}


def names(service: str) -> set[str]:
    """What stands directly in the folder of a service, without suffixes."""
    folder = Path("services") / service
    below = [path.relative_to(folder) for path in files() if path.is_relative_to(folder)]
    return {Path(path.parts[0]).stem for path in below}


@pytest.mark.parametrize("service", SERVICES)
def test_it_has_what_every_service_has(service: str) -> None:
    expected = ALWAYS | {"rpc", "store", "migrations"}
    expected -= {name for (owner, name) in DOES_NOT if owner == service}
    assert not expected - names(service), "missing"


@pytest.mark.parametrize(("service", "name"), DOES_NOT)
def test_it_does_not_have_what_it_does_not_do(service: str, name: str) -> None:
    assert name not in names(service), DOES_NOT[service, name]


@pytest.mark.parametrize("service", SERVICES)
def test_it_has_nothing_that_nobody_knows_about(service: str) -> None:
    known = ALWAYS | set(SHARED) | OWN[service]
    assert not names(service) - known, "not in SHARED or OWN of this test"
    assert not OWN[service] - names(service), "listed and gone"


def test_one_name_means_one_thing() -> None:
    seen: dict[str, str] = {}
    for service, own in OWN.items():
        for name in own:
            assert name not in SHARED | seen, f"{name}: {service} and {seen.get(name, 'SHARED')}"
            seen[name] = service
    used = Counter(name for service in SERVICES for name in names(service))
    assert not [name for name in SHARED if used[name] < 2], "in SHARED and not shared"


@pytest.mark.parametrize("service", SERVICES)
def test_its_docstring_is_its_business_card(service: str) -> None:
    card = (ast.get_docstring(tree(Path("services", service, "__init__.py"))) or "").lower()
    for word in ("owns ", "serves ", "announces ", "listens "):
        assert any(line.startswith(word) for line in card.splitlines()), f"does not say: {word}"


@pytest.mark.parametrize("service", SERVICES)
def test_its_main_only_runs_it(service: str) -> None:
    source = (ROOT / "services" / service / "__main__.py").read_text(encoding="utf-8")
    assert len([line for line in source.splitlines() if line.strip()]) <= 10


@pytest.mark.parametrize("service", SERVICES)
def test_its_readme_fits_a_screen(service: str) -> None:
    readme = (ROOT / "services" / service / "README.md").read_text(encoding="utf-8")
    assert 10 <= len(readme.splitlines()) <= 120
    for topic in ("fail", "knob" if "knob" in readme.lower() else "setting"):
        assert topic in readme.lower(), f"says nothing about: {topic}"


@pytest.mark.parametrize("service", KEEPERS)
def test_it_keeps_its_tables_in_migrations_of_its_own(service: str) -> None:
    assert list((ROOT / "services" / service / "migrations").glob("*.sql"))


def test_every_module_says_why_it_exists() -> None:
    silent = [
        str(path)
        for path in python_files("chassis", "services", "tools")
        if tree(path).body and not ast.get_docstring(tree(path)) and path.name != "__main__.py"
    ]
    assert not silent


def test_no_name_says_nothing() -> None:
    found = [
        str(path)
        for path in files()
        for part in (*path.parts[:-1], path.stem)
        # `base` and `overlays` are kustomize's own words.
        if part in SAYS_NOTHING and path.parts[0] not in {"protos", "k8s"}
    ]
    assert not found
