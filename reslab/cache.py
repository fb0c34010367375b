"""The user's cache directory."""

import os
import sys
from pathlib import Path

from reslab.errors import MissingError, worded

VARIABLE = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
"""The environment variable by which it is elsewhere."""


def user_cache() -> Path:
    """Return this user's cache directory for reslab: under XDG_CACHE_HOME, LOCALAPPDATA (Windows) or ~/.cache.

    Raises:
        UserError: if none of them is set and the user has no home.
    """
    try:
        return Path(os.environ.get(VARIABLE) or Path.home() / ".cache") / "reslab"
    except RuntimeError as error:
        raise MissingError(*worded("no-home-for-cache", variable=VARIABLE)) from error
