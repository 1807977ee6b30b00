"""Valkey is a cache: scripts run on it, and its absence is an error that callers survive."""

import asyncio
from pathlib import Path
from signal import SIGKILL

import pytest

from chassis import valkey
from chassis.errors import Unavailable
from chassis.valkey import Script
from deploy.embedded import ports
from tests.support.eventually import eventually
from tests.support.servers import Stores

ADD = "return redis.call('INCRBY', KEYS[1], ARGV[1])"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "add.lua"
    file.write_text(ADD)
    return file


async def test_a_script_runs_and_survives_a_server_that_forgot_it(
    valkey_url: str, path: Path
) -> None:
    async with valkey.connect(valkey_url) as client:
        add = Script(client, path)
        assert await add(keys=["sum"], args=[2]) == 2
        await client.script_flush()
        assert await add(keys=["sum"], args=[3]) == 5


async def test_a_script_that_is_wrong_is_unavailable(valkey_url: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.lua"
    wrong.write_text("return redis.call('NO SUCH COMMAND')")
    async with valkey.connect(valkey_url) as client:
        with pytest.raises(Unavailable):
            await Script(client, wrong)(keys=[], args=[])


async def test_a_cache_that_is_away_is_unavailable(path: Path) -> None:
    (nobody,) = ports.pick(1)
    async with valkey.connect(f"redis://127.0.0.1:{nobody}/0") as client:
        with pytest.raises(Unavailable):
            await Script(client, path)(keys=["sum"], args=[1])


async def test_a_cache_that_was_killed_is_used_again_and_empty(
    servers: Stores, valkey_url: str, path: Path
) -> None:
    async with valkey.connect(valkey_url) as client:
        add = Script(client, path)
        assert await add(keys=["sum"], args=[41]) == 41
        pid = servers.kill("valkey", SIGKILL)
        await asyncio.to_thread(servers.wait_replaced, "valkey", pid)
        await eventually(lambda: is_back(add))
        assert await add(keys=["sum"], args=[0]) == 1


async def is_back(add: Script) -> bool:
    try:
        return bool(await add(keys=["sum"], args=[1]))
    except Unavailable:
        return False
