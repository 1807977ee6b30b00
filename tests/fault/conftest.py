"""A suite of its own: these tests kill its processes."""

from collections.abc import Iterator

import pytest

from tests.support.servers import Suite


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with Suite(tmp_path_factory.mktemp("fault") / "data") as running:
        yield running
