"""`reslab claims`: what the lab tests, and what is known of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from reslab.commands import printing
from reslab.commands.app import Flag, app
from reslab.errors import MismatchError, MissingError, UnknownNameError, WrongValueError, suggest

if TYPE_CHECKING:
    from rich.table import Table

    from reslab.ledger.record import Record, Verdict


@app.command
def claims(
    *directories: Path,
    section: str | None = None,
    decide_again: Flag = False,
    margin: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    lang: Literal["en", "ko"] = "en",
    schema: Flag = False,
    json: Flag = False,
) -> None:
    """List the claims the lab tests, section by section of the chapter, with their verdicts if study directories are
    given.

    Parameters
    ----------
    directories
        Study directories (the --out of `reslab study`); without any, the claims are listed undecided.
    section
        List only this section: overview, degradation, residual-learning, gradient, shortcuts, blocks, variants,
        resnet-50, identity, ensemble, batchnorm or successors.
    decide_again
        Decide the claims of the directories again, from the values per seed in their records alone; nothing is written.
    margin
        With `--decide-again`: another margin of one claim, `--margin degradation.not-overfitting=0.03`; may be given
        again.
    lang
        Language of the list; JSON has both.
    schema
        Print the JSON schema of study.json, and nothing else.
    json
        Print one JSON list, with the same keys whether decided or not.
    """
    from reslab import studies
    from reslab.ledger.claim import SECTIONS
    from reslab.ledger.record import Record
    from reslab.ledger.verdict import undecided

    if schema:
        printing.print_json(Record.model_json_schema())
        return
    if margin and not decide_again:
        raise MismatchError(
            "--margin goes with --decide-again: reslab claims DIRECTORY --decide-again --margin ID=VALUE"
        )
    if decide_again and not directories:
        raise MissingError(
            "--decide-again needs study directories, whose records hold the values: reslab claims DIRECTORY "
            "--decide-again"
        )
    if section is not None and section not in SECTIONS:
        raise UnknownNameError(f"no section {section!r}{suggest(section, SECTIONS)}")
    if directories:
        from reslab.report.records import command, read_study

        studied = [read_study(directory) for directory in directories]
        if decide_again:
            studied = again(studied, margin)
        found = [(claim, record.study, command(record)) for record in studied for claim in record.claims]
    else:
        known = [studies.find(name) for name in studies.names()]
        found = [
            (undecided(claim), study.name, f"reslab study {study.name}") for study in known for claim in study.claims
        ]
    chosen = [each for each in found if section in (None, each[0].section)]
    if json:
        printing.print_json(
            [{**claim.model_dump(mode="json"), "study": study, "command": command} for claim, study, command in chosen]
        )
    else:
        print_claims([(claim, command) for claim, _, command in chosen], lang)


def again(records: "list[Record]", margins: tuple[str, ...]) -> "list[Record]":
    """Return the records with their claims decided again, with these margins (`ID=VALUE`).

    Raises:
        UserError: if a margin is no number or of no statistical claim, or a record holds no values per seed.
    """
    from math import isfinite

    from reslab.ledger.again import decide_again

    known = [claim.id for record in records for claim in record.claims if claim.kind == "statistical"]
    chosen = {}
    for text in margins:
        id, _, value = text.partition("=")
        if id not in known:
            raise UnknownNameError(f"--margin {text}: no statistical claim {id!r} in these records{suggest(id, known)}")
        try:
            chosen[id] = float(value)
        except ValueError:
            chosen[id] = float("nan")
        if not (isfinite(chosen[id]) and chosen[id] >= 0):
            raise WrongValueError(f"--margin {text}: expected ID=VALUE with a number of at least 0")
    try:
        return [record.model_copy(update={"claims": decide_again(record.claims, chosen)}) for record in records]
    except ValueError as error:
        raise MismatchError(f"cannot decide again: {error}; run the study again") from error


Lang = Literal["en", "ko"]

WORDS: dict[Lang, dict[str, str]] = {
    "en": {
        **{
            word: word
            for word in ("supported", "counted", "refuted", "inconclusive", "untested", "exact", "statistical", "cited")
        },
        "higher": "Supported if the effect is over {}.",
        "lower": "Supported if the effect is under -{}.",
        "not higher": "Supported if the effect is no more than {}.",
        "effect": "Effect {} ({}), {} % interval [{}, {}], n = {}.",
        "chapter": "The chapter says",
        "source": "Source",
        "holm": (
            "The levels of the intervals differ as the claims of a study share one error rate of 5 % (Holm's "
            "adjustment)."
        ),
        "how": "`reslab study STUDY` decides a claim: STUDY is what its id begins with.",
        "again": (
            "Decided more than once: {} alike each time, {} inconclusive in some cases only, {} supported here and "
            "refuted there."
        ),
    },
    "ko": {
        **{
            "supported": "지지됨",
            "counted": "셈",
            "refuted": "반박됨",
            "inconclusive": "판단 보류",
            "untested": "검증 못 함",
        },
        **{"exact": "세기·계산", "statistical": "통계", "cited": "문헌"},
        "higher": "효과가 {}보다 크면 지지됨.",
        "lower": "효과가 -{}보다 작으면 지지됨.",
        "not higher": "효과가 {} 이하이면 지지됨.",
        "effect": "효과 {} ({}), {} % 구간 [{}, {}], n = {}.",
        "chapter": "이 장의 말",
        "source": "출처",
        "holm": "구간마다 신뢰수준이 다른 것은 한 연구의 주장들이 오류율 5 %를 나누어 쓰기 때문이다(Holm 보정).",
        "how": "`reslab study 이름`이 주장을 판정한다. 이름은 주장의 id 앞부분이다.",
        "again": (
            "두 번 이상 판정한 것: 매번 같은 주장 {}개, 더러만 판단 보류인 주장 {}개, 지지되기도 반박되기도 한 주장 "
            "{}개."
        ),
    },
}

SUPPORTED = {"statistical": "supported", "exact": "counted", "cited": "cited"}
"""What stands before a supported claim, by its kind: what was counted or looked up is no measurement."""

COLOURS = {"supported": "green", "counted": "blue", "cited": "magenta", "refuted": "red", "inconclusive": "yellow"}


def print_claims(claims: "list[tuple[Verdict, str]]", lang: Lang = "en") -> None:
    """Print the claims section by section: verdict, or kind where undecided; statement, what the chapter says instead,
    evidence and source.

    With each claim comes the command that decides it: one that several studies decided, with other seeds or data,
    stands several times in a row, each time with its command.
    """
    from collections import Counter

    from rich.console import Console

    from reslab.ledger.again import agreement
    from reslab.ledger.claim import SECTIONS

    words, console = WORDS[lang], Console(highlight=False)
    ids = [claim.id for claim, _ in claims]
    for section, title in SECTIONS.items():
        members = sorted(
            (each for each in claims if each[0].section == section), key=lambda each: ids.index(each[0].id)
        )
        counts = ", ".join(
            f"{count} {words[mark]}" for mark, count in Counter(_mark(claim) for claim, _ in members).most_common()
        )
        if members:
            console.print(
                f"[bold underline]{title[lang]}[/] [dim]({section})[/]: {counts}", claims_table(members, lang), sep="\n"
            )
    if len({claim.level for claim, _ in claims if claim.interval}) > 1:
        console.print(words["holm"])
    if any(claim.verdict is None for claim, _ in claims):
        console.print(words["how"])
    repeated = agreement([claim for claim, _ in claims])
    if any(repeated):
        console.print(words["again"].format(*map(len, repeated)))
    for id in repeated.both_ways:
        console.print(f"  {id}", markup=False)


def claims_table(claims: "list[tuple[Verdict, str]]", lang: Lang = "en") -> "Table":
    """Return a table of claims; those that stand in it several times name the command that decided them."""
    from rich.table import Table

    words = WORDS[lang]
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    ids = [claim.id for claim, _ in claims]
    for claim, command in claims:
        mark, text = _mark(claim), _claim(claim, words, lang)
        if ids.count(claim.id) > 1:
            text.append(f"{command}\n", "dim")
        table.add_row(f"[{COLOURS.get(mark, 'dim')}]{words[mark]}[/]", text)
    return table


def _mark(claim: "Verdict") -> str:
    """Return what stands before a claim: its verdict, told apart by kind where it is supported, or its kind where it is
    undecided.
    """
    return SUPPORTED[claim.kind] if claim.verdict == "supported" else claim.verdict or claim.kind


def _claim(claim: "Verdict", words: dict[str, str], lang: Lang) -> Any:
    """Return what is said of a claim beside its verdict, and an empty line."""
    from rich.text import Text

    from reslab.ledger.wording import reason
    from reslab.report.units import effect_and_interval

    text = Text()
    text.append(f"{claim.id}\n", "bold")
    text.append(f"{claim.statement[lang]}\n")
    if claim.corrects:
        text.append(f"{words['chapter']}: {claim.corrects[lang]}\n", "italic")
    if claim.interval and claim.effect is not None and claim.level is not None:
        effect, low, high = effect_and_interval(claim.effect, claim.interval)
        unit = claim.unit if isinstance(claim.unit, str) else claim.unit[lang]
        text.append(words["effect"].format(effect, unit, f"{100 * claim.level:.4g}", low, high, claim.n) + " ")
    elif claim.reason:
        said = reason(claim)
        text.append(f"{said if isinstance(said, str) else said[lang]}\n")
    if claim.direction is not None:
        text.append(words[claim.direction].format(f"{claim.margin:g}") + "\n")
    text.append(f"{words['source']}: {claim.source}\n", "dim")
    return text
