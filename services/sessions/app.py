"""Composition root of sessions: reads top to bottom as a wiring diagram."""

from chassis import bus as buses
from chassis import postgres
from chassis.bus import Bus
from chassis.clock import SystemClock
from chassis.deadletters import DeadLetters
from chassis.identity import InternalVerifier, load_public_key
from chassis.jobs import REPORTS_STREAM, JobWorker
from chassis.lifecycle import Lifecycle
from chassis.outbox import Outbox
from chassis.retry import startup
from chassis.rpc import RpcServer
from chassis.subscription import PullLoop
from services.sessions.consumers import Consumers, subscriptions
from services.sessions.domain.categories import Categorizer
from services.sessions.domain.starter import STARTER_RULES
from services.sessions.jobs import jobs
from services.sessions.publishers import SESSIONS_STREAM, declare_streams
from services.sessions.recompute import Recomputer
from services.sessions.rpc import SessionsServicer
from services.sessions.settings import Settings

SERVICE = "sessions"


async def build(app: Lifecycle, settings: Settings) -> None:
    """Constructs everything this service is made of."""
    clock = SystemClock()
    verifier = InternalVerifier(load_public_key(settings.token_public_key_file), clock)
    pool = await app.open(postgres.pool(settings, application=SERVICE))
    bus: Bus = await app.open(buses.connect(settings, service=SERVICE))
    await startup()(declare_streams, bus)

    streams = [SESSIONS_STREAM, REPORTS_STREAM]
    outbox = Outbox(pool=pool, bus=bus, service=SERVICE, clock=clock, streams=streams)
    dead_letters = DeadLetters(bus=bus, service=SERVICE, clock=clock)
    recomputer = Recomputer(
        rules=settings.rules(), categorize=Categorizer(STARTER_RULES), clock=clock
    )
    consumers = Consumers(outbox=outbox, recomputer=recomputer)
    worker = JobWorker(
        service=SERVICE, jobs=jobs(outbox=outbox, recomputer=recomputer), outbox=outbox, clock=clock
    )

    app.relay("outbox", outbox.run)
    for subscription in [*subscriptions(consumers), worker.subscription()]:
        loop = PullLoop(bus=bus, subscription=subscription, dead_letters=dead_letters, clock=clock)
        app.loop(subscription.consumer, loop.run)
    app.serve(
        RpcServer(
            settings=settings,
            verifier=verifier,
            clock=clock,
            servicers=[SessionsServicer(pool=pool, clock=clock).register],
            drain_seconds=settings.drain_seconds,
        )
    )
    app.ready_when(postgres=outbox.check, nats=bus.check)
