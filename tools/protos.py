"""Generates the Python stubs beside their `.proto` sources: `python -m tools.protos`."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def generate(target: Path) -> int:
    """Compiles every contract from the repository root, so that import path = file path.

    The stubs go below `target`; returns protoc's exit status.
    """
    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "protos").rglob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", "."]
    command += [f"--python_out={target}", f"--grpc_python_out={target}"]
    command += [f"--mypy_out=quiet:{target}", f"--mypy_grpc_out=quiet:{target}"]
    # protoc looks for the mypy plug-ins on the path.
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, "PATH": path}
    done = subprocess.run([*command, *sources], cwd=ROOT, env=environment, check=False)
    return done.returncode


def main() -> int:
    """Replaces every stub."""
    for stale in (ROOT / "protos").rglob("*_pb2*.py*"):
        stale.unlink()
    return generate(ROOT)


if __name__ == "__main__":
    sys.exit(main())
