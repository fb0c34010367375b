"""The directories of data sets."""

import os
from pathlib import Path

from reslab.cache import user_cache
from reslab.errors import WrongValueError, worded


def full_path(text: str) -> Path:
    """Return a user's path, with `~` for a home directory, as an absolute path.

    Raises:
        UserError: if there is no such home directory, or the path is impossible.
    """
    try:
        return Path(text).expanduser().resolve()
    except (RuntimeError, ValueError, OSError) as error:
        raise WrongValueError(*worded("not-a-path", text=text, reason=str(error).rstrip("."))) from error


def data_root() -> Path:
    """Return the directory of downloaded data sets: RESLAB_DATA if set, else `data` in the user's cache directory."""
    given = os.environ.get("RESLAB_DATA")
    return full_path(given) if given else user_cache() / "data"
