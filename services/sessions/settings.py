"""What can be set about sessions, `SESSIONS_…` in the environment."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import GrpcSettings, PostgresSettings, Seconds, ServiceSettings
from services.sessions.domain import Rules

SECOND_US = 1_000_000


class Settings(ServiceSettings, PostgresSettings, GrpcSettings):
    """Thresholds are those of design/sessionization.md; they hold for every organization."""

    model_config = SettingsConfigDict(env_prefix="SESSIONS_", extra="ignore", frozen=True)

    session_gap_seconds: Seconds = Field(
        default=300, description="a longer stretch without activity ends a session"
    )
    idle_after_seconds: Seconds = Field(
        default=120, description="an idle stretch at least this long ends a session"
    )
    switch_after_seconds: Seconds = Field(
        default=120, description="how long another category must hold to be a session"
    )
    fill_gap_seconds: Seconds = Field(
        default=30, description="silence up to this long between slices counts as activity"
    )
    point_timeout_seconds: Seconds = Field(
        default=900, description="longest time one editor heartbeat stands for"
    )

    def rules(self) -> Rules:
        """The thresholds in the engine's unit.

        Raises:
            Invalid: they contradict one another.
        """
        return Rules(
            session_gap_us=round(self.session_gap_seconds * SECOND_US),
            idle_after_us=round(self.idle_after_seconds * SECOND_US),
            switch_after_us=round(self.switch_after_seconds * SECOND_US),
            fill_gap_us=round(self.fill_gap_seconds * SECOND_US),
            point_timeout_us=round(self.point_timeout_seconds * SECOND_US),
        )
