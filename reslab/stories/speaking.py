"""The language of a story, and its texts."""

import tomllib
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from pathlib import Path
from unicodedata import east_asian_width

from reslab.commands.typed import language
from reslab.errors import Language


def tell(story: Callable[..., None]) -> None:
    """Tell a story in the language of `--lang`, else in the system's."""
    parser = ArgumentParser(description=story.__doc__)
    parser.add_argument("--lang", choices=("ko", "en"), help="default: the system's")
    story(spoken=language(parser.parse_args().lang))


def words(story: str, spoken: Language) -> Mapping[str, str]:
    """Return a story's texts, by name, in a language."""
    texts = tomllib.loads(Path(__file__).with_name(f"{story}.toml").read_text(encoding="utf-8"))
    return {name: each[spoken] for name, each in texts.items()}


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Return a text with blanks after it, or before it if it stands on the `right`, up to a width in columns, of which
    a letter of Hangul has two.
    """
    missing = " " * (width - sum(1 + (east_asian_width(letter) in "WF") for letter in text))
    return missing + text if right else text + missing
