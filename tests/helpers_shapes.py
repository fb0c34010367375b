"""Shapes that are written on Tensors: where they are missing, and whether they hold, by jaxtyping's import hook, in a
process of its own, since the lab is imported anew.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any, get_args

from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, install_import_hook
from torch import Tensor


def parts(hint: Any) -> Iterator[Any]:
    """Yield a type hint and all that it is made of."""
    yield hint
    for part in get_args(hint):
        for each in part if isinstance(part, list) else [part]:
            yield from parts(each)


def shaped(hint: Any) -> bool:
    """Return whether a shape is written somewhere in a hint."""
    return any(isinstance(part, type) and issubclass(part, AbstractArray) for part in parts(hint))


def bare(hint: Any) -> bool:
    """Return whether a hint has a Tensor without a shape."""
    return any(part is Tensor for part in parts(hint))


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check a function's shapes when it is called, and leave its other types to mypy."""
    hints = {name: hint for name, hint in function.__annotations__.items() if shaped(hint)}
    if not hints:
        return function
    function.__annotations__ = hints
    return beartype(conf=BeartypeConf(is_pep484_tower=True))(function)  # type: ignore[return-value]  # of any function


def hook(packages: list[str]) -> None:
    """Have what is imported of these packages from here on check its shapes."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "reslab"]:
        del sys.modules[name]
    install_import_hook(packages, f"{__name__}.checked")
