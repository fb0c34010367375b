"""The ledger on a terminal: an entry per claim, with a bar on one axis, and what the ledger as a whole risks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reslab.commands import printing
from reslab.errors import Language

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from reslab.ledger.axis import Bar
    from reslab.ledger.claim import Words
    from reslab.ledger.evidence import AtScale, Evidence
    from reslab.ledger.record import Verdict
    from reslab.ledger.risk import Risk
    from reslab.ledger.sets import SeedSet

WORDS: dict[Language, dict[str, str]] = {
    "en": {
        **{
            word: word
            for word in ("supported", "counted", "refuted", "inconclusive", "untested", "unmeasured", "cited")
        },
        "higher": "Supported if the effect is over {}.",
        "lower": "Supported if the effect is under {}.",
        "not higher": "Supported if the effect is no more than {}.",
        "effect": "Effect {}, {} % interval [{}, {}], n = {}.",
        "chapter": "The chapter says",
        "source": "Source",
        "paper": "The paper's effect: {:+g}.",
        "why": "The margin",
        "how": "Not measured in its current form: reslab study {}",
        "pooled": "pooled, {} seeds of {} set{} (fixed effect)",
        "between": "{}; that all sets have one mean: p = {:.2g}",
        "over data": "{} data sets: {:+.3g} [{:+.3g}, {:+.3g}]; the effect on the next one [{:+.3g}, {:+.3g}] (95 %)",
        "bars": (
            "Bars: effects over margins, the claimed way to the right (for what is not higher: to the left of the "
            "margin). ● effect, ━ interval, │ margin (at 1), ┊ zero, ◆ the paper's effect. The claims of a study share "
            "one error rate of 5 % by Holm's procedure, which decides; their intervals hold together (Bonferroni)."
        ),
        "sets": (
            "Sets of seeds: ✓ supported, ✗ refuted, ? inconclusive, – untested. Registered: claim, margin, seeds and "
            "code were in a file before the seeds were run. Fresh: of version 0.1, on seeds that nobody had seen when "
            "the claim was written. Exploratory: neither, and not pooled."
        ),
        "apart": "Supported at one scale and refuted at another:",
        "again": (
            "Decided more than once: {} alike each time, {} inconclusive in some cases only, {} supported here and "
            "refuted there."
        ),
        "risk": (
            "The whole ledger: {} independent tests. If every true effect lay exactly on its margin, {:.2g} of them "
            "would be expected to be decided all the same."
        ),
    },
    "ko": {
        **{
            "supported": "지지됨",
            "counted": "셈",
            "refuted": "반박됨",
            "inconclusive": "판단 보류",
            "untested": "검증 못 함",
            "unmeasured": "아직 안 잼",
            "cited": "문헌",
        },
        "higher": "효과가 {}보다 크면 지지됨.",
        "lower": "효과가 {}보다 작으면 지지됨.",
        "not higher": "효과가 {} 이하이면 지지됨.",
        "effect": "효과 {}, {} % 구간 [{}, {}], n = {}.",
        "chapter": "이 장의 말",
        "source": "출처",
        "paper": "논문의 효과: {:+g}.",
        "why": "기준의 까닭",
        "how": "지금의 주장으로는 아직 재지 않았다: reslab study {}",
        "pooled": "시드 {}개, 묶음 {}개를 합침(고정 효과)",
        "between": "{}. 묶음들의 평균이 모두 같은가: p = {:.2g}",
        "over data": "데이터 {}가지: {:+.3g} [{:+.3g}, {:+.3g}], 다음 데이터에서는 [{:+.3g}, {:+.3g}] (95 %)",
        "bars": (
            "막대: 효과를 기준으로 나눈 값이고, 주장한 쪽이 오른쪽이다(‘크지 않다’는 주장은 기준의 왼쪽). ● 효과, "
            "━ 구간, │ 기준(1), ┊ 0, ◆ 논문의 효과. "
            "한 연구의 주장들은 오류율 5 %를 나누어 쓰고 홀름 절차로 판정한다. 구간들은 함께 성립한다(본페로니)."
        ),
        "sets": (
            "시드 묶음: ✓ 지지됨, ✗ 반박됨, ? 판단 보류, – 검증 못 함. 사전 등록: 시드를 돌리기 전에 주장, 기준, 시드, "
            "코드를 파일로 고정했다. 새 시드: 0.1판의 것으로, 주장을 쓸 때 아무도 보지 못한 시드다. 탐색: 둘 다 아니며 "
            "합치지 않는다."
        ),
        "apart": "규모에 따라 지지되기도 반박되기도 한 주장:",
        "again": (
            "두 번 이상 판정한 것: 매번 같은 주장 {}개, 더러만 판단 보류인 주장 {}개, 지지되기도 반박되기도 한 주장 "
            "{}개."
        ),
        "risk": (
            "주장 목록 전체: 서로 독립인 검정 {}개. 참된 효과가 모두 정확히 기준에 있다면, 그런데도 판정이 나는 것은 "
            "평균 {:.2g}개다."
        ),
    },
}

SUPPORTED = {"statistical": "supported", "exact": "counted", "cited": "cited"}
"""What stands before a supported claim, by its kind: counted or cited claims are not measurements."""

COLOURS = {"supported": "green", "counted": "blue", "cited": "magenta", "refuted": "red", "inconclusive": "yellow"}

WIDEST = 65
NARROWEST = 25
"""Columns of a bar."""


def print_ledger(known: "Sequence[Evidence]", risk: "Risk", lang: Language = "en", *, pool: bool = False) -> None:
    """Print what is known of claims, how their sets of seeds agree, and what the whole ledger risks."""
    from reslab.ledger.again import agreement

    words, console = WORDS[lang], printing.console_of()
    if apart := [each for each in known if each.apart]:
        console.print(words["apart"], style="bold")
    for each in apart:
        console.print(f"  {each.claim.id}: {'; '.join(at_scale(scale, lang) for scale in each.apart)}", markup=False)
    print_claims(known, lang, pool=pool)
    if any(scale.sets for each in known for scale in each.scales):
        console.print(words["sets"])
    if pool and (few := _few_data(known)):
        console.print(_sentence(_in(few, lang)))
    verdicts = [one.verdict for each in known for scale in each.scales[:1] for one in scale.sets if one.of(each.claim)]
    repeated = agreement(verdicts)
    if any(repeated):
        console.print(words["again"].format(*map(len, repeated)))
    for id in repeated.both_ways:
        console.print(f"  {id}", markup=False)
    if risk.tests:
        console.print(words["risk"].format(risk.tests, risk.expected))


def print_claims(known: "Sequence[Evidence]", lang: Language = "en", *, pool: bool = False) -> None:
    """Print what is known of claims, section by section; with `pool`, also what was pooled."""
    from reslab.ledger.claim import BEYOND, SECTIONS

    words, console = WORDS[lang], printing.console_of()
    for section, title in [*SECTIONS.items(), (None, BEYOND)]:
        if members := [each for each in known if each.claim.section == section]:
            place = f" [dim]({section})[/]" if section else ""
            console.print(f"[bold underline]{title[lang]}[/]{place}: {_counts(members, words)}")
            console.print(table(members, lang, console.width, pool=pool))
    if any(_bar(each) for each in known):
        console.print(words["bars"])


def _counts(members: "Sequence[Evidence]", words: dict[str, str]) -> str:
    from collections import Counter

    counts = Counter(mark_of(each) for each in members)
    return ", ".join(f"{count} {words[mark]}" for mark, count in counts.most_common())


def table(known: "Sequence[Evidence]", lang: Language, width: int, *, pool: bool = False) -> "Table":
    """Return a table of what is known of claims, for a terminal of so many columns."""
    from rich.cells import cell_len
    from rich.table import Table

    words = WORDS[lang]
    marks = [mark_of(each) for each in known]
    room = min(WIDEST, width - 3 - max(cell_len(words[mark]) for mark in marks))
    found = Table.grid(padding=(0, 2, 0, 0))
    found.add_column(no_wrap=True)
    found.add_column(overflow="fold")
    if room >= NARROWEST and any(_bar(each) for each in known):
        found.add_row("", f"[dim]{axis(room)}[/]")
    for mark, each in zip(marks, known, strict=True):
        found.add_row(f"[{COLOURS.get(mark, 'dim')}]{words[mark]}[/]", _entry(each, words, lang, room, pool))
    return found


def mark_of(known: "Evidence") -> str:
    """Return what stands before a claim: its verdict, told apart by kind where it is supported."""
    if known.headline is None or known.headline.verdict is None:
        return "unmeasured"
    return SUPPORTED[known.claim.kind] if known.headline.verdict == "supported" else known.headline.verdict


def at_scale(scale: "AtScale", lang: Language) -> str:
    """Return a scale and the verdict there."""
    from reslab.ledger import wording

    found = scale.verdict and scale.verdict.verdict
    return f"{wording.scale(scale.origin)[lang]}: {WORDS[lang][found or 'unmeasured']}"


def _entry(known: "Evidence", words: dict[str, str], lang: Language, room: int, pool: bool) -> "Text":
    """Return what is said of a claim beside its verdict, and an empty line."""
    from rich.text import Text

    claim, text = known.claim, Text()
    text.append(f"{claim.id}\n", "bold")
    text.append(f"{claim.statement[lang]}\n")
    if claim.corrects:
        text.append(f"{words['chapter']}: {claim.corrects[lang]}\n", "italic")
    if (bar := _bar(known)) and room >= NARROWEST:
        text.append(f"{drawn(bar, room)}\n", COLOURS.get(mark_of(known), ""))
    if known.headline is not None:
        text.append(" ".join(_evidence(known, known.headline, words, lang)) + "\n")
    elif claim.kind != "cited":
        text.append(words["how"].format(known.study) + "\n", "dim")
    for scale in known.scales if claim.kind == "statistical" else ():
        if scale.sets:
            text.append(_sets(known, scale, lang) + "\n", "dim")
    if pool and claim.kind == "statistical":
        text.append("".join(f"{line}\n" for line in _pooling(known, words, lang)), "dim")
    if claim.margin_why:
        text.append(f"{words['why']}: {claim.margin_why[lang]}\n", "dim")
    text.append(f"{words['source']}: {claim.source}\n", "dim")
    return text


def _evidence(known: "Evidence", verdict: "Verdict", words: dict[str, str], lang: Language) -> list[str]:
    """Return the sentences of a verdict."""
    from reslab.ledger import wording
    from reslab.report.units import effect_and_interval

    claim, said = known.claim, []
    if verdict.interval and verdict.effect is not None and verdict.level is not None:
        effect, low, high = effect_and_interval(verdict.effect, verdict.interval)
        level = f"{100 * verdict.level:.4g}"
        unit = f" ({_in(claim.unit, lang)})" if claim.unit else ""
        said.append(words["effect"].format(f"{effect}{unit}", level, low, high, verdict.n))
    elif verdict.reason:
        said.append(_in(wording.reason(verdict), lang))
    if claim.direction is not None:
        threshold = (claim.margin or 0.0) * (-1 if claim.direction == "lower" else 1)
        said.append(words[claim.direction].format(f"{threshold or 0:g}"))
    more = (wording.way(verdict), wording.needed(verdict), wording.failed(verdict))
    said += [_sentence(_in(found, lang)) for found in more if found]
    if known.standings:
        said.append(_sentence(", ".join(_in(wording.standing(standing), lang) for standing in known.standings)))
    if claim.published is not None:
        said.append(words["paper"].format(claim.published))
    return said


def _sets(known: "Evidence", scale: "AtScale", lang: Language) -> str:
    """Return a line of a scale's sets of seeds: those that stand alike together, the best first."""
    from reslab.ledger import wording
    from reslab.ledger.sets import STANDINGS

    now = [one for one in scale.sets if one.of(known.claim)]
    groups = [
        (_in(wording.standing(standing), lang), [one for one in now if one.standing == standing])
        for standing in STANDINGS
    ]
    groups.append((_in(wording.standing("changed"), lang), [one for one in scale.sets if one not in now]))
    said = [f"{name} {', '.join(map(_set, members))}" for name, members in groups if members]
    if scale is not known.scales[0] and scale.pooled and (effect := _size(scale.verdict)):
        said.insert(0, effect)
    return f"{wording.scale(scale.origin)[lang]}: {'; '.join(said)}"


def _size(verdict: "Verdict | None") -> str:
    """Return an effect and its interval; empty without them."""
    from reslab.report.units import effect_and_interval

    if verdict is None or verdict.effect is None or verdict.interval is None:
        return ""
    effect, low, high = effect_and_interval(verdict.effect, verdict.interval)
    return f"{effect} [{low}, {high}]"


def _set(one: "SeedSet") -> str:
    from reslab.ledger.wording import SIGNS, spans

    return f"{spans(one.origin.seeds)} {SIGNS.get(one.verdict.verdict or '', '')}".rstrip()


def _pooling(known: "Evidence", words: dict[str, str], lang: Language) -> list[str]:
    """Return what was pooled over sets of seeds and over data sets."""
    from reslab.ledger import wording
    from reslab.ledger.record import Reason

    said = []
    for scale in known.scales:
        if scale.pooled:
            sets = len(scale.pooled)
            line = words["pooled"].format(len(scale.seeds), sets, "" if sets == 1 else "s")
            between = line if scale.between is None else words["between"].format(line, scale.between)
            said.append(f"{wording.scale(scale.origin)[lang]}: {between}")
    over = known.over_data
    if not isinstance(over, Reason):
        said.append(words["over data"].format(over.data_sets, over.effect, *over.interval, *over.prediction))
    return said


def _few_data(known: "Sequence[Evidence]") -> "Words":
    """Return why no claim is pooled over data sets, if none is."""
    from reslab.ledger import wording
    from reslab.ledger.record import Reason

    reasons = [each.over_data for each in known if isinstance(each.over_data, Reason) and each.over_data.values]
    most = max(reasons, key=lambda one: int(str(one.values["n"])), default=None)
    return wording.too_few_data(most) if most and len(reasons) == len(known) else ""


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _in(words: "Words", lang: Language) -> str:
    return words if isinstance(words, str) else words[lang]


def _bar(known: "Evidence") -> "Bar | None":
    from reslab.ledger.axis import bar

    return bar(known.claim, known.headline) if known.headline and known.claim.kind == "statistical" else None


# --- The axis ---------------------------------------------------------------------------------------------------------


def column(place: float, width: int) -> int:
    """Return the column of a place between -1 and 1."""
    return round((place + 1) / 2 * (width - 1))


def axis(width: int) -> str:
    """Return the axis' numbers over the bars: margins."""
    from reslab.ledger.axis import TICKS, place

    cells = [" "] * width
    for tick in TICKS:
        middle, text = column(place(tick), width), f"{tick}"
        start = middle - (len(text) - 1 if tick < 0 else 0)
        cells[start : start + len(text)] = text
    return "".join(cells).rstrip()


def drawn(bar: "Bar", width: int) -> str:
    """Return a bar as a line of characters; what is past an end of the axis is an arrow there."""
    cells: list[Any] = [" "] * width
    low, high, zero, margin, effect = (
        column(place, width) for place in (bar.low, bar.high, 0.0, bar.margin, bar.effect)
    )
    cells[zero] = "┊"
    cells[low : high + 1] = "━" * (high + 1 - low)
    cells[margin] = "┿" if low <= margin <= high else "│"
    if bar.published is not None:
        cells[column(bar.published, width)] = "◆"
    cells[effect] = "●"
    if bar.low <= -1:
        cells[0] = "◀"
    if bar.high >= 1:
        cells[-1] = "▶"
    return "".join(cells).rstrip()
