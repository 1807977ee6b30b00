"""Builds the manifests and validates them strictly, offline: `python -m tools.k8s`.

kustomize builds, and the schemas come as a package, so no cluster is needed. What only a cluster
knows stays unproven: admission, scheduling, and that the containers run.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parent.parent
TARGETS: Final = ("base", "overlays/dev", "overlays/prod")
# The oldest version whose fields are enough (a preStop that sleeps), and the newest known.
VERSIONS: Final = ("1.30", "1.37")
# Their schemas belong to KEDA and are no part of the package.
UNKNOWN: Final = {("keda.sh/v1alpha1", "ScaledObject")}
SECONDS: Final = 60

Manifest = dict[str, Any]


def build(target: str) -> list[Manifest]:
    """Every object of a folder below k8s/, as `kubectl apply -k` would send them.

    Raises:
        ValueError: kustomize refuses it; the message is its own.
    """
    kubectl = Path(sysconfig.get_path("scripts")) / "kubectl"
    done = subprocess.run(
        [kubectl, "kustomize", ROOT / "k8s" / target],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    if done.returncode != 0:
        raise ValueError(done.stderr)
    return list(yaml.safe_load_all(done.stdout))


def title(manifest: Manifest) -> str:
    """`Deployment/gateway`."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def has_schema(manifest: Manifest) -> bool:
    """Whether it can be validated at all."""
    return (manifest["apiVersion"], manifest["kind"]) not in UNKNOWN


def errors(manifest: Manifest) -> list[str]:
    """What each version says against it; a field that a version does not know is an error too."""
    found = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            found.append(f"{title(manifest)}: Kubernetes {version} knows no such kind")
        except kubernetes_validate.ValidationError as error:
            found.append(f"{title(manifest)}: Kubernetes {version}: {error.message}")
    return found


def main() -> int:
    """One line for each target, and every error."""
    failed = False
    for target in TARGETS:
        manifests = build(target)
        found = [error for one in manifests if has_schema(one) for error in errors(one)]
        skipped = ", ".join(title(one) for one in manifests if not has_schema(one))
        failed = failed or bool(found)
        print(f"{target}: {len(manifests)} objects, {len(found)} errors, Kubernetes", *VERSIONS)
        if skipped:
            print(f"  not validated, its schema is not Kubernetes' own: {skipped}")
        for error in found:
            print(f"  {error}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
