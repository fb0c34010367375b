"""Names of data sets as they are shown and compared on any machine."""

from pathlib import PurePath

BROKEN = "?broken="
"""What stands between a folder and what is done with its broken images."""


def without_path(data: str) -> str:
    """Return the name of a data set: of a folder `folder:NAME`, of others their kind."""
    kind, _, place = data.partition(":")
    path = place.partition(BROKEN)[0]
    return f"folder:{PurePath(path).name or path}" if kind == "folder" else kind
