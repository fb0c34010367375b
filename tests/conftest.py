"""Shared fixtures. Caches of their own. One thread, since tests run side by side; RESLAB_TEST_THREADS (tests/processors.py) says another."""

import os
import warnings

import pytest
import torch
from hypothesis import settings

with warnings.catch_warnings():  # the first time on a machine it lists the fonts, and writes the list without naming an encoding
    warnings.simplefilter("ignore")
    import matplotlib.font_manager  # noqa: F401  # for what importing it does

settings.register_profile("reslab", deadline=None)  # a busy machine is not a failure
settings.load_profile("reslab")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests out of the user's cache directory."""
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _threads_and_a_seed() -> None:
    torch.set_num_threads(int(os.environ.get("RESLAB_TEST_THREADS", "1")))
    torch.manual_seed(0)
