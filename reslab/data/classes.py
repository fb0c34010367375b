"""Matching the classes of images to those of weights, by name."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from reslab.errors import MismatchError, MissingError, few, worded

WNID = re.compile(r"n\d{8}")
"""A synset of WordNet, `n01440764`, as ImageNet's folders are named."""
FIRST_OF_IMAGENET = "tench"


class Match(NamedTuple):
    """The index of each class among the weights' classes, and how it was matched."""

    places: list[int]
    by: str


def match(names: Sequence[str], classes: Sequence[str]) -> Match:
    """Return the index of each name among `classes`, each of which may be a list of synonyms separated by commas.

    Names are matched exactly; as ImageNet's synsets (`n01440764`), if `classes` are its thousand classes; or ignoring
    case, spaces, hyphens and underscores, also by any synonym. One of these ways must match all names, each to a
    different class.

    Raises:
        UserError: naming those that are not found or ambiguous.
    """
    if set(names) <= set(classes) and len(set(classes)) == len(classes):
        return Match([classes.index(name) for name in names], "name")
    if all(map(WNID.fullmatch, names)):
        if not _is_imagenets(classes):
            raise MismatchError(*worded("synsets-of-others", names=few(names), classes=few(classes)))
        known = {synset: place for place, synset in enumerate(synsets())}
        found = [[known[name]] if name in known else [] for name in names]
        return Match(_only(names, classes, found), "synset")
    tables = [_table(classes, words) for words in WAYS]
    found = [
        next(filter(None, (_looked_up(words(name), table) for words, table in zip(WAYS, tables, strict=True))), [])
        for name in names
    ]
    return Match(_only(names, classes, found), "name without regard to case, spaces and synonyms")


def synsets() -> list[str]:
    """Return the synsets of ImageNet's thousand classes, in order.

    Raises:
        UserError: if timm, which lists them, is not installed.
    """
    try:
        from timm.data.imagenet_info import ImageNetInfo
    except ModuleNotFoundError as error:
        raise MissingError(*worded("no-synsets")) from error
    return list(ImageNetInfo("imagenet-1k").label_names())


def _is_imagenets(classes: Sequence[str]) -> bool:
    return len(classes) == 1000 and FIRST_OF_IMAGENET in _synonyms(classes[0])


def _spaced(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip()


def _synonyms(name: str) -> list[str]:
    return [word.strip() for word in _spaced(name).casefold().split(",")]


WAYS: tuple[Callable[[str], list[str]], ...] = (
    lambda name: [_spaced(name)],
    lambda name: [_spaced(name).partition(",")[0]],
    lambda name: [_spaced(name).casefold()],
    lambda name: _synonyms(name)[:1],
    _synonyms,
)
"""Ways of comparing two names, the strictest first: the whole name or the first synonym exactly, then in lower case,
then any synonym.
"""


def _table(classes: Sequence[str], words: Callable[[str], list[str]]) -> dict[str, list[int]]:
    """Return the indices of the classes with each word."""
    table: dict[str, list[int]] = {}
    for place, name in enumerate(classes):
        for word in set(words(name)):
            table.setdefault(word, []).append(place)
    return table


def _looked_up(words: list[str], table: dict[str, list[int]]) -> list[int]:
    return sorted({place for word in words for place in table.get(word, ())})


def _only(names: Sequence[str], classes: Sequence[str], found: Sequence[Sequence[int]]) -> list[int]:
    """Return the only index found for each name.

    Raises:
        UserError: naming those with none, with several, or with the same one.
    """
    if unknown := [name for name, places in zip(names, found, strict=True) if not places]:
        raise MismatchError(
            *worded("folders-not-of-weights", unknown=few(unknown), count=len(classes), classes=few(classes))
        )
    if several := [name for name, places in zip(names, found, strict=True) if len(places) > 1]:
        raise MismatchError(*worded("several-classes", several=few(several)))
    taken = [place for places in found for place in places]
    if twice := [name for name, place in zip(names, taken, strict=True) if taken.count(place) > 1]:
        raise MismatchError(*worded("folders-of-one-class", twice=few(twice)))
    return taken
