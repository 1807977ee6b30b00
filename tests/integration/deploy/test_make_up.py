"""`make up` with the real services: what is printed works, and it is still there the next time."""

from pathlib import Path

import httpx
import pytest

from deploy.embedded.services import SERVICES
from tests.support.eventually import wait_until
from tests.support.servers import Suite

EVENT = {"start": "2026-01-19T09:00:00Z", "duration": 600, "app": "Code", "idle": False}
UPLOAD = {"device_id": "laptop", "source": "test", "events": [EVENT]}


def client(suite: Suite) -> httpx.Client:
    """Calls the gateway with the printed key."""
    headers = {"Authorization": f"Bearer {suite.api_key}"}
    return httpx.Client(base_url=suite.url, headers=headers, timeout=10)


@pytest.mark.timeout(240)
def test_the_printed_key_works_and_a_second_start_keeps_account_and_events(tmp_path: Path) -> None:
    with Suite(tmp_path / "data") as first, client(first) as api:
        assert first.api_key in first.printed()
        assert api.post("/v1/events", json=UPLOAD).json()["accepted"] == 1
        wait_until(lambda: one_session(api), within=30)
        key, (email, password) = first.api_key, first.owner
        refused = first.folder.log("nats").read_text().lower().count("violation")
        assert refused == 0, "a service was refused something on the bus that it needs"
    with Suite(tmp_path / "data") as second, client(second) as api:
        assert second.api_key == key
        assert api.post("/v1/events", json=UPLOAD).json()["duplicates"] == 1
        signed_in = api.post("/v1/auth/login", json={"email": email, "password": password})
        assert signed_in.json()["access_token"]
        for service in SERVICES:
            second.restart(service.name)
        wait_until(lambda: one_session(api), within=30)


def one_session(api: httpx.Client) -> bool:
    """Whether the uploaded event is a session by now."""
    answer = api.get("/v1/sessions", params={"date": "2026-01-19"})
    return answer.status_code == 200 and len(answer.json()["items"]) == 1
