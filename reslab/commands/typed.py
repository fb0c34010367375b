"""Reading what was typed: values, settings of a recipe, directories to write to."""

import json
import locale
import os
import sys
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reslab.errors import UnknownNameError, UnusableError, WrongValueError, suggest

if TYPE_CHECKING:
    from reslab.training.recipes import Recipe


Language = Literal["ko", "en"]


def language(given: Language | None = None) -> Language:
    """Return the language to speak: the one given, else Korean where the system speaks it, else English."""
    system = os.environ.get("LC_ALL") or os.environ.get("LANG") or locale.getlocale()[0] or ""
    return given or ("ko" if system.lower().startswith("ko") else "en")


def value(text: str) -> Any:
    """Return a typed-in value: JSON where it is JSON, a tuple where it has commas, else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # the latter of thousands of brackets
        return tuple(value(part) for part in text.split(",") if part) if "," in text else text


def numbers(what: str, text: str) -> tuple[float, ...]:
    """Return typed-in numbers, one per channel: `0.5,0.5,0.5`, or `0.5`.

    Raises:
        UserError: if they are not numbers.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise WrongValueError(f"{what} {text}: expected numbers, one per channel, such as 0.485,0.456,0.406") from error


def words(options: dict[str, str]) -> dict[str, Any]:
    """Return typed-in options with Python's names and values."""
    # a path may have commas
    return {key.replace("-", "_"): text if key == "data" else value(text) for key, text in options.items()}


def see_whose(
    options: Iterable[str], command: Callable[..., Any], known: Collection[str] | None, settings: Iterable[str] = ()
) -> None:
    """Check that no option that was left for the network is meant for the command, or for its recipe's `settings`.

    `known` are the options that are taken; None if that cannot be known, as of others' networks.

    Raises:
        UserError: for one that is nearer to an option of the command's or to a setting; the message has what to type.
    """
    flags = [key.rstrip("_") for key, one in signature(command).parameters.items() if one.kind is one.KEYWORD_ONLY]
    typed = {
        **{key: f"--set {key}=VALUE" for key in settings},
        **{flag: f"--{flag.replace('_', '-')}" for flag in flags},
    }
    initials = {"".join(word[0] for word in key.split("_")): key for key in typed if "_" in key}
    for option in options:
        if option in (known or ()) or get_close_matches(option, known or (), n=1, cutoff=ALIKE):
            continue
        near = initials.get(option) or next(iter(get_close_matches(option, typed, n=1, cutoff=ALIKE)), None)
        if near:
            raise UnknownNameError(
                f"{command.__name__} has no option --{option.replace('_', '-')}; did you mean {typed[near]}?"
            )


ALIKE = 0.8
"""Names that difflib finds at least this similar are taken for typos of each other: epoch and epochs, batchsize and
batch_size.
"""


def read_recipe(name: str, data: str, epochs: int | None, settings: tuple[str, ...]) -> "Recipe":
    """Return the named recipe, as it is for a data set, with `KEY=VALUE` settings changed."""
    from pydantic import ValidationError

    from reslab.files import one_line
    from reslab.training.recipes import RECIPES, Recipe, recipe_for

    if name not in RECIPES:
        raise UnknownNameError(f"no recipe {name!r}{suggest(name, RECIPES)}")
    values = recipe_for(data, name).model_dump()
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or key not in Recipe.model_fields:
            raise UnknownNameError(
                f"--set {setting}: expected KEY=VALUE with a setting of the recipe{suggest(key, Recipe.model_fields)}"
            )
        values[key] = value(text)
        if key in ("epochs", "iterations"):
            values["iterations" if key == "epochs" else "epochs"] = None
    if epochs is not None:
        values |= {"epochs": epochs, "iterations": None}
    try:
        return Recipe(**values)
    except ValidationError as error:
        raise WrongValueError(one_line(error)) from error


def unused(path: Path) -> Path:
    """Return `path`, or the first of `path-2`, `path-3`, … that does not exist."""
    candidates = (path.with_name(f"{path.name}-{number}") for number in range(2, sys.maxsize))
    return path if not path.exists() else next(candidate for candidate in candidates if not candidate.exists())


def make_writable(path: Path) -> None:
    """Make a directory that can be written to.

    Raises:
        UserError: if it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        writable = os.access(path, os.W_OK)
    except OSError as error:
        raise UnusableError(f"cannot write to {path}: {error.strerror}; give another --out") from error
    if not writable:
        raise UnusableError(f"cannot write to {path}: permission denied; give another --out")
