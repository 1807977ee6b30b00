"""What kubelet does with a container, done to a process of this machine: environment, probes, stop."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
from grpc_health.v1 import health_pb2

from tests.architecture.sources import ROOT
from tests.support.manifests import Cluster, variables

PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
PROBE_SECONDS = 3
Secrets = Mapping[tuple[str, str], str]


def environment(
    built: Cluster, container: dict[str, Any], pod: str, secrets: Secrets, places: Mapping[str, str]
) -> dict[str, str]:
    """The variables of a container, and what of them is a place there replaced by a place here."""
    found: dict[str, str] = {}
    for name, entry in variables(container).items():
        source = entry.get("valueFrom", {})
        if reference := source.get("secretKeyRef"):
            value = secrets[reference["name"], reference["key"]]
        elif "fieldRef" in source:
            assert source["fieldRef"]["fieldPath"] == "metadata.name"
            value = pod
        else:
            value = str(built.value(entry))
        found[name] = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], value)
    for there, here in places.items():
        found = {name: value.replace(there, here) for name, value in found.items()}
    return found


@contextmanager
def running(
    argv: list[str], given: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block, however the block ends."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, cwd=ROOT, env={"PATH": os.defpath, **given}, stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait(timeout=10)


def passes(container: dict[str, Any], here: Mapping[str, int]) -> bool:
    """Whether every probe of a container is content; `here` has its ports by name."""
    return all(_answers(container[probe], here) for probe in PROBES)


def _answers(probe: dict[str, Any], here: Mapping[str, int]) -> bool:
    if "grpc" in probe:
        return _serves(f"127.0.0.1:{here['grpc']}")
    get = probe["httpGet"]
    try:
        address = f"http://127.0.0.1:{here[get['port']]}{get['path']}"
        return httpx.get(address, timeout=PROBE_SECONDS).is_success
    except httpx.TransportError:
        return False


def _serves(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = check(health_pb2.HealthCheckRequest(), timeout=PROBE_SECONDS)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
