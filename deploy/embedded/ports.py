"""Free loopback ports for everything that is not the public one."""

import secrets
import socket

# Below the range that Linux hands to outgoing connections, so that a store which restarts finds
# its port free however busy the machine is.
LOWEST, HIGHEST = 15_000, 32_000
ATTEMPTS = 1_000


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def pick(count: int) -> list[int]:
    """`count` different ports, free now, at random so that two runners rarely want the same.

    Raises:
        RuntimeError: The machine has hardly a free port left.
    """
    chosen: list[int] = []
    for _ in range(ATTEMPTS):
        if len(chosen) == count:
            return chosen
        port = LOWEST + secrets.randbelow(HIGHEST - LOWEST)
        if port not in chosen and is_free("127.0.0.1", port):
            chosen.append(port)
    raise RuntimeError("no free ports left on this machine")
