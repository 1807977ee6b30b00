"""A run's state is a function of the set of reports, whatever their order and number."""

import os
from collections.abc import Sequence
from itertools import permutations
from random import Random
from uuid import UUID

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.domain.plans import SUITE
from services.scheduler.domain.runs import (
    FAILED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    Attempt,
    Report,
    Run,
    attempt_of,
    backoff_seconds,
    current_attempt,
    join,
    settle,
    state_of,
)

PROPERTY = settings(max_examples=int(os.environ.get("PROPERTY_EXAMPLES", "200")), deadline=None)
RUN = Run(
    org_id=SUITE,
    id=UUID(int=1),
    schedule_id=None,
    job="ingest.partitions",
    scheduled_for_us=0,
    state=QUEUED,
    attempt=2,
    lease_token=20,
    max_attempts=3,
    retry_base_seconds=10,
    retry_cap_seconds=600,
    start_margin_seconds=60,
    max_runtime_seconds=60,
)
"""Its first attempt had token 10 and failed; the second was handed out."""
FIRST = Attempt(
    org_id=SUITE,
    run_id=RUN.id,
    number=1,
    lease_token=10,
    started_us=1,
    finished_us=2,
    outcome="failed",
)


def report(state: str, at: int = 5, *, attempt: int = 2, token: int = 20, **more: object) -> Report:
    return msgspec.convert(
        {
            "org_id": SUITE,
            "run_id": RUN.id,
            "attempt": attempt,
            "lease_token": token,
            "state": state,
            "at_us": at,
            **more,
        },
        Report,
    )


reports = st.builds(
    report,
    st.sampled_from(("started", "progressed", "lost", "succeeded", "failed")),
    st.integers(1, 4),
    attempt=st.sampled_from((1, 2, 2, 2, 3)),
    token=st.sampled_from((10, 20, 20, 30)),
    worker=st.sampled_from(("a", "b")),
    progress=st.sampled_from((0.0, 0.5, 1.0)),
    result=st.sampled_from(("", "{}")),
    error_kind=st.sampled_from(("", "invalid", "unavailable")),
)


def replay(heard: Sequence[Report]) -> tuple[Run, dict[int, Attempt]]:
    """The run and its attempts after these reports, one by one."""
    run, attempts = RUN, {1: FIRST}
    for one in heard:
        about = attempt_of(run, attempts, one)
        if about is None:
            continue
        attempts[about.number] = join(about, one)
        if about.number == run.attempt:
            run = settle(run, attempts[about.number])
    return run, attempts


@PROPERTY
@given(st.lists(reports, max_size=6), st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(heard: list[Report], random: Random) -> None:
    shuffled = [*heard, *heard[::2]]
    random.shuffle(shuffled)
    assert replay(shuffled) == replay(heard)


@PROPERTY
@given(reports, reports, reports)
def test_joining_is_commutative_associative_and_idempotent(
    one: Report, two: Report, three: Report
) -> None:
    blank = current_attempt(RUN)
    results = {
        join(join(join(blank, first), second), third)
        for first, second, third in permutations((one, two, three))
    }
    assert len(results) == 1
    (result,) = results
    assert join(result, two) == result


@PROPERTY
@given(st.lists(reports, max_size=6))
def test_older_attempts_are_fenced(heard: list[Report]) -> None:
    stale = [one for one in heard if one.lease_token != RUN.lease_token or one.attempt != 2]
    run, _ = replay(stale)
    assert run == RUN


@PROPERTY
@given(st.lists(reports, max_size=6))
def test_success_of_the_latest_attempt_always_counts(heard: list[Report]) -> None:
    run, _ = replay([*heard, report("succeeded")])
    assert run.state == SUCCEEDED
    assert run.progress == 1.0


def test_a_stale_report_is_kept_as_evidence() -> None:
    run, attempts = replay([report("succeeded", attempt=1, token=10, worker="slow")])
    assert run == RUN
    assert (attempts[1].outcome, attempts[1].worker) == ("succeeded", "slow")


def test_a_token_that_was_never_given_out_is_about_nothing() -> None:
    assert attempt_of(RUN, {1: FIRST}, report("succeeded", token=21)) is None
    assert attempt_of(RUN, {1: FIRST}, report("succeeded", attempt=1, token=20)) is None
    assert attempt_of(RUN, {1: FIRST}, report("succeeded", attempt=3, token=20)) is None
    never = msgspec.structs.replace(RUN, attempt=0, lease_token=0, state="missed")
    assert attempt_of(never, {}, report("succeeded", attempt=0, token=0)) is None


def test_a_run_goes_from_queued_over_running_to_its_end() -> None:
    assert replay([])[0].state == QUEUED
    assert replay([report("started")])[0].state == RUNNING
    assert replay([report("started"), report("succeeded")])[0].state == SUCCEEDED


def test_a_failure_waits_for_the_next_attempt_while_there_is_one() -> None:
    run, attempts = replay([report("started"), report("failed", error_kind="unavailable")])
    assert (run.state, run.is_waiting) == (QUEUED, True)
    assert state_of(attempts[2], max_attempts=2) == FAILED


def test_what_can_not_succeed_is_not_tried_again() -> None:
    run, _ = replay([report("failed", error_kind="invalid")])
    assert (run.state, run.is_waiting) == (FAILED, False)


def test_a_late_success_corrects_a_lost_attempt() -> None:
    last = msgspec.structs.replace(RUN, max_attempts=2)
    lost = settle(last, join(current_attempt(last), report("lost")))
    assert lost.state == FAILED
    mended = settle(lost, join(join(current_attempt(last), report("lost")), report("succeeded")))
    assert mended.state == SUCCEEDED


def test_who_finished_is_named_rather_than_who_started() -> None:
    _, attempts = replay(
        [report("started", 3, worker="a"), report("succeeded", 9, worker="b"), report("started", 1)]
    )
    assert (attempts[2].worker, attempts[2].started_us, attempts[2].finished_us) == ("b", 1, 9)


def test_a_lost_attempt_names_who_started_it() -> None:
    for heard in permutations([report("started", 3, worker="a"), report("lost", 9)]):
        assert replay(heard)[1][2].worker == "a"


@PROPERTY
@given(st.integers(1, 100), st.integers(0, 1000), st.integers(0, 1000), st.floats(0, 0.999))
def test_back_off_doubles_up_to_its_cap_with_full_jitter(
    attempt: int, base: int, cap: int, luck: float
) -> None:
    run = msgspec.structs.replace(
        RUN, attempt=attempt, retry_base_seconds=base, retry_cap_seconds=cap
    )
    ceiling = min(cap, base * 2 ** (attempt - 1))
    assert 0 <= backoff_seconds(run, lambda: luck) <= ceiling
    assert backoff_seconds(run, lambda: 1.0) == min(ceiling, cap)
