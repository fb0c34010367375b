"""A browser for the tests of pages."""

from collections.abc import Iterator

import pytest
from helpers_browser import Browser, browser


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as started:
        yield started
