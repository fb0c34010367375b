"""Mistakes in a command line itself, which cyclopts finds, as user errors in both languages."""

from typing import Literal, get_args, get_origin

from cyclopts import Argument
from cyclopts.exceptions import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
    ValidationError,
)
from cyclopts.validators import Number

from reslab.errors import (
    MismatchError,
    MissingError,
    UnknownNameError,
    UserError,
    Wording,
    WrongValueError,
    suggested,
    worded,
)

KINDS: dict[object, Wording] = {
    int: Wording("a whole number", "정수"),
    float: Wording("a number", "수"),
    bool: Wording("true or false", "true 또는 false"),
}
"""What an option of a type expects."""
BOUNDS = {
    "gte": Wording("at least {}", "{} 이상"),
    "gt": Wording("more than {}", "{} 초과"),
    "lte": Wording("at most {}", "{} 이하"),
    "lt": Wording("less than {}", "{} 미만"),
}
"""What an option expects by the fields of its `Number`."""


def misuse(error: CycloptsError) -> UserError:
    """Return a mistake in a command line as a user error, by its kind."""
    command = " ".join(error.command_chain or ())
    argument = error.argument
    match error:
        case UnknownCommandError(unused_tokens=[typed, *_], app=app) if app is not None:
            near = suggested(typed, sorted(name for name in app if not name.startswith("-")))
            return UnknownNameError(*worded("no-command", typed=f"{command} {typed}".strip(), near=near))
        case UnknownOptionError(token=token, argument_collection=known):
            typed = token.keyword or token.value
            near = suggested(typed, [name for each in known for name in each.names if name.startswith("--")])
            return UnknownNameError(*worded("no-option", command=command, typed=typed, near=near))
        case UnusedCliTokensError(unused_tokens=[typed, *_]):
            return MismatchError(*worded("too-many-arguments", command=command, typed=typed))
        case MissingArgumentError() if argument is not None:
            option = error.keyword or _name(argument)
            return MissingError(*worded("no-value", command=command, option=option))
        case RepeatArgumentError(token=token):
            return MismatchError(*worded("repeated-option", option=token.keyword))
        case CoercionError(token=token) if argument is not None and token is not None:
            expected = _expected(error.target_type)
            option = token.keyword or _name(argument)
            return WrongValueError(*worded("wrong-kind", option=option, typed=token.value, expected=expected))
        case ValidationError() if argument is not None and (bounds := _bounds(argument)):
            typed = argument.tokens[0].value
            return WrongValueError(*worded("out-of-range", option=_name(argument), typed=typed, bounds=bounds))
    return UserError(str(error), worded("command-line", command=command).korean)


def _name(argument: Argument) -> str:
    """Return how an option is typed, or what stands for a positional argument in the help."""
    return argument.name if argument.name.startswith("--") else argument.name.upper()


def _expected(kind: object) -> Wording:
    """Return what an option of a type expects."""
    if get_origin(kind) is not Literal:
        return KINDS.get(kind, Wording(str(kind), str(kind)))
    choices = ", ".join(map(str, get_args(kind)))
    return Wording(f"one of {choices}", f"{choices} 중 하나")


def _bounds(argument: Argument) -> Wording | None:
    """Return the range that an option's value must be in; None if it has none."""
    validators = argument.parameter.validator
    ranges = [each for each in validators if isinstance(each, Number)] if isinstance(validators, tuple) else []
    limits = [
        Wording(words.english.format(limit), words.korean.format(limit))
        for each in ranges
        for key, words in BOUNDS.items()
        if (limit := getattr(each, key)) is not None
    ]
    english, korean = " and ".join(each.english for each in limits), " ".join(each.korean for each in limits)
    return Wording(english, korean) if limits else None
