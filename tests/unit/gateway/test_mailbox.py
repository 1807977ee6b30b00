"""What waits for a socket is bounded, in order, and ends in one farewell."""

import asyncio

import pytest

from services.gateway.mailbox import MAX_CHARACTERS, MAX_MESSAGES, Mailbox, Outgoing
from services.gateway.payloads.live import REVOKED, SHUTTING_DOWN, SLOW_CONSUMER


class Bell:
    """Counts how often it rings."""

    def __init__(self) -> None:
        self.rings = 0

    def __call__(self) -> None:
        self.rings += 1


def test_frames_come_out_as_they_went_in() -> None:
    bell = Bell()
    mailbox = Mailbox(bell)
    for text in "abc":
        mailbox.offer(Outgoing(text))
    assert [mailbox.take() for _ in range(4)] == [Outgoing(text) for text in "abc"] + [None]
    assert bell.rings == 3
    assert not mailbox.has_news


@pytest.mark.parametrize(
    ("count", "size"), [(MAX_MESSAGES, 1), (4, MAX_CHARACTERS // 4), (1, MAX_CHARACTERS)]
)
def test_one_more_than_fits_ends_it(count: int, size: int) -> None:
    mailbox = Mailbox(Bell())
    for _ in range(count):
        mailbox.offer(Outgoing("x" * size))
    farewells = [mailbox.farewell]
    mailbox.offer(Outgoing("x"))
    assert [*farewells, mailbox.farewell] == [None, SLOW_CONSUMER]
    assert mailbox.take() is None, "the client resumes from its position"


def test_room_that_was_taken_is_given_back() -> None:
    mailbox = Mailbox(Bell())
    for _ in range(3 * MAX_MESSAGES):
        mailbox.offer(Outgoing("x" * (MAX_CHARACTERS // 2)))
        assert mailbox.take() is not None
    assert mailbox.farewell is None


def test_the_first_farewell_stands_and_nothing_follows_it() -> None:
    bell = Bell()
    mailbox = Mailbox(bell)
    mailbox.dismiss(REVOKED)
    mailbox.dismiss(SHUTTING_DOWN)
    mailbox.offer(Outgoing("late"))
    assert mailbox.farewell is REVOKED
    assert mailbox.take() is None
    assert bell.rings == 1


def test_a_closed_mailbox_wakes_nobody() -> None:
    bell = Bell()
    mailbox = Mailbox(bell)
    mailbox.close()
    mailbox.offer(Outgoing("late"))
    mailbox.dismiss(REVOKED)
    assert bell.rings == 0


@pytest.mark.parametrize("end", ["take", "dismiss", "close"])
async def test_whoever_waits_for_it_to_drain_is_let_go(end: str) -> None:
    mailbox = Mailbox(Bell())
    await mailbox.drained()
    mailbox.offer(Outgoing("a"))
    waiting = asyncio.create_task(mailbox.drained())
    await asyncio.sleep(0)
    assert not waiting.done()
    match end:
        case "take":
            mailbox.take()
        case "dismiss":
            mailbox.dismiss(REVOKED)
        case _:
            mailbox.close()
    async with asyncio.timeout(1):
        await waiting
