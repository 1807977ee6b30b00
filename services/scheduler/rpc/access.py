"""Who may see and do what.

    caller                          schedules and runs              dead letters
    admin of an organization        its own                         its own
    owner of an organization        also the suite's own: state     its own
                                    and times; may trigger
    owner of the operator's         also results and errors of      also those of no
    organization                    these; may pause                organization

Anyone may found an organization and own it, so owning one must not stop the upkeep of all, and what
the suite's own runs say may name other tenants. Which organization operates the installation is a
setting.
"""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from chassis.errors import Forbidden
from chassis.identity import Principal, current_principal
from services.scheduler.domain.plans import SUITE, Schedule


class Caller(msgspec.Struct, frozen=True):
    """A verified caller and whether they run the installation."""

    principal: Principal
    is_operator: bool

    @property
    def orgs(self) -> Sequence[UUID]:
        """Organizations whose schedules and runs they see, their own first."""
        if self.principal.is_at_least("owner"):
            return [self.principal.org_id, SUITE]
        return [self.principal.org_id]

    @property
    def letter_orgs(self) -> Sequence[UUID]:
        """Organizations whose dead letters they see, their own first."""
        return [self.principal.org_id, SUITE] if self.is_operator else [self.principal.org_id]

    def may_read(self, org_id: UUID) -> bool:
        """Whether they may read what the runs of an organization said."""
        return org_id != SUITE or self.is_operator

    def require_control(self, schedule: Schedule) -> None:
        """Raises Forbidden for those who may only look and trigger."""
        if not self.may_read(schedule.org_id):
            raise Forbidden(
                "Only owners of the operating organization (SCHEDULER_OPERATOR_ORG_ID) may do this "
                "to a schedule of the suite."
            )


class Access:
    """Recognizes callers."""

    def __init__(self, operator_org_id: UUID | None) -> None:
        self._operator_org_id = operator_org_id

    def caller(self) -> Caller:
        """The caller of the request being served.

        Raises:
            Forbidden: no admin or owner.
        """
        principal = current_principal()
        principal.require_role("admin")
        is_operator = principal.role == "owner" and principal.org_id == self._operator_org_id
        return Caller(principal, is_operator)
