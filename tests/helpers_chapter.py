"""The chapter's verdicts, which the ledger writes: `python tests/helpers_chapter.py` does it anew, after new records.

Where the chapter asks "Is it so?" stand two tables: the questions, numbered, and folded away below them the claims that
answer each. The questions and the claims' names are the writer's; the cells beside them are the ledger's.
"""

import re
from pathlib import Path

from reslab.commands.ledger import WORDS, at_scale, mark_of
from reslab.errors import Language
from reslab.ledger import wording
from reslab.ledger.evidence import Evidence
from reslab.ledger.record import Verdict
from reslab.ledger.shipped import shipped
from reslab.report.units import effect_and_interval

HERE = Path(__file__).parents[1] / "reslab"
CHAPTERS: dict[str, Language] = {"README.md": "ko", "README.en.md": "en"}
ASKED: dict[Language, str] = {"ko": "**정말 그런가?**", "en": "**Is it so?**"}

CLAIM = re.compile(r"^\| (\d+) \| `([\w.-]+)` \|.*$", re.MULTILINE)
QUESTION = re.compile(r"^\| (\d+) \| ([^`\n|][^\n|]*) \|.*$", re.MULTILINE)


def written(text: str, lang: Language) -> str:
    """Return the chapter with its verdicts as the ledger has them now."""
    known = {each.claim.id: each for each in shipped().evidence()}
    parts = re.split(rf"^(?={re.escape(ASKED[lang])}$)", text, flags=re.MULTILINE)
    return "".join(_answered(part, known, lang) for part in parts)


def _answered(part: str, known: dict[str, Evidence], lang: Language) -> str:
    """Return one question's part, from its mark on, with the verdicts."""
    answers: dict[str, list[Evidence]] = {}
    for number, id in CLAIM.findall(part):
        answers.setdefault(number, []).append(known[id])

    def question(row: re.Match[str]) -> str:
        return f"| {row[1]} | {row[2]} | {_together(answers[row[1]], lang)} |" if row[1] in answers else row[0]

    def claim(row: re.Match[str]) -> str:
        return f"| {row[1]} | `{row[2]}` | {' | '.join(_alone(known[row[2]], lang))} |"

    return CLAIM.sub(claim, QUESTION.sub(question, part))


def _together(answers: list[Evidence], lang: Language) -> str:
    """Return the verdicts of the claims that answer a question, and how they stand; of a single one, its effect too;
    then the verdicts on other data.
    """
    found = dict.fromkeys(f"**{WORDS[lang][mark_of(each)]}**" for each in answers)
    effect = _effect(answers[0].headline)[:1] if len(answers) == 1 else []
    standings = dict.fromkeys(name for each in answers for name in _seeds(each, lang))
    text = " ".join([" · ".join(found), *effect, *([f"({', '.join(standings)})"] if standings else [])])
    others = {name: " · ".join(verdicts) for name, verdicts in _on_other_data(answers, lang).items()}
    return "; ".join([text, *(f"{name}: {verdicts}" for name, verdicts in others.items())])


def _on_other_data(answers: list[Evidence], lang: Language) -> dict[str, dict[str, None]]:
    """Return the verdicts of these claims on other data than their headlines', each once, by the data's name."""
    found: dict[str, dict[str, None]] = {}
    for each in answers:
        for scale in each.scales[1:]:
            if scale.pooled and scale.verdict and scale.origin.data != each.scales[0].origin.data:
                verdict = f"**{WORDS[lang][scale.verdict.verdict or 'unmeasured']}**"
                found.setdefault(wording.data(scale.origin.data)[lang], {})[verdict] = None
    return found


def _alone(known: Evidence, lang: Language) -> list[str]:
    """Return the cells of a claim: its verdict, its effect with the interval, and the seeds that it is of; of several
    scales, with their names, and the effects at the others.
    """
    seeds = ", ".join(f"{name} {span}" for name, span in _seeds(known, lang).items())
    scales = [scale for scale in known.scales if scale.pooled]
    if len(scales) < 2:
        return [WORDS[lang][mark_of(known)], _interval(known.headline), seeds]
    others = [f"{at_scale(scale, lang)} {_interval(scale.verdict)}".rstrip() for scale in scales[1:]]
    return ["; ".join([at_scale(scales[0], lang), *others]), _interval(known.headline), seeds]


def _interval(verdict: Verdict | None) -> str:
    """Return the effect of a verdict with its interval; empty without them."""
    effect = _effect(verdict)
    return f"{effect[0]} [{', '.join(effect[1:])}]" if effect else ""


def _effect(verdict: Verdict | None) -> list[str]:
    """Return the effect of a decided statistical claim, and its interval's ends."""
    if verdict is None or verdict.effect is None or verdict.interval is None:
        return []
    return [text.replace("-", "−") for text in effect_and_interval(verdict.effect, verdict.interval)]


def _seeds(known: Evidence, lang: Language) -> dict[str, str]:
    """Return the seeds of a statistical claim's verdict, by how they stand."""
    if known.claim.kind != "statistical" or not known.scales or known.scales[0].verdict is None:
        return {}
    scale, found = known.scales[0], {}
    for standing in known.standings:
        seeds = sorted(seed for one in scale.pooled if one.standing == standing for seed in one.origin.seeds)
        name = wording.standing(standing)
        found[name if isinstance(name, str) else name[lang]] = wording.spans(seeds or scale.seeds)
    return found


if __name__ == "__main__":
    for name, lang in CHAPTERS.items():
        path = HERE / name
        path.write_text(written(path.read_text(encoding="utf-8"), lang), encoding="utf-8", newline="\n")
