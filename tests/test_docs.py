"""The pages of docs/: their commands exist, their code runs, and both languages show the same."""

import re
from pathlib import Path

import pytest
from helpers_commands import check_command

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(path.name.removesuffix(".ko.md") for path in DOCS.glob("*.ko.md"))


def fences(name: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_both_languages_show_the_same(page: str) -> None:
    for kind in ("sh", "python"):
        assert fences(f"{page}.md", kind) == fences(f"{page}.ko.md", kind) != []
    rows = [re.findall(r"^\|", (DOCS / f"{page}{end}").read_text(encoding="utf-8"), re.M) for end in (".md", ".ko.md")]
    assert len(rows[0]) == len(rows[1])


def commands() -> list[str]:
    text = "".join(block for page in PAGES for block in fences(f"{page}.md", "sh"))
    return [line for line in text.splitlines() if not re.match("reslab analyze .* hf:", line)]  # it would be fetched


@pytest.mark.parametrize("command", commands())
def test_a_command_is_right(command: str) -> None:
    check_command(command)


@pytest.mark.parametrize("code", [code for page in PAGES for code in fences(f"{page}.md", "python")])
def test_code_runs(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, "docs", "exec"), {})
    assert capsys.readouterr().out


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_links_lead_to_pages(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
