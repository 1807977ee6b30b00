"""Readiness and durations as Prometheus sees them."""

import asyncio

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry

from chassis import health
from chassis.errors import Unavailable
from chassis.health import Probe
from chassis.telemetry import SECONDS_BUCKETS, meter_provider
from tests.support.eventually import eventually


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def provider(registry: CollectorRegistry) -> MeterProvider:
    return meter_provider(Resource.get_empty(), PrometheusMetricReader(registry=registry))


def test_durations_are_told_apart_below_a_second(
    provider: MeterProvider, registry: CollectorRegistry
) -> None:
    duration = provider.get_meter("test").create_histogram("test.duration", "s")
    duration.record(0.004)
    samples = [s for metric in registry.collect() for s in metric.samples]
    buckets = {s.labels["le"]: s.value for s in samples if s.name == "test_duration_seconds_bucket"}
    assert [float(le) for le in buckets] == [*SECONDS_BUCKETS, float("inf")]
    assert (buckets["0.0025"], buckets["0.005"]) == (0, 1)


def test_the_boundaries_grow() -> None:
    assert list(SECONDS_BUCKETS) == sorted(set(SECONDS_BUCKETS))


async def test_readiness_is_measured_without_being_asked(
    provider: MeterProvider, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_away = True

    async def check() -> None:
        if is_away:
            raise Unavailable("The bus is away.")

    def measured(dependency: str) -> float | None:
        labels = {"timeloom_dependency": dependency}
        scope = {f"otel_scope_{part}": "" for part in ("version", "schema_url")}
        return registry.get_sample_value(
            "timeloom_process_ready", {**labels, **scope, "otel_scope_name": "test"}
        )

    gauge = provider.get_meter("test").create_gauge("timeloom.process.ready", "{process}")
    monkeypatch.setattr(health, "_ready", gauge)
    monkeypatch.setattr(health, "WATCH_SECONDS", 0.01)
    probe = Probe({"nats": check})
    probe.is_started = True
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(probe.watch(stopping))
        await eventually(lambda: measured("nats") == 0.0)
        assert measured("process") == 1.0
        is_away = False
        await eventually(lambda: measured("nats") == 1.0)
        stopping.set()
