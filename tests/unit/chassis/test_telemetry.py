"""Trace contexts across processes, and spans that say how they ended."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from chassis import telemetry
from chassis.errors import NotFound
from chassis.telemetry import parse_traceparent

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = "00-1bf7651916cd43dd8448eb211c80319c-c7ad6b7169203331-00"
OTHER = "00-2cf7651916cd43dd8448eb211c80319c-d7ad6b7169203331-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What was recorded; the process-wide provider stays as it is."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "tracer", provider.get_tracer("timeloom"))
    yield exporter
    provider.shutdown()


def only(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exporter.get_finished_spans()
    return span


def test_a_traceparent_names_the_span_it_came_from() -> None:
    context = parse_traceparent(SAMPLED)
    assert context is not None
    assert f"{context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{context.span_id:016x}" == "b7ad6b7169203331"
    assert context.trace_flags.sampled
    assert context.is_remote


def test_a_later_version_with_more_parts_is_understood() -> None:
    assert parse_traceparent(f"cc{SAMPLED[2:]}-what-the-future-brings") is not None


@pytest.mark.parametrize(
    "header",
    [
        "",
        "garbage",
        SAMPLED + "-more",
        "ff" + SAMPLED[2:],
        SAMPLED.upper(),
        SAMPLED[:-1],
        SAMPLED + "\n",
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        "00-0af7651916cd43dd8448eb211c8031_9-b7ad6b7169203331-01",
        "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ],
)
def test_a_malformed_traceparent_is_no_context(header: str) -> None:
    assert parse_traceparent(header) is None


@given(st.text(max_size=80))
def test_no_header_can_break_the_parser(header: str) -> None:
    context = parse_traceparent(header)
    assert context is None or context.is_valid


def test_a_span_continues_its_only_parent(spans: InMemorySpanExporter) -> None:
    with telemetry.span("bus receive", SpanKind.CONSUMER, parents=[SAMPLED]):
        assert telemetry.trace_id() == "0af7651916cd43dd8448eb211c80319c"
        assert telemetry.traceparent().startswith("00-0af7651916cd43dd8448eb211c80319c-")
    recorded = only(spans)
    assert recorded.parent is not None
    assert f"{recorded.parent.span_id:016x}" == "b7ad6b7169203331"
    assert recorded.kind is SpanKind.CONSUMER
    assert not recorded.links


def test_a_batch_continues_its_first_sampled_member_and_links_to_the_others(
    spans: InMemorySpanExporter,
) -> None:
    with telemetry.span("bus receive", parents=[UNSAMPLED, SAMPLED, "garbage", OTHER]):
        pass
    recorded = only(spans)
    assert recorded.parent is not None
    assert f"{recorded.parent.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert [f"{link.context.span_id:016x}" for link in recorded.links] == ["d7ad6b7169203331"]


def test_an_unsampled_parent_leaves_no_record_but_keeps_its_trace(
    spans: InMemorySpanExporter,
) -> None:
    with telemetry.span("bus receive", parents=[UNSAMPLED]):
        assert telemetry.trace_id() == "1bf7651916cd43dd8448eb211c80319c"
        assert telemetry.traceparent().endswith("-00")
    assert not spans.get_finished_spans()


def test_without_parents_a_span_continues_the_current_one(spans: InMemorySpanExporter) -> None:
    with telemetry.span("job run") as outer, telemetry.span("outbox publish"):
        pass
    inner = spans.get_finished_spans()[0]
    assert inner.parent is not None
    assert inner.parent.span_id == outer.get_span_context().span_id


@pytest.mark.parametrize(
    ("error", "kind"), [(NotFound(), "not_found"), (ZeroDivisionError(), "ZeroDivisionError")]
)
def test_an_error_is_recorded_by_its_kind_and_passes_on(
    spans: InMemorySpanExporter, error: Exception, kind: str
) -> None:
    with pytest.raises(type(error)), telemetry.span("job run"):
        raise error
    assert dict(only(spans).attributes or {})["error.type"] == kind


def test_outside_a_span_there_is_no_trace() -> None:
    assert not trace.get_current_span().get_span_context().is_valid
    assert telemetry.traceparent() == ""
    assert telemetry.trace_id() == ""


def test_every_listed_name_is_listed_once_and_explained() -> None:
    listed = [*telemetry.ATTRIBUTES, *telemetry.METRICS, *telemetry.SPANS]
    names = [entry.name for entry in listed]
    assert len(set(names)) == len(names)
    assert all(entry.unit and entry.meaning for entry in listed)
