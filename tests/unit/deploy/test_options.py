"""TIMELOOM_… variables: defaults, meanings, and what is refused."""

from pathlib import Path

import pytest

from deploy.embedded.errors import CannotRun
from deploy.embedded.options import from_environment


def test_nothing_set_means_loopback_8080_and_the_folder_here() -> None:
    chosen = from_environment({})
    assert (chosen.host, chosen.port) == ("127.0.0.1", 8080)
    assert chosen.data == Path.cwd() / ".timeloom"
    assert chosen.postgres_options == ()


def test_an_empty_value_counts_as_absent() -> None:
    names = ("TIMELOOM_PORT", "TIMELOOM_HOST", "TIMELOOM_DATA", "TIMELOOM_START_SECONDS")
    assert from_environment(dict.fromkeys(names, "")) == from_environment({})


def test_everything_can_be_moved() -> None:
    chosen = from_environment(
        {
            "TIMELOOM_PORT": "0",
            "TIMELOOM_HOST": "192.0.2.7",
            "TIMELOOM_DATA": "~/elsewhere",
            "TIMELOOM_START_SECONDS": "2.5",
            "TIMELOOM_POSTGRES_OPTIONS": "-c fsync=off -c 'search_path=a, b'",
        }
    )
    assert (chosen.host, chosen.port, chosen.start_seconds) == ("192.0.2.7", 0, 2.5)
    assert chosen.data == Path.home() / "elsewhere"
    assert chosen.postgres_options == ("-c", "fsync=off", "-c", "search_path=a, b")


@pytest.mark.parametrize("port", ["eighty", "-1", "65536", "80.0", "٨٠٨٠x"])
def test_a_port_that_is_none_is_refused_by_name(port: str) -> None:
    with pytest.raises(CannotRun, match="TIMELOOM_PORT is"):
        from_environment({"TIMELOOM_PORT": port})


@pytest.mark.parametrize("seconds", ["soon", "0", "-3", "inf", "nan"])
def test_a_time_that_is_none_is_refused_by_name(seconds: str) -> None:
    with pytest.raises(CannotRun, match="TIMELOOM_START_SECONDS is"):
        from_environment({"TIMELOOM_START_SECONDS": seconds})
