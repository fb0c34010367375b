"""One self-contained HTML page from study directories; it reads only `study.json` and run directories."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mode
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from reslab import __version__
from reslab.files import write_atomically
from reslab.ledger import wording
from reslab.ledger.claim import SECTIONS
from reslab.ledger.evidence import Evidence, current, evidence, risk, seed_sets
from reslab.ledger.record import Outcome
from reslab.ledger.shipped import shipped
from reslab.report import explorer, ledger, pictures
from reslab.report.chapter import chapter
from reslab.report.hangul import font_face
from reslab.report.records import RESULTS_ONLY, StudyRecord, command, read_directory, summarise
from reslab.report.units import claim_in_percent, effect_and_interval

if TYPE_CHECKING:
    from reslab.analysis.torchvision_tour import Tour

_FONT = "/* the page's Hangul */"


def write_report(directories: Sequence[Path], out: Path, tour: "Callable[[], Tour] | None" = None) -> Path:
    """Write the page for these study directories to `out` and return its path; given a tour of torchvision, with that
    and the whole chapter. Without directories it is of the ledger that comes with the lab.

    Studies stand in the chapter's order, whatever order they are given in.

    Raises:
        UserError: if a directory holds neither a readable `study.json` nor trials.
    """
    environment = Environment(loader=PackageLoader("reslab.report"), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"figure": pictures.figure, "json": pictures.embedded, "marks": pictures.marks}
    environment.filters |= {
        "data_head": pictures.data_head,
        "data_rows": pictures.data_rows,
        "number_columns": pictures.number_columns,
    }
    environment.filters |= {"effect_and_interval": effect_and_interval}
    environment.filters |= {"dedent": dedent, "method": wording.method}
    found, known = _found(directories)
    anchors = {claim.id: f"{study['anchor']}-{claim.id}" for study in reversed(found) for claim in study["claims"]}
    whole = risk(known)
    page = environment.get_template("page.html.j2").render(
        studies=found,
        results_only=RESULTS_ONLY,
        ledger=ledger.sections(known, anchors),
        ticks=ledger.ticks(),
        width=ledger.WIDTH,
        risk=whole if whole.tests else None,
        chapter=chapter(anchors) if tour else None,
        explorer=explorer.catalogue(),
        tour=tour() if tour else None,
        palette=pictures.COLOURS,
        plotlyjs=get_plotlyjs(),
        version=__version__,
        font=Markup(_FONT),
    )
    write_atomically(out, page.replace(_FONT, font_face(page), 1))
    return out


def _found(directories: Sequence[Path]) -> tuple[list[dict[str, Any]], list[Evidence]]:
    """Return the sections of the directories' studies, or of the lab's, and what is known of their claims."""
    if not directories:
        known = shipped().evidence()
        stands = {each.claim.id: ledger.of_evidence(each) for each in known}
        studies = sorted(ledger.studies_of(shipped(), known), key=place_in_chapter)
        return [section(number, study, stands) for number, study in enumerate(studies, start=1)], known
    studies = sorted(map(read_directory, directories), key=place_in_chapter)
    records = [study.record for study in studies]
    sets = seed_sets(records)
    now = {claim.id: claim for claim in current(sets, shipped().claims)}
    found = []
    for number, study in enumerate(studies, start=1):
        own = {one.verdict.id: ledger.of_set(one, now[one.verdict.id]) for one in seed_sets([study.record], records)}
        found.append(section(number, study, own))
    return found, evidence([*now.values()], sets)


def place_in_chapter(study: StudyRecord) -> int:
    """Return the place in the chapter of the section that most of a study's claims are in; a study without any comes
    last.
    """
    order = list(SECTIONS)
    places = [order.index(claim.section) for claim in study.record.claims if claim.section in SECTIONS]
    return mode(places) if places else len(order)


def section(number: int, study: StudyRecord, stands: Mapping[str, dict[str, Any]] | None = None) -> dict[str, Any]:
    """Return what the page shows of a study: its record, notes, pictures, final errors, and the small print; and how
    its claims stand, by their ids.
    """
    record = study.record
    results: dict[str, list[Outcome]] = {}
    for trial in study.trials:
        if trial.result is not None:
            results.setdefault(trial.group, []).append(trial.result)
    rows = summarise(results)
    first = next((trial.config for trial in study.trials if trial.config), {})
    details = [
        record.config,
        first.get("config", {}).get("recipe"),
        {**first.get("environment", {}), "code": first.get("code")} if first else None,
    ]
    return {
        "anchor": f"{number}-{re.sub(r'[^a-z0-9_]+', '-', record.study.lower())}",
        "record": record,
        "claims": [claim_in_percent(claim) for claim in record.claims],
        "reasons": {claim.id: wording.reason(claim, percent=True) for claim in record.claims},
        "stands": stands or {},
        "notes": [note for note in study.notes if note != RESULTS_ONLY],
        "results_only": RESULTS_ONLY in study.notes,
        "pictures": pictures.pictures(record, study.trials, rows),
        "rows": rows,
        "command": command(record) if record.config else None,
        "details": [json.dumps(part, ensure_ascii=False, indent=2) for part in details if part],
    }


def dedent(lines: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return numbered lines of code without the indentation that all of them have."""
    common = min((len(line) - len(line.lstrip()) for _, line in lines), default=0)
    return [(number, line[common:]) for number, line in lines]
