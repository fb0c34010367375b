"""Ctrl-C, SIGTERM and a killed parent, in every command that has children or writes for long: nobody is left, nothing
is half-written.
"""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import torch
from helpers_exercises import solved
from helpers_forks import start
from helpers_images import image_folder
from PIL import Image

from reslab.cli import main

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")

GONE_WITHIN = 5.0
"""Seconds in which the process and all that it started must be gone, where a processor is free for them; on a busy
machine, as many times that as there are processes that wait for each."""
TOKEN = "RESLAB_TEST_TOKEN"
FOREVER = "def branch_target(h):\n    while True:\n        pass\n"


class Command(NamedTuple):
    """What is typed, in a directory that is prepared for it, and how one sees that it is in the middle of its work."""

    words: str
    busy: Callable[[Path, list[psutil.Process]], bool]
    prepare: Callable[[Path], object] = lambda place: None
    writes: bool = False
    """Whether the process itself writes, so that one that is killed may leave a temporary file."""
    seconds: float = GONE_WITHIN


def training(count: int) -> Callable[[Path, list[psutil.Process]], bool]:
    """Return whether so many trials have recorded an epoch."""
    return lambda place, _: sum(path.stat().st_size > 0 for path in place.rglob("metrics.jsonl")) >= count


def running(name: str, count: int = 1, seconds: float = 2.0) -> Callable[[Path, list[psutil.Process]], bool]:
    """Return whether so many processes with this in their command line have run so long."""

    def busy(_: Path, processes: list[psutil.Process]) -> bool:
        old = [process for process in processes if time.time() - process.create_time() > seconds]
        return sum(name in " ".join(process.cmdline()) for process in old) >= count

    return busy


def answers(place: Path) -> None:
    (place / "exercises").mkdir()
    text = solved("01", changes={"branch_target": FOREVER})
    for name in ("01_gradient_analysis", "하나", "둘"):
        (place / "exercises" / f"{name}.py").write_text(text, encoding="utf-8")


def many_images(place: Path) -> None:
    root = image_folder(place / "images")
    (root / "train" / "many").mkdir()
    Image.effect_noise((1000, 1000), 50).save(root / "first.png")
    for number in range(400):
        os.link(root / "first.png", root / "train" / "many" / f"{number}.png")


def many_figures(place: Path) -> None:
    from helpers_report import a_chart, a_study

    titles = [{"ko": f"그림 {number}", "en": f"figure {number}"} for number in range(300)]
    a_study(place / "study", charts=[a_chart(title=title) for title in titles])


COMMANDS = {
    "train": Command("train cifar_resnet --depth 8 --epochs 900 --out runs", training(1), writes=True),
    "train-2": Command("train cifar_resnet --depth 8 --epochs 900 --devices 2 --device cpu --out runs", training(1)),
    "study": Command("study degradation --preset smoke --epochs 900 --workers 2 --out runs", training(2)),
    # Ray's own end first
    "ray": Command(
        "study degradation --preset smoke --epochs 900 --executor ray --out runs", training(1), seconds=15.0
    ),
    "check": Command("exercise check 01", running("reslab.exercises.child"), answers),
    "grade": Command("exercise grade exercises --jobs 2", running("reslab.exercises.child", 2), answers),
    "bench-train": Command("bench train --images 25600 --steps 1 --rounds 1 --warmup 0", running("reslab", 3)),
    "bench-executors": Command(
        "bench executors --trials 2 --workers 2 --depth 8 --epochs 20", running("spawn_main", 2)
    ),
    "bench-lowlevel": Command("bench lowlevel --rounds 1 --warmup 0 --batch 128", running("spawn_main")),
    "speedrun": Command("speedrun --epochs 900 --threads 1 --out runs", training(1)),
    "decode": Command(
        "train cifar_resnet --depth 8 --data folder:images",
        lambda place, _: any(place.rglob("*.tmp/pixels.bin")),
        many_images,
        writes=True,
    ),
    "figures": Command(
        "report study --figures figures", lambda place, _: any(place.glob("figures/*.png")), many_figures, writes=True
    ),
}
HOW = {
    "terminate": (os.kill, signal.SIGTERM, 143),
    "terminate-all": (os.killpg, signal.SIGTERM, 143),
    "interrupt": (os.kill, signal.SIGINT, 130),
    "ctrl-c": (os.killpg, signal.SIGINT, 130),
    "kill": (os.kill, signal.SIGKILL, -9),
}


Alive = Callable[[], list[psutil.Process]]
"""Gives the processes that are left of a command."""


def in_session(leader: int) -> list[psutil.Process]:
    """Return the processes of a session."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def alive(token: str) -> list[psutil.Process]:
    """Return the processes that were started from the one with this token, however far they have gone from it."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(TOKEN) == token and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def stop(command: Command, how: str, place: Path) -> str:
    """Run a command until it is busy, stop it, see that everything is gone and its exit code right, and return what it
    said on standard error.
    """
    command.prepare(place)
    token = uuid.uuid4().hex
    environment = {**os.environ, TOKEN: token, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    errors = place / "stderr"
    # tests in the background of a shell begin with it ignored, and children inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with errors.open("wb") as stderr:
        started = [sys.executable, "-m", "reslab", *command.words.split()]
        process = subprocess.Popen(
            started, cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True
        )
    left = partial(alive, token)
    try:
        see_that_it_stops(command, how, place, process.pid, left, process.poll, errors)
    finally:
        for each in left():
            each.kill()
        process.wait()
    if how != "kill" or not command.writes:
        assert not list(place.rglob("*.tmp"))
    return errors.read_text(encoding="utf-8")


def see_that_it_stops(
    command: Command, how: str, place: Path, pid: int, alive: Alive, code_of: Callable[[], int | None], errors: Path
) -> None:
    """Stop a command that was started as soon as it is busy; `code_of` gives its exit code, or None before its end."""
    deadline = time.monotonic() + 600  # on a busy machine
    while not command.busy(place, alive()):
        assert code_of() is None, f"it ended: {errors.read_text(encoding='utf-8')}"
        assert time.monotonic() < deadline, "it is not busy"
        time.sleep(0.2)
    send, what, code = HOW[how]
    begun = time.monotonic()
    deadline = begun + command.seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    send(pid, what)
    while (ended := code_of()) is None or (left := alive()):
        assert time.monotonic() < deadline, "it goes on" if ended is None else [each.cmdline() for each in left]
        time.sleep(0.05)
    assert ended == code
    print(f"gone after {time.monotonic() - begun:.2f} s, load {os.getloadavg()[0]:.1f}")


def see_that_it_said_so(said: str) -> None:
    assert "Traceback" not in said and said.splitlines()[-1].startswith("stopped; "), said


def be_a_study(place: Path) -> None:
    """Be the command, in a session of its own, with forks for workers: starting interpreters is the slow test's."""
    os.setsid()
    os.chdir(place)
    torch.set_num_threads(1)
    forks = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda method=None: forks  # type: ignore[assignment]  # of one kind
    main(COMMANDS["study"].words.split())


@pytest.mark.slow
def test_a_study_with_workers_stops(tmp_path: Path) -> None:
    process = start(tmp_path, be_a_study, tmp_path)
    pid = process.pid
    assert pid is not None
    left = partial(in_session, pid)
    errors = tmp_path / "stderr"
    try:
        see_that_it_stops(COMMANDS["study"], "terminate", tmp_path, pid, left, lambda: process.exitcode, errors)
    finally:
        for each in left():
            each.kill()
        process.join()
    assert not list(tmp_path.rglob("*.tmp"))
    see_that_it_said_so(errors.read_text(encoding="utf-8"))


@pytest.mark.slow  # 10 s each
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stops(name: str, how: str, tmp_path: Path) -> None:
    if name == "ray":
        pytest.importorskip("ray", reason="needs reslab[cluster]")
    said = stop(COMMANDS[name], how, tmp_path)
    if how != "kill":
        see_that_it_said_so(said)
    for path in tmp_path.glob("figures/*.png"):
        with Image.open(path) as image:
            image.load()
