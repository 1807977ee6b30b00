"""Composition root of ingest: reads top to bottom as a wiring diagram."""

from functools import partial

from chassis import bus as buses
from chassis import postgres
from chassis.clock import SystemClock
from chassis.deadletters import DeadLetters
from chassis.identity import InternalVerifier, load_public_key
from chassis.jobs import REPORTS_STREAM, JobWorker
from chassis.lifecycle import Lifecycle
from chassis.outbox import Outbox
from chassis.retry import startup
from chassis.rpc import RpcServer
from chassis.subscription import PullLoop
from services.ingest.commits.appends import Appends
from services.ingest.commits.group import GroupCommit
from services.ingest.commits.heartbeats import Beats
from services.ingest.consumers import Consumers, subscriptions
from services.ingest.edits import Edits
from services.ingest.jobs import Upkeep
from services.ingest.publishers import ACTIVITY_STREAM, declare_streams
from services.ingest.rpc import IngestServicer
from services.ingest.settings import Settings
from services.ingest.store.partitions import Months

SERVICE = "ingest"


async def build(app: Lifecycle, settings: Settings) -> None:
    """Constructs everything this service is made of."""
    clock = SystemClock()
    verifier = InternalVerifier(load_public_key(settings.token_public_key_file), clock)
    pool = await app.open(
        postgres.pool(settings, application=SERVICE, plan_cache_mode="force_generic_plan")
    )
    bus = await app.open(buses.connect(settings, service=SERVICE))
    await startup()(partial(declare_streams, bus, replicas=settings.stream_replicas))

    streams = [ACTIVITY_STREAM, REPORTS_STREAM]
    outbox = Outbox(pool=pool, bus=bus, service=SERVICE, clock=clock, streams=streams)
    dead_letters = DeadLetters(bus=bus, service=SERVICE, clock=clock)
    months = Months(pool)
    appends = GroupCommit(commit=Appends(outbox=outbox, months=months).commit, clock=clock)
    beats = GroupCommit(commit=Beats(outbox=outbox, months=months).commit, clock=clock)
    edits = Edits(outbox=outbox, months=months, clock=clock)
    consumers = Consumers(pool=pool, outbox=outbox)
    upkeep = Upkeep(
        pool=pool, outbox=outbox, months=months, clock=clock, retain_months=settings.retain_months
    )
    worker = JobWorker(service=SERVICE, jobs=upkeep.jobs(), outbox=outbox, clock=clock)
    servicer = IngestServicer(
        pool=pool,
        appends=appends,
        beats=beats,
        edits=edits,
        clock=clock,
        verifier=verifier,
        retain_months=settings.retain_months,
    )

    # The months ahead are there before the first event, whenever the scheduler comes.
    await startup()(upkeep.partitions)
    app.relay("outbox", outbox.run)
    # Relays too: they outlive the server, whose last calls wait for them.
    app.relay("commit appends", appends.run)
    app.relay("commit heartbeats", beats.run)
    for subscription in [*subscriptions(consumers), worker.subscription()]:
        loop = PullLoop(bus=bus, subscription=subscription, dead_letters=dead_letters, clock=clock)
        app.loop(subscription.consumer, loop.run)
    app.serve(
        RpcServer(
            settings=settings,
            verifier=verifier,
            clock=clock,
            servicers=[servicer.register],
            drain_seconds=settings.drain_seconds,
        )
    )
    app.ready_when(postgres=outbox.check, nats=bus.check)
