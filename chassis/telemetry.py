"""OpenTelemetry: set-up, spans across processes, and THE list of every name Timeloom emits.

A test fails when anything emits a `timeloom.*` name that is not listed here.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags
from opentelemetry.util.types import AttributeValue


class Name(NamedTuple):
    """A name we emit: its unit (UCUM) or type, and the question it answers."""

    name: str
    unit: str
    meaning: str


ATTRIBUTES: Final = (
    Name("timeloom.org.id", "string", "Organization the work is for"),
    Name("timeloom.batch.size", "{message}", "Messages handled together"),
    Name("timeloom.consumer", "string", "Durable consumer that received"),
    Name("timeloom.stream", "string", "Stream published to or read from"),
    Name("timeloom.job", "string", "Job that runs, `<service>.<job>`"),
    Name("timeloom.run.state", "string", "State of a run"),
    Name("timeloom.dependency", "string", "What readiness asks for: process, postgres, nats, …"),
    Name("timeloom.channel", "string", "Kind of live channel: user, org, jobs, space or ctl"),
    Name("timeloom.result", "string", "What became of it: accepted, duplicate or rejected"),
    Name("error.type", "string", "Kind of error, see chassis/errors.py"),
)

METRICS: Final = (
    Name("timeloom.process.ready", "{process}", "Whether it can serve, 1 or 0, by dependency"),
    Name("timeloom.ingest.events", "{event}", "How many events came in, by result"),
    Name("timeloom.ingest.group_size", "{event}", "How many events share one commit"),
    Name("timeloom.outbox.published", "{message}", "How many announcements left, by stream"),
    Name("timeloom.outbox.leftovers", "{message}", "How many the sweep had to publish"),
    Name("timeloom.outbox.oldest_age", "s", "How long the oldest row waits to leave, by stream"),
    Name("timeloom.outbox.rewinds", "{rewind}", "How often a stream lost acknowledged messages"),
    Name("timeloom.consumer.handled", "{message}", "How many messages took effect, by consumer"),
    Name("timeloom.consumer.repeats", "{message}", "How many the inbox dropped, by consumer"),
    Name("timeloom.consumer.retried", "{message}", "How many were sent back, by consumer"),
    Name("timeloom.consumer.dead", "{message}", "How many became dead letters, by consumer"),
    Name(
        "timeloom.consumer.pending_age", "s", "How old the oldest message in hand is, by consumer"
    ),
    Name("timeloom.consumer.duration", "s", "How long a batch took, by consumer"),
    Name("timeloom.sessions.recomputed", "{person}", "How many recomputations ran"),
    Name("timeloom.sessions.recompute_duration", "s", "How long one recomputation took"),
    Name("timeloom.sessions.mismatches", "{day}", "Stored days that differ from recomputation"),
    Name("timeloom.scheduler.fires", "{fire}", "How many fires became runs, by state"),
    Name("timeloom.scheduler.lag", "s", "How late a fire became a run"),
    Name("timeloom.live.sockets", "{socket}", "How many live connections are open"),
    Name("timeloom.live.published", "{message}", "How many messages went on channels, by channel"),
    Name("timeloom.live.sent", "{message}", "How many live messages were sent"),
    Name("timeloom.live.overflows", "{socket}", "How many sockets were too slow and closed"),
    Name("timeloom.live.recoveries", "{subscription}", "How resumes ended, by recovered"),
    Name("timeloom.presence.reaped", "{lease}", "How many leases ended without a goodbye"),
    Name("timeloom.http.requests", "{request}", "How many requests, by route and status"),
    Name("timeloom.http.duration", "s", "How long a request took, by route"),
)

SPANS: Final = (
    Name("ingest append", "server", "One caller's append among several of one call"),
    Name("ingest commit group", "internal", "One group commit"),
    Name("outbox publish", "producer", "One atomic batch to a stream"),
    Name("bus receive", "consumer", "One delivered batch"),
    Name("sessions recompute", "internal", "One person's affected time"),
    Name("live fan out", "consumer", "One live message to its sockets"),
    Name("live send", "producer", "One live message written to a WebSocket"),
    Name("job run", "consumer", "One run of an internal job"),
    Name("scheduler fire", "internal", "Due schedules become runs"),
    Name("scheduler wake", "internal", "Leases and back-offs of runs that are over"),
)

# From a request to an hour of lag; the SDK's own boundaries suit milliseconds.
SECONDS_BUCKETS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
    *(60.0, 300.0, 3600.0),
)

_TRACEPARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)

tracer: Final = trace.get_tracer("timeloom")
meter: Final = metrics.get_meter("timeloom")


def is_exporting() -> bool:
    """Whether spans leave the process."""
    return bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))


def set_up(service: str, *, sample_ratio: float) -> TracerProvider:
    """Installs the providers once per process.

    Without an OTLP endpoint nothing is recorded, yet trace ids exist for logs and problems.
    """
    resource = Resource.create({"service.name": f"timeloom-{service}"})
    sampler = ParentBased(TraceIdRatioBased(sample_ratio)) if is_exporting() else ALWAYS_OFF
    provider = TracerProvider(resource=resource, sampler=sampler)
    if is_exporting():
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415  # only where spans leave
            OTLPSpanExporter,  # 6 MB that a process without an endpoint does not need
        )

        provider.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=500)
        )
        _instrument_libraries()
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(meter_provider(resource, PrometheusMetricReader()))
    return provider


def meter_provider(resource: Resource, reader: MetricReader) -> MeterProvider:
    """Measures for one reader; what is in seconds gets SECONDS_BUCKETS."""
    in_seconds = View(
        instrument_type=Histogram,
        instrument_unit="s",
        aggregation=ExplicitBucketHistogramAggregation(SECONDS_BUCKETS),
    )
    return MeterProvider(resource=resource, metric_readers=[reader], views=[in_seconds])


def _instrument_libraries() -> None:
    from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor  # noqa: PLC0415  # only where spans leave

    # Costs 60 µs a statement, so only when someone looks.
    AsyncPGInstrumentor().instrument()  # type: ignore[no-untyped-call]  # upstream is untyped


def traceparent() -> str:
    """The W3C header of the current span; empty outside one."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def parse_traceparent(header: str) -> SpanContext | None:
    """The span a W3C header names; None when there is none or it is malformed."""
    match = _TRACEPARENT.fullmatch(header)
    # Version ff is invalid, and version 00 has no further parts (W3C trace context §3.2).
    if match is None or match["version"] == "ff" or (match["version"] == "00" and match["more"]):
        return None
    context = SpanContext(
        int(match["trace"], 16),
        int(match["span"], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(match["flags"], 16)),
    )
    return context if context.is_valid else None


def trace_id() -> str:
    """The current trace id in hex; empty outside a span."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


@contextmanager
def span(
    name: str,
    kind: SpanKind = SpanKind.INTERNAL,
    *,
    parents: Sequence[str] = (),
    attributes: dict[str, AttributeValue] | None = None,
) -> Iterator[Span]:
    """A span that continues the one parent given, or links to all when there are several.

    Without parents it continues the current span. Errors are recorded by their kind.
    """
    known = [context for context in map(parse_traceparent, parents) if context is not None]
    # A batch continues its first sampled member, so that a quiet system shows whole traces, and
    # links to the others (OTel messaging conventions leave the choice to the consumer).
    chosen = next((context for context in known if context.trace_flags.sampled), None)
    parent: Context | None = None
    if known:
        parent = trace.set_span_in_context(NonRecordingSpan(chosen or known[0]), Context())
    links = [Link(c) for c in known if c is not (chosen or known[0]) and c.trace_flags.sampled]
    with tracer.start_as_current_span(
        name,
        context=parent,
        kind=kind,
        attributes=attributes,
        links=links or None,
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except Exception as error:
            current.set_attribute("error.type", getattr(error, "kind", type(error).__name__))
            raise
