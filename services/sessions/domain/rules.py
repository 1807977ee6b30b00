"""The numbers that turn evidence into sessions (sessionization.md, Rules)."""

import msgspec

from chassis.errors import Invalid
from services.sessions.domain.intervals import DAY_US, SECOND_US


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds of one organization or user, in microseconds.

    Raises:
        Invalid: a threshold is outside 0..24 h, `session_gap_us` is shorter than `fill_gap_us`,
            or an idle threshold is 0.
    """

    session_gap_us: int = 300 * SECOND_US
    """A longer stretch without activity ends a block."""
    idle_after_us: int = 120 * SECOND_US
    """An idle stretch at least this long ends a block."""
    idle_after_by_category_us: dict[str, int] = {}
    """Other idle thresholds, by category; a category speaks for its children too."""
    switch_after_us: int = 120 * SECOND_US
    """Active time another category needs to become a session of its own."""
    fill_gap_us: int = 30 * SECOND_US
    """Silence up to this long counts for what surrounds it."""
    point_timeout_us: int = 900 * SECOND_US
    """A point is worth the time to the next one if that is shorter."""

    def __post_init__(self) -> None:
        for name in ("session_gap_us", "switch_after_us", "fill_gap_us", "point_timeout_us"):
            _check_range(name, getattr(self, name), lowest=0)
        _check_range("idle_after_us", self.idle_after_us, lowest=1)
        for category, idle_after_us in self.idle_after_by_category_us.items():
            _check_range(f"idle_after_by_category_us.{category}", idle_after_us, lowest=1)
        if self.session_gap_us < self.fill_gap_us:
            raise Invalid.field("session_gap_us", "must not be shorter than fill_gap_us")

    @property
    def longest_idle_after_us(self) -> int:
        """The most any idle stretch may last inside a block."""
        return max(self.idle_after_us, *self.idle_after_by_category_us.values(), 0)

    def own_idle_after_us(self, category: str) -> int | None:
        """The threshold set for a category or its nearest ancestor; None means the default."""
        while category:
            if category in self.idle_after_by_category_us:
                return self.idle_after_by_category_us[category]
            category = category.rpartition("/")[0]
        return None


def _check_range(name: str, value_us: int, *, lowest: int) -> None:
    if not lowest <= value_us <= DAY_US:
        raise Invalid.field(name, f"must be between {lowest} and {DAY_US} microseconds")
