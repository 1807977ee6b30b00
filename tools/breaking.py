"""Compares the contracts with what was promised: `python -m tools.breaking`.

The promise is the last release (tag `v*`); before the first release it is the last commit. An
older service and a newer one talk to each other while a new version rolls out.
"""

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 60


def git(root: Path) -> Callable[..., str]:
    """`git(root)("describe", …)`: what git prints; empty when it has no answer."""
    program = shutil.which("git") or "git"

    def ask(*arguments: str) -> str:
        done = subprocess.run(
            [program, *arguments],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    return ask


def promise(root: Path) -> str:
    """The commit to compare with; empty when there is none yet."""
    ask = git(root)
    return ask("describe", "--tags", "--abbrev=0", "--match", "v*") or ask("rev-parse", "HEAD")


def compare(root: Path) -> subprocess.CompletedProcess[str]:
    """What `buf breaking` says about the working copy; status 0 when nothing broke."""
    base = promise(root)
    if not base or not git(root)("ls-tree", "--name-only", base, "buf.yaml"):
        return subprocess.CompletedProcess([], 0, "no contracts were promised yet\n", "")
    buf = Path(sysconfig.get_path("scripts")) / "buf"
    return subprocess.run(
        [buf, "breaking", "--against", f".git#ref={base}"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


def main() -> int:
    """Prints what broke."""
    done = compare(ROOT)
    sys.stdout.write(done.stdout + done.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
