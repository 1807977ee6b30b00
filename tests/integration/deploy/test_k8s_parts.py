"""What the manifests say, run without a cluster: the bus of three nodes, migrations, five services.

Programs get the arguments and the environment of their containers; only addresses and the places
of files are those of this machine. The images themselves are not part of it.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGTERM
from typing import Any

import httpx
import nats
import nats.errors
import pytest
from nats.aio.client import Client

from deploy.embedded import ports as free
from deploy.embedded import wheels
from tests.architecture.sources import KEEPERS, ROOT, SERVICES
from tests.support.eventually import eventually, wait_until
from tests.support.kubelet import environment, passes, running
from tests.support.manifests import cluster, config_maps, main_container, ports
from tests.support.servers import Stores, postgres_dsn

NODES = ("nats-0", "nats-1", "nats-2")
BASE = cluster("base")
Create = Callable[[str], Awaitable[str]]


class Bus:
    """The three nodes, as processes by the names of their pods."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pod = BASE.pods()["nats"]
        self._container = main_container(self._pod)
        kinds = ports(self._container)
        chosen = iter(free.pick(len(NODES) * len(kinds)))
        self.ports = {node: {kind: next(chosen) for kind in kinds} for node in NODES}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def clients(self) -> set[int]:
        return {self.ports[node]["client"] for node in NODES}

    @property
    def url(self) -> str:
        return ",".join(f"nats://127.0.0.1:{port}" for port in sorted(self.clients))

    async def connect(self, user: str) -> Client:
        return await nats.connect(
            self.url.split(","),
            user=user,
            password=password(user),
            inbox_prefix=f"_INBOX.{user}".encode(),
            reconnect_time_wait=0.1,
            max_reconnect_attempts=-1,
        )

    @contextmanager
    def start(self) -> Iterator[None]:
        with ExitStack() as stack:
            for node in NODES:
                argv, given = self._program(node)
                log = self._folder / f"{node}.log"
                self.processes[node] = stack.enter_context(running(argv, given, log))
            wait_until(self._is_ready, within=60)
            yield

    def _is_ready(self) -> bool:
        return all(passes(self._container, own) for own in self.ports.values())

    def _program(self, node: str) -> tuple[list[str], dict[str, str]]:
        folder = self._folder / node
        configuration = folder / "configuration"
        configuration.mkdir(parents=True)
        for name in config_maps(self._pod):
            for file, text in BASE.get("ConfigMap", name)["data"].items():
                (configuration / file).write_text(text)
        own = ports(self._container)
        places = {f"0.0.0.0:{own[k]}": f"127.0.0.1:{p}" for k, p in self.ports[node].items()}
        places |= {
            f"{other}.nats-peers:6222": f"127.0.0.1:{self.ports[other]['cluster']}"
            for other in NODES
        }
        places |= {"/data": str(folder / "data")}
        secrets = {("nats", user): password(user) for user in (*SERVICES, "admin", "route")}
        mounts = {"/etc/timeloom": str(configuration), "/run/nats": str(folder)}
        argv = [str(wheels.nats_server()), *moved(self._container["args"], mounts)]
        return argv, environment(BASE, self._container, node, secrets, places)


def password(user: str) -> str:
    return f"k{user}"


def moved(arguments: list[str], mounts: Mapping[str, str]) -> list[str]:
    """The words of a command line with the folders of a container replaced by ours."""
    for there, here in mounts.items():
        arguments = [word.replace(there, here) for word in arguments]
    return arguments


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    three = Bus(tmp_path)
    with three.start():
        yield three


async def test_three_nodes_keep_a_stream_when_one_of_them_is_killed(bus: Bus) -> None:
    client = await bus.connect("ingest")
    js = client.jetstream()
    made = await js.add_stream(name="ACTIVITY", subjects=["activity.v1.>"], num_replicas=3)
    assert made.cluster
    assert len(made.cluster.replicas or []) == 2
    # Addresses of pods would outlive the pods, so nobody is told them.
    assert {server.port for server in client.servers} == bus.clients
    await js.publish("activity.v1.0.org", b"before")
    bus.processes[str(made.cluster.leader)].kill()

    async def publish() -> int:
        try:
            return (await js.publish("activity.v1.0.org", b"after", timeout=1)).seq
        except (nats.errors.Error, TimeoutError):
            return 0

    # The first that is not heard may have been kept.
    assert await eventually(publish, within=30) >= 2
    assert (await js.stream_info("ACTIVITY")).state.messages >= 2
    await client.close()


async def test_a_node_without_the_password_of_the_routes_does_not_become_one_of_them(
    bus: Bus,
) -> None:
    client = await bus.connect("admin")
    port = bus.ports["nats-0"]["cluster"]
    stranger = [
        *(str(wheels.nats_server()), "-a", "127.0.0.1", "-p", "-1", "-n", "stranger"),
        *("--cluster_name", "timeloom", "--cluster", "nats://127.0.0.1:-1"),
        *("--routes", f"nats://route:guess@127.0.0.1:{port}"),
    ]
    log = bus._folder / "stranger.log"
    with running(stranger, {}, log):
        await eventually(lambda: "Authorization" in log.read_text(), within=10)
        monitor = bus.ports["nats-0"]["monitor"]
        assert known(monitor) == set(NODES[1:])
    await client.close()


def known(monitor: int) -> set[str]:
    """The nodes that one node has routes to."""
    answer = httpx.get(f"http://127.0.0.1:{monitor}/routez", timeout=5).json()
    return {route["remote_name"] for route in answer["routes"]}


def command(container: dict[str, Any], service: str) -> list[str]:
    """What a container of the migration image runs: the Dockerfile's entry point, its arguments."""
    text = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", "")
    (entry,) = re.findall(r'ENTRYPOINT (\["dbmate".*\])', text)
    folders = {
        "/migrations/chassis": str(ROOT / "chassis" / "migrations"),
        "/migrations/service": str(ROOT / "services" / service / "migrations"),
    }
    return [str(wheels.dbmate()), *moved(json.loads(entry)[1:], folders), *container["args"]]


@pytest.fixture
async def empty(servers: Stores) -> AsyncIterator[Create]:
    """The connection string of a service's database without tables."""
    made = []

    async def create(service: str) -> str:
        made.append(f"empty_{service}_{os.getpid()}")
        await servers.execute(f"CREATE DATABASE {made[-1]} OWNER {service}")
        return postgres_dsn(servers.port("postgres"), servers.credentials, made[-1], service)

    yield create
    for name in made:
        await servers.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("service", KEEPERS)
async def test_a_pod_waits_until_the_job_has_migrated_its_database(
    empty: Create, service: str, tmp_path: Path
) -> None:
    (waiting,) = BASE.pods()[service]["spec"]["initContainers"]
    job = main_container(BASE.pods()[f"migrate-{service}"])
    secrets = {(service, "postgres-dsn"): f"{await empty(service)}?sslmode=disable"}

    def run(container: dict[str, Any]) -> int:
        given = environment(BASE, container, service, secrets, {})
        argv = command(container, service)
        return subprocess.run(argv, env=given, cwd=tmp_path, check=False, timeout=60).returncode

    assert run(waiting) == 1
    assert run(job) == 0
    assert run(waiting) == 0
    assert run(job) == 0, "a second run finds nothing to do"


class Trial:
    """The five services as the manifests start them; `secrets` are those of the stores here."""

    def __init__(self, folder: Path) -> None:
        self.pods = BASE.services()
        self._folder = folder
        self._kinds = {name: ports(main_container(pod)) for name, pod in self.pods.items()}
        chosen = iter(free.pick(sum(map(len, self._kinds.values()))))
        self.ports = {n: {k: next(chosen) for k in kinds} for n, kinds in self._kinds.items()}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @contextmanager
    def start(
        self, secrets: Mapping[tuple[str, str], str], places: dict[str, str]
    ) -> Iterator[None]:
        for name, own in self.ports.items():
            places[f"dns:///{name}:9090"] = f"dns:///127.0.0.1:{own.get('grpc')}"
        with ExitStack() as stack:
            for name, pod in self.pods.items():
                own = self.ports[name]
                listens = {
                    f"0.0.0.0:{p}": f"127.0.0.1:{own[k]}" for k, p in self._kinds[name].items()
                }
                given = environment(BASE, main_container(pod), name, secrets, listens | places)
                argv = [sys.executable, "-m", f"services.{name}"]
                log = self._folder / f"{name}.log"
                self.processes[name] = stack.enter_context(running(argv, given, log))
            yield

    def is_ready(self) -> bool:
        """Whether all probes pass.

        Raises:
            RuntimeError: a service ended; with the end of its log.
        """
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise RuntimeError((self._folder / f"{name}.log").read_text()[-2000:])
        return all(passes(main_container(p), self.ports[n]) for n, p in self.pods.items())

    def parts(self) -> dict[str, str]:
        """What the gateway says about itself and the others."""
        address = f"http://127.0.0.1:{self.ports['gateway']['http']}/health"
        parts: dict[str, str] = httpx.get(address, timeout=5).json()["parts"]
        return parts

    def stop(self) -> dict[str, int]:
        """Exit statuses; each has what its grace period leaves after the preStop."""
        for process in self.processes.values():
            process.send_signal(SIGTERM)
        left = {
            name: pod["spec"]["terminationGracePeriodSeconds"]
            - main_container(pod)["lifecycle"]["preStop"]["sleep"]["seconds"]
            for name, pod in self.pods.items()
        }
        return {name: process.wait(left[name]) for name, process in self.processes.items()}


@pytest.mark.timeout(240)
async def test_five_services_become_ready_keep_three_copies_of_streams_and_stop_in_time(
    bus: Bus, servers: Stores, database: Create, valkey_url: str, tmp_path: Path
) -> None:
    secrets = {("realtime", "valkey-url"): valkey_url}
    secrets |= {(name, "nats-password"): password(name) for name in SERVICES}
    secrets |= {(n, "postgres-dsn"): f"{await database(n)}?sslmode=disable" for n in KEEPERS}
    places = {
        "nats://nats:4222": bus.url,
        "/run/secrets/token-public/token-public.pem": str(servers.credentials.token_public_key),
        "/run/secrets/token-private/token-private.pem": str(servers.credentials.token_private_key),
    }
    trial = Trial(tmp_path)
    with trial.start(secrets, places):
        await eventually(trial.is_ready, within=90)
        assert trial.parts() == dict.fromkeys(trial.parts(), "ok")
        admin = await bus.connect("admin")
        streams = await admin.jetstream().streams_info()
        await admin.close()
        copies = {stream.config.name: stream.config.num_replicas for stream in streams}
        assert copies == dict.fromkeys(copies, 3)
        assert {"ACCOUNTS", "ACTIVITY", "SESSIONS", "JOBS", "WORK", "DLQ", "LIVE"} <= set(copies)
        assert trial.stop() == dict.fromkeys(SERVICES, 0)
