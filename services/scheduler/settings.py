"""What can be set about the scheduler, `SCHEDULER_…` in the environment."""

from uuid import UUID

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import GrpcSettings, PostgresSettings, ServiceSettings


class Settings(ServiceSettings, PostgresSettings, GrpcSettings):
    """Plans and policies are rows, not settings."""

    model_config = SettingsConfigDict(env_prefix="SCHEDULER_", extra="ignore", frozen=True)

    operator_org_id: UUID | None = Field(
        default=None,
        description="organization whose owners run this installation: they pause the suite's own "
        "schedules, read what its runs said, and handle dead letters of no organization; "
        "nobody does by default, since anyone may found an organization",
    )
