"""`reslab bench`: what the lab claims about speed, measured here, and what has become slower."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from reslab.commands import printing, typed
from reslab.commands.app import Flag, app
from reslab.errors import UnknownNameError, WrongValueError, suggested, worded
from reslab.progress import display

if TYPE_CHECKING:
    from reslab.files import Json

bench = App(name="bench")
app.command(bench)

KEPT = Path("runs/bench")


@bench.default
def measure(name: str, /, *, quick: Flag = False, out: Path = KEPT, json: Flag = False, **settings: str) -> None:
    """Measure the speeds that the lab reports, as ratios within one run on this machine.

    The figures are printed as a table in Markdown, and kept.

    The benchmarks:

    - train: a training step and a whole epoch of resnet20 against an ordinary script (DataLoader, PIL transforms,
      float32)
    - executors: a set of trials in worker processes against one process
    - lowlevel: Level 2 against torchvision
    - lesion: removal of every block, and the path spectrum, against their straightforward versions

    Parameters
    ----------
    name
        What to measure.
    quick
        Tiny sizes and one round: a check that it runs, whose figures mean nothing and are not kept.
    out
        Directory that keeps the figures of every run, for `reslab bench compare`.
    json
        Print the figures as JSON.
    settings
        Settings of the benchmark, such as `--rounds 10`; for train and lesion `--device cuda`; or, for train,
        `--data cifar10 --epochs 3` (errors of both after three epochs).
    """
    from inspect import signature

    from reslab.bench import find, history

    module = find(name)
    words = typed.words(settings)
    known = {
        key: parameter.default for key, parameter in signature(module.bench).parameters.items() if key != "progress"
    }
    for key, value in words.items():
        if key not in known:
            raise UnknownNameError(*worded("no-bench-setting", name=name, key=key, near=suggested(key, known)))
        least = 0 if key in ("warmup", "loaders") or known[key] == 0 else 1
        wrong = type(value) is not type(known[key]) or (isinstance(value, int) and value < least)
        if wrong or (key == "device" and value not in ("cpu", "cuda")):
            option = f"--{key.replace('_', '-')}"
            raise WrongValueError(*worded("value-such-as", option=option, value=value, example=known[key]))
    if not quick:
        typed.make_writable(out)
    with display() as progress:
        figures = module.bench(**{**(module.QUICK if quick else {}), **words}, progress=progress)
    printing.print_json(figures) if json else print_bench(figures)
    if not quick:
        file = history.keep(name, known | words, figures, out)
        if not json:
            print(f"\nKept: {file}")


@bench.command
def compare(where: Path = KEPT, /, *, json: Flag = False) -> int:
    """Compare the newest run of each benchmark with the one before it: what has become slower?

    Only runs with the same settings on the same CPU are compared, and only ratios of several rounds within one run, as
    seconds drift on a shared machine; those of executors are of one. A ratio has changed where the rounds of the two
    runs, four or more, do not overlap. Exit code 1 if one has become slower.

    Parameters
    ----------
    where
        Directory that keeps the figures (`--out` of `reslab bench`).
    json
        Print the comparison as JSON.
    """
    from reslab.bench import history

    found: list[Json] = []
    for now, before in history.latest(history.read(where)):
        compared = [] if before is None else history.compare(before, now)
        rows = [{**each._asdict(), "change": each.change} for each in compared]
        found.append(
            {"bench": now.bench, "settings": now.settings, "machine": now.figures.get("machine"), "now": now.date}
            | {"before": None if before is None else before.date, "ratios": rows}
        )
    printing.print_json(found) if json else print_compared(found)
    return 1 if any(ratio["change"] == "slower" for each in found for ratio in each["ratios"]) else 0


def print_bench(figures: "Json") -> None:
    """Print the machine, and its measurements as a table in Markdown."""
    print_machine(figures["machine"])
    measured = {what: values for what, values in figures.items() if what != "machine"}
    print_markdown(("measured", "figure"), list(_rows(measured)))


def print_machine(machine: "Json") -> None:
    """Print what was measured on, above a table."""
    print(" · ".join(f"{key} {value}" for key, value in machine.items()), end="\n\n")


def print_compared(found: Sequence["Json"]) -> None:
    """Print every comparison as a table in Markdown."""
    for each in found:
        print(f"{each['bench']}: {each['now'][:19]} against {(each['before'] or 'no run before it')[:19]}", end="\n\n")
        if each["ratios"]:
            rows = [
                (ratio["what"], printing.figure(ratio["before"]), printing.figure(ratio["now"]), ratio["change"])
                for ratio in each["ratios"]
            ]
            print_markdown(("measured", "before", "now", "change"), rows)
        elif each["before"]:
            print("It has no ratio of several rounds, and is not compared.")
        print()


def print_markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table that can be pasted into Markdown."""
    for row in (columns, ["---"] * len(columns), *rows):
        print(f"| {' | '.join(row)} |")


def _rows(figures: "Json", *above: str) -> Iterator[tuple[str, str]]:
    """Yield what was measured with its figure, where figures hold figures."""
    for key, value in figures.items():
        if isinstance(value, dict):
            yield from _rows(value, *above, key)
        else:
            yield ", ".join((*above, key)), value if isinstance(value, str) else printing.figure(value)
