"""`make settings`: every variable that the runner sets is a setting of the service, with a meaning."""

import importlib
from pathlib import Path

import pytest

from deploy.embedded.credentials import load_or_create
from deploy.embedded.services import SERVICES, Ports, Service, Wiring, environment
from tools.settings import rows


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_what_the_runner_sets_is_a_setting_and_every_setting_says_what_it_means(
    service: Service, tmp_path: Path
) -> None:
    listed = list(rows(importlib.import_module(f"services.{service.name}.settings").Settings))
    assert all(meaning for _, _, meaning in listed)
    wiring = Wiring(
        credentials=load_or_create(tmp_path),
        public_listen="127.0.0.1:8080",
        ports={one.name: Ports(1, 2) for one in SERVICES},
        database="postgresql://",
        nats_url="nats://",
        valkey_url="redis://",
    )
    assert set(environment(service, wiring)) <= {variable for variable, _, _ in listed}
