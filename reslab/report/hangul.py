"""Hangul for machines without a Korean font: a font in the package, from which a page embeds the characters that it
uses.
"""

import base64
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FAMILY = "Reslab Hangul"
FILE = Path(__file__).parent / "fonts" / "ReslabHangul.ttf"
"""The modern syllables of NanumGothic without hinting, renamed as its licence (OFL.txt) asks."""

_HANGUL = re.compile("[\u3131-\u318e\uac00-\ud7a3]")


def font_face(page: str) -> str:
    """Return the CSS rule that embeds the characters of a page, empty for a page without Hangul."""
    from fontTools import subset
    from fontTools.ttLib import TTFont

    used = {ord(character) for character in _HANGUL.findall(page)}
    if not used:
        return ""
    font = TTFont(FILE, recalcTimestamp=False)
    subsetter = subset.Subsetter(subset.Options())
    subsetter.populate(unicodes=used)
    subsetter.subset(font)
    font.flavor = "woff"
    file = io.BytesIO()
    font.save(file)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    source = f'url("data:font/woff;base64,{data}") format("woff")'
    return (
        f'@font-face {{ font-family: "{FAMILY}"; src: {source}; font-display: block; unicode-range: U+3131-318E, '
        f"U+AC00-D7A3; }}"
    )


@contextmanager
def matplotlib_draws_hangul() -> Iterator[None]:
    """Draw Hangul with the package's font, and the text of SVG as shapes, so that it is readable everywhere."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    if FAMILY not in fontManager.get_font_names():
        fontManager.addfont(FILE)
    settings: Any = {"font.family": ["DejaVu Sans", FAMILY], "svg.fonttype": "path", "svg.hashsalt": "reslab"}
    with matplotlib.rc_context(settings):
        yield
