"""The list that `make settings` prints."""

import pytest

from chassis.settings import ServiceSettings
from tools.settings import SERVICES, default, lines, own, settings_of, shared


@pytest.fixture(scope="module")
def printed() -> list[str]:
    return list(lines(100))


@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_of_a_service_is_printed_with_its_meaning(
    service: str, printed: list[str]
) -> None:
    names = {line.split(" = ")[0].strip() for line in printed if " = " in line}
    for name, field in settings_of(service).model_fields.items():
        assert field.description, f"{service}.{name} does not say what it is"
        assert {f"{service.upper()}_{name.upper()}", f"…_{name.upper()}"} & names, name


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_service_inherits_unchanged_is_not_repeated(service: str) -> None:
    for name, field in own(service).items():
        inherited = shared().get(name)
        assert (
            inherited is None
            or default(field) != default(inherited)
            or (field.description != inherited.description)
        )


def test_defaults_are_printed_as_one_would_write_them() -> None:
    fields = ServiceSettings.model_fields
    assert default(fields["drain_seconds"]) == "20"
    assert default(fields["trace_sample_ratio"]) == "0.05"
    assert default(fields["nats_password"]) == "-"
    assert default(fields["nats_tls_ca_file"]) == "-"
    assert default(fields["token_public_key_file"]) == "token.pub.pem"


def test_lines_fit(printed: list[str]) -> None:
    assert max(map(len, printed)) <= 100
