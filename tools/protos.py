"""Generates the Python stubs beside their `.proto` sources: `python -m tools.protos`."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Compile every contract from the repository root, so that import path = file path."""
    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "protos").rglob("*.proto"))
    for stale in (ROOT / "protos").rglob("*_pb2*.py*"):
        stale.unlink()
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", "."]
    command += ["--python_out=.", "--grpc_python_out=.", "--mypy_out=quiet:.", "--mypy_grpc_out=quiet:."]
    return subprocess.run([*command, *sources], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
