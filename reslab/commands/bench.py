"""`reslab bench`: what the lab claims about speed, measured here."""

from typing import TYPE_CHECKING

from reslab.commands import printing, typed
from reslab.commands.app import Flag, app
from reslab.errors import UnknownNameError, WrongValueError, suggest
from reslab.progress import display

if TYPE_CHECKING:
    from reslab.files import Json


@app.command
def bench(name: str, /, *, quick: Flag = False, json: Flag = False, **settings: str) -> None:
    """Measure the speeds that the lab reports, as ratios within one run on this machine.

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
        Tiny sizes and one round: a check that it runs, whose figures mean nothing.
    json
        Print the figures as JSON.
    settings
        Settings of the benchmark, such as `--rounds 10` or, for train, `--data cifar10 --epochs 3` (errors of both
        after three epochs).
    """
    from inspect import signature

    from reslab.bench import find

    module = find(name)
    words = typed.words(settings)
    known = {
        key: parameter.default for key, parameter in signature(module.bench).parameters.items() if key != "progress"
    }
    for key, value in words.items():
        if key not in known:
            raise UnknownNameError(f"bench {name} has no setting {key!r}{suggest(key, known)}")
        least = 0 if key in ("warmup", "loaders") or known[key] == 0 else 1
        if not isinstance(value, type(known[key])) or (isinstance(value, int) and value < least):
            raise WrongValueError(f"--{key.replace('_', '-')} {value}: expected a value such as {known[key]!r}")
    with display() as progress:
        figures = module.bench(**{**(module.QUICK if quick else {}), **words}, progress=progress)
    printing.print_json(figures) if json else print_bench(figures)


def print_bench(figures: "Json") -> None:
    """Print the machine and its measurements."""
    print(" · ".join(f"{key} {value}" for key, value in figures["machine"].items()))
    for what, values in figures.items():
        if what != "machine":
            told = (
                ", ".join(f"{key} {printing.figure(value)}" for key, value in values.items())
                if isinstance(values, dict)
                else str(values)
            )
            print(f"{what}: {told}")
