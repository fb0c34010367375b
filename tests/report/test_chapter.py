"""The chapter: both languages say the same, every claim of the ledger is in its section, and all that it names is there
and works.
"""

import contextlib
import io
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers_chapter import CHAPTERS, CLAIM, QUESTION, written
from helpers_commands import check_command

from reslab import studies
from reslab.commands.ledger import WORDS
from reslab.errors import Language
from reslab.exercises import sheets
from reslab.exercises.checklist import CHECKLIST
from reslab.ledger.claim import SECTIONS

HERE = Path(__file__).parents[2] / "reslab"
KOREAN, ENGLISH = "README.md", "README.en.md"

STUDIES = studies.names()
TASK = re.compile(r"\b(?:1\.(?:10|[1-9])|2\.(?:1[01]|[1-9]))\b")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Part(NamedTuple):
    """A heading and what stands under it, down to the next heading of any level."""

    level: int
    title: str
    text: str

    @property
    def name(self) -> str:
        """Return the title without its number."""
        return re.sub(r"^\d+\. ", "", self.title)

    def prose(self) -> str:
        return FENCE.sub("", self.text)

    def codes(self) -> list[str]:
        return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", self.prose())]

    def fences(self, language: str) -> list[str]:
        return [code for kind, code in FENCE.findall(self.text) if kind == language]

    def claims(self) -> list[str]:
        return [code for code in self.codes() if "." in code and code.split(".")[0] in STUDIES]

    def commands(self) -> list[str]:
        typed = [line.split(" #")[0].strip() for block in self.fences("sh") for line in block.splitlines()]
        return typed + [code for code in self.codes() if code.startswith(("reslab ", "python "))]

    def table_numbers(self) -> list[list[str]]:
        """Return the numbers of each cell of each table, sorted, as languages order their words differently."""
        rows = [line for line in self.prose().splitlines() if line.startswith("|")]
        return [sorted(re.findall(r"[\d.,]*\d", cell)) for row in rows for cell in row.split("|")]

    def measured(self) -> list[str]:
        """Return the numbers that are no plain integers: those that were measured, counted or cited."""
        return sorted(re.findall(r"[+−]?\d[\d,]*[.,]\d+(?:e-?\d+)?", self.prose()))

    def last_line(self) -> str:
        return self.text.strip().splitlines()[-1]


def parts(name: str) -> list[Part]:
    text = (HERE / name).read_text(encoding="utf-8")
    hidden = FENCE.sub(lambda fence: fence[0].replace("\n#", "\n\0"), text)  # a comment in code is no heading
    pieces = re.split(r"^(#+) (.+)$", hidden, flags=re.MULTILINE)[1:]
    return [
        Part(len(marks), title, body.replace("\0", "#")) for marks, title, body in zip(*[iter(pieces)] * 3, strict=True)
    ]


def pairs() -> Iterator[tuple[Part, Part]]:
    return zip(parts(KOREAN), parts(ENGLISH), strict=True)


def leaves(name: str) -> list[Part]:
    """Return the sections without subsections."""
    found = parts(name)[1:]
    return [part for part, following in pairwise([*found, found[0]]) if following.level <= part.level]


def uncommented(code: str) -> str:
    return re.sub(r" *#.*", "", code)


# --- Both languages ---------------------------------------------------------------------------------------------------


def test_both_languages_say_the_same() -> None:
    assert [part.level for part in parts(KOREAN)] == [part.level for part in parts(ENGLISH)]
    for korean, english in pairs():
        assert sorted(korean.claims()) == sorted(english.claims()), english.title
        assert korean.commands() == english.commands(), english.title
        assert korean.table_numbers() == english.table_numbers(), english.title
        assert korean.measured() == english.measured(), english.title
        assert [uncommented(code) for code in korean.fences("python")] == [
            uncommented(code) for code in english.fences("python")
        ]


# --- The ledger -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "language"), [(KOREAN, "ko"), (ENGLISH, "en")])
def test_chapter_and_ledger_cover_one_another(name: str, language: str) -> None:
    """The ledger's sections are in the chapter, in order and by their titles, and each has just its claims."""
    ledger = [claim for study in STUDIES for claim in studies.find(study).claims]
    sections = {
        title[language]: {claim.id for claim in ledger if claim.section == section}
        for section, title in SECTIONS.items()
    }
    found = {part.name: set(part.claims()) for part in leaves(name) if part.name in sections}
    assert list(found) == list(sections)
    assert found == sections
    assert {id for part in parts(name) for id in part.claims()} <= {claim.id for claim in ledger}


@pytest.mark.parametrize(
    ("name", "language", "mark"),
    [
        (KOREAN, "ko", r"\*\*해 보기\*\* (.+) · 연구 (.+) · 과제 (.+)"),
        (ENGLISH, "en", r"\*\*Try it\*\* (.+) · study (.+) · task (.+)"),
    ],
)
def test_every_section_ends_with_its_commands_studies_and_tasks(name: str, language: str, mark: str) -> None:
    in_ledger = {title[language] for title in SECTIONS.values()}
    for part in leaves(name):
        line = re.fullmatch(mark, part.last_line())
        assert line, part.title
        commands, named, tasks = (group.split(", ") for group in line.groups())
        assert set(commands) <= {f"`{command}`" for command in part.commands()}
        assert set(named) <= {f"`{study}`" for study in STUDIES}
        assert all(TASK.fullmatch(task) for task in tasks)
        if part.name in in_ledger:
            assert set(named) == {f"`{id.split('.')[0]}`" for id in part.claims()}, part.title


# --- What was measured ------------------------------------------------------------------------------------------------


FOLDED = re.compile(r"^<details>.*?^</details>$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("name", "language"), CHAPTERS.items())
def test_its_verdicts_are_the_ledgers(name: str, language: Language) -> None:
    """`python tests/helpers_chapter.py` writes them."""
    text = (HERE / name).read_text(encoding="utf-8")
    assert written(text, language) == text


@pytest.mark.parametrize("name", CHAPTERS)
def test_each_claim_answers_a_question_and_each_question_has_claims(name: str) -> None:
    for part in parts(name):
        rows = CLAIM.findall(part.text)
        assert {number for number, _ in rows} == {number for number, _ in QUESTION.findall(part.text)}, part.title
        assert sorted(id for _, id in rows) == sorted(part.claims()), part.title


@pytest.mark.parametrize(("name", "language"), CHAPTERS.items())
def test_only_the_ledger_speaks_of_verdicts(name: str, language: Language) -> None:
    """A verdict in a sentence would stay behind when new seeds change it."""
    words = [WORDS[language][verdict] for verdict in ("supported", "refuted", "inconclusive", "untested")]
    for part in parts(name)[1:]:
        sentences = QUESTION.sub("", CLAIM.sub("", part.prose()))
        assert [word for word in words if re.search(rf"(?<!\w){word}", sentences)] == [], part.title


@pytest.mark.parametrize("name", CHAPTERS)
def test_names_of_claims_are_folded_away(name: str) -> None:
    for part in parts(name)[1:]:
        assert part._replace(text=FOLDED.sub("", part.text)).claims() == [], part.title


# --- What it names is there -------------------------------------------------------------------------------------------

COMMANDS = sorted({command for part in parts(ENGLISH) for command in part.commands()})


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_are_right(command: str) -> None:
    check_command(command)


@pytest.mark.parametrize(("name", "language"), [(KOREAN, "ko"), (ENGLISH, "en")])
def test_its_checklist_and_tasks_are_those_of_the_exercises(name: str, language: Language) -> None:
    text = "".join(part.prose() for part in parts(name))
    listed = re.findall(r"^- \[ \] (.+): (?:과제|task) (.+)$", text, re.MULTILINE)
    items = [tuple(tasks.split(", ")) for _, tasks in listed]
    assert [said.replace("**", "") for said, _ in listed] == [item.text[language] for item in CHECKLIST]
    assert items == [item.tasks for item in CHECKLIST]
    of_section = {part.name: set(TASK.findall(part.last_line())) for part in leaves(name)}
    assert all(set(item.tasks) <= of_section[SECTIONS[item.section][language]] for item in CHECKLIST)
    assert set().union(*of_section.values()) == set().union(*items)


@pytest.mark.parametrize(("language", "named"), [("ko", "장의 「([^」]+)」"), ("en", '[Cc]hapter\'s "([^"]+)"')])
def test_the_sheets_of_exercises_lead_to_its_sections(language: Language, named: str) -> None:
    read = [text.reading for number in sheets.SHEETS for text in sheets.read(number, language).tasks.values()]
    found = [title for each in read for title in re.findall(named, each)]
    assert len(found) > 10 and set(found) <= {title[language] for title in SECTIONS.values()}


LINKS = sorted(
    {
        link
        for name in (KOREAN, ENGLISH)
        for link in re.findall(r"\]\(([^)]+)\)", (HERE / name).read_text(encoding="utf-8"))
    }
)


@pytest.mark.parametrize("link", [link for link in LINKS if not link.startswith("https://")])
def test_its_links_lead_somewhere(link: str) -> None:
    assert (HERE / link).is_file()


def test_the_files_that_it_names_are_there() -> None:
    (tree,) = (block for part in parts(ENGLISH) for block in part.fences("text") if "05_ResNet/" in block)
    folder, named = HERE, []
    for line in tree.splitlines()[1:]:
        right = re.fullmatch(r"(│   )?[├└]── (.+?)(?:  .*)?", line[40:])  # "├── one.py, other.py, …    what they are"
        assert right, line
        names = [name for name in right[2].split(", ") if name != "…"]
        named += [(folder if right[1] else HERE) / name for name in names]
        folder = folder if right[1] else HERE / names[0]
    assert len(named) > 15
    named += [HERE / code for part in parts(ENGLISH) for code in part.codes() if re.fullmatch(r"\w+/\w+\.\w+", code)]
    assert [path for path in named if not path.exists()] == []


# --- The snippets run -------------------------------------------------------------------------------------------------

SNIPPETS = {part.name: part.fences("python") for part in parts(ENGLISH) if part.fences("python")}


STEPS = ("STEPS = 200", "STEPS = 1")
"""The training steps of a snippet, of which a test takes one."""


@pytest.mark.parametrize("snippets", SNIPPETS.values(), ids=SNIPPETS)
def test_its_snippets_run(snippets: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a section one after another, as they are read."""
    monkeypatch.chdir(tmp_path)
    known: dict[str, object] = {"__name__": "chapter"}
    with contextlib.redirect_stdout(io.StringIO()):
        for code in snippets:
            exec(compile(code.replace(*STEPS), "chapter", "exec"), known)
    saved = re.findall(r'savefig\("(.+?)"\)', "".join(snippets))
    assert all(Path(picture).stat().st_size for picture in saved)
