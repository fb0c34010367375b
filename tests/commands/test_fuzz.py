"""Nasty command lines and configs: an answer, or one line that says what was wrong, with exit code 2."""

import contextlib
import functools
import inspect
import json
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from cyclopts import App
from helpers_fuzz import elsewhere, enough, sizes, told, watchdog
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from pydantic import ValidationError

from reslab import studies
from reslab.analysis import analyses
from reslab.api.planning import recipe_of
from reslab.cli import app
from reslab.commands import typed
from reslab.errors import UserError
from reslab.exercises.confinement import Ended
from reslab.experiment.config import StudyConfig
from reslab.files import one_line
from reslab.networks import zoo
from reslab.runs import Config
from reslab.training.loop import TrialConfig
from reslab.training.recipes import RECIPES, Recipe
from reslab.weights.files import to_bytes

BENCHES = ("train", "executors", "lowlevel", "lesion")
NETWORKS = (
    "resnet18",
    "resnet20",
    "preresnet20",
    "plain20",
    "lowlevel/resnet18",
    "densenet121",
    "torchvision/resnet18",
    "timm/resnet18",
)
NUMBERS = (
    "-1",
    "0",
    "1",
    "2",
    "3",
    "8",
    "20",
    "32",
    "-0.5",
    "0.5",
    "1e-400",
    "1e400",
    "1e9",
    "nan",
    "inf",
    "-inf",
    "NaN",
    "Infinity",
)
LARGE = (str(2**31), str(2**63), str(2**64), str(10**30), str(-(10**30)), "9" * 5000, "1000000001", "100000000002")
WORDS = (
    "",
    " ",
    "-",
    "--",
    "---",
    ",",
    ",,",
    "=",
    ":",
    "?",
    "true",
    "null",
    "None",
    "[]",
    "{}",
    '{"a": 1}',
    "[[1]]",
    '"x"',
    "1,2",
    "3,4,6,3",
    "1,a",
    "a=b",
)
UNICODE = (
    "훈련",
    "훈련 결과",
    "ㅎㅏㄴ",
    "\ud800",
    "\udc80x",
    "\0",
    "a\0b",
    "\n",
    "a\nb",
    "\x1b[31m",
    "[red]x[/red]",
    "[/]",
    "\u202e",
    "é" * 300,
    "x" * 5000,
)
PATHS = (
    ".",
    "..",
    "../..",
    "a/b",
    "nowhere/x",
    "file",
    "file/x",
    "empty",
    "folder",
    "folder/x",
    "file.pt",
    "x.onnx",
    "x.safetensors",
    "y" * 300,
)
DATA = (
    "digits",
    "digits:x",
    "cifar10",
    "cifar10:folder",
    "cifar100:",
    "fashion_mnist:nowhere",
    "folder:",
    "folder:folder",
    "folder:file?broken=skip",
)
MEANT = (
    "all",
    "01",
    "1.3",
    "2.4",
    "smoke",
    "fast",
    "gradient",
    "torchvision/",
    "timm/",
    "timm/x",
    "json:loads",
    "math:sqrt",
    "json:",
    ":x",
    "a:b:c",
)
# no "/": a test that may be run by root stays out of the root directory
TEXTS = st.text(st.characters(exclude_characters="/~"), max_size=12)
VALUES = st.sampled_from(NUMBERS + LARGE + WORDS + UNICODE + PATHS + DATA + MEANT + NETWORKS) | TEXTS


def commands(of: App, *words: str) -> Iterator[tuple[tuple[str, ...], App]]:
    """Yield every command of the app, and the words that call it."""
    for name in of:
        if not name.startswith("-"):
            yield from commands(of[name], *words, name)
    if of.default_command is not None:
        yield words, of


def settings_of() -> dict[str, list[str]]:
    """Return what can be named after a command, and the options that it adds to the command's own."""
    models, families, _ = zoo._catalogue()
    takers: dict[str, Any] = {
        name: inspect.signature({**models, **families}[name]).parameters for name in (*NETWORKS[:6], *families)
    }
    takers |= {name: ["num_classes", "in_channels", "width_per_group"] for name in NETWORKS[6:]}
    takers |= {name: studies.find(name).config.model_fields for name in studies.names()} | {
        "all": StudyConfig.model_fields
    }
    for name, each in analyses().items():
        parameters = inspect.signature(each.load()).parameters
        takers[name] = [*takers.get(name, ()), *parameters]  # a study may have the name of an analysis
    for name in BENCHES:
        takers[f"bench {name}"] = inspect.signature(import_module(f"reslab.bench.{name}").bench).parameters
    return {name: [f"--{option.replace('_', '-')}" for option in options] for name, options in takers.items()}


COMMANDS = dict(commands(app))
SETTINGS = settings_of()
FAMILIES = tuple(zoo.families())
FIRST = {
    "train": NETWORKS + FAMILIES,
    "models": NETWORKS + FAMILIES,
    "evaluate": NETWORKS + FAMILIES,
    "weights": ("file", "good.safetensors"),
    "study": (*studies.names(), "all"),
    "analyze": tuple(analyses()),
    "bench": BENCHES,
    "exercise": ("01", "02", "1.3", "2.4", "folder"),
}
"""What can follow a command, so that what is wrong is mostly found in what follows that."""
ALSO = {"evaluate": ["--weights", "good.safetensors"], "weights": ["--as", "cifar_resnet"]}
"""What a command needs besides."""


@st.composite
def lines(draw: DrawFn) -> list[str]:
    """Draw a call of some command: sound words first, then options of its own or of what it is about, with values of
    all kinds.
    """
    command = draw(st.sampled_from(sorted(COMMANDS)))
    arguments = COMMANDS[command].assemble_argument_collection(parse_docstring=False)
    takes_any = any(argument.field_info.kind is inspect.Parameter.VAR_KEYWORD for argument in arguments)
    names = [name for argument in arguments for name in argument.names if name.startswith("--") and "[" not in name]
    choices = [
        choice for argument in arguments for choice in getattr(argument.hint, "__args__", ()) if isinstance(choice, str)
    ]
    words = [*command]
    if draw(st.integers(0, 19)):
        words += [draw(st.sampled_from(FIRST.get(command[0], PATHS)))]
        words += [draw(st.sampled_from(NETWORKS + FAMILIES))] if command == ("analyze",) else []
        words += ALSO.get(command[0], [])
        own = [
            option
            for word in words
            for option in SETTINGS.get(f"bench {word}" if command == ("bench",) else word, [])
            if takes_any
        ]
    else:
        own, words = [], draw(st.sampled_from([words, []])) + draw(st.lists(VALUES, max_size=3))
    option = st.sampled_from([*names, "--unheard-of", "--help", "-x", "--no-json"]) | (
        st.sampled_from(own) if own else st.nothing()
    )
    value = VALUES | st.sampled_from(NUMBERS) | (st.sampled_from(choices) if choices else st.nothing())
    for name in draw(st.lists(option, max_size=3)):
        words += draw(st.sampled_from([[name, None], [f"{name}=", None], [name]]))
        if words[-1] is None:
            words.pop()
            words[-1:] = [words[-1] + draw(value)] if words[-1].endswith("=") else [words[-1], draw(value)]
    return words


@pytest.fixture
def _no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off what takes seconds or leaves the machine, each at the last call before it."""
    monkeypatch.setattr("reslab.executors.run_trials", enough)  # training, for `train` …
    monkeypatch.setattr("reslab.experiment.study.run_trials", enough)  # … and for `study`
    monkeypatch.setattr("reslab.speedrun.race.run", enough)
    monkeypatch.setattr("reslab.executors.ray.on_ray", enough)  # clusters
    monkeypatch.setattr("reslab.executors.slurm.on_slurm", enough)
    monkeypatch.setattr("reslab.trained.look", enough)  # forward passes over a whole part
    monkeypatch.setattr("reslab.trained.true_average", enough)  # likewise
    monkeypatch.setattr("reslab.training.batchnorm.true_average", enough)
    monkeypatch.setattr("reslab.commands.doctor.CHECKS", {})  # arithmetic of half a second
    monkeypatch.setattr("socket.socket.connect", _offline)  # downloads
    monkeypatch.setattr("socket.getaddrinfo", _offline)
    monkeypatch.setattr("webbrowser.open", lambda *_: False)
    # processes
    monkeypatch.setattr(
        "reslab.exercises.confinement.run", lambda _, tasks, **__: dict.fromkeys(tasks, Ended((), "stopped"))
    )
    described = zoo.describe("resnet20")
    monkeypatch.setattr(zoo, "describe", lambda name: described._replace(name=name))  # half a second each
    monkeypatch.setattr(zoo, "MOST_MODULES", 3000)  # at the real limit, seconds
    for name in BENCHES:
        module = import_module(f"reslab.bench.{name}")
        # with the signature that the command reads
        monkeypatch.setattr(module, "bench", functools.wraps(module.bench)(enough))
    for each in dict.fromkeys(analyses().values()):  # one has two names
        module = import_module(each.module)
        monkeypatch.setattr(module, each.function, functools.wraps(getattr(module, each.function))(enough))


GOOD = to_bytes(zoo.build("cifar_resnet", depth=8, in_channels=1), "cifar_resnet", {"depth": 8})


def _offline(*_: object, **__: object) -> None:
    raise OSError("no network")


@pytest.mark.usefixtures("_no_work")
@sizes(15, 1000)
def test_command_lines(inputs: Any) -> None:
    @inputs
    @given(words=lines())
    @example(words=["exercise", "grade", "a\x1cb\nc"])  # the message had several lines
    @example(words=["analyze", "resnet18"])  # a progress bar that never began left an empty line
    @example(words=["train", "resnet18", "--num-classes", "3"])  # options that the data set gives too …
    @example(words=["train", "resnet18", "--name", "x"])  # … and those of the function that builds
    @example(words=["train", "resnet20", "--weights", "digits"])  # it began with trained weights
    @example(words=["models", "plain20", "--in-channels", "-1"])
    @example(words=["models", "cifar_resnet", "--depth", "6000000002"])  # it built them all
    # likewise
    @example(words=["models", "regnet", "--w0", "24", "--wa", "1", "--wm", "2", "--g", "8", "--d", "1000000000"])
    @example(words=["models", "efficientnet", "--phi", "-50"])
    @example(words=["analyze", "tour", "--out", "a\0b"])
    @example(words=["ship", "\ud800"])
    @example(words=["models", "resnet20", "--depth", "[" * 100_000])
    @example(words=["analyze", "sampled-paths", "resnet20", "--draws", "many"])
    @example(words=["analyze", "importance", "cifar_resnet", "--depth", "8", "--seed", "9" * 30])
    @example(words=["train", "resnet20", "--threads", "1000000000"])
    @example(words=["study", "degradation", "--seeds", "1000000000"])
    @example(
        words=["evaluate", "cifar_resnet", "--depth", "8", "--weights", "good.safetensors", "--size", "1000000000"]
    )
    @example(words=["report", "y" * 300])
    def holds(words: list[str]) -> None:
        with elsewhere() as here:
            (here / "file").write_text("not what was expected", encoding="utf-8")
            (here / "empty").write_bytes(b"")
            (here / "folder").mkdir()
            (here / "good.safetensors").write_bytes(GOOD)
            told(*words)

    holds()


# --- Configs ----------------------------------------------------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXTS
    | st.sampled_from((*RECIPES, "auto", "cpu", "32", "steps", "one-cycle"))
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)
SOUND = {
    Recipe: RECIPES["fast"].model_dump(),
    TrialConfig: {"model": "resnet20", "data": "digits", "recipe": RECIPES["fast"].model_dump(), "seed": 0},
    StudyConfig: {},
}


@st.composite
def values_for(draw: DrawFn, fields: Any) -> dict[str, Any]:
    """Draw values for some fields, mostly known ones, from all that JSON and Python can hold."""
    return draw(st.dictionaries(st.sampled_from(sorted(fields)) | TEXTS, ANYTHING, max_size=4))


@sizes(30, 500)
def test_configs(inputs: Any) -> None:
    @inputs
    @given(kind=st.sampled_from(list(SOUND)), data=st.data())
    def holds(kind: type[Config], data: st.DataObject) -> None:
        try:
            config = kind(**{**SOUND[kind], **data.draw(values_for(kind.model_fields))})
        except ValidationError as error:
            assert one_line(error)
        else:
            assert json.loads(config.canonical_json()) == config.model_dump(mode="json") and len(config.digest()) == 16

    holds()


@sizes(35, 250)
def test_settings_of_studies_and_recipes(inputs: Any) -> None:
    @inputs
    @given(
        name=st.sampled_from(studies.names()),
        preset=st.sampled_from(("default", "smoke")) | TEXTS,
        as_text=st.booleans(),
        data=st.data(),
    )
    def holds(name: str, preset: str, as_text: bool, data: st.DataObject) -> None:
        study = studies.find(name)
        given = data.draw(values_for(study.config.model_fields))
        if as_text:
            given = {key: typed.value(data.draw(VALUES)) for key in given}
        with watchdog(), contextlib.suppress(UserError):
            study.grid(study.configure(preset, given))
        with watchdog(), contextlib.suppress(UserError):
            for settings in typed.settings_of(tuple(f"{key}={value}" for key, value in given.items())):
                recipe_of("fast", "digits", None, settings)

    holds()
