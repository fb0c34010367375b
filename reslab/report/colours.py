"""The colours of networks: the same in every picture, and safe for colour-blind readers."""

import re
from collections.abc import Sequence
from itertools import cycle

COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#C2609A",
    "#BD7F00",
    "#3391C9",
    "#000000",
    "#857D00",
    "#6B5BD2",
    "#882255",
    "#8C5A2B",
    "#747C85",
)
"""Colours that stay apart for colour-blind eyes: those of Okabe & Ito (2008), the light ones darkened so that lines are
visible on white (3 to 1, WCAG 1.4.11), then four for pictures with more than eight series; dashes and marks distinguish
curves too. The seventh, black, is the text's colour.
"""

FAMILIES = {
    r"stochastic|densenet": (3, 8),
    r"pre-?activation|preresnet|\bv2\b": (2, 7),
    r"plain-20\b": (4,),
    r"resnet-20\b": (5,),
    r"plain": (1, 4),
    r"residual|\bresnet\b|\bv1\b": (0, 5),
}
"""The colours of a family of networks, by a pattern in its English name; the first series of a picture has the
first.
"""


OTHERS = (6, 3, 10, 11, 8, 7, 9, 2, 4, 5, 1, 0)
"""The colours of series that are not networks, in order of use; networks' colours come last."""


def colours(names: Sequence[str]) -> list[int]:
    """Return each series' place in `COLOURS`, given their English names: a network's own colour, any other series the
    first that no network of the picture has.
    """
    shades = {pattern: cycle(places) for pattern, places in FAMILIES.items()}
    families = [next((pattern for pattern in FAMILIES if re.search(pattern, name.lower())), None) for name in names]
    found = [next(shades[pattern]) if pattern else None for pattern in families]
    free = cycle([place for place in OTHERS if place not in found] or OTHERS)
    return [next(free) if place is None else place for place in found]


def palette() -> list[tuple[str, str]]:
    """Return each colour for light and for dark backgrounds, where it is lighter; black is the text's colour."""
    return [("#1c2126", "#e4e7ea") if colour == "#000000" else (colour, _lighter(colour)) for colour in COLOURS]


def _lighter(colour: str, share: float = 0.3) -> str:
    """Return a colour mixed with this share of white."""
    parts = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return "#" + "".join(f"{round(part + share * (255 - part)):02x}" for part in parts)
