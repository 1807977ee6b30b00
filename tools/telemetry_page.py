"""docs/telemetry.md from the list of names in chassis/telemetry.py: `python -m tools.telemetry_page`.

Names in Prometheus are what the exporter itself makes of ours, so rules and dashboards can be
checked against them.
"""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter, Observation
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry

from chassis.telemetry import ATTRIBUTES, METRICS, SECONDS_BUCKETS, SPANS, Name, meter_provider

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "telemetry.md"
SOURCES: Final = ("chassis", "services")
_CREATE: Final = re.compile(
    r"create_(?P<kind>(observable_)?(counter|up_down_counter|gauge|histogram))"
)

HEAD: Final = f"""\
# Telemetry

Every name that Timeloom emits, made by `make docs` from `chassis/telemetry.py`.
A test fails when something emits a name that is not in that list, or when a listed name is emitted by nothing.

Each process serves its metrics on `/metrics`: the gateway on its public port, the others on `<SERVICE>_HEALTH_LISTEN`.
A series appears with its first value, so a counter that nothing has raised yet is absent.
Traces go to `OTEL_EXPORTER_OTLP_ENDPOINT` when it is set; `<SERVICE>_TRACE_SAMPLE_RATIO` is the share of new traces that is kept.

Labels are the attributes below, and OpenTelemetry's `http.request.method`, `http.route` and `http.response.status_code`.
Histograms have `_bucket`, `_sum` and `_count` series.
Those in seconds have the boundaries {", ".join(f"{bound:g}" for bound in SECONDS_BUCKETS)}.
"""


class Instrument(NamedTuple):
    """How a metric is measured, and the files that do so, n ≥ 1."""

    kind: str
    files: tuple[str, ...]


class Family(NamedTuple):
    """A metric as Prometheus shows it; `series` are the names that rules may use."""

    name: str
    series: frozenset[str]


def instruments() -> dict[str, Instrument]:
    """Every instrument that the code creates, by our name."""
    found: dict[str, Instrument] = {}
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for name, kind in _created(ast.parse(path.read_text(encoding="utf-8"))):
                files = found[name].files if name in found else ()
                found[name] = Instrument(kind, (*files, str(path.relative_to(ROOT))))
    return found


def _created(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr=method), args=[ast.Constant(value=str(name)), *_]
            ) if kind := _CREATE.fullmatch(method):
                yield name, kind["kind"]


def families(made: Mapping[str, Instrument]) -> dict[str, Family]:
    """What the exporter makes of each metric in the list, by our name."""
    return {entry.name: _family(entry, made[entry.name].kind) for entry in METRICS}


def _family(entry: Name, kind: str) -> Family:
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(disable_target_info=True, registry=registry)
    provider = meter_provider(Resource.get_empty(), reader)
    _measure(provider.get_meter("timeloom"), entry, kind)
    (metric,) = registry.collect()
    provider.shutdown()
    names = frozenset(sample.name for sample in metric.samples)
    # Prometheus knows a counter by the name of its only series.
    return Family(next(iter(names)) if len(names) == 1 else metric.name, names)


def _measure(meter: Meter, entry: Name, kind: str) -> None:
    match kind:
        case "counter":
            meter.create_counter(entry.name, entry.unit).add(1)
        case "up_down_counter":
            meter.create_up_down_counter(entry.name, entry.unit).add(1)
        case "gauge":
            meter.create_gauge(entry.name, entry.unit).set(1)
        case "histogram":
            meter.create_histogram(entry.name, entry.unit).record(1)
        case _:
            observe = getattr(meter, f"create_{kind}")
            observe(entry.name, callbacks=[lambda _: [Observation(1)]], unit=entry.unit)


def label(attribute: str) -> str:
    """An attribute as Prometheus spells it."""
    return attribute.replace(".", "_")


def render() -> str:
    """The page."""
    made = instruments()
    return "\n".join(
        [
            HEAD,
            "## Metrics\n",
            *_metrics(made, families(made)),
            "\n## Attributes\n",
            *_attributes(),
            "\n## Spans\n",
            "gRPC calls are spans named by their method, HTTP requests by method and route.\n",
            *_spans(),
            "",
        ]
    )


def _metrics(made: Mapping[str, Instrument], shown: Mapping[str, Family]) -> Iterator[str]:
    yield "| name | in Prometheus | kind | answers | measured in |"
    yield "|---|---|---|---|---|"
    for entry in METRICS:
        kind, files = made[entry.name]
        plain = kind.removeprefix("observable_").replace("_", " ")
        name = shown[entry.name].name
        where = ", ".join(f"`{file}`" for file in files)
        yield f"| `{entry.name}` | `{name}` | {plain} | {entry.meaning} | {where} |"


def _attributes() -> Iterator[str]:
    yield "| name | label in Prometheus | type | meaning |"
    yield "|---|---|---|---|"
    for entry in ATTRIBUTES:
        yield f"| `{entry.name}` | `{label(entry.name)}` | {entry.unit} | {entry.meaning} |"


def _spans() -> Iterator[str]:
    yield "| name | kind | one is |"
    yield "|---|---|---|"
    for entry in SPANS:
        yield f"| `{entry.name}` | {entry.unit} | {entry.meaning} |"


def main() -> int:
    """Writes the page."""
    PAGE.write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
