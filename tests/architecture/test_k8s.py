"""What k8s/ must be, whatever it runs: valid, unprivileged, bounded, probed and told to stop well."""

import copy
import re
import tomllib
from collections.abc import Iterator
from importlib import import_module

import pytest
import yaml

from tests.architecture.sources import KEEPERS, ROOT, SERVICES
from tests.support.manifests import Cluster, cluster, containers, main_container, ports, variables
from tools.k8s import TARGETS, UNKNOWN, Manifest, errors, has_schema, title

# What closing connections and flushing traces may take after the drain, in seconds.
CLOSING_SECONDS = 15
OURS = 10001


@pytest.fixture(params=TARGETS)
def built(request: pytest.FixtureRequest) -> Cluster:
    return cluster(request.param)


def lasting(built: Cluster) -> Iterator[tuple[str, Manifest]]:
    """The pods that stay, by name."""
    jobs = built.names("Job")
    return ((name, pod) for name, pod in built.pods().items() if name not in jobs)


def test_every_object_passes_the_schemas_of_kubernetes(built: Cluster) -> None:
    assert [error for one in built.objects if has_schema(one) for error in errors(one)] == []


def test_a_misspelt_field_or_a_wrong_type_does_not_pass(built: Cluster) -> None:
    misspelt, wrong = (copy.deepcopy(built.get("Deployment", "ingest")) for _ in range(2))
    main_container(misspelt["spec"]["template"])["resources"]["limit"] = {}
    wrong["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = "long"
    assert len(errors(misspelt)) == len(errors(wrong)) == 2


def test_only_the_autoscaler_of_keda_goes_unvalidated(built: Cluster) -> None:
    without = {(one["apiVersion"], one["kind"]) for one in built.objects if not has_schema(one)}
    assert without == (UNKNOWN if built.target == "overlays/prod" else set())


def test_everything_is_in_one_namespace_that_takes_restricted_pods_only(built: Cluster) -> None:
    namespace = built.get("Namespace", "timeloom")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    outside = [
        title(one)
        for one in built.objects
        if one["kind"] != "Namespace" and one["metadata"].get("namespace") != "timeloom"
    ]
    assert not outside
    assert len({title(one) for one in built.objects}) == len(built.objects)


def test_no_pod_runs_as_root(built: Cluster) -> None:
    for name, pod in built.pods().items():
        context = pod["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        is_ours = name in SERVICES or name.startswith("migrate-")
        assert context["runAsUser"] == OURS or not is_ours, name


def test_no_container_can_do_more_than_its_work(built: Cluster) -> None:
    for name, pod in built.pods().items():
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, (name, container["name"])
        for shared in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
            assert shared not in pod["spec"], name


def test_no_pod_can_talk_to_the_cluster_itself(built: Cluster) -> None:
    for name, pod in built.pods().items():
        assert pod["spec"]["automountServiceAccountToken"] is False, name
    for account in built.of("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False, title(account)
    assert not built.of("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")


def test_every_workload_has_an_account_of_its_own(built: Cluster) -> None:
    for name, pod in built.pods().items():
        assert pod["spec"]["serviceAccountName"] == name.removeprefix("migrate-")
    used = {pod["spec"]["serviceAccountName"] for pod in built.pods().values()}
    assert used == built.names("ServiceAccount")


def test_the_environment_holds_only_what_the_manifest_says(built: Cluster) -> None:
    """Service links would add GATEWAY_PORT, NATS_PORT and the like."""
    for name, pod in built.pods().items():
        assert pod["spec"]["enableServiceLinks"] is False, name
        assert not [one["name"] for one in containers(pod) if "envFrom" in one], name


def test_every_container_says_what_it_needs_and_what_it_may_take(built: Cluster) -> None:
    """No limit on processor time: it would pause a service that has work and an idle machine."""
    for name, pod in built.pods().items():
        for container in containers(pod):
            resources = container["resources"]
            assert set(resources["requests"]) == {"cpu", "memory"}, name
            assert set(resources["limits"]) == {"memory"}, name


def test_what_a_container_writes_is_bounded(built: Cluster) -> None:
    for name, pod in built.pods().items():
        for volume in pod["spec"].get("volumes", ()):
            if "emptyDir" in volume:
                assert "sizeLimit" in volume["emptyDir"], (name, volume["name"])


def test_every_volume_that_is_mounted_exists_and_none_is_forgotten(built: Cluster) -> None:
    for name, workload in built.workloads().items():
        pod = workload["spec"]["template"]
        claims = workload["spec"].get("volumeClaimTemplates", ())
        there = {volume["name"] for volume in pod["spec"].get("volumes", ())}
        there |= {claim["metadata"]["name"] for claim in claims}
        mounted = {m["name"] for one in containers(pod) for m in one.get("volumeMounts", ())}
        assert mounted == there, name


def test_every_lasting_pod_is_probed_in_three_ways(built: Cluster) -> None:
    for name, pod in lasting(built):
        container = main_container(pod)
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = container[kind]
            assert probe["timeoutSeconds"] >= 3, (name, kind)
            assert len({"httpGet", "grpc", "exec"} & set(probe)) == 1, (name, kind)
            if "httpGet" in probe:
                assert probe["httpGet"]["port"] in ports(container), (name, kind)
            if "grpc" in probe:
                assert probe["grpc"]["port"] == ports(container)["grpc"], (name, kind)


def test_a_service_is_started_when_ready_and_restarted_only_when_stuck(built: Cluster) -> None:
    for name, pod in built.services().items():
        container = main_container(pod)
        assert container["startupProbe"]["httpGet"]["path"] == "/readyz", name
        assert container["livenessProbe"]["httpGet"]["path"] == "/livez", name
        # A store that all replicas share must not take all of them out of service at once.
        serving = container["readinessProbe"]
        assert "grpc" in serving or serving["httpGet"]["path"] == "/livez", name
        start = container["startupProbe"]
        # chassis/retry.py waits two minutes for what a service depends on.
        assert start["periodSeconds"] * start["failureThreshold"] > 120, name


def test_a_service_has_the_time_to_drain(built: Cluster) -> None:
    for name, pod in built.services().items():
        settings = import_module(f"services.{name}.settings").Settings
        entry = variables(main_container(pod)).get(f"{name.upper()}_DRAIN_SECONDS", {})
        drain = float(entry.get("value", settings.model_fields["drain_seconds"].default))
        pause = main_container(pod)["lifecycle"]["preStop"]["sleep"]["seconds"]
        grace = pod["spec"]["terminationGracePeriodSeconds"]
        assert pause >= 5, name
        assert grace >= pause + drain + CLOSING_SECONDS, name


def test_a_new_version_takes_nothing_away_before_it_serves(built: Cluster) -> None:
    for name in SERVICES:
        update = built.get("Deployment", name)["spec"]["strategy"]["rollingUpdate"]
        assert update == {"maxUnavailable": 0, "maxSurge": 1}


def test_replicas_are_spread_over_machines_and_zones(built: Cluster) -> None:
    for name, pod in built.services().items():
        spread = pod["spec"]["topologySpreadConstraints"]
        keys = {one["topologyKey"] for one in spread}
        assert keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}, name
        for one in spread:
            assert built.selected(one["labelSelector"]) == set(SERVICES)
            assert "app.kubernetes.io/name" in one["matchLabelKeys"], name
    bus = built.pods()["nats"]["spec"]["topologySpreadConstraints"]
    assert [built.selected(one["labelSelector"]) for one in bus] == [{"nats"}]


def test_every_image_has_a_version_and_ours_has_that_of_the_project(built: Cluster) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    ours = "dev" if built.target == "overlays/dev" else version
    for name, pod in built.pods().items():
        for container in containers(pod):
            image, _, tag = container["image"].rpartition(":")
            assert image, f"{name}: no tag"
            assert tag not in {"latest", ""}, name
            if "timeloom/" in image:
                assert tag == ours, name


def test_services_run_the_images_that_the_dockerfile_makes(built: Cluster) -> None:
    for name in SERVICES:
        image = main_container(built.pods()[name])["image"]
        assert re.search(rf"(^|/)timeloom/{name}:", image), image
    for name in KEEPERS:
        (waiting,) = built.pods()[name]["spec"]["initContainers"]
        job = main_container(built.pods()[f"migrate-{name}"])
        assert waiting["image"] == job["image"]
        assert re.search(rf"(^|/)timeloom/migrate-{name}:", job["image"])


def test_stores_are_those_of_compose(built: Cluster) -> None:
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    for name in {"nats", "postgres", "valkey"} & set(built.pods()):
        assert main_container(built.pods()[name])["image"] == compose[name]["image"]
