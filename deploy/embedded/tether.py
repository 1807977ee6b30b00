"""Ties a program to the process that starts it, then becomes that program.

Run as a script: ``tether.py PARENT_PID DEATH_SIGNAL self|namespace|nobody PROGRAM [ARGUMENT…]``.
It is a script and not a function called after fork, because the runner has threads and only code
that has passed exec may safely take its time.

DEATH_SIGNAL is what the kernel sends to the program when the parent dies, whatever killed it.
The third word says who the program runs as:

    self        the user who started it
    namespace   root only: a user namespace in which root appears as uid 65534, so PostgreSQL
                agrees to run while every file stays root's own
    nobody      root only, where namespaces are forbidden: uid 65534 for real
"""

import ctypes
import os
import sys
from pathlib import Path

NOBODY = 65534
CLONE_NEWUSER = 0x10000000  # linux/sched.h
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: list[str]) -> None:
    """Never returns: the process becomes the program, or exits 125 with the reason."""
    parent, death_signal, run_as = int(arguments[0]), int(arguments[1]), arguments[2]
    try:
        if run_as == "namespace":
            enter_namespace()
        elif run_as == "nobody":
            become_nobody()
        if sys.platform == "linux":
            die_with(parent, death_signal)
        os.execv(arguments[3], arguments[3:])  # noqa: S606 - replacing this process is the point
    except OSError as error:
        sys.stderr.write(f"cannot start {arguments[3]} as {run_as}: {error}\n")
    sys.exit(125)


def enter_namespace() -> None:
    """Enter a user namespace where the current user and group are 65534.

    Raises:
        OSError: The kernel or a sandbox forbids user namespaces.
    """
    user, group = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "user namespaces are not allowed")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{NOBODY} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} {group} 1")


def become_nobody() -> None:
    """Raises OSError unless the current user is root."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def die_with(parent: int, death_signal: int) -> None:
    """Ask for `death_signal` when `parent` dies.

    This comes after the change of user, because a change of credentials makes the kernel forget
    the request. A parent that died before the request would never be noticed, hence the check.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(125)


if __name__ == "__main__":
    main(sys.argv[1:])
