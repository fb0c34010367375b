"""Commands that a text names: parsed, not run."""

import inspect
import shlex
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from reslab import bench, studies
from reslab.analysis import analyses
from reslab.cli import app
from reslab.commands import typed
from reslab.networks import zoo


def check_command(command: str) -> None:
    """See that a command exists and takes these arguments, and that there is a study, analysis or network
    of that name.
    """
    program, *words = shlex.split(command)
    if program == "python":
        module = find_spec(words[1])
        assert words[0] == "-m" and module and module.origin
        assert '__name__ == "__main__"' in Path(module.origin).read_text(encoding="utf-8")
        return
    function, bound, *_ = app.parse_args(words, print_error=False, exit_on_error=False)
    assert function.__name__ not in ("help_print", "version_print")
    if words[0] in CHECKS:
        signature = inspect.signature(function)
        given = {key: value for key, value in bound.arguments.items() if key in signature.parameters}
        CHECKS[words[0]](**given)


@cache
def check_network(name: str, **options: object) -> None:
    """As `zoo.check`, once."""
    zoo.check(name, **options)


def check_study(name: str, preset: str = "default", settings: dict[str, str] | None = None, **_: object) -> None:
    for each in studies.names() if name == "all" else [name]:
        studies.find(each).configure(preset, typed.words(settings or {}))


def check_analyze(name: str, model: str | None = None, options: dict[str, str] | None = None, **_: object) -> None:
    assert name in analyses()
    if model is not None:
        own = analyses()[name].parameters
        others = {key: value for key, value in (options or {}).items() if key not in own}
        check_network(model, **typed.words(others))


def check_models(name: str | None = None, diff: str | None = None, family: str | None = None, **_: object) -> None:
    for model in filter(None, (name, diff)):
        check_network(model)
    assert family in {None, *map(zoo.family, zoo.names())}


def check_train(model: str, options: dict[str, str] | None = None, **_: object) -> None:
    check_network(model, num_classes=10, in_channels=1, **typed.words(options or {}))


def check_bench(name: str = "train", **_: object) -> None:
    assert bench.find(name)


CHECKS = {
    "study": check_study,
    "analyze": check_analyze,
    "models": check_models,
    "train": check_train,
    "bench": check_bench,
}
