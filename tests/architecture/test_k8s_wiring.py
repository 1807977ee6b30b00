"""That the parts of k8s/ fit together, and fit the services, the stores and deploy/."""

import base64
import json
import re
import shutil
import subprocess
import sysconfig
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from opentelemetry.exporter.prometheus import _mapping as prometheus
from pydantic import SecretStr

from chassis.bus import PARTITIONS
from chassis.telemetry import METRICS
from deploy.embedded.services import SERVICES as EMBEDDED
from tests.architecture.sources import KEEPERS, ROOT, SERVICES
from tests.support.manifests import (
    Cluster,
    cluster,
    config_maps,
    main_container,
    ports,
    secrets,
    size,
    target,
    variables,
)
from tools.k8s import TARGETS

GRPC, HEALTH, HTTP = 9090, 9091, 8080
MIGRATIONS = {f"migrate-{name}" for name in KEEPERS}
# What OpenTelemetry reads by itself.
STANDARD = {"OTEL_EXPORTER_OTLP_ENDPOINT"}
# PostgreSQL keeps three connections for its superuser; an operator's psql takes a few more.
RESERVED_CONNECTIONS = 8


@pytest.fixture(params=TARGETS)
def built(request: pytest.FixtureRequest) -> Cluster:
    return cluster(request.param)


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fields(service: str) -> dict[str, Any]:
    """The settings of a service by the variable that each is read from."""
    settings = import_module(f"services.{service}.settings").Settings
    prefix = settings.model_config["env_prefix"]
    return {f"{prefix}{name}".upper(): field for name, field in settings.model_fields.items()}


def own(built: Cluster, service: str) -> dict[str, dict[str, Any]]:
    return variables(main_container(built.pods()[service]))


def test_every_variable_is_a_setting_of_its_service(built: Cluster, service: str) -> None:
    assert not set(own(built, service)) - set(fields(service)) - STANDARD


def test_every_service_gets_at_least_what_compose_gives_it(built: Cluster, service: str) -> None:
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    assert set(compose[service]["environment"]) <= set(own(built, service))


def test_values_are_such_as_the_settings_take(built: Cluster, service: str) -> None:
    settings = import_module(f"services.{service}.settings").Settings
    values = {name: built.value(entry) for name, entry in own(built, service).items()}
    prefix = str(settings.model_config["env_prefix"])
    given = {
        name.removeprefix(prefix).lower(): value or "from a Secret"
        for name, value in values.items()
        if name not in STANDARD
    }
    assert settings.model_validate(given).nats_user == service


def test_what_is_secret_comes_from_a_secret_and_nothing_else_does(
    built: Cluster, service: str
) -> None:
    secret = {name for name, f in fields(service).items() if f.annotation is SecretStr}
    entries = own(built, service)
    referred = {name for name in entries if "secretKeyRef" in entries[name].get("valueFrom", {})}
    assert referred == secret & set(entries)
    assert not built.of("Secret")


def test_no_service_reads_the_secrets_of_another(built: Cluster, service: str) -> None:
    names = {name for name, _ in secrets(built.pods()[service])}
    assert names == {service, "token-public"} | ({"token-private"} & names)
    assert ("token-private" in names) is (service == "gateway")


def test_keys_are_read_where_they_are_mounted(built: Cluster, service: str) -> None:
    container = main_container(built.pods()[service])
    mounts = {m["mountPath"] for m in container["volumeMounts"] if m.get("readOnly")}
    for name, entry in own(built, service).items():
        if name.endswith("_KEY_FILE"):
            path = Path(entry["value"])
            assert str(path.parent) in mounts
            # secrets.sh names the key of the Secret, which is the name of the file, like this.
            assert path.name == f"{path.parent.name}.pem"


def test_every_secret_that_is_named_is_made_by_the_script(tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("deploy/secrets.sh makes keys with openssl, which is not here")
    for script in ("deploy/secrets.sh", "k8s/secrets.sh"):
        (tmp_path / script).parent.mkdir()
        shutil.copy(ROOT / script, tmp_path / script)
    shell = shutil.which("sh")
    assert shell
    path = f"{sysconfig.get_path('scripts')}:/usr/local/bin:/usr/bin:/bin"
    printed = [
        subprocess.run(
            [shell, tmp_path / script],
            env={"PATH": path, "HOME": str(tmp_path)},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        for script in ("deploy/secrets.sh", "k8s/secrets.sh")
    ]
    made = {one["metadata"]["name"]: one["data"] for one in yaml.safe_load_all(printed[1]) if one}
    named = {pair for pod in cluster("base").pods().values() for pair in secrets(pod)}
    assert {name for name, _ in named} == set(made)
    for name, key in named:
        assert key in made[name] or (key == "*" and set(made[name]) == {f"{name}.pem"}), (name, key)
    for one in EMBEDDED:
        if one.database:
            dsn = urlsplit(base64.b64decode(made[one.name]["postgres-dsn"]).decode())
            assert (dsn.username, dsn.path) == (one.name, f"/{one.database}")


def test_every_service_listens_where_it_is_called_and_scraped(built: Cluster, service: str) -> None:
    pod = built.pods()[service]
    entries, there = own(built, service), ports(main_container(pod))
    (offer,) = built.get("Service", service)["spec"]["ports"]
    assert built.selected({"matchLabels": built.get("Service", service)["spec"]["selector"]}) == {
        service
    }
    scraped = int(pod["metadata"]["annotations"]["prometheus.io/port"])
    if service == "gateway":
        assert there == {"http": HTTP}
        assert entries["GATEWAY_LISTEN"]["value"] == f"0.0.0.0:{HTTP}"
        assert (offer["targetPort"], scraped) == ("http", HTTP)
    else:
        assert there == {"grpc": GRPC, "health": HEALTH}
        assert entries[f"{service.upper()}_GRPC_LISTEN"]["value"] == f"0.0.0.0:{GRPC}"
        assert entries[f"{service.upper()}_HEALTH_LISTEN"]["value"] == f"0.0.0.0:{HEALTH}"
        assert (offer["port"], offer["targetPort"], scraped) == (GRPC, "grpc", HEALTH)


def test_the_gateway_dials_every_pod_of_a_service(built: Cluster) -> None:
    entries = own(built, "gateway")
    for name in set(SERVICES) - {"gateway"}:
        assert built.get("Service", name)["spec"]["clusterIP"] == "None"
        assert entries[f"GATEWAY_{name.upper()}_TARGET"]["value"] == f"dns:///{name}:{GRPC}"


def test_streams_have_as_many_copies_as_the_bus_has_nodes(built: Cluster, service: str) -> None:
    entry = own(built, service)[f"{service.upper()}_STREAM_REPLICAS"]
    assert built.value(entry) == str(built.get("StatefulSet", "nats")["spec"]["replicas"])
    assert built.value(own(built, service)[f"{service.upper()}_NATS_URL"]) == "nats://nats:4222"


def test_nats_conf_gets_every_variable_that_it_reads_and_no_other(built: Cluster) -> None:
    pod = built.pods()["nats"]
    texts = [built.get("ConfigMap", name)["data"] for name in config_maps(pod)]
    read = {
        name
        for files in texts
        for text in files.values()
        for line in text.splitlines()
        for name in re.findall(r"\$(NATS_\w+)", line.partition("#")[0])
    }
    given = variables(main_container(pod))
    assert read == {name for name in given if name.startswith("NATS_")}
    text = (ROOT / "deploy" / "nats" / "nats.conf").read_text()
    assert text in [files.get("nats.conf") for files in texts]


def test_the_nodes_of_the_bus_know_each_other_by_name(built: Cluster) -> None:
    bus = built.get("StatefulSet", "nats")["spec"]
    routes = json.loads(variables(main_container(bus["template"]))["NATS_ROUTES"]["value"])
    peers = built.get("Service", bus["serviceName"])["spec"]
    assert peers["clusterIP"] == "None"
    assert peers["publishNotReadyAddresses"] is True
    known = [re.sub(r".*@", "", route) for route in routes]
    assert known == [f"nats-{n}.{bus['serviceName']}:6222" for n in range(3)]
    assert bus["replicas"] in {1, len(routes)}


def test_disks_and_memory_hold_what_the_stores_are_allowed_to_keep() -> None:
    built = cluster("base")
    bus = built.get("StatefulSet", "nats")["spec"]
    limit = re.search(r"max_file_store: (\d+)GB", (ROOT / "deploy/nats/nats.conf").read_text())
    (claim,) = bus["volumeClaimTemplates"]
    assert limit
    assert size(claim["spec"]["resources"]["requests"]["storage"]) > int(limit[1]) * 10**9
    limit = re.search(r"maxmemory (\d+)mb", (ROOT / "deploy/valkey/valkey.conf").read_text())
    memory = size(main_container(built.pods()["valkey"])["resources"]["limits"]["memory"])
    assert limit
    assert memory > int(limit[1]) * 2**20 * 1.25


def test_all_pools_together_fit_into_postgresql() -> None:
    built = cluster("base")
    arguments = " ".join(main_container(built.pods()["postgres"])["args"])
    (connections,) = re.findall(r"max_connections=(\d+)", arguments)
    wanted = 0
    for name in KEEPERS:
        pool = f"{name.upper()}_POSTGRES_POOL_SIZE"
        entry = own(built, name).get(pool, {})
        wanted += built.most(name) * int(entry.get("value", fields(name)[pool].default))
    # One each for the migration and for a pod that waits for it.
    wanted += 2 * len(KEEPERS)
    assert wanted <= int(connections) - RESERVED_CONNECTIONS


def test_postgresql_reads_the_files_of_deploy() -> None:
    built = cluster("base")
    (name,) = config_maps(built.pods()["postgres"])
    files = built.get("ConfigMap", name)["data"]
    for file in ("postgresql.conf", "roles.sql"):
        assert files[file] == (ROOT / "deploy" / "postgres" / file).read_text()
    roles = set(re.findall(r"[A-Z]+_POSTGRES_PASSWORD", files["roles.sql"]))
    assert roles <= set(variables(main_container(built.pods()["postgres"])))


def test_whatever_a_pod_refers_to_is_there(built: Cluster) -> None:
    used = {name for pod in built.pods().values() for name in config_maps(pod)}
    assert used == built.names("ConfigMap")
    for scaler in built.of("HorizontalPodAutoscaler", "ScaledObject"):
        assert target(scaler) in built.names("Deployment")
    for offer in built.of("Service"):
        (name,) = built.selected({"matchLabels": offer["spec"]["selector"]})
        assert {p["targetPort"] for p in offer["spec"]["ports"]} <= set(
            ports(main_container(built.pods()[name]))
        )
    for name, workload in built.workloads().items():
        if workload["kind"] != "Job":
            assert built.selected(workload["spec"]["selector"]) == {name}


def test_everything_that_lasts_may_lose_one_pod_at_a_time(built: Cluster) -> None:
    budgets = {}
    for budget in built.of("PodDisruptionBudget"):
        (name,) = built.selected(budget["spec"]["selector"])
        budgets[name] = budget["spec"]["maxUnavailable"]
    assert budgets == dict.fromkeys(set(built.workloads()) - built.names("Job"), 1)


def test_two_things_never_decide_about_one_number_of_replicas(built: Cluster) -> None:
    scaled = [target(one) for one in built.of("HorizontalPodAutoscaler", "ScaledObject")]
    assert len(scaled) == len(set(scaled))
    assert set(scaled) == (
        set() if built.target == "overlays/dev" else {"gateway", "ingest", "sessions"}
    )
    for name in scaled:
        assert "replicas" not in built.get("Deployment", name)["spec"]


def test_no_more_sessions_than_partitions(built: Cluster) -> None:
    spec = [one["spec"] for one in built.of("HorizontalPodAutoscaler", "ScaledObject")]
    most = [
        one.get("maxReplicas") or one["maxReplicaCount"]
        for one in spec
        if one["scaleTargetRef"]["name"] == "sessions"
    ]
    assert all(number <= PARTITIONS for number in most)


def test_keda_asks_for_a_metric_that_sessions_emits() -> None:
    (scaled,) = cluster("overlays/prod").of("ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    (name,) = re.findall(r"timeloom_\w+(?=\{)", trigger["metadata"]["query"])
    emitted = {
        f"{prometheus.sanitize_full_name(one.name)}_{prometheus.map_unit(one.unit)}"
        for one in METRICS
    }
    assert name in emitted


def test_services_wait_for_the_migration_of_their_own_version(built: Cluster) -> None:
    assert built.names("Job") == MIGRATIONS
    for name in KEEPERS:
        (waiting,) = built.pods()[name]["spec"]["initContainers"]
        job = main_container(built.pods()[f"migrate-{name}"])
        assert (waiting["args"], job["args"][-1]) == (["status", "--exit-code"], "migrate")
        own_database = {"secretKeyRef": {"name": name, "key": "postgres-dsn"}}
        for container in (waiting, job):
            assert variables(container)["DATABASE_URL"]["valueFrom"] == own_database
    assert "initContainers" not in built.pods()["realtime"]["spec"]
