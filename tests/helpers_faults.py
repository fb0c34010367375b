"""Commands that are killed while they work.

Half of the kills are at a moment drawn at random, half at a step of writing a file (before it is opened, synced,
renamed, removed) drawn at random, so that every place between two of them is come by.
"""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from helpers import timeless
from helpers_forks import start
from safetensors.torch import load_file

from reslab.cli import main
from reslab.files import read_json, read_sealed
from reslab.runs import read_metrics
from reslab.training import loop

COMMANDS = {
    "train": ["train", "cifar_resnet", "--depth", "8", "--epochs", "2", "--set", "batch_size=256", "--out"],
    "study": ["study", "shortcuts", "--preset", "smoke", "--workers", "1", "--out"],
}
STEPS = {"open": (Path, "open"), "fsync": (os, "fsync"), "rename": (Path, "replace"), "unlink": (Path, "unlink")}


def die_at(count: int) -> None:
    """Have this process kill itself before the step number `count` of writing files."""
    left = count

    def counting(step: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments, **options)

        return counted

    for owner, name in STEPS.values():
        setattr(owner, name, counting(getattr(owner, name)))


def killable(command: list[str], die: int | None) -> None:
    """Run a command, with a checkpoint after every step, that kills itself before a step of writing files."""
    torch.set_num_threads(1)
    loop.CHECKPOINT_SECONDS = 0.0
    if die is not None:
        die_at(die)
    main(command)


def forked(command: list[str], root: Path, die: int | None = None, after: float | None = None) -> int:
    """Run a command in a process, killed at a step of writing or after some seconds, and return its exit code."""
    process = start(root, killable, command, die)
    if after is not None:
        process.join(after)
        process.kill()
    process.join()
    code = process.exitcode
    assert code is not None
    return code


def torn(directory: Path) -> list[str]:
    """Return the files that a kill left neither whole nor to be recognised as unfinished by their names."""
    found = []
    for path in directory.rglob("*"):
        if not path.is_file() or path.name.endswith(".tmp"):
            continue
        try:
            if path.suffix == ".json":
                read_json(path)
            elif path.suffix == ".pt":
                read_sealed(path)
            elif path.suffix == ".safetensors":
                load_file(path)
            elif path.suffix == ".html" and not path.read_text(encoding="utf-8").rstrip().endswith("</html>"):
                raise ValueError
        except Exception:
            found.append(str(path.relative_to(directory)))
    return found


def outcome(directory: Path) -> dict[str, Any]:
    """Return all that a finished command leaves, times aside."""
    kept: dict[str, Any] = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.suffix == ".safetensors":
            kept[name] = path.read_bytes()
        elif path.name == "metrics.jsonl":
            kept[name] = [timeless(line) for line in read_metrics(path.parent)]
        elif path.name == "wrong.json":
            kept[name] = read_json(path)
        elif path.name == "result.json":
            kept[name] = timeless(read_json(path))
        elif path.name == "study.json":
            record = read_json(path)
            kept[name] = {
                **record,
                "trials": [{**trial, "result": timeless(trial["result"])} for trial in record["trials"]],
            }
        elif path.is_file() and path.name != ".lock":
            kept[name] = None  # that it is there
    return kept


def kill_often(kills: int, root: Path, command: list[str], draws: random.Random) -> dict[str, Any]:
    """Kill a command again and again until it has been killed `kills` times, each time going on from what is there."""
    whole = root / "whole"
    start(root, int).join()  # the first process waits for imports, which are not the command's
    begun = time.monotonic()
    assert forked([*command, str(whole)], root) == 0
    duration = time.monotonic() - begun
    expected = outcome(whole)
    report: dict[str, Any] = {"killed": 0, "finished": 0, "torn": [], "different": [], "failed": []}
    directory = root / "broken"
    in_a_row = 0
    while report["killed"] < kills or directory.exists():
        let_finish = report["killed"] >= kills or in_a_row >= 6
        at_a_step = draws.random() < 0.5
        code = (
            forked([*command, str(directory)], root)
            if let_finish
            else forked([*command, str(directory)], root, die=draws.randint(1, 60))
            if at_a_step
            else forked([*command, str(directory)], root, after=draws.uniform(0, duration))
        )
        if code == -signal.SIGKILL:
            report["killed"] += 1
            in_a_row += 1
            report["torn"] += torn(directory)
            continue
        in_a_row = 0
        if code:
            report["failed"].append(code)
        report["finished"] += 1
        found = outcome(directory)
        report["different"] += [
            name for name in expected.keys() | found.keys() if expected.get(name, 0) != found.get(name, 0)
        ]
        shutil.rmtree(directory)
    return report
