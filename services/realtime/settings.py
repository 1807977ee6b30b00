"""Settings of realtime, prefix REALTIME_."""

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from chassis.settings import GrpcSettings, Seconds, ServiceSettings


class Settings(ServiceSettings, GrpcSettings):
    """What realtime needs besides the settings of every service."""

    model_config = SettingsConfigDict(env_prefix="REALTIME_", extra="ignore", frozen=True)

    valkey_url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"), description="store of presence leases"
    )
    lease_seconds: Seconds = Field(
        default=75.0, description="life of an unrenewed lease; three refreshes of 25 s may be lost"
    )
    leave_seconds: Seconds = Field(
        default=10.0, description="absence that counts as leaving; a page reload is shorter"
    )
    reap_seconds: Seconds = Field(
        default=2.0, description="shortest pause between looks for ended leases; longest is 2.5x"
    )
    stream_replicas: int = Field(
        default=1,
        ge=1,
        le=5,
        description="copies of PRESENCE and LIVE; set 3 in a NATS cluster, which also moves LIVE "
        "to disk: a cluster's memory stream starts counting anew under its old creation time",
    )
