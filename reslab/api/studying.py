"""`reslab.study`: `reslab study` from Python, also for a user's own study file."""

import warnings
from dataclasses import dataclass
from html import escape
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from reslab import studies
from reslab.analysis.result import Result, drawn
from reslab.api.claims import english
from reslab.errors import Language, MissingError, UnknownNameError, WrongValueError, suggested, worded
from reslab.executors import local
from reslab.experiment.directory import Directory
from reslab.experiment.study import Study as Question
from reslab.experiment.study import run_study
from reslab.importing import of_file
from reslab.ledger.record import Chart, Record
from reslab.progress import Progress, shown
from reslab.report.figures import draw
from reslab.report.page import write_report
from reslab.report.pictures import pictures
from reslab.report.records import read_directory, read_study

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Study(Result):
    """A finished study in its directory: `verdicts`, `trials`, `figure(name)`; in a notebook it displays itself.

    `reslab.study` returns it; `Study(directory)` reads one that has been run before.

    Examples:
        >>> import reslab
        >>> found = reslab.study("degradation", preset="smoke", depths=(8, 14), seeds=1, surface=1, workers=1)
        >>> again = reslab.Study(found.directory)
        >>> again.verdicts.equals(found.verdicts), len(again.trials)
        (True, 4)
    """

    directory: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "directory", Path(self.directory))

    @property
    def record(self) -> Record:
        """Return its record, the content of `study.json`."""
        return read_study(self.directory)

    @property
    def report(self) -> Path:
        """Return its page."""
        return self.directory / "report.html"

    def __repr__(self) -> str:
        decided = ", ".join(f"{name} {verdict}" for name, verdict in self.verdicts["verdict"].items())
        return f"Study {self.record.study}: {decided} ({self.directory})"

    @property
    def verdicts(self) -> "pd.DataFrame":
        """Return a row per claim, indexed by its name in the study: verdict, effect, interval and margin."""
        import pandas as pd

        rows = []
        for claim in self.record.claims:
            low, high = claim.interval or (None, None)
            rows.append(
                {
                    "claim": claim.id.partition(".")[2],
                    "kind": claim.kind,
                    "verdict": claim.verdict,
                    "way": claim.way,
                    "effect": claim.effect,
                    "low": low,
                    "high": high,
                    "level": claim.level,
                    "margin": claim.margin,
                    "unit": english(claim.unit),
                    "n": claim.n,
                    "p": claim.p,
                    "statement": english(claim.statement),
                }
            )
        columns = None if rows else ["claim", "kind", "verdict", "effect", "interval"]
        return pd.DataFrame(rows, columns=columns).set_index("claim")

    @property
    def trials(self) -> "pd.DataFrame":
        """Return a row per trial: group, seed and results; errors are fractions."""
        import pandas as pd

        rows = [
            {
                "group": entry.group,
                "seed": entry.seed,
                "model": entry.config.get("model"),
                **{key: value for key, value in entry.result if not isinstance(value, dict | list)},
                "directory": str(self.directory / entry.directory),
            }
            for entry in self.record.trials
        ]
        return pd.DataFrame(rows)

    def confusion(self, group: str) -> "pd.DataFrame":
        """Return how many test images of each class (rows) a group's networks take for each (columns), and for none,
        over all seeds.

        Raises:
            UserError: if there is no such group, or its trials kept none.
        """
        import pandas as pd

        known = read_directory(self.directory).confusions()
        if group not in known:
            raise UnknownNameError(*worded("no-confusion-of-group", group=group, near=suggested(group, known)))
        names = list(known[group].classes)
        return pd.DataFrame(known[group].counts, index=pd.Index(names, name="class"), columns=[*names, "none"])

    def errors_by_class(self) -> "pd.DataFrame":
        """Return a row per class and a column per group: the fraction of the class's test images that the group's
        networks take for another, over all seeds.
        """
        import pandas as pd

        known = read_directory(self.directory).confusions()
        return pd.DataFrame({group: pd.Series(each.errors(), index=each.classes) for group, each in known.items()})

    def to_frame(self) -> "pd.DataFrame":
        """Return the verdicts, a row per claim."""
        return self.verdicts

    @property
    def figures(self) -> dict[str, Chart]:
        """Return the study's pictures as data, by their English titles."""
        return {picture.title["en"]: picture for picture in pictures(read_directory(self.directory))}

    def figure(self, name: str | None = None, language: Language = "en") -> "Figure":
        """Return a figure of the study by its title, or a part of it; by default the first.

        Raises:
            UserError: if there is no such figure.
        """
        known = self.figures
        found = [title for title in known if name is None or name.lower() in title.lower()]
        found.sort(key=lambda title: title.lower() != (name or title).lower())  # the whole title before a part of one
        if not found:
            raise UnknownNameError(*worded("no-figure", name=name, near=suggested(name or "", known)))
        return draw(known[found[0]], language)

    def _repr_html_(self) -> str:
        record = self.record
        question = f"<p>{escape(english(record.question))}</p>" if record.question else ""
        drawn_ones = [drawn(self.figure(title), "svg").decode() for title in self.figures]
        drawings = "".join(picture[picture.index("<svg") :] for picture in drawn_ones)
        return f"<h3>{escape(english(record.title))}</h3>{question}{self.verdicts.to_html()}{drawings}"


def study(
    question: str | ModuleType | PathLike[str],
    *,
    preset: str = "default",
    out: str | PathLike[str] | None = None,
    replace: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Study:
    """Run the missing trials of a study, decide its claims, and return it.

    Args:
        question: the name of a study (`reslab.claims()` lists their claims), or your own: a module or the path of a
            Python file that defines `STUDY`.
        preset: a set of settings, "default" or "smoke" (takes seconds, to check that everything works).
        out: the study's directory, by default `runs/NAME`, or `runs/NAME-PRESET`.
        replace: overwrite a record made with other settings in the same directory; trials are kept.
        workers: parallel trials on this machine, by default as many as cores and memory allow, and one on a GPU.
        progress: notified of the trials done; by default bars in a notebook or a terminal, and nothing elsewhere.
        settings: of the study: `data`, `seeds`, `first_seed`, `recipe`, `epochs`, …, and its own, such as `depths=(20,
            56)`.

    Examples:
        >>> import reslab
        >>> found = reslab.study("degradation", preset="smoke", depths=(8, 14), seeds=1, surface=1, workers=1)
        >>> found.trials["group"].tolist()
        ['plain-8', 'resnet-8', 'plain-14', 'resnet-14']
        >>> found.verdicts.loc["deeper-contains-shallower", "kind"]
        'exact'

    Raises:
        UserError: if there is no such study or setting, or its directory holds another's record.
    """
    chosen = question_of(question)
    config = chosen.configure(preset, settings)
    if workers is not None and workers < 1:
        raise WrongValueError(*worded("below-one", what="workers", given=workers))
    path = usual_place(chosen.name, preset) if out is None else Path(out)
    directory = Directory(path).prepare(chosen, None if replace else config)
    with shown(progress) as tell:
        finished = run_study(chosen, config, directory, local(workers), tell)
    for said in finished.warnings():
        warnings.warn(said.english, stacklevel=2)
    write_report([path], path / "report.html")
    return Study(path)


def usual_place(name: str, preset: str) -> Path:
    """Return the directory of a study that is given none."""
    return Path("runs") / (name if preset == "default" else f"{name}-{preset}")


def question_of(asked: str | ModuleType | PathLike[str]) -> Question:
    """Return a study by its name, or the one of a module or a Python file.

    Raises:
        UserError: if there is none.
    """
    if isinstance(asked, str) and not asked.endswith(".py"):
        return studies.find(asked)
    module = asked if isinstance(asked, ModuleType) else of_file(Path(asked))
    found = getattr(module, "STUDY", None)
    if not isinstance(found, Question):
        raise MissingError(*worded("no-study-in-module", name=module.__name__))
    return found
