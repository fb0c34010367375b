"""The texts of a study, `NAME.toml` beside `NAME.py`, in both languages, by the keys of its claims, charts and tables;
and its presets. Texts shared by studies are in `common.toml`: units of effects, names of columns and series, and common
settings.
"""

import sys
import tomllib
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib.resources import files
from math import isfinite
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from reslab.errors import MissingError, WrongValueError
from reslab.files import finite
from reslab.ledger.claim import Claim, Decision, Direction, Kind, Section, Text, Words
from reslab.ledger.record import Band, Chart, Series, Table, Value


@cache
def _read(package: str, name: str) -> dict[str, Any]:
    return tomllib.loads((files(package) / f"{name}.toml").read_text(encoding="utf-8"))


def _read_beside(module: str) -> dict[str, Any]:
    """Return the texts of a user's own study, which is in no package."""
    words = Path(sys.modules[module].__file__ or "").with_suffix(".toml")
    if not words.is_file():
        raise MissingError(f"no file {words}; expected the study's texts beside its Python file")
    try:
        return tomllib.loads(words.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WrongValueError(f"{words} is not valid TOML: {error}") from error


def _common() -> dict[str, Any]:
    return _read("reslab.experiment", "common")


class StudyText:
    """The texts of one study, by key.

    Raises:
        KeyError: if a key has no text.
    """

    def __init__(self, module: str) -> None:
        self.module = module
        package, _, self.study = module.rpartition(".")
        self._words = _read(package, self.study) if package else _read_beside(module)

    @property
    def title(self) -> Text:
        """Return the study's title."""
        return _both(self._words["title"])

    @property
    def question(self) -> Text:
        """Return the question that it answers."""
        return _both(self._words["question"])

    @property
    def presets(self) -> dict[str, dict[str, Any]]:
        """Return the settings of each preset; `default` is empty unless the file has it."""
        return {"default": {}, **self._words.get("presets", {})}

    @property
    def settings(self) -> dict[str, Text]:
        """Return a description of each setting, the common ones first."""
        words = {**_common()["settings"], **self._words.get("settings", {})}
        return {key: _both(text) for key, text in words.items()}

    def claim(self, key: str, spec: "Spec", section: Section | None, paper: str) -> Claim:
        """Return the claim of this key, from the code and the texts."""
        words = self._words["claims"][key]
        unit = words.get("unit", "")
        shared = _common()["units"].get(unit) if isinstance(unit, str) else None
        return Claim(
            id=f"{self.study}.{key}",
            kind=spec.kind,
            section=spec.section or section,
            statement=_both(words["statement"]),
            source=spec.source or (f"{paper}, {spec.at}" if spec.at else paper),
            direction=spec.direction,
            margin=spec.margin,
            unit=_words(shared or unit),
            rate=spec.rate if spec.rate is not None else bool(shared and shared.get("rate")),
            corrects=_both(words["corrects"]) if "corrects" in words else None,
            decision=spec.decision,
            finding=_both(words["finding"]) if "finding" in words else None,
            revision=spec.revision,
            margin_why=_both(words["why"]) if "why" in words else None,
            published=spec.published,
            same_as=spec.same_as,
        )

    def keys(self) -> list[str]:
        """Return the keys of the claims with a text."""
        return list(self._words["claims"])

    def name(self, key: str, said: Mapping[str, Any] | None = None) -> Words:
        """Return the name of a series, column or row: the study's own text, else the common one, else the key
        itself.
        """
        return _words(self._words.get("names", {}).get(key) or _common()["names"].get(key) or key, said)

    def chart(
        self,
        key: str,
        series: Sequence[Series],
        *,
        bands: Sequence[Band] = (),
        said: Mapping[str, Any] | None = None,
        **drawn: Any,
    ) -> Chart:
        """Return a chart: its words, in which `said` fills the braces, around its series; `drawn` are fields of
        `Chart`.
        """
        words = {what: _both(text, said) for what, text in self._words["charts"][key].items()}
        return Chart(**words, series=list(series), bands=list(bands), **drawn)

    def band(self, key: str, first: float | str, last: float | str, said: Mapping[str, Any] | None = None) -> Band:
        """Return a shaded part of a chart, from one `x` to another, with its name."""
        return Band(name=_both(self._words["bands"][key], said), first=first, last=last)

    def table(
        self,
        key: str,
        rows: Sequence[Sequence[Value | Words]],
        *,
        more: Sequence[Words] = (),
        said: Mapping[str, Any] | None = None,
    ) -> Table:
        """Return a table: its words, its columns' names among them, and those of `more` columns, above its rows.

        A cell that is a name in both languages is shown in English, and one whose number is not finite is empty.
        """
        words = self._words["tables"][key]
        columns = [*(self.name(column) for column in words["columns"]), *more]
        cells = [[cell["en"] if isinstance(cell, dict) else finite(cell) for cell in row] for row in rows]
        return Table(title=_both(words["title"], said), columns=columns, rows=cells)

    def averaged(
        self,
        key: str,
        x: Sequence[float] | Sequence[str],
        columns: Sequence[Collection[float]],
        *,
        said: Mapping[str, Any] | None = None,
        **drawn: Any,
    ) -> Series:
        """Return a series of the mean of each column, which holds a value per seed for its `x`, and one standard
        deviation where each has several; neither where a value is not finite.
        """
        means = [fmean(column) if all(map(isfinite, column)) else None for column in columns]
        spreads = list(map(spread, columns)) if all(len(column) > 1 for column in columns) else None
        return Series(name=self.name(key, said), x=list(x), y=means, spread=spreads, **drawn)

    def over_seeds(self, key: str, x: Sequence[float], values: Mapping[int, Sequence[float]]) -> Series:
        """Return the same of what each seed measured at every `x`."""
        return self.averaged(key, x, list(zip(*values.values(), strict=True)))

    def before_and_after(self, key: str, found: Mapping[int, Sequence[Any]]) -> Chart:
        """Return a chart of what each seed measured in every block, before training and after."""
        before, after = ({seed: one[when] for seed, one in found.items()} for when in (0, 1))
        places = [float(place) for place in range(1, len(next(iter(after.values()), [])) + 1)]
        return self.chart(key, [self.over_seeds("before", places, before), self.over_seeds("after", places, after)])


def spread(values: Collection[float]) -> float | None:
    """Return one standard deviation; None if there is one value, or any is not finite."""
    return stdev(values) if len(values) > 1 and all(map(isfinite, values)) else None


class Spec:
    """The part of a claim that the code fixes before seeds are run; made by `higher`, `lower`, `not_higher`, `exact`
    and `cited`.
    """

    def __init__(
        self,
        kind: Kind,
        direction: Direction | None = None,
        margin: float | None = None,
        *,
        at: str = "",
        source: str = "",
        section: Section | None = None,
        rate: bool | None = None,
        decision: Decision | None = None,
        revision: int = 1,
        published: float | None = None,
        same_as: str | None = None,
    ) -> None:
        self.kind, self.direction, self.margin = kind, direction, margin
        self.at, self.source, self.section, self.rate, self.decision = at, source, section, rate, decision
        self.revision, self.published, self.same_as = revision, published, same_as


def higher(margin: float, **where: Any) -> Spec:
    """Return a claim that the effect is above the margin; `at` is the place in the study's paper, or `source` the whole
    source.
    """
    return Spec("statistical", "higher", margin, **where)


def lower(margin: float, **where: Any) -> Spec:
    """Return a claim that the effect is below minus the margin."""
    return Spec("statistical", "lower", margin, **where)


def not_higher(margin: float, **where: Any) -> Spec:
    """Return a claim of non-inferiority: the effect is below the margin."""
    return Spec("statistical", "not higher", margin, **where)


def exact(**where: Any) -> Spec:
    """Return a claim that one count or identity decides."""
    return Spec("exact", **where)


def cited(decision: Decision = "supported", **where: Any) -> Spec:
    """Return a claim that its source decides; the finding is in the texts."""
    return Spec("cited", decision=decision, **where)


def claims(text: StudyText, paper: str, section: Section | None, specs: Mapping[str, Spec]) -> tuple[Claim, ...]:
    """Return a study's claims; `paper` and `section` are the defaults for claims that do not name their own.

    Raises:
        ValueError: if code and texts do not have the same claims.
    """
    if differing := set(specs) ^ set(text.keys()):
        raise ValueError(
            f"{text.study}: claims without a text, or texts without a claim: {', '.join(sorted(differing))}"
        )
    return tuple(text.claim(key, spec, section, paper) for key, spec in specs.items())


def _both(text: Any, said: Mapping[str, Any] | None = None) -> Text:
    ko, en = text["ko"], text["en"]
    return {"ko": ko.format(**said), "en": en.format(**said)} if said is not None else {"ko": ko, "en": en}


def _words(text: Any, said: Mapping[str, Any] | None = None) -> Words:
    return text if isinstance(text, str) else _both(text, said)
