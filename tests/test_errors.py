"""The kinds of mistakes, and how what goes wrong elsewhere becomes one of them."""

import ast
import re
import tomllib
from importlib import import_module
from pathlib import Path
from string import Formatter

import pytest

from reslab import errors
from reslab.errors import DamagedError, FailedError, MismatchError, UserError, told

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, UserError)]


def test_each_kind_of_mistake_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in KINDS]
    assert (
        len(KINDS) > 5
        and len(set(codes)) == len(codes)
        and all(re.fullmatch("[a-z]+(-[a-z]+)*", code) for code in codes)
    )


def test_of_names_as_near_the_one_that_begins_alike_is_meant() -> None:
    assert "'resnet20'" in errors.suggest("resnet2O", ["resnet32", "resnet20", "resnet18"])
    assert "'resnet18'" in errors.suggest("resnet-18", ["resnet18d", "resnet18"])
    assert errors.suggest("x", []) == "; known: "


@pytest.mark.parametrize("kind", [FailedError, MismatchError])
def test_what_others_raise_becomes_a_mistake_and_a_mistake_stays_what_it_is(kind: type[UserError]) -> None:
    with pytest.raises(kind) as caught, told("the network fails", kind):
        raise ZeroDivisionError("by\nzero")
    assert str(caught.value) == "the network fails: ZeroDivisionError: by zero" and isinstance(
        caught.value.__cause__, ZeroDivisionError
    )
    mistake = DamagedError("a.pt")
    with pytest.raises(DamagedError) as kept, told("the network fails", kind):
        raise mistake
    assert kept.value is mistake


ROOT = Path(errors.__file__).parent
MESSAGES = tomllib.loads((ROOT / "errors.toml").read_text(encoding="utf-8"))


def fields(text: str) -> set[str]:
    return {field for _, field, _, _ in Formatter().parse(text) if field}


def test_messages_take_the_same_values_in_both_languages() -> None:
    """But for what a near name is, in whose place Korean may say all that there are."""
    for name, said in MESSAGES.items():
        assert said.keys() == {"en", "ko"} and re.search("[가-힣]", said["ko"]), name
        assert fields(said["en"]) - {"near"} == fields(said["ko"]) - {"near", "known"}, name


@pytest.mark.parametrize(
    "module",
    [
        "data.dataset",
        "trained",
        *(f"commands.{name}" for name in ("analyze", "doctor", "speedrun", "train", "weights")),
    ],
)
def test_results_are_told_with_the_same_values_in_both_languages(module: str) -> None:
    words = import_module(f"reslab.{module}").WORDS
    assert words.keys() == {"en", "ko"} and words["en"].keys() == words["ko"].keys()
    for key, english in words["en"].items():
        ours, theirs = (sorted(re.findall(r"{[^}]*}", text)) for text in (english, words["ko"][key]))
        assert ours == theirs, key


def test_every_message_that_is_told_is_there_with_its_values_and_every_message_is_told() -> None:
    named = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Constant):
                named.add(node.value)
            match node:
                case ast.Call(func=ast.Name("worded"), args=[ast.Constant(str(name))], keywords=values):
                    filled_in = fields(MESSAGES[name]["en"]) | fields(MESSAGES[name]["ko"])
                    assert {value.arg for value in values} >= filled_in, name
    assert MESSAGES.keys() <= named
