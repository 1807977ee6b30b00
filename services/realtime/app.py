"""Composition root: the only file of realtime that constructs things."""

from functools import partial

from chassis import bus, valkey
from chassis.clock import SystemClock
from chassis.deadletters import DeadLetters
from chassis.identity import InternalVerifier, load_public_key
from chassis.lifecycle import Lifecycle
from chassis.retry import startup
from chassis.rpc import RpcServer
from chassis.subscription import PullLoop
from services.realtime.consumers import Fanout
from services.realtime.history import LiveHistory
from services.realtime.presence import PresenceKeeper
from services.realtime.publishers import LivePublisher, PresencePublisher, Streams
from services.realtime.rpc import LiveServicer, PresenceServicer, add_live, add_presence
from services.realtime.settings import Settings
from services.realtime.store import PresenceStore


async def build(app: Lifecycle, settings: Settings) -> None:
    """Wires realtime; waits for NATS, not for Valkey."""
    clock = SystemClock()
    verifier = InternalVerifier(load_public_key(settings.token_public_key_file), clock)
    client = await app.open(valkey.connect(settings.valkey_url.get_secret_value()))
    nats = await app.open(bus.connect(settings, service="realtime"))

    streams = Streams(bus=nats, clock=clock, replicas=settings.stream_replicas)
    await startup()(streams.declare)
    live = LivePublisher(bus=nats, streams=streams, clock=clock)
    store = PresenceStore(client, settings)
    keeper = PresenceKeeper(
        store=store,
        publisher=PresencePublisher(bus=nats, clock=clock),
        live=live,
        clock=clock,
        reap_seconds=settings.reap_seconds,
    )

    app.loop("watch live epoch", streams.watch)
    app.relay("announce presence", keeper.announce)
    app.loop("reap leases", keeper.reap)
    dead_letters = DeadLetters(bus=nats, service="realtime", clock=clock)
    for subscription in Fanout(live).subscriptions():
        loop = PullLoop(bus=nats, subscription=subscription, dead_letters=dead_letters, clock=clock)
        app.loop(f"consume {subscription.stream.lower()}", loop.run)

    presence = PresenceServicer(keeper, lease_seconds=settings.lease_seconds)
    app.serve(
        RpcServer(
            settings=settings,
            verifier=verifier,
            clock=clock,
            servicers=[
                partial(add_presence, presence),
                partial(add_live, LiveServicer(LiveHistory(nats))),
            ],
            drain_seconds=settings.drain_seconds,
        )
    )
    app.ready_when(nats=streams.check, valkey=store.check)
