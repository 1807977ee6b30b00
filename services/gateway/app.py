"""The composition root: the only place of the gateway that constructs things.

Each section says what it opens; together they are what handlers may take by name.
"""

from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from litestar.types import ASGIApp

from chassis import bus as nats_bus
from chassis import postgres, rpc
from chassis.bus import Bus
from chassis.clock import Clock, SystemClock
from chassis.deadletters import DeadLetters
from chassis.health import Probe
from chassis.identity import InternalSigner, load_private_key
from chassis.jobs import REPORTS_STREAM, JobWorker
from chassis.lifecycle import Lifecycle
from chassis.outbox import Outbox
from chassis.postgres import Pool
from chassis.retry import startup
from chassis.subscription import PullLoop
from services.gateway import passwords as argon2
from services.gateway.accounts.devices import Devices
from services.gateway.accounts.erasure import Erasure
from services.gateway.accounts.invitations import Invitations
from services.gateway.accounts.keys import Keys
from services.gateway.accounts.ledger import Ledger
from services.gateway.accounts.people import People
from services.gateway.accounts.sign_in import SignIn
from services.gateway.activitywatch import Events
from services.gateway.auth import Authenticator
from services.gateway.buckets import Buckets
from services.gateway.clients import (
    Calls,
    DeadLettersClient,
    IngestClient,
    LiveClient,
    PresenceClient,
    SchedulerClient,
    SessionsClient,
    health_of,
)
from services.gateway.consumers import AccountsWatch, subscriptions
from services.gateway.edge import Edge
from services.gateway.history import History
from services.gateway.hold import Holder
from services.gateway.http import HANDLERS
from services.gateway.http.activitywatch_access import ActivityWatch
from services.gateway.http.events import Intake, ShortCut
from services.gateway.http.export import Export
from services.gateway.http.provide import authenticated, constant
from services.gateway.hub import Hub
from services.gateway.idempotency import Idempotency, Seal
from services.gateway.jobs import Upkeep
from services.gateway.leases import Leases
from services.gateway.parting import Parting
from services.gateway.proofs import Proofs
from services.gateway.publishers import ACCOUNTS_STREAM, declare_streams
from services.gateway.rate_limit import RateLimits
from services.gateway.server import HttpServer, application
from services.gateway.settings import Settings
from services.gateway.tickets import TICKET_SECONDS, Tickets
from services.gateway.tokens import ACCESS_AUDIENCE, TICKET_AUDIENCE, TokenMint
from services.gateway.usage import Usage
from services.gateway.websocket import LiveSocket, WithLive

# Of the drain: the rest is for running requests and for what they commit.
GOODBYE_SHARE = 0.15


class Ground(NamedTuple):
    """What everything else stands on."""

    clock: Clock
    key: Ed25519PrivateKey
    pool: Pool
    bus: Bus
    outbox: Outbox


class Services(NamedTuple):
    """The rest of the suite."""

    dead_letters: DeadLettersClient
    ingest: IngestClient
    live: LiveClient
    presence: PresenceClient
    scheduler: SchedulerClient
    sessions: SessionsClient
    suite: Probe


class Accounts(NamedTuple):
    """Who is who, and what they can do about it."""

    authenticator: Authenticator
    devices: Devices
    erasure: Erasure
    invitations: Invitations
    keys: Keys
    ledger: Ledger
    people: People
    sign_in: SignIn
    upkeep: Upkeep
    usage: Usage


class Live(NamedTuple):
    """Live connections, and the agents of another tool."""

    aw: ActivityWatch
    hub: Hub
    leases: Leases
    live_socket: LiveSocket
    tickets: Tickets


async def build(app: Lifecycle, settings: Settings) -> None:
    """Wires the gateway; returns when every resource is open."""
    ground = await lay_ground(app, settings)
    services = await reach_services(app, settings, ground)
    accounts = await open_accounts(app, settings, ground)
    listen(app, ground, accounts)
    limits = RateLimits(settings, ground.clock)
    live = open_live(app, settings, ground, services, accounts, limits)
    serve(app, settings, ground, services, accounts, live, limits)


async def lay_ground(app: Lifecycle, settings: Settings) -> Ground:
    """Database and bus, and the way from one to the other."""
    clock = SystemClock()
    key = load_private_key(settings.token_private_key_file)
    pool = await app.open(postgres.pool(settings, application="gateway"))
    bus = await app.open(nats_bus.connect(settings, service="gateway"))
    await startup()(declare_streams, bus)
    streams = [ACCOUNTS_STREAM, REPORTS_STREAM]
    outbox = Outbox(pool=pool, bus=bus, service="gateway", clock=clock, streams=streams)
    app.relay("outbox", outbox.run)
    app.ready_when(postgres=outbox.check, nats=bus.check)
    return Ground(clock, key, pool, bus, outbox)


async def reach_services(app: Lifecycle, settings: Settings, ground: Ground) -> Services:
    """One channel to each of the other services."""
    calls = Calls(signer=InternalSigner(ground.key, ground.clock), clock=ground.clock)
    to_ingest = await app.open(rpc.channel(settings.ingest_target, settings))
    to_sessions = await app.open(rpc.channel(settings.sessions_target, settings))
    to_scheduler = await app.open(rpc.channel(settings.scheduler_target, settings))
    to_realtime = await app.open(rpc.channel(settings.realtime_target, settings))
    checks = {
        "ingest": health_of(to_ingest),
        "sessions": health_of(to_sessions),
        "scheduler": health_of(to_scheduler),
        "realtime": health_of(to_realtime),
    }
    return Services(
        dead_letters=DeadLettersClient(to_scheduler, calls),
        ingest=IngestClient(to_ingest, calls),
        live=LiveClient(to_realtime, calls),
        presence=PresenceClient(to_realtime, calls),
        scheduler=SchedulerClient(to_scheduler, calls),
        sessions=SessionsClient(to_sessions, calls),
        suite=Probe(checks),
    )


async def open_accounts(app: Lifecycle, settings: Settings, ground: Ground) -> Accounts:
    """The errands of accounts/."""
    pool, clock = ground.pool, ground.clock
    usage = Usage(pool=pool, clock=clock)
    app.relay("usage", usage.run)
    tokens = TokenMint(
        key=ground.key,
        clock=clock,
        audience=ACCESS_AUDIENCE,
        seconds=settings.access_token_seconds,
    )
    authenticator = Authenticator(
        pool=pool,
        access_tokens=tokens,
        usage=usage,
        clock=clock,
        cache_seconds=settings.credential_cache_seconds,
    )
    ledger = Ledger(outbox=ground.outbox, authenticator=authenticator, clock=clock)
    passwords = await app.open(argon2.opened(settings))
    sign_in = SignIn(
        ledger=ledger, pool=pool, passwords=passwords, access_tokens=tokens, settings=settings
    )
    return Accounts(
        authenticator=authenticator,
        devices=Devices(pool=pool),
        erasure=Erasure(ledger=ledger, pool=pool, passwords=passwords),
        invitations=Invitations(
            ledger=ledger, pool=pool, passwords=passwords, sign_in=sign_in, settings=settings
        ),
        keys=Keys(ledger=ledger, pool=pool),
        ledger=ledger,
        people=People(ledger=ledger, pool=pool),
        sign_in=sign_in,
        upkeep=Upkeep(ledger=ledger, pool=pool, outbox=ground.outbox, clock=clock),
        usage=usage,
    )


def listen(app: Lifecycle, ground: Ground, accounts: Accounts) -> None:
    """What it hears: its work, and what other replicas changed about accounts."""
    bus, clock = ground.bus, ground.clock
    # Whoever keeps what an announcement about accounts makes untrue is a listener.
    watch = AccountsWatch(bus=bus, listeners=[accounts.authenticator], clock=clock)
    app.loop("watch accounts", watch.run)
    jobs = accounts.upkeep.jobs()
    work = JobWorker(service="gateway", jobs=jobs, outbox=ground.outbox, clock=clock)
    letters = DeadLetters(bus=bus, service="gateway", clock=clock)
    for subscription in subscriptions(work):
        loop = PullLoop(bus=bus, subscription=subscription, dead_letters=letters, clock=clock)
        app.loop(f"consume {subscription.consumer}", loop.run)


def open_live(
    app: Lifecycle,
    settings: Settings,
    ground: Ground,
    services: Services,
    accounts: Accounts,
    limits: RateLimits,
) -> Live:
    """The fan-out to live connections, and the ActivityWatch dialect."""
    pool, clock, authenticator = ground.pool, ground.clock, accounts.authenticator
    history, proofs = History(services.live), Proofs(authenticator)
    hub = Hub(
        bus=ground.bus,
        history=history,
        proofs=proofs,
        clock=clock,
        connections_per_person=settings.live_connections_per_person,
    )
    leases = Leases(presence=services.presence, seats=lambda: hub.seats, clock=clock)
    app.loop("live", hub.run)
    app.loop("leases", leases.run)
    mint = TokenMint(key=ground.key, clock=clock, audience=TICKET_AUDIENCE, seconds=TICKET_SECONDS)
    tickets = Tickets(pool=pool, mint=mint, authenticator=authenticator, clock=clock)
    buckets = Buckets(ingest=services.ingest, usage=accounts.usage, clock=clock)
    return Live(
        aw=ActivityWatch(
            authenticator=authenticator,
            limits=limits,
            holder=Holder(clock=clock, is_stopping=lambda: app.probe.is_draining),
            buckets=buckets,
            events=Events(ingest=services.ingest, buckets=buckets),
        ),
        hub=hub,
        leases=leases,
        live_socket=LiveSocket(
            hub=hub,
            authenticator=authenticator,
            tickets=tickets,
            leases=leases,
            limits=limits,
            clock=clock,
        ),
        tickets=tickets,
    )


def serve(
    app: Lifecycle,
    settings: Settings,
    ground: Ground,
    services: Services,
    accounts: Accounts,
    live: Live,
    limits: RateLimits,
) -> None:
    """The public interface; what is named here is what handlers may take."""
    intake = Intake(
        authenticator=accounts.authenticator,
        limits=limits,
        usage=accounts.usage,
        ingest=services.ingest,
    )
    export = Export(
        people=accounts.people,
        keys=accounts.keys,
        devices=accounts.devices,
        ingest=services.ingest,
        sessions=services.sessions,
        clock=ground.clock,
    )
    parts: dict[str, object] = {
        "clock": ground.clock,
        "export": export,
        "lifecycle": app,
        "limits": limits,
        "outbox": ground.outbox,
        "settings": settings,
        **services._asdict(),
        **accounts._asdict(),
        **live._asdict(),
    }
    http = application(
        handlers=[*HANDLERS, intake.handler()],
        dependencies={
            "caller": authenticated(accounts.authenticator, limits),
            **{name: constant(part) for name, part in parts.items()},
        },
        settings=settings,
    )
    direct = ShortCut(http, intake, body_limit_bytes=settings.body_limit_bytes)
    edge = guard(direct, settings, ground, accounts)
    server = HttpServer(app=WithLive(edge, live.live_socket), settings=settings)
    goodbye_seconds = settings.drain_seconds * GOODBYE_SHARE
    app.loop("http", Parting(server.run, hub=live.hub, seconds=goodbye_seconds).run)


def guard(http: ASGIApp, settings: Settings, ground: Ground, accounts: Accounts) -> Edge:
    """What every request passes before the application."""
    once = Idempotency(
        http,
        authenticator=accounts.authenticator,
        pool=ground.pool,
        clock=ground.clock,
        seal=Seal(ground.key),
        body_limit_bytes=settings.body_limit_bytes,
    )
    return Edge(once, clock=ground.clock, max_requests=settings.max_requests)
