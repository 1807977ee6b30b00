"""Settings of realtime."""

import pytest

from services.realtime.settings import Settings


def test_a_lease_outlives_two_lost_refreshes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REALTIME_LEASE_SECONDS", "REALTIME_LEAVE_SECONDS"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings.load()
    assert settings.lease_seconds >= 3 * 25
    assert settings.leave_seconds < settings.lease_seconds


def test_the_password_of_the_store_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REALTIME_VALKEY_URL", "redis://:secret@host:1/0")
    settings = Settings.load()
    assert "secret" not in repr(settings)
    assert settings.valkey_url.get_secret_value() == "redis://:secret@host:1/0"
