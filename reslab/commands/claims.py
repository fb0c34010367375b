"""`reslab claims`: what the lab tests, and what is known of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reslab.commands import printing
from reslab.commands.app import Flag, app
from reslab.errors import UserError, suggest

if TYPE_CHECKING:
    from rich.table import Table

    from reslab.files import Json


@app.command
def claims(*directories: Path, section: str | None = None, lang: Literal["en", "ko"] = "en", json: Flag = False) -> None:
    """List the claims the lab tests, section by section of the chapter, with their verdicts if study directories are given.

    Parameters
    ----------
    directories
        Study directories (the --out of `reslab study`); without any, the claims are listed undecided.
    section
        List only this section: overview, degradation, residual-learning, gradient, shortcuts, blocks, variants, resnet-50, identity, ensemble,
        batchnorm or successors.
    lang
        Language of the list; JSON has both.
    json
        Print one JSON list, with the same keys whether decided or not.
    """
    from reslab import studies
    from reslab.ledger.claim import SECTIONS
    from reslab.ledger.verdict import undecided

    if section is not None and section not in SECTIONS:
        raise UserError(f"no section {section!r}{suggest(section, SECTIONS)}")
    if directories:
        from reslab.report.records import command, read_study

        studied = [read_study(directory) for directory in directories]
        records = [{**claim, "study": record["study"], "command": command(record)} for record in studied for claim in record["claims"]]
    else:
        found = [studies.find(name) for name in studies.names()]
        records = [{**undecided(claim), "study": study.name, "command": f"reslab study {study.name}"} for study in found for claim in study.claims]
    chosen = [record for record in records if section in (None, record["section"])]
    printing.print_json(chosen) if json else print_claims(chosen, lang)


Lang = Literal["en", "ko"]

WORDS: dict[Lang, dict[str, str]] = {
    "en": {
        **{word: word for word in ("supported", "counted", "refuted", "inconclusive", "exact", "statistical", "cited")},
        "higher": "Supported if the effect is over {}.",
        "lower": "Supported if the effect is under -{}.",
        "not higher": "Supported if the effect is no more than {}.",
        "effect": "Effect {} ({}), {} % interval [{}, {}], n = {}.",
        "chapter": "The chapter says",
        "source": "Source",
        "holm": "The levels of the intervals differ as the claims of a study share one error rate of 5 % (Holm's adjustment).",
        "how": "`reslab study STUDY` decides a claim: STUDY is what its id begins with.",
        "again": "Decided more than once: {} alike each time, {} inconclusive in some cases only, {} supported here and refuted there.",
    },
    "ko": {
        **{"supported": "지지됨", "counted": "셈", "refuted": "반박됨", "inconclusive": "판단 보류"},
        **{"exact": "세기·계산", "statistical": "통계", "cited": "문헌"},
        "higher": "효과가 {}보다 크면 지지됨.",
        "lower": "효과가 -{}보다 작으면 지지됨.",
        "not higher": "효과가 {} 이하이면 지지됨.",
        "effect": "효과 {} ({}), {} % 구간 [{}, {}], n = {}.",
        "chapter": "이 장의 말",
        "source": "출처",
        "holm": "구간마다 신뢰수준이 다른 것은 한 연구의 주장들이 오류율 5 %를 나누어 쓰기 때문이다(Holm 보정).",
        "how": "`reslab study 이름`이 주장을 판정한다. 이름은 주장의 id 앞부분이다.",
        "again": "두 번 이상 판정한 것: 매번 같은 주장 {}개, 더러만 판단 보류인 주장 {}개, 지지되기도 반박되기도 한 주장 {}개.",
    },
}

SUPPORTED = {"statistical": "supported", "exact": "counted", "cited": "cited"}
"""What stands before a supported claim, by its kind: what was counted or looked up is no measurement."""

COLOURS = {"supported": "green", "counted": "blue", "cited": "magenta", "refuted": "red", "inconclusive": "yellow"}


def print_claims(records: "list[Json]", lang: Lang = "en") -> None:
    """Print the claims section by section: verdict, or kind where undecided; statement, what the chapter says instead, evidence and source.

    A claim that several studies decided, with other seeds or data, stands several times in a row, each time with the command of its study.
    """
    from collections import Counter

    from rich.console import Console

    from reslab.ledger.claim import SECTIONS
    from reslab.ledger.verdict import agreement

    words, console = WORDS[lang], Console(highlight=False)
    ids = [record["id"] for record in records]
    for section, title in SECTIONS.items():
        members = sorted((record for record in records if record["section"] == section), key=lambda record: ids.index(record["id"]))
        counts = ", ".join(f"{count} {words[mark]}" for mark, count in Counter(map(_mark, members)).most_common())
        if members:
            console.print(f"[bold underline]{title[lang]}[/] [dim]({section})[/]: {counts}", claims_table(members, lang), sep="\n")
    if len({record["level"] for record in records if record["interval"]}) > 1:
        console.print(words["holm"])
    if any(record["verdict"] is None for record in records):
        console.print(words["how"])
    repeated = agreement(records)
    if any(repeated):
        console.print(words["again"].format(*map(len, repeated)))
    for id in repeated.both_ways:
        console.print(f"  {id}", markup=False)


def claims_table(records: "list[Json]", lang: Lang = "en") -> "Table":
    """Return a table of claims; those that stand in it several times name the command that decided them."""
    from rich.table import Table

    words = WORDS[lang]
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    ids = [record["id"] for record in records]
    for record in records:
        mark, text = _mark(record), _claim(record, words, lang)
        if ids.count(record["id"]) > 1:
            text.append(f"{record['command']}\n", "dim")
        table.add_row(f"[{COLOURS.get(mark, 'dim')}]{words[mark]}[/]", text)
    return table


def _mark(record: "Json") -> str:
    """Return what stands before a claim: its verdict, told apart by kind where it is supported, or its kind where it is undecided."""
    return SUPPORTED[record["kind"]] if record["verdict"] == "supported" else record["verdict"] or record["kind"]


def _claim(record: "Json", words: dict[str, str], lang: Lang) -> Any:
    """Return what is said of a claim beside its verdict, and an empty line."""
    from rich.text import Text

    from reslab.report.units import effect_and_interval
    from reslab.report.wording import reason

    text = Text()
    text.append(f"{record['id']}\n", "bold")
    text.append(f"{record['statement'][lang]}\n")
    if record["corrects"]:
        text.append(f"{words['chapter']}: {record['corrects'][lang]}\n", "italic")
    if record["interval"]:
        effect, low, high = effect_and_interval(record["effect"], record["interval"])
        text.append(words["effect"].format(effect, record["unit"], f"{100 * record['level']:.4g}", low, high, record["n"]) + " ")
    elif record["reason"]:
        said = reason(record["reason"])
        text.append(f"{said if isinstance(said, str) else said[lang]}\n")
    if record["kind"] == "statistical":
        text.append(words[record["direction"]].format(f"{record['margin']:g}") + "\n")
    text.append(f"{words['source']}: {record['source']}\n", "dim")
    return text
