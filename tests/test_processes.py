"""Child processes end quietly, whenever they are told to."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess

import pytest
from helpers import refused
from helpers_children import (
    slow_to_answer,
    told_while_it_ends,
    told_while_it_passes_its_error_on,
    told_while_it_works,
    whose_parent_does_not_listen,
)

from reslab.bench import lowlevel
from reslab.errors import FailedError
from reslab.processes import PATIENCE, answer_of, end

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")


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


def test_an_answer_is_waited_for_and_something_done_meanwhile() -> None:
    calls: list[None] = []
    assert answer_of(slow_to_answer, "yes", label="a child", meanwhile=lambda: calls.append(None)) == "yes"
    assert calls


def test_a_benchmarks_child_that_dies_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    # called with arguments it does not take: it ends with an error
    monkeypatch.setattr(lowlevel, "_measure_peak", os.abort)
    with refused(FailedError, "torchvision", "exit code 1"):
        lowlevel.peak_memory("torchvision", 2)
