"""Addresses within the page: a view or a claim is addressed by its name, `#lesion` or `#lesion.plain-breaks`."""

import re

VIEWS = ("start", "ledger", "explorer", "tour", "chapter", "play", "main", "contents")
OF_THE_PAGE = ("plotly", "explorer-program", "module-", "picture-", "chapter-")
"""How addresses begin that the page gives to its own programs, pictures and sections."""
PARTS = (
    *(
        "answers",
        "class-shares",
        "class-title",
        "claims-shown",
        "clear",
        "counts",
        "curve",
        "digit",
        "errors",
        "filter",
    ),
    *("find-claims", "flow", "forget", "gallery", "gradient", "gradient-of", "inside", "logits", "maps", "menu"),
    *("networks", "of-block", "paper", "play-data", "presets", "ranking", "rises", "scores", "seen", "shares"),
    *("shares-help", "shares-title", "shown", "size-range", "spectrum", "spectrum-help", "spectrum-mean", "stages"),
    *("steps", "strip", "verdicts"),
)
"""Names of views, and of parts of them, which studies cannot have."""


class Addresses:
    """The addresses that are taken, each once."""

    def __init__(self) -> None:
        self._taken = {*VIEWS, *PARTS}

    def __contains__(self, name: str) -> bool:
        """Return whether this very address is taken."""
        return name in self._taken

    def take(self, name: str) -> str:
        """Return an address for a name: the name itself or, if it is taken, with a number."""
        plain = re.sub(r"[^\w.-]+", "-", name.lower()).strip("-") or "study"
        plain = f"study-{plain}" if plain.startswith(OF_THE_PAGE) else plain
        address, number = plain, 1
        while address in self._taken:
            number += 1
            address = f"{plain}-{number}"
        self._taken.add(address)
        return address
