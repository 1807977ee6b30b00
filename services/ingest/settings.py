"""Settings of ingest, prefix INGEST_."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import GrpcSettings, PostgresSettings, ServiceSettings


class Settings(ServiceSettings, PostgresSettings, GrpcSettings):
    """What ingest needs besides the settings of every service."""

    model_config = SettingsConfigDict(env_prefix="INGEST_", extra="ignore", frozen=True)

    retain_months: int | None = Field(
        default=None,
        ge=1,
        description="whole months of raw events kept besides the current one; older events are "
        "dropped and no longer accepted; unset keeps them forever",
    )
    stream_replicas: int = Field(
        default=1, ge=1, le=5, description="copies of ACTIVITY; set 3 in a NATS cluster"
    )
