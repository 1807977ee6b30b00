"""The environment of each service, and that every deployment file says the same."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.embedded.credentials import NATS_USERS, load_or_create
from deploy.embedded.services import SERVICES, Ports, Service, Wiring, environment
from deploy.embedded.wheels import REPOSITORY

DEPLOY = REPOSITORY / "deploy"


@pytest.fixture
def wiring(tmp_path: Path) -> Wiring:
    numbers = iter(range(20_000, 20_100))
    return Wiring(
        credentials=load_or_create(tmp_path),
        public_listen="127.0.0.1:8080",
        ports={service.name: Ports(next(numbers), next(numbers)) for service in SERVICES},
        database="postgresql://role:pw@127.0.0.1:5432/own",
        nats_url="nats://127.0.0.1:4222",
        valkey_url="redis://:pw@127.0.0.1:6379/0",
    )


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return parsed


def named(name: str) -> Service:
    (found,) = (service for service in SERVICES if service.name == name)
    return found


def test_ingest_gets_its_database_its_user_and_where_to_listen(wiring: Wiring) -> None:
    assert environment(named("ingest"), wiring) == {
        "INGEST_POSTGRES_DSN": wiring.database,
        "INGEST_NATS_URL": "nats://127.0.0.1:4222",
        "INGEST_NATS_USER": "ingest",
        "INGEST_NATS_PASSWORD": wiring.credentials.nats["ingest"],
        "INGEST_GRPC_LISTEN": f"127.0.0.1:{wiring.ports['ingest'].grpc}",
        "INGEST_HEALTH_LISTEN": f"127.0.0.1:{wiring.ports['ingest'].health}",
        "INGEST_TOKEN_PUBLIC_KEY_FILE": str(wiring.credentials.token_public_key),
    }


def test_realtime_has_valkey_and_no_database(wiring: Wiring) -> None:
    own = environment(named("realtime"), wiring)
    assert own["REALTIME_VALKEY_URL"] == wiring.valkey_url
    assert "REALTIME_POSTGRES_DSN" not in own


def test_the_gateway_alone_signs_tokens_and_knows_where_the_others_are(wiring: Wiring) -> None:
    own = environment(named("gateway"), wiring)
    assert own["GATEWAY_LISTEN"] == "127.0.0.1:8080"
    for name in ("ingest", "sessions", "scheduler", "realtime"):
        assert own[f"GATEWAY_{name.upper()}_TARGET"] == f"127.0.0.1:{wiring.ports[name].grpc}"
        others = environment(named(name), wiring)
        assert not any("PRIVATE" in key or "TARGET" in key for key in others)
    assert "GATEWAY_GRPC_LISTEN" not in own
    assert own["GATEWAY_TOKEN_PRIVATE_KEY_FILE"].endswith("token-private.pem")


def test_no_service_gets_anothers_password(wiring: Wiring) -> None:
    for service in SERVICES:
        values = " ".join(environment(service, wiring).values())
        for other in SERVICES:
            if other is not service:
                assert wiring.credentials.nats[other.name] not in values


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_compose_gives_each_service_the_same_settings(
    compose: dict[str, Any], wiring: Wiring, service: Service
) -> None:
    own = compose["services"][service.name]
    assert set(own["environment"]) == set(environment(service, wiring))
    assert own["build"]["args"]["SERVICE"] == service.name
    assert own["read_only"] is True
    assert own["cap_drop"] == ["ALL"]
    assert "healthcheck" in own
    if service.database is not None:
        dsn = own["environment"][f"{service.name.upper()}_POSTGRES_DSN"]
        assert dsn.endswith(f"@postgres:5432/{service.database}")
        migrate = compose["services"][f"migrate-{service.name}"]
        assert migrate["environment"]["DATABASE_URL"] == f"{dsn}?sslmode=disable"
        assert f"migrate-{service.name}" in own["depends_on"]


def test_compose_publishes_the_gateway_only(compose: dict[str, Any]) -> None:
    published = {name for name, one in compose["services"].items() if "ports" in one}
    assert published == {"gateway"}
    private = {
        name
        for name, one in compose["services"].items()
        if "token-private" in one.get("secrets", [])
    }
    assert private == {"gateway"}


def test_compose_reads_only_secrets_that_are_made(compose: dict[str, Any]) -> None:
    made = set(
        re.findall(r"[A-Z_]+_PASSWORD|POSTGRES_PASSWORD", (DEPLOY / "secrets.sh").read_text())
    )
    read = set(re.findall(r"(?<!\$)\$\{([A-Z_]+_PASSWORD)", (DEPLOY / "compose.yaml").read_text()))
    # Nodes of a NATS cluster know each other by the last one; compose has one node.
    assert made - read == {"NATS_ROUTE_PASSWORD"}
    assert read <= made


def test_nats_knows_every_service_and_the_operator() -> None:
    users = re.findall(r"user: (\w+)", (DEPLOY / "nats" / "nats.conf").read_text())
    assert sorted(users) == sorted(NATS_USERS)


def test_every_service_with_data_has_its_database_in_roles_sql() -> None:
    text = (DEPLOY / "postgres" / "roles.sql").read_text()
    owned = set(re.findall(r"\('(timeloom_\w+)', '(\w+)'\)", text))
    assert owned == {(one.database, one.name) for one in SERVICES if one.database}
    for database, role in owned:
        assert f"REVOKE CONNECT, TEMPORARY ON DATABASE {database} FROM PUBLIC" in text
        assert f"ALTER ROLE {role} PASSWORD" in text


def test_the_image_holds_one_service_and_no_root() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    last_stage = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM")) :]
    copied = [
        line.split()[1] for line in last_stage if line.startswith("COPY") and "--" not in line
    ]
    assert copied == ["chassis", "protos", "services/__init__.py", "services/${SERVICE}"]
    assert "USER 10001:10001" in last_stage
    assert last_stage[-1] == 'ENTRYPOINT ["/usr/local/bin/serve"]'
