"""Shared fixtures. Caches of their own. One thread, since tests run side by side; RESLAB_TEST_THREADS
(tests/processors.py) says another.
"""

import gc
import multiprocessing
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator

import pytest
from helpers_forks import forking
from hypothesis import settings

settings.register_profile("reslab", deadline=None)  # a busy machine is not a failure
settings.load_profile("reslab")

gc.disable()  # imports and collection make millions of objects, which stay, and are looked through again and again


def pytest_configure(config: pytest.Config) -> None:
    """Run the tests in a process whose file names are UTF-8, as they are in Hangul, where a locale has made them ASCII
    in this one.

    Import what takes seconds here, and not above: xdist's first process runs no tests, and the others wait for it.
    """
    if sys.getfilesystemencoding() == "utf-8":
        if config.getoption("dist", "no") == "no":
            # the first time on a machine it lists the fonts, and writes the list without naming an encoding
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import matplotlib.font_manager  # noqa: F401  # for what importing it does
            import torch  # noqa: F401
        return
    command = [sys.executable, "-m", "pytest", *map(str, config.invocation_params.args)]
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():  # type: ignore[union-attr]  # pytest's own, always there
        code = subprocess.run(command, env={**os.environ, "PYTHONUTF8": "1"}).returncode
    pytest.exit("these were the tests, with PYTHONUTF8=1", returncode=code)


def pytest_collection_finish() -> None:
    """Leave what there is by now out of all later collections of garbage."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests, and what they share, out of the user's cache directory."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
            patch.setenv(name, str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(autouse=True)
def _in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have errors and help in English, whatever the system speaks."""
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


@pytest.fixture
def _forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the workers that are spawned, from a process with the slow imports; test_signals.py spawns them."""
    context = forking()
    monkeypatch.setattr(multiprocessing, "get_context", lambda method=None: context)


@pytest.fixture(autouse=True)
def _threads_and_a_seed() -> None:
    import torch

    torch.set_num_threads(int(os.environ.get("RESLAB_TEST_THREADS", "1")))
    torch.manual_seed(0)
