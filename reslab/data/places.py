"""Where data are looked for and kept."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

Watch = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def silent(what: str, done: int, total: int) -> None:
    """Watch nothing."""


def user_cache() -> Path:
    """Return this user's cache directory for the lab: under XDG_CACHE_HOME, LOCALAPPDATA (Windows) or ~/.cache."""
    system = os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else os.environ.get("XDG_CACHE_HOME")
    return Path(system or Path.home() / ".cache") / "reslab"


def data_root() -> Path:
    """Return where downloaded data sets are: RESLAB_DATA where it is set, else `data` in the user's cache directory."""
    return Path(os.environ.get("RESLAB_DATA") or user_cache() / "data")
