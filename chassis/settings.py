"""Typed settings from the environment. A service's class sets the prefix and adds its own fields."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0)]
Listen = Annotated[str, Field(pattern=r"^(\S*:\d{1,5})?$")]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(str.lower)]


class ServiceSettings(BaseSettings):
    """What every service needs; the field descriptions are printed by `make settings`."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    log_level: LogLevel = Field(default="info", description="debug, info, warning or error")
    drain_seconds: Seconds = Field(
        default=20.0, description="time to finish work after SIGTERM; below Kubernetes' 30 s grace"
    )
    trace_sample_ratio: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="share of new traces kept; 1 while debugging, low under load",
    )
    health_listen: Listen = Field(
        default="127.0.0.1:0",
        description="host:port of /livez, /readyz and /metrics; port 0 picks one, empty serves none",
    )
    nats_url: str = Field(
        default="nats://127.0.0.1:4222", description="NATS server, or several by comma"
    )
    nats_user: str = Field(default="", description="NATS user; empty connects without credentials")
    nats_password: SecretStr = Field(default=SecretStr(""), description="password of the NATS user")
    stream_replicas: int = Field(
        default=1, ge=1, le=5, description="copies of the streams it owns; 3 in a NATS cluster"
    )
    nats_tls_ca_file: Path | None = Field(
        default=None, description="CA that signed NATS; enables TLS"
    )
    token_public_key_file: Path = Field(
        default=Path("token.pub.pem"),
        description="Ed25519 public key (PEM) that verifies internal tokens",
    )

    @classmethod
    def load(cls) -> Self:
        """Settings from the environment; a wrong value names its variable and exits with 2."""
        return cls()


class PostgresSettings(BaseSettings):
    """The service's own database."""

    postgres_dsn: SecretStr = Field(
        default=SecretStr("postgresql://127.0.0.1:5432"), description="own database, own role"
    )
    postgres_pool_size: int = Field(
        default=8, ge=1, description="connections; more than cores x 4 only adds waiting"
    )
    postgres_tls_ca_file: Path | None = Field(
        default=None, description="CA of PostgreSQL; enables TLS"
    )


class GrpcSettings(BaseSettings):
    """Where the service listens for calls."""

    grpc_listen: Listen = Field(default="127.0.0.1:0", description="host:port of the gRPC server")
    grpc_tls_cert_file: Path | None = Field(
        default=None, description="server certificate; enables mTLS"
    )
    grpc_tls_key_file: Path | None = Field(default=None, description="key of the certificate")
    grpc_tls_ca_file: Path | None = Field(default=None, description="CA that signed the peers")
    grpc_reflection: bool = Field(default=False, description="serve reflection, for grpcurl")


def split_listen(listen: str) -> tuple[str, int]:
    """`host:port` as a pair; `[::1]:80` keeps its brackets off."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)
