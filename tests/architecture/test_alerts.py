"""Every alert has a runbook, uses names that exist, and shows when it fires."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from chassis.telemetry import ATTRIBUTES
from deploy.embedded.services import SERVICES
from tests.architecture.sources import files, text
from tools import telemetry_page

FOLDER = Path("deploy/prometheus")
RUNBOOKS = Path("docs/runbooks")
# Prometheus' own, and OpenTelemetry's for HTTP.
SERIES_OF_OTHERS = {"up"}
LABELS_OF_OTHERS = {"job", "instance", "le", "http_route", "http_response_status_code"}
WORDS = {
    *("by", "without", "on", "ignoring", "unless", "or", "and", "offset"),
    *("sum", "max", "min", "rate", "increase", "vector", "absent", "histogram_quantile"),
}
HEADINGS = ("**Means.**", "**Hurts.**", "## Look", "## Mend")


class Alert(NamedTuple):
    """One rule; `expression` is PromQL."""

    name: str
    expression: str
    severity: str
    annotations: dict[str, str]


def load(name: str) -> Any:
    return yaml.safe_load(text(FOLDER / name))


def alerts() -> list[Alert]:
    return [
        Alert(rule["alert"], rule["expr"], rule["labels"]["severity"], rule["annotations"])
        for group in load("rules.yaml")["groups"]
        for rule in group["rules"]
    ]


each = pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)


def used(expression: str) -> tuple[set[str], set[str]]:
    """The series and the labels of an expression."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    labels = set(re.findall(r"(\w+)\s*[=!]~?", " ".join(re.findall(r"\{[^}]*\}", bare))))
    for group in re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", bare):
        labels |= set(re.findall(r"\w+", group))
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\boffset \w+", " ", bare)
    bare = re.sub(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)", " ", bare)
    return set(re.findall(r"\b[a-z_]\w*", bare)) - WORDS, labels


def test_expressions_are_taken_apart() -> None:
    expression = 'sum by (le, a) (rate(x_total{b!~"c=d"}[5m])) > 0.5 or (y unless y offset 1h)'
    assert used(expression) == ({"x_total", "y"}, {"le", "a", "b"})


@cache
def known_series() -> frozenset[str]:
    shown = telemetry_page.families(telemetry_page.instruments())
    return frozenset(name for family in shown.values() for name in family.series)


def known_labels() -> set[str]:
    return {telemetry_page.label(entry.name) for entry in ATTRIBUTES} | LABELS_OF_OTHERS


@each
def test_it_uses_names_that_exist(alert: Alert) -> None:
    series, labels = used(alert.expression)
    assert series
    assert not series - known_series() - SERIES_OF_OTHERS
    assert not labels - known_labels()
    said = set(re.findall(r"\$labels\.(\w+)", " ".join(alert.annotations.values())))
    assert not said - known_labels()


@each
def test_it_has_a_runbook(alert: Alert) -> None:
    page = RUNBOOKS / (re.sub(r"(?<!^)(?=[A-Z])", "-", alert.name).lower() + ".md")
    assert alert.annotations["runbook"] == str(page)
    assert alert.annotations["summary"]
    content = text(page)
    assert content.startswith(f"# {alert.name}\n")
    places = [content.find(heading) for heading in HEADINGS]
    assert -1 not in places, HEADINGS
    assert places == sorted(places)


@each
def test_the_list_of_runbooks_says_how_urgent_it_is(alert: Alert) -> None:
    urgency = {"page": "now", "ticket": "today"}[alert.severity]
    page = Path(alert.annotations["runbook"]).name
    assert f"| [{alert.name}]({page}) | {urgency} |" in text(RUNBOOKS / "README.md")


def test_no_runbook_is_without_an_alert() -> None:
    pages = {path for path in files() if path.parent == RUNBOOKS and path.name != "README.md"}
    assert pages == {Path(alert.annotations["runbook"]) for alert in alerts()}


@each
def test_it_is_shown_when_it_fires(alert: Alert) -> None:
    """The cases are for promtool, which is no wheel; here they only have to be complete."""
    fires = [
        expected["exp_annotations"]
        for group in load("rules_test.yaml")["tests"]
        for case in group["alert_rule_test"]
        if case["alertname"] == alert.name
        for expected in case.get("exp_alerts", ())
    ]
    assert fires
    assert all(shown["runbook"] == alert.annotations["runbook"] for shown in fires)


def targets() -> Iterator[str]:
    for job in load("prometheus.yaml")["scrape_configs"]:
        for group in job["static_configs"]:
            yield from group["targets"]


def test_prometheus_scrapes_every_service_of_the_compose_file() -> None:
    compose = yaml.safe_load(text(Path("deploy/compose.yaml")))["services"]
    listening = set()
    for service in SERVICES:
        environment, prefix = compose[service.name]["environment"], service.name.upper()
        kind = "LISTEN" if service.serves_public_http else "HEALTH_LISTEN"
        port = environment[f"{prefix}_{kind}"].rpartition(":")[2]
        listening.add(f"{service.name}:{port}")
    assert set(targets()) == listening
