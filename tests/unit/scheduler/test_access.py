"""Who sees and does what with schedules, runs and dead letters."""

from uuid import UUID

import pytest

from chassis.errors import Forbidden
from chassis.identity import Principal, set_principal
from services.scheduler.domain.plans import SUITE, Plan, Policy, Schedule
from services.scheduler.domain.runs import Attempt, Run
from services.scheduler.rpc.access import Access, Caller
from services.scheduler.rpc.messages import run_message

ACME, RIVAL = UUID(int=0xACE), UUID(int=0xBAD)
ME = UUID(int=1)


def caller(role: str, org: UUID = ACME, operator: UUID | None = None) -> Caller:
    set_principal(Principal(org_id=org, user_id=ME, role=role))
    return Access(operator).caller()


def schedule(org: UUID) -> Schedule:
    plan = Plan("every", "60")
    return Schedule(org_id=org, id=ME, name="a.b", job="a.b", plan=plan, policy=Policy())


@pytest.mark.parametrize("role", ["manager", "member", "guest", "service", ""])
def test_nobody_below_admin_gets_in(role: str) -> None:
    with pytest.raises(Forbidden):
        caller(role, operator=ACME)


def test_an_admin_sees_the_organization_and_nothing_else() -> None:
    assert caller("admin").orgs == [ACME]
    assert caller("admin", operator=ACME).letter_orgs == [ACME]


def test_an_owner_also_sees_the_upkeep_but_not_what_it_said() -> None:
    owner = caller("owner", operator=RIVAL)
    assert owner.orgs == [ACME, SUITE]
    assert owner.letter_orgs == [ACME]
    assert owner.may_read(ACME)
    assert not owner.may_read(SUITE)


def test_the_operator_reads_and_controls_the_upkeep() -> None:
    operator = caller("owner", operator=ACME)
    assert operator.letter_orgs == [ACME, SUITE]
    assert operator.may_read(SUITE)
    operator.require_control(schedule(SUITE))


def test_without_an_operator_nobody_stops_the_upkeep() -> None:
    owner = caller("owner")
    owner.require_control(schedule(ACME))
    with pytest.raises(Forbidden):
        owner.require_control(schedule(SUITE))


def test_the_words_of_others_are_left_out() -> None:
    run = Run(
        org_id=SUITE,
        id=ME,
        schedule_id=None,
        job="sessions.verify",
        scheduled_for_us=0,
        state="failed",
        attempt=1,
        lease_token=1,
        max_attempts=1,
        retry_base_seconds=1,
        retry_cap_seconds=1,
        start_margin_seconds=1,
        max_runtime_seconds=1,
        result='{"user": "someone"}',
    )
    attempt = Attempt(
        org_id=SUITE, run_id=ME, number=1, lease_token=1, error_kind="KeyError", error_message="you"
    )
    hidden = run_message(run, [attempt], may_read=False)
    shown = run_message(run, [attempt], may_read=True)
    assert (hidden.result_json, hidden.attempts[0].error_message) == ("", "")
    assert hidden.attempts[0].error_kind == "KeyError"
    assert (shown.result_json, shown.attempts[0].error_message) == (run.result, "you")
