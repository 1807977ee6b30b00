"""The Kubernetes manifests as the tests about them see them."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from tools.k8s import Manifest, build

WORKLOADS = ("Deployment", "StatefulSet", "Job")
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


class Cluster:
    """Every object that one folder below k8s/ makes."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.objects = build(target)

    def of(self, *kinds: str) -> list[Manifest]:
        return [one for one in self.objects if one["kind"] in kinds]

    def names(self, kind: str) -> set[str]:
        return {one["metadata"]["name"] for one in self.of(kind)}

    def get(self, kind: str, name: str) -> Manifest:
        """Raises ValueError unless there is exactly one."""
        (found,) = (one for one in self.of(kind) if one["metadata"]["name"] == name)
        return found

    def workloads(self) -> dict[str, Manifest]:
        """What runs, by name; no two have the same."""
        found = {one["metadata"]["name"]: one for one in self.of(*WORKLOADS)}
        assert len(found) == len(self.of(*WORKLOADS))
        return found

    def pods(self) -> dict[str, Manifest]:
        """The pod template of every workload."""
        return {name: one["spec"]["template"] for name, one in self.workloads().items()}

    def services(self) -> dict[str, Manifest]:
        """The pod templates of our five services."""
        return {
            name: pod
            for name, pod in self.pods().items()
            if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "service"
        }

    def selected(self, selector: dict[str, Any]) -> set[str]:
        """The workloads whose pods a label selector picks; an empty one picks all."""
        return {
            name
            for name, pod in self.pods().items()
            if matches(selector, pod["metadata"]["labels"])
        }

    def value(self, entry: dict[str, Any]) -> str | None:
        """What a variable will hold; None when a Secret or the pod itself says so."""
        reference = entry.get("valueFrom", {}).get("configMapKeyRef")
        if reference:
            return str(self.get("ConfigMap", reference["name"])["data"][reference["key"]])
        return entry.get("value")

    def most(self, name: str) -> int:
        """The largest number of pods of a workload, while a new version of it comes."""
        spec = self.workloads()[name]["spec"]
        scaler = [one for one in self.of("HorizontalPodAutoscaler") if target(one) == name]
        most = scaler[0]["spec"]["maxReplicas"] if scaler else spec.get("replicas", 1)
        return int(most) + int(spec["strategy"]["rollingUpdate"]["maxSurge"])


@cache
def cluster(target: str) -> Cluster:
    return Cluster(target)


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether labels fit; of the operators only `In` is in use."""
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    wanted = selector.get("matchLabels", {})
    return all(labels.get(key) == value for key, value in wanted.items())


def target(scaler: Manifest) -> str:
    """The Deployment that something scales."""
    return str(scaler["spec"]["scaleTargetRef"]["name"])


def containers(pod: Manifest) -> Iterator[dict[str, Any]]:
    """Those that run before and those that stay."""
    yield from pod["spec"].get("initContainers", ())
    yield from pod["spec"]["containers"]


def main_container(pod: Manifest) -> dict[str, Any]:
    """The one that does the work; there are no sidecars."""
    (found,) = pod["spec"]["containers"]
    return dict(found)


def variables(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The entries of `env` by name; a name that stands there twice is an error."""
    entries = container.get("env", [])
    found = {entry["name"]: entry for entry in entries}
    assert len(found) == len(entries), container["name"]
    return found


def ports(container: dict[str, Any]) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container.get("ports", ())}


def secrets(pod: Manifest) -> set[tuple[str, str]]:
    """(Secret, key) of all that a pod reads; a volume names the Secret alone, with key ``*``."""
    found = {
        (entry["valueFrom"]["secretKeyRef"]["name"], entry["valueFrom"]["secretKeyRef"]["key"])
        for container in containers(pod)
        for entry in container.get("env", ())
        if "secretKeyRef" in entry.get("valueFrom", {})
    }
    volumes = pod["spec"].get("volumes", ())
    return found | {(v["secret"]["secretName"], "*") for v in volumes if "secret" in v}


def config_maps(pod: Manifest) -> set[str]:
    """The ConfigMaps that a pod reads."""
    found = set()
    for volume in pod["spec"].get("volumes", ()):
        for source in [volume, *volume.get("projected", {}).get("sources", ())]:
            if "configMap" in source:
                found.add(source["configMap"]["name"])
    for container in containers(pod):
        for entry in container.get("env", ()):
            if reference := entry.get("valueFrom", {}).get("configMapKeyRef"):
                found.add(reference["name"])
    return found


def size(quantity: str) -> int:
    """Bytes of `64Mi`."""
    number, unit = re.fullmatch(r"(\d+)([KMG]i)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]
