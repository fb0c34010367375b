"""The directories of data sets and caches."""

import os
import sys
from pathlib import Path

from reslab.errors import MissingError, WrongValueError


def full_path(text: str) -> Path:
    """Return a user's path, with `~` for a home directory, as an absolute path.

    Raises:
        UserError: if there is no such home directory, or the path is impossible.
    """
    try:
        return Path(text).expanduser().resolve()
    except (RuntimeError, ValueError, OSError) as error:
        raise WrongValueError(f"{text!r} is not a path: {str(error).rstrip('.')}") from error


def user_cache() -> Path:
    """Return this user's cache directory for reslab: under XDG_CACHE_HOME, LOCALAPPDATA (Windows) or ~/.cache.

    Raises:
        UserError: if none of them is set and the user has no home.
    """
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    try:
        return Path(os.environ.get(variable) or Path.home() / ".cache") / "reslab"
    except RuntimeError as error:
        raise MissingError(f"this user has no home directory; set {variable} to a directory") from error


def data_root() -> Path:
    """Return the directory of downloaded data sets: RESLAB_DATA if set, else `data` in the user's cache directory."""
    return Path(os.environ.get("RESLAB_DATA") or user_cache() / "data")
