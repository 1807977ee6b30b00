"""The three stores: started, stopped, killed and started again."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL

import asyncpg
import nats
import pytest
import redis.exceptions
from nats.js.api import StreamConfig
from redis.asyncio import Redis

from tests.support.eventually import wait_until
from tests.support.servers import Runner, Stores, is_alive

STORES = ("postgres", "nats", "valkey")


class PlainStores(Runner):
    """The stores exactly as `make stores` starts them, fsync included."""

    command = "stores"


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainStores]:
    """Shared by the tests that leave them running."""
    with PlainStores(tmp_path_factory.mktemp("plain") / "data") as running:
        yield running


async def write_everywhere(stores: Runner) -> None:
    connection = await asyncpg.connect(stores.dsn("ingest"), ssl=False)
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (word text)")
    await connection.execute("INSERT INTO kept VALUES ('committed')")
    await connection.close()
    client = await nats.connect(**stores.nats())
    await client.jetstream().add_stream(StreamConfig(name="KEPT", subjects=["kept.>"]))
    await client.jetstream().publish("kept.one", b"acknowledged")
    await client.close()


async def read_everywhere(stores: Runner) -> tuple[str, bytes]:
    connection = await asyncpg.connect(stores.dsn("ingest"), ssl=False)
    word = await connection.fetchval("SELECT word FROM kept")
    await connection.close()
    client = await nats.connect(**stores.nats())
    message = await client.jetstream().get_last_msg("KEPT", "kept.one")
    await client.close()
    return word, message.data or b""


async def test_stopping_and_starting_keeps_the_data(tmp_path: Path) -> None:
    with PlainStores(tmp_path / "data") as first:
        await write_everywhere(first)
        pids = [first.pid(name) for name in STORES]
        assert first.stop() == 0
    assert not any(is_alive(pid) for pid in pids)
    assert "database system is shut down" in first.folder.log("postgres").read_text()
    with PlainStores(tmp_path / "data") as second:
        assert await read_everywhere(second) == ("committed", b"acknowledged")


@pytest.mark.parametrize("name", STORES)
async def test_a_killed_store_is_started_again_with_its_data_and_said_so(
    stores: PlainStores, name: str
) -> None:
    await write_everywhere(stores)
    stores.wait_replaced(name, stores.kill(name, SIGKILL))
    assert stores.component(name)["restarts"] == 1
    assert await read_everywhere(stores) == ("committed", b"acknowledged")
    wait_until(lambda: f"{name:<12}was killed by SIGKILL; restarting in 0.1 s" in stores.printed())
    wait_until(lambda: f"{name:<12}is ready again" in stores.printed())


async def test_the_runner_killed_leaves_no_process_and_the_next_start_has_the_data(
    tmp_path: Path,
) -> None:
    first = PlainStores(tmp_path / "data").start()
    await write_everywhere(first)
    pids = [first.pid(name) for name in STORES]
    first.stop(SIGKILL)
    wait_until(lambda: not any(is_alive(pid) for pid in pids), within=10)
    with PlainStores(tmp_path / "data") as second:
        assert await read_everywhere(second) == ("committed", b"acknowledged")


def test_a_pid_file_whose_pid_went_to_another_program_does_not_block(tmp_path: Path) -> None:
    with PlainStores(tmp_path / "data"):
        pass
    cluster = tmp_path / "data" / "postgres" / "18"
    # As after a reboot: the pid in the file is alive and is somebody else's.
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as somebody:
        lines = [str(somebody.pid), str(cluster), "0", "1", "", "127.0.0.1", "", ""]
        (cluster / "postmaster.pid").write_text("\n".join(lines))
        with PlainStores(tmp_path / "data") as second:
            assert second.component("postgres")["restarts"] == 0
        assert somebody.poll() is None
        somebody.kill()


async def test_stores_are_reached_with_a_password_only(stores: PlainStores) -> None:
    wrong = stores.dsn("ingest").replace(stores.credentials.postgres["ingest"], "wrong")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(wrong, ssl=False)
    reader, writer = await asyncio.open_connection("127.0.0.1", stores.port("nats"))
    await reader.readline()
    writer.write(b'CONNECT {"user":"admin","pass":"wrong","verbose":false}\r\nPING\r\n')
    assert await reader.readline() == b"-ERR 'Authorization Violation'\r\n"
    writer.close()
    await writer.wait_closed()
    client = Redis.from_url(stores.valkey_url.replace(stores.credentials.valkey, "wrong"))
    with pytest.raises(redis.exceptions.AuthenticationError):
        await client.ping()
    await client.aclose()


async def test_a_role_may_connect_to_its_own_database_only(servers: Stores) -> None:
    foreign = servers.dsn("ingest").replace("timeloom_events", "timeloom_accounts")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(foreign, ssl=False)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(foreign.replace("timeloom_accounts", "postgres"), ssl=False)
    own = await asyncpg.connect(servers.dsn("ingest"), ssl=False)
    assert await own.fetchval("SELECT current_user") == "ingest"
    await own.close()


async def test_two_databases_of_a_service_share_nothing(servers: Stores) -> None:
    one, two = [await servers.create_database("sessions") for _ in range(2)]
    first = await asyncpg.connect(one.dsn, ssl=False)
    second = await asyncpg.connect(two.dsn, ssl=False)
    await first.execute("INSERT INTO inbox (consumer, message_id) VALUES ('c', 'm')")
    assert await second.fetchval("SELECT count(*) FROM inbox") == 0
    await first.close()
    await second.close()
    await servers.drop_database(one)
    await servers.drop_database(two)
