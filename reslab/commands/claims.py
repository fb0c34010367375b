"""`reslab claims`: the claims that the lab tests, and their evidence."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from reslab.commands import printing, tables, typed
from reslab.commands.app import Flag, app
from reslab.commands.ledger import print_ledger
from reslab.errors import Language, MismatchError, MissingError, UnknownNameError, WrongValueError, suggested, worded

if TYPE_CHECKING:
    from reslab.files import Json
    from reslab.ledger.evidence import AtScale, Evidence
    from reslab.ledger.sets import SeedSet


@app.command
def claims(
    *directories: Path,
    section: str | None = None,
    pool: Flag = False,
    decide_again: Flag = False,
    margin: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    lang: Language | None = None,
    schema: Flag = False,
    csv: Path | None = None,
    parquet: Path | None = None,
    json: Flag = False,
) -> None:
    """List the claims the lab tests, by section of the chapter, each with its evidence: the pooled verdict of all seeds
    that ran after the claim was fixed, each set of seeds, other data sets, and the effect that the paper reports.

    Parameters
    ----------
    directories
        Study directories (the --out of `reslab study`); without any, the bundled ledger.
    section
        List only this section: overview, degradation, residual-learning, gradient, shortcuts, blocks, variants,
        resnet-50, identity, ensemble, batchnorm or successors.
    pool
        Show what was pooled: sets of seeds (fixed effect), and data sets (random effects, with the interval of the next
        one's effect).
    decide_again
        Decide the claims of the directories again, from the values per seed in their records alone; nothing is written.
    margin
        With `--decide-again`: another margin of one claim, `--margin degradation.not-overfitting=0.03`; repeatable.
    lang
        Language of the list, by default the system's; JSON has both.
    schema
        Print the JSON schema of study.json, and nothing else.
    csv
        A CSV file to write, UTF-8 as spreadsheets know it: a row per claim, as `reslab.claims()` has them.
    parquet
        A Parquet file to write; it needs pyarrow.
    json
        Print JSON: the claims, with the same keys whether decided or not, and the ledger's overall error rate.
    """
    from reslab.api.claims import of_directories, table
    from reslab.ledger.claim import SECTIONS
    from reslab.ledger.record import Record
    from reslab.ledger.risk import risk
    from reslab.ledger.shipped import shipped

    if schema:
        printing.print_json(Record.model_json_schema())
        return
    if margin and not decide_again:
        raise MismatchError(*worded("margin-without-decision"))
    if decide_again and not directories:
        raise MissingError(*worded("nothing-to-decide-again"))
    if section is not None and section not in SECTIONS:
        raise UnknownNameError(*worded("no-section", name=section, near=suggested(section, SECTIONS)))
    places = tables.places(csv, parquet)
    known = shipped().evidence()
    if directories:
        known = of_directories(directories, decide_again, wanted(directories, margin))
    chosen = [each for each in known if section in (None, each.claim.section)]
    written = tables.write(table(known, section), places, typed.language(lang)) if places else []
    if json:
        printing.print_json({"claims": [to_json(each) for each in chosen], "risk": risk(known)._asdict()})
    elif written:
        print("\n".join(written))
    else:
        print_ledger(chosen, risk(known), typed.language(lang), pool=pool)


def wanted(directories: Sequence[Path], margins: tuple[str, ...]) -> dict[str, float]:
    """Return the margins that were typed (`ID=VALUE`), by their claims.

    Raises:
        UserError: if one is not a number, or not of a statistical claim.
    """
    from math import isfinite

    from reslab.report.records import read_study

    records = [read_study(directory) for directory in directories] if margins else []
    known = [claim.id for record in records for claim in record.claims if claim.kind == "statistical"]
    chosen = {}
    for text in margins:
        id, _, value = text.partition("=")
        if id not in known:
            raise UnknownNameError(*worded("no-claim", text=text, id=id, near=suggested(id, known)))
        try:
            chosen[id] = float(value)
        except ValueError:
            chosen[id] = float("nan")
        if not (isfinite(chosen[id]) and chosen[id] >= 0):
            raise WrongValueError(*worded("not-a-margin", text=text))
    return chosen


# --- JSON -------------------------------------------------------------------------------------------------------------


def to_json(known: "Evidence") -> "Json":
    """Return a claim's verdict, its standing, and its evidence."""
    from reslab.ledger.record import Reason
    from reslab.ledger.verdict import undecided
    from reslab.report.records import command

    over, here = known.over_data, known.scales[0] if known.scales else None
    return {
        **(known.headline or undecided(known.claim)).model_dump(mode="json"),
        "study": known.study,
        "command": command(here.origin) if here and here.sets else f"reslab study {known.study}",
        "standing": known.standing,
        "scales": [_scale(known, scale) for scale in known.scales if scale.sets],
        "over_data": over.model_dump(mode="json") if isinstance(over, Reason) else over._asdict(),
    }


def _scale(known: "Evidence", scale: "AtScale") -> "Json":
    origin = scale.origin
    return {
        "data": origin.data,
        "steps": origin.steps,
        "settings": origin.settings,
        "verdict": scale.verdict and scale.verdict.verdict,
        "standing": scale.standing,
        "effect": scale.verdict and scale.verdict.effect,
        "error": scale.error,
        "pooled": {"seeds": scale.seeds, "sets": len(scale.pooled), "between": scale.between} if scale.pooled else None,
        "sets": [_set(known, one) for one in scale.sets],
    }


EVIDENCE = ("verdict", "way", "effect", "interval", "level", "n", "p", "share", "signs", "needed", "revision", "margin")


def _set(known: "Evidence", one: "SeedSet") -> dict[str, Any]:
    verdict = one.verdict.model_dump(mode="json")
    return {
        "seeds": one.origin.seeds,
        "standing": one.standing,
        "why": one.why and one.why.model_dump(mode="json"),
        "registered": one.origin.registered,
        "of_the_claim": one.of(known.claim),
        **{name: verdict[name] for name in (*EVIDENCE, "failed", "reason")},
    }
