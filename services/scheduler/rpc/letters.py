"""DeadLettersService: what left processing by failure, and bringing it back."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from chassis.clock import to_datetime
from chassis.errors import Invalid, NotFound
from chassis.postgres import Pool, connection, transaction
from chassis.rpc import Context, Server
from protos.scheduler.v1 import scheduler_pb2 as pb
from protos.scheduler.v1.scheduler_pb2_grpc import (
    DeadLettersServiceServicer,
    add_DeadLettersServiceServicer_to_server,
)
from services.scheduler.domain.letters import (
    DISCARDED,
    LETTER_STATES,
    OPEN,
    REPLAYED,
    may_replay,
)
from services.scheduler.replays import Replayer
from services.scheduler.rpc import pages
from services.scheduler.rpc.access import Access
from services.scheduler.rpc.messages import letter_message
from services.scheduler.store import letters
from services.scheduler.store.letters import Before

MAX_IDS: Final = 200


class DeadLettersServicer(DeadLettersServiceServicer):
    """For admins and owners; `rpc/access.py` says who sees what."""

    def __init__(self, *, pool: Pool, replayer: Replayer, access: Access) -> None:
        self._pool = pool
        self._replayer = replayer
        self._access = access

    def register(self, server: Server) -> str:
        """Adds this servicer and names its service."""
        add_DeadLettersServiceServicer_to_server(self, server)
        return "timeloom.scheduler.v1.DeadLettersService"

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, context: Context
    ) -> pb.ListDeadLettersResponse:
        caller = self._access.caller()
        state = request.state or OPEN
        if state not in LETTER_STATES:
            raise Invalid.field("state", f"must be one of {', '.join(LETTER_STATES)}")
        place = pages.after(request.page, tuple[int, UUID])
        limit = pages.limit_of(request.page)
        async with connection(self._pool) as conn:
            found = await letters.list_letters(
                conn,
                caller.letter_orgs,
                state=state,
                consumer=request.consumer.replace("\x00", ""),
                before=Before(to_datetime(place[0]), place[1]) if place else None,
                limit=limit + 1,
            )
        page = found[:limit]
        end = (page[-1].died_us, page[-1].id) if len(found) > limit else None
        return pb.ListDeadLettersResponse(
            letters=[letter_message(one) for one in page], page=pages.info(end)
        )

    async def GetDeadLetter(
        self, request: pb.GetDeadLetterRequest, context: Context
    ) -> pb.GetDeadLetterResponse:
        caller = self._access.caller()
        letter_id = pages.id_of("id", request.id)
        async with connection(self._pool) as conn:
            letter = await letters.get(conn, caller.letter_orgs, letter_id)
        if letter is None:
            raise NotFound("There is no such dead letter.")
        return pb.GetDeadLetterResponse(letter=letter_message(letter))

    async def ReplayDeadLetters(
        self, request: pb.ReplayDeadLettersRequest, context: Context
    ) -> pb.ReplayDeadLettersResponse:
        caller = self._access.caller()
        ids, orgs = _ids(request.ids), caller.letter_orgs
        async with transaction(self._pool) as conn:
            subjects = await letters.lock_open(conn, orgs, ids)
            found = [one for one, subject in subjects.items() if may_replay(subject)]
            if not request.is_dry_run:
                by = caller.principal.user_id
                await letters.add_replays(conn, orgs, found, by)
                await letters.close(conn, orgs, found, REPLAYED, by)
        self._replayer.ask()
        return pb.ReplayDeadLettersResponse(
            replayed=[str(one) for one in ids if one in found],
            skipped=[str(one) for one in ids if one not in found],
        )

    async def DiscardDeadLetters(
        self, request: pb.DiscardDeadLettersRequest, context: Context
    ) -> pb.DiscardDeadLettersResponse:
        caller = self._access.caller()
        ids, orgs = _ids(request.ids), caller.letter_orgs
        async with transaction(self._pool) as conn:
            found = list(await letters.lock_open(conn, orgs, ids))
            await letters.close(conn, orgs, found, DISCARDED, caller.principal.user_id)
        return pb.DiscardDeadLettersResponse(discarded=[str(one) for one in ids if one in found])


def _ids(texts: Sequence[str]) -> list[UUID]:
    """Each id once, in the order given; raises Invalid for none, too many, or no UUIDs."""
    if not 1 <= len(texts) <= MAX_IDS:
        raise Invalid.field("ids", f"must be 1 to {MAX_IDS}")
    found = [pages.id_of(f"ids[{place}]", text) for place, text in enumerate(texts)]
    return list(dict.fromkeys(found))
