"""Settings come from the environment, and a wrong one is named."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from chassis.settings import GrpcSettings, PostgresSettings, ServiceSettings, split_listen


class Settings(ServiceSettings, PostgresSettings, GrpcSettings):
    model_config = SettingsConfigDict(env_prefix="SAMPLE_", extra="ignore", frozen=True)


def test_values_come_from_the_environment_under_the_prefix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SAMPLE_NATS_URL", "nats://one:4222,nats://two:4222")
    monkeypatch.setenv("SAMPLE_DRAIN_SECONDS", "2.5")
    monkeypatch.setenv("SAMPLE_TOKEN_PUBLIC_KEY_FILE", "/keys/token.pub.pem")
    monkeypatch.setenv("SAMPLE_GRPC_REFLECTION", "true")
    monkeypatch.setenv("NATS_URL", "nats://elsewhere:4222")
    settings = Settings.load()
    assert settings.nats_url == "nats://one:4222,nats://two:4222"
    assert settings.drain_seconds == 2.5
    assert settings.token_public_key_file == Path("/keys/token.pub.pem")
    assert settings.grpc_reflection is True


def test_every_setting_has_a_default_and_says_what_it_is() -> None:
    assert Settings.load().log_level == "info"
    assert all(field.description for field in Settings.model_fields.values())


def test_passwords_do_not_show_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLE_NATS_PASSWORD", "hush-hush")
    monkeypatch.setenv("SAMPLE_POSTGRES_DSN", "postgresql://sample:hush-hush@db/sample")
    settings = Settings.load()
    assert settings.nats_password.get_secret_value() == "hush-hush"
    assert "hush-hush" not in repr(settings)
    assert "hush-hush" not in str(settings.model_dump())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DRAIN_SECONDS", "0"),
        ("DRAIN_SECONDS", "soon"),
        ("TRACE_SAMPLE_RATIO", "1.1"),
        ("POSTGRES_POOL_SIZE", "0"),
        ("GRPC_REFLECTION", "perhaps"),
        ("LOG_LEVEL", "loud"),
        ("GRPC_LISTEN", "localhost"),
        ("HEALTH_LISTEN", "localhost:http"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"SAMPLE_{name}", value)
    with pytest.raises(ValidationError) as refused:
        Settings.load()
    assert [error["loc"] for error in refused.value.errors()] == [(name.lower(),)]


def test_settings_do_not_change_while_the_service_runs() -> None:
    with pytest.raises(ValidationError):
        Settings.load().log_level = "debug"


@pytest.mark.parametrize(
    ("listen", "pair"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:80", ("::1", 80)),
        (":9000", ("", 9000)),
    ],
)
def test_where_to_listen_is_a_host_and_a_port(listen: str, pair: tuple[str, int]) -> None:
    assert split_listen(listen) == pair
