"""One process that has loaded PyTorch, for all tests that judge files."""

from collections.abc import Iterator

import pytest

from reslab.exercises.confinement import Host


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    with Host() as running:
        yield running
