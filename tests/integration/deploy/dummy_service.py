"""A service that does nothing but start, say it is ready, and stop: for tests of the runner.

``python -m tests.integration.deploy.dummy_service NAME``. DUMMY_<NAME> chooses how it behaves:

    ok         the default
    crash      ends at once with status 3
    unready    serves, but is never ready
    stubborn   ignores SIGTERM
"""

import json
import os
import signal
import socket
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers as the runner needs it; `prefix` and `mode` are set by `main`."""

    prefix = ""
    mode = ""

    def do_GET(self) -> None:
        if self.path == "/env":
            own = {k: v for k, v in os.environ.items() if k.startswith(self.prefix + "_")}
            self._answer(200, own)
        else:
            self._answer(503 if self.mode == "unready" else 200, {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        answers = {
            "/v1/auth/register": {"access_token": "token"},
            "/v1/api-keys": {"key": "tl_dummy"},
        }
        self._answer(201, answers[self.path])

    def _answer(self, status: int, body: object) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *args: object) -> None:
        """Silent: the log is for what the tests look for."""


def main(name: str) -> None:
    Handler.prefix = prefix = name.upper()
    Handler.mode = mode = os.environ.get(f"DUMMY_{prefix}", "ok")
    print(f"dummy {name} starts: {mode}", flush=True)
    if mode == "crash":
        sys.exit(3)
    listen = os.environ.get(f"{prefix}_HEALTH_LISTEN") or os.environ[f"{prefix}_LISTEN"]

    def stop(*_: object) -> None:
        if mode != "stubborn":
            print(f"dummy {name} stops; NATS is {nats_state(prefix)}", flush=True)
            os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    host, _, port = listen.rpartition(":")
    HTTPServer((host, int(port)), Handler).serve_forever()


def nats_state(prefix: str) -> str:
    """Whether the store is still up while the service stops."""
    host, _, port = os.environ[f"{prefix}_NATS_URL"].removeprefix("nats://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return "gone"
    return "there"


if __name__ == "__main__":
    main(sys.argv[1])
