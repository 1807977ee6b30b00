"""Settings of the gateway, read from GATEWAY_* variables."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import GrpcSettings, PostgresSettings, Seconds, ServiceSettings


class Settings(ServiceSettings, PostgresSettings, GrpcSettings):
    """Of GrpcSettings only the certificates are used here: the gateway calls, it is not called."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", extra="ignore", frozen=True)

    listen: str = Field(default="127.0.0.1:8080", description="host:port of the public interface")
    health_listen: str = Field(
        default="", description="not used: /livez, /readyz and /metrics are on the public port"
    )
    token_private_key_file: Path = Field(
        default=Path("token.pem"),
        description="Ed25519 private key (PEM) that signs access and internal tokens",
    )
    ingest_target: str = Field(default="127.0.0.1:9001", description="host:port of ingest")
    sessions_target: str = Field(default="127.0.0.1:9002", description="host:port of sessions")
    scheduler_target: str = Field(default="127.0.0.1:9003", description="host:port of scheduler")
    realtime_target: str = Field(default="127.0.0.1:9004", description="host:port of realtime")

    access_token_seconds: Seconds = Field(
        default=900, description="life of an access token; short, because it is not looked up"
    )
    refresh_token_days: int = Field(
        default=30, ge=1, description="a person who stays away longer signs in again"
    )
    invitation_days: int = Field(default=7, ge=1, description="life of an invitation")
    guest_days: int = Field(
        default=30, ge=1, description="life of a guest's membership unless the invitation says less"
    )
    credential_cache_seconds: Seconds = Field(
        default=5,
        description="longest a revoked credential is honoured when its announcement is lost",
    )
    password_workers: int = Field(
        default=2, ge=1, description="argon2 hashes at once; each takes its memory and one core"
    )
    password_memory_kib: int = Field(
        default=64 * 1024, ge=8, description="argon2id memory per hash (RFC 9106 §4: 64 MiB)"
    )
    password_passes: int = Field(
        default=3, ge=1, description="argon2id passes (RFC 9106 §4: 3); some 100 ms together"
    )

    body_limit_bytes: int = Field(
        default=8 * 1024 * 1024, ge=1024, description="largest request body; 413 beyond"
    )
    max_requests: int = Field(
        default=2_000, ge=1, description="requests at once; more are told to come back"
    )
    requests_per_second: int = Field(
        default=5_000, ge=1, description="per credential and replica; agents post in bulk"
    )
    sign_ins_per_minute: int = Field(
        default=10, ge=1, description="tries per address and account, and per account, per replica"
    )
    sign_ins_per_minute_per_address: int = Field(
        default=60, ge=1, description="tries per address and replica, over all accounts"
    )
    bad_credentials_per_minute: int = Field(
        default=300, ge=1, description="refused credentials per address and replica"
    )
    live_connections_per_person: int = Field(
        default=20, ge=1, description="live connections of one person, per replica"
    )
    trusted_proxies: str = Field(
        default="",
        description="addresses, by comma, whose X-Forwarded-For is believed; `*` for any",
    )
    cors_origins: str = Field(
        default="", description="origins, by comma, that browsers may call from; `*` for any"
    )

    @property
    def allowed_origins(self) -> list[str]:
        """`cors_origins` as a list; empty when browsers may only call from our own origin."""
        return [origin.strip() for origin in self.cors_origins.split(",") if origin.strip()]
