"""Reading what was typed: values, settings of a recipe, directories to write to."""

import json
import locale
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from difflib import get_close_matches
from inspect import signature
from itertools import product
from pathlib import Path
from typing import Any

from reslab.errors import (
    ExistsError,
    Language,
    UnknownNameError,
    UnusableError,
    WrongValueError,
    meant,
    suggested,
    worded,
)


def language(given: Language | None = None) -> Language:
    """Return the language to speak: the one given, else Korean where the system speaks it, else English."""
    system = os.environ.get("LC_ALL") or os.environ.get("LANG") or locale.getlocale()[0] or ""
    return given or ("ko" if system.lower().startswith("ko") else "en")


def asked_in(typed: Sequence[str]) -> Language:
    """Return the language in which typed words ask to be answered: that of their `--lang`, else the system's."""
    found: list[Language] = re.findall("(?:^|\0)--lang[=\0](ko|en)(?=\0|$)", "\0".join(typed))
    return found[-1] if found else language()


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
        raise WrongValueError(*worded("numbers-of-channels", what=what, text=text)) from error


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
            asked = f"--{option.replace('_', '-')}"
            words = worded("no-option", command=command.__name__, typed=asked, near=meant(typed[near]))
            raise UnknownNameError(*words)


ALIKE = 0.8
"""Names that difflib finds at least this similar are taken for typos of each other: epoch and epochs, batchsize and
batch_size.
"""


def settings_of(texts: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the settings of a recipe that were typed, `KEY=VALUE`: one set, or, where values are listed, `KEY=A,B`,
    one for every combination, the last setting changing first.

    Raises:
        UserError: if one is of another form, or no setting of a recipe.
    """
    from reslab.training.recipes import Recipe

    values: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        key, equals, typed = text.partition("=")
        if not equals or key not in Recipe.model_fields:
            raise UnknownNameError(*worded("not-a-setting", text=text, near=suggested(key, Recipe.model_fields)))
        if key in values:
            raise WrongValueError(*worded("setting-twice", key=key))
        read = value(typed)
        if read == ():
            raise WrongValueError(*worded("setting-without-value", text=text))
        values[key] = read if isinstance(read, tuple) else (read,)
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def unused(path: Path) -> Path:
    """Return `path`, or the first of `path-2`, `path-3`, … that does not exist."""
    candidates = (path.with_name(f"{path.name}-{number}") for number in range(2, sys.maxsize))
    return path if not path.exists() else next(candidate for candidate in candidates if not candidate.exists())


OF_A_PAGE = b"default-src 'none'; script-src 'unsafe-inline'"
"""What every page that reslab has written begins with: its security policy."""


def check_page(out: Path, name: str) -> None:
    """Check that a page may be written, `name` by default: where another of reslab's was, or nothing.

    Raises:
        UserError: if there is something else, or it cannot be written to.
    """
    from reslab.files import opened

    if out.is_dir():
        raise WrongValueError(*worded("out-is-a-directory", out=out, file=out / name))
    if out.exists():
        with opened(out, sys.maxsize) as file:
            if OF_A_PAGE not in file.read(2000):
                raise ExistsError(*worded("exists", path=out))
    make_writable(out.parent)


def make_writable(path: Path, option: str = "--out") -> None:
    """Make a directory that can be written to; `option` is what another can be given with.

    Raises:
        UserError: if it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        writable = os.access(path, os.W_OK)
    except OSError as error:
        raise UnusableError(*worded("unwritable", path=path, reason=error.strerror, option=option)) from error
    if not writable:
        raise UnusableError(*worded("unwritable", path=path, reason="permission denied", option=option))
