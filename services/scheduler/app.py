"""Composition root of the scheduler: reads top to bottom as a wiring diagram."""

from random import SystemRandom

from chassis import bus as buses
from chassis import postgres
from chassis.bus import Bus
from chassis.clock import SystemClock
from chassis.deadletters import DeadLetters
from chassis.identity import InternalVerifier, load_public_key
from chassis.jobs import JobWorker
from chassis.lifecycle import Lifecycle
from chassis.outbox import Outbox
from chassis.retry import startup
from chassis.rpc import RpcServer
from chassis.subscription import PullLoop
from services.scheduler.consumers import Consumers, subscriptions
from services.scheduler.dispatch import Settler
from services.scheduler.due import DueLoop, Firing
from services.scheduler.jobs import jobs
from services.scheduler.leases import Leases
from services.scheduler.publishers import STREAMS, declare_streams
from services.scheduler.replays import Replayer
from services.scheduler.rpc.access import Access
from services.scheduler.rpc.letters import DeadLettersServicer
from services.scheduler.rpc.schedules import SchedulerServicer
from services.scheduler.settings import Settings
from services.scheduler.system import declare_schedules, keep_partitions

SERVICE = "scheduler"
# While one waits for PostgreSQL the other computes; more share the same processor.
FIRING_LOOPS = 2


async def build(app: Lifecycle, settings: Settings) -> None:
    """Constructs everything this service is made of."""
    clock = SystemClock()
    verifier = InternalVerifier(load_public_key(settings.token_public_key_file), clock)
    pool = await app.open(postgres.pool(settings, application=SERVICE))
    bus: Bus = await app.open(buses.connect(settings, service=SERVICE))
    await startup()(declare_streams, bus)
    await startup()(keep_partitions, pool)
    await startup()(declare_schedules, pool)

    outbox = Outbox(pool=pool, bus=bus, service=SERVICE, clock=clock, streams=STREAMS)
    dead_letters = DeadLetters(bus=bus, service=SERVICE, clock=clock)
    settler = Settler(SystemRandom().random)
    firing = await app.open(Firing(pool=pool, outbox=outbox, clock=clock))
    leases = Leases(pool=pool, outbox=outbox, settler=settler)
    replayer = Replayer(pool=pool, bus=bus)
    consumers = Consumers(outbox=outbox, settler=settler, clock=clock)
    worker = JobWorker(service=SERVICE, jobs=jobs(outbox=outbox), outbox=outbox, clock=clock)
    access = Access(settings.operator_org_id)

    app.relay("outbox", outbox.run)
    for number in range(FIRING_LOOPS):
        loop = DueLoop(firing.fire_due, firing.seconds_until_due)
        app.loop(f"fire schedules {number}", loop.run)
    app.loop("wake runs", DueLoop(leases.wake_due, leases.seconds_until_due).run)
    app.loop("replay letters", replayer.run)
    for subscription in [*subscriptions(consumers), worker.subscription()]:
        pull = PullLoop(bus=bus, subscription=subscription, dead_letters=dead_letters, clock=clock)
        app.loop(subscription.consumer, pull.run)
    app.serve(
        RpcServer(
            settings=settings,
            verifier=verifier,
            clock=clock,
            servicers=[
                SchedulerServicer(pool=pool, outbox=outbox, access=access).register,
                DeadLettersServicer(pool=pool, replayer=replayer, access=access).register,
            ],
            drain_seconds=settings.drain_seconds,
        )
    )
    app.ready_when(postgres=outbox.check, nats=bus.check, claims=firing.check)
