"""Child processes end quietly, whenever they are told to."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize

import pytest
from helpers import refused

from reslab.errors import FailedError
from reslab.processes import PATIENCE, end, following_parent

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")


def told_to_end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@following_parent
def told_while_it_works() -> None:
    told_to_end()


@following_parent
def told_while_it_ends() -> None:
    Finalize(None, told_to_end, exitpriority=0)


@following_parent
def whose_parent_does_not_listen() -> None:
    raise BrokenPipeError


@following_parent
def _failing() -> None:
    raise ValueError("what went wrong")


def told_while_it_passes_its_error_on() -> None:
    """Do as torch's spawned processes do, which hand their errors to their parent."""
    try:
        _failing()
    except ValueError:
        told_to_end()


@pytest.mark.parametrize(
    ("work", "code"),
    [
        (told_while_it_works, 128 + signal.SIGTERM),
        (told_while_it_ends, 0),
        (told_while_it_passes_its_error_on, 0),
        (whose_parent_does_not_listen, 128 + signal.SIGTERM),
    ],
)
def test_a_child_ends_quietly(work: Callable[[], None], code: int, capfd: pytest.CaptureFixture[str]) -> None:
    process: BaseProcess = multiprocessing.get_context("spawn").Process(target=work, daemon=True)
    process.start()
    process.join(30 * PATIENCE)
    end([process])
    assert process.exitcode == code and capfd.readouterr().err == ""


def test_a_benchmarks_child_that_dies_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from reslab.bench import lowlevel  # here, as the children above import this file too, and are to start soon

    # called with arguments it does not take: it ends with an error
    monkeypatch.setattr(lowlevel, "_measure_peak", os.abort)
    with refused(FailedError, "torchvision", "exit code 1"):
        lowlevel.peak_memory("torchvision", 2)
