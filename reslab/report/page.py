"""One self-contained HTML page from study directories: a set of views, of which one is shown. It reads only
`study.json` and run directories.
"""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from statistics import mode
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from reslab import __version__
from reslab.files import Json, write_atomically
from reslab.ledger import wording
from reslab.ledger.claim import SECTIONS
from reslab.ledger.evidence import Evidence, current, evidence
from reslab.ledger.registration import seeds_of
from reslab.ledger.risk import risk
from reslab.ledger.sets import SeedSet, origin_of, seed_sets
from reslab.ledger.shipped import shipped
from reslab.report import colours, explorer, ledger, opening, pictures
from reslab.report.addresses import Addresses
from reslab.report.chapter import chapter
from reslab.report.findings import finding
from reslab.report.hangul import font_face
from reslab.report.packing import packed
from reslab.report.playground import LOADER
from reslab.report.records import RESULTS_ONLY, StudyRecord, command, read_directory
from reslab.report.units import effect_and_interval, table_in_percent

if TYPE_CHECKING:
    from reslab.analysis.torchvision_tour import Tour

BESIDE = "play.html"
"""The playground's page, to which a page without a playground links if it is beside it."""

_FONT = "/* the page's Hangul */"


def write_report(
    directories: Sequence[Path],
    out: Path,
    tour: "Callable[[], Tour] | None" = None,
    play: Json | None = None,
) -> Path:
    """Write the page for these study directories to `out` and return its path. With a tour of torchvision it includes
    that and the whole chapter; with a playground (`reslab.report.playground.playground`) it includes that.

    Without directories it shows the bundled ledger. The bundled ledger's evidence counts too: a claim's headline is
    about all of it. Studies are shown in the chapter's order.

    Raises:
        UserError: if a directory holds neither a readable `study.json` nor trials.
    """
    studies, sets = _found(directories)
    claims = shipped().claims if not directories else current(sets, shipped().claims)
    known = evidence(claims, sets)
    if not directories:
        studies = ledger.studies_of(shipped(), known)
    studies = sorted(studies, key=place_in_chapter)
    addresses = Addresses()
    sections = [section(study, studies, known, sets, addresses) for study in studies]
    anchors = {row["claim"].id: row["address"] for each in reversed(sections) for row in each["claims"]}
    whole = risk(known)
    text = chapter(anchors) if tour else None
    drawings = {name: svg for part in text.values() for name, svg in part.pictures.items()} if text else {}
    environment = _environment()
    programs = {
        "plotly": _plotly(),
        "explorer-program": packed(environment.get_template("explorer.js").render(data=explorer.catalogue())),
    }
    page = environment.get_template("page.html.j2").render(
        studies=sections,
        results_only=RESULTS_ONLY,
        start=opening.start(studies, known, anchors),
        ledger=(shown := ledger.sections(known, anchors)),
        data_sets=ledger.data_sets(shown),
        ticks=ledger.ticks(),
        width=ledger.WIDTH,
        risk=whole if whole.tests else None,
        chapter=text,
        tour=tour() if tour else None,
        play=play,
        beside=BESIDE if (out.parent / BESIDE).is_file() else None,
        palette=colours.palette(),
        packed={**programs, **{name: packed(svg) for name, svg in drawings.items()}},
        version=__version__,
        font=Markup(_FONT),
    )
    write_atomically(out, page.replace(_FONT, font_face(page), 1))
    return out


@cache
def _plotly() -> str:
    return packed(get_plotlyjs())


def _environment() -> Environment:
    environment = Environment(loader=LOADER, autoescape=True, undefined=StrictUndefined)
    environment.filters |= {
        "coloured": pictures.coloured,
        "data_head": pictures.data_head,
        "data_rows": pictures.data_rows,
        "dedent": dedent,
        "effect_and_interval": effect_and_interval,
        "figure": pictures.figure,
        "json": pictures.embedded,
        "marks": pictures.marks,
        "method": wording.method,
        "number_columns": pictures.number_columns,
    }
    return environment


def _found(directories: Sequence[Path]) -> tuple[list[StudyRecord], list[SeedSet]]:
    """Return the directories' studies, and the sets of seeds for their claims: the bundled ones and theirs, each
    once.
    """
    if not directories:
        return [], list(shipped().sets)
    studies = [read_directory(directory) for directory in directories]
    own = seed_sets([study.record for study in studies], shipped().ran())
    names, held = {study.record.study for study in studies}, [(one.origin, one.verdict.id) for one in own]
    others = [one for one in shipped().sets if one.origin.study in names and (one.origin, one.verdict.id) not in held]
    return studies, [*others, *own]


def place_in_chapter(study: StudyRecord) -> int:
    """Return the position in the chapter of the section of most of a study's claims; a study without claims comes
    last.
    """
    order = list(SECTIONS)
    places = [order.index(claim.section) for claim in study.record.claims if claim.section in SECTIONS]
    return mode(places) if places else len(order)


def section(
    study: StudyRecord,
    studies: Sequence[StudyRecord],
    known: Sequence[Evidence],
    sets: Sequence[SeedSet],
    addresses: Addresses,
) -> dict[str, Any]:
    """Return a study's part of the page: record, notes, pictures, final errors, claims and footnotes."""
    record = study.record
    origin = origin_of(record)
    first = next((trial.config for trial in study.trials if trial.config), {})
    details = [
        record.config,
        first.get("config", {}).get("recipe"),
        {**first.get("environment", {}), "code": first.get("code")} if first else None,
    ]
    verdicts = {each.claim.id: found for each in known if (found := each.at(origin))}
    drawn = pictures.pictures(study)
    by_class = pictures.by_class(study)
    twice = sum(other.record.study == record.study for other in studies) > 1 and origin.data
    return {
        "anchor": addresses.take(record.study),
        "record": record,
        "seeds": wording.spans(sorted(seeds_of(record))) if twice else "",
        "data": wording.data(origin.data) if twice else "",
        "claims": ledger.of_record(record, known, sets, addresses),
        "notes": [note for note in study.notes if note != RESULTS_ONLY],
        "results_only": RESULTS_ONLY in study.notes,
        "pictures": [(picture, finding(record.study, picture, verdicts)) for picture in drawn],
        "rows": study.rows(),
        "tables": [*map(table_in_percent, record.tables), *([by_class] if by_class else [])],
        "command": command(record) if record.config else None,
        "details": [json.dumps(part, ensure_ascii=False, indent=2) for part in details if part],
    }


def dedent(lines: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return numbered lines of code without their common indentation."""
    common = min((len(line) - len(line.lstrip()) for _, line in lines), default=0)
    return [(number, line[common:]) for number, line in lines]
