"""What may talk to what in k8s/: the picture of the README, at both ends, and nothing else."""

import pytest

from tests.architecture.sources import KEEPERS, SERVICES
from tests.support.manifests import Cluster, cluster, main_container, matches, ports
from tools.k8s import TARGETS, title

GRPC, HEALTH, HTTP = 9090, 9091, 8080
MONITORING = {"kubernetes.io/metadata.name": "monitoring"}
MIGRATIONS = {f"migrate-{name}" for name in KEEPERS}

# Who calls whom, and nobody else anybody: (from, to, port).
CALLS = {
    *(("gateway", name, GRPC) for name in SERVICES if name != "gateway"),
    *((name, "nats", 4222) for name in SERVICES),
    *((name, "postgres", 5432) for name in {*KEEPERS, *MIGRATIONS}),
    ("realtime", "valkey", 6379),
    ("nats", "nats", 6222),
}


@pytest.fixture(params=TARGETS)
def built(request: pytest.FixtureRequest) -> Cluster:
    return cluster(request.param)


def allowed(built: Cluster, direction: str) -> set[tuple[str, str, int]]:
    """(from, to, port) of all that policies of one direction let through between our pods."""
    found = set()
    for policy in built.of("NetworkPolicy"):
        here = built.selected(policy["spec"]["podSelector"])
        for rule in policy["spec"].get(direction, ()):
            peers = rule.get("from" if direction == "ingress" else "to", [{"podSelector": {}}])
            there = {
                name
                for peer in peers
                if "namespaceSelector" not in peer and "ipBlock" not in peer
                for name in built.selected(peer["podSelector"])
            }
            for port in rule["ports"]:
                pairs = {(a, b) for a in here for b in there}
                if direction == "ingress":
                    pairs = {(b, a) for a, b in pairs}
                found |= {(a, b, port["port"]) for a, b in pairs}
    return found


def test_calls_are_let_through_at_both_ends_and_nothing_else_is(built: Cluster) -> None:
    everybody = set(built.workloads())
    calls = {call for call in CALLS if call[1] in everybody}
    assert allowed(built, "egress") == calls
    at_the_door = {(name, "gateway", HTTP) for name in everybody}
    assert allowed(built, "ingress") == calls | at_the_door
    for _, name, port in calls:
        assert port in ports(main_container(built.pods()[name])).values()


def test_nobody_may_do_what_no_policy_says(built: Cluster) -> None:
    everything = built.get("NetworkPolicy", "deny-all")["spec"]
    assert everything == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in built.of("NetworkPolicy"):
        assert built.selected(policy["spec"]["podSelector"]), f"{title(policy)} is about nobody"
    own_policies = {name for name in built.workloads() if name in built.names("NetworkPolicy")}
    assert own_policies == set(built.workloads()) - built.names("Job")


def test_only_names_metrics_and_an_outside_database_cross_the_namespace(built: Cluster) -> None:
    outward, inward = set(), set()
    for policy in built.of("NetworkPolicy"):
        for rule in policy["spec"].get("egress", ()):
            for peer in rule["to"]:
                if set(peer) != {"podSelector"}:
                    outward |= {port["port"] for port in rule["ports"]}
        for rule in policy["spec"].get("ingress", ()):
            for peer in rule.get("from", ()):
                if "namespaceSelector" in peer:
                    assert matches(peer["namespaceSelector"], MONITORING)
                    inward |= {port["port"] for port in rule["ports"]}
    assert outward == ({53, 5432, 4318} if built.target == "overlays/prod" else {53})
    assert inward == {HEALTH, 8222}
