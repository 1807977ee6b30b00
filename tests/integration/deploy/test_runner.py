"""The runner itself, with dummy services: what is printed, restarted, refused and stopped."""

import json
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGKILL, SIGTERM

import asyncpg
import nats
import pytest
from redis.asyncio import Redis

from tests.support.eventually import wait_until
from tests.support.servers import Runner, Suite, is_alive

SCRIPT = ("-m", "tests.integration.deploy.dummy_suite")

Launch = Callable[..., Suite]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite of dummies that the tests of this module share; they leave it running."""
    with Suite(tmp_path_factory.mktemp("shared") / "data", script=SCRIPT) as shared:
        yield shared


@pytest.fixture
def suite(tmp_path: Path) -> Iterator[Launch]:
    """A suite of dummies in the test's own data folder, not started; stopped afterwards."""
    made: list[Suite] = []

    def make(**environment: str) -> Suite:
        made.append(Suite(tmp_path / "data", script=SCRIPT, environment=environment))
        return made[-1]

    yield make
    for one in made:
        if one.running:
            one.stop()


def own_environment(runner: Runner, service: str) -> dict[str, str]:
    port = runner.record["ports"]["services"][service]["health"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/env", timeout=5) as answer:
        found: dict[str, str] = json.load(answer)
    return found


def every_pid(runner: Runner) -> list[int]:
    return [runner.pid(name) for name in runner.record["components"]]


def test_it_prints_where_it_is_and_a_key(running: Suite) -> None:
    wait_until(lambda: "Ctrl-C stops it." in running.printed())
    printed = running.printed()
    assert running.url in printed
    assert "tl_dummy" in printed
    assert running.api_key == "tl_dummy"
    assert str(running.folder.logs) in printed


async def test_every_service_gets_addresses_that_work(running: Suite) -> None:
    ingest = own_environment(running, "ingest")
    connection = await asyncpg.connect(ingest["INGEST_POSTGRES_DSN"], ssl=False)
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
    await connection.close()
    client = await nats.connect(
        ingest["INGEST_NATS_URL"],
        user=ingest["INGEST_NATS_USER"],
        password=ingest["INGEST_NATS_PASSWORD"],
        inbox_prefix=b"_INBOX.ingest",
    )
    await client.close()
    realtime = own_environment(running, "realtime")
    assert "REALTIME_POSTGRES_DSN" not in realtime
    cache = Redis.from_url(realtime["REALTIME_VALKEY_URL"])
    assert await cache.ping()
    await cache.aclose()
    gateway = own_environment(running, "gateway")
    assert gateway["GATEWAY_INGEST_TARGET"] == ingest["INGEST_GRPC_LISTEN"]
    assert gateway["GATEWAY_LISTEN"] == running.url.removeprefix("http://")


def test_a_crashed_service_is_started_again_and_said_so(running: Suite) -> None:
    others = {name: running.pid(name) for name in ("postgres", "nats", "gateway")}
    running.wait_replaced("ingest", running.kill("ingest", SIGKILL))
    wait_until(lambda: "ingest      is ready again" in running.printed())
    assert "ingest      was killed by SIGKILL; restarting in 0.1 s" in running.printed()
    assert others == {name: running.pid(name) for name in others}


def test_a_service_that_keeps_falling_ends_the_start_with_its_log(suite: Launch) -> None:
    running = suite(DUMMY_INGEST="crash")
    running.launch()
    wait_until(lambda: not running.running, within=60)
    assert running.stop() == 1
    printed = running.printed()
    assert "error: ingest exited with status 3 and was never ready" in printed
    assert "dummy ingest starts: crash" in printed
    assert {c["pid"] for c in running.record["components"].values()} == {None}


def test_a_service_that_is_never_ready_is_named_when_the_time_is_over(suite: Launch) -> None:
    running = suite(DUMMY_REALTIME="unready", TIMELOOM_START_SECONDS="4")
    running.launch()
    wait_until(lambda: not running.running, within=60)
    assert running.stop() == 1
    (named,) = [s for s in running.printed().splitlines() if "error: not ready after 4 s: " in s]
    assert "realtime" in named


def test_services_stop_before_the_stores(suite: Launch) -> None:
    running = suite().start()
    assert running.stop() == 0
    for name in ("ingest", "realtime", "gateway"):
        assert f"dummy {name} stops; NATS is there" in running.log(name)


def test_a_second_wish_to_stop_hurries(suite: Launch) -> None:
    running = suite(DUMMY_INGEST="stubborn").start()
    pid = running.pid("ingest")
    running.send(SIGTERM)
    wait_until(lambda: "stopping" in running.printed())
    running.send(SIGTERM)
    wait_until(lambda: running.component("gateway")["pid"] is None)
    assert is_alive(pid), "the signal that came twice at once was taken as two wishes"

    def insist() -> bool:
        running.send(SIGTERM)
        return not running.running

    wait_until(insist, within=10, every=0.3)
    assert not is_alive(pid)
    assert "ingest      did not stop in time and is killed" in running.printed()
    assert running.stop() == 0


def test_stopping_during_the_start_stops_everything(suite: Launch) -> None:
    running = suite(DUMMY_REALTIME="unready")
    running.launch()
    wait_until(
        lambda: running.record.get("components", {}).get("realtime", {}).get("pid"), within=30
    )
    pids = [pid for c in running.record["components"].values() if (pid := c["pid"])]
    assert running.stop() == 0
    assert not any(is_alive(pid) for pid in pids)


def test_the_runner_killed_leaves_no_process_and_the_next_start_works(suite: Launch) -> None:
    first = suite(DUMMY_INGEST="stubborn").start()
    pids = every_pid(first)
    first.send(SIGKILL)
    wait_until(lambda: not any(is_alive(pid) for pid in pids), within=10)
    second = suite().start()
    assert second.api_key == "tl_dummy"


def test_a_second_runner_in_the_same_folder_is_refused(running: Suite) -> None:
    second = Suite(running.folder.root, script=SCRIPT)
    second.launch()
    wait_until(lambda: not second.running, within=20)
    assert second.stop() == 1
    holder = f"another Timeloom is using {running.folder.root} (pid {running.runner_pid})"
    assert f"error: {holder}" in second.printed()
    assert running.running


def test_a_taken_port_is_refused_with_the_name_of_the_setting(
    running: Suite, tmp_path: Path
) -> None:
    port = running.url.rpartition(":")[2]
    second = Suite(tmp_path / "other", script=SCRIPT, environment={"TIMELOOM_PORT": port})
    second.launch()
    wait_until(lambda: not second.running, within=20)
    assert second.stop() == 1
    assert f"error: port {port} on 127.0.0.1 is in use" in second.printed()
    assert "TIMELOOM_PORT" in second.printed()


def test_a_second_suite_runs_beside_it_and_down_stops_only_that(
    running: Suite, suite: Launch
) -> None:
    second = suite().start()
    assert second.url != running.url
    pids = every_pid(second)
    assert command(second, "status").returncode == 0
    assert command(second, "down").returncode == 0
    assert not any(is_alive(pid) for pid in pids)
    assert command(second, "status").returncode == 3
    assert command(second, "down").returncode == 0
    status = command(running, "status")
    assert status.returncode == 0
    assert f"Timeloom is ready in {running.folder.root} (pid {running.runner_pid})" in status.stdout


def command(runner: Runner, name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        runner.command_line(name),
        env=runner.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
