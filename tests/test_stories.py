"""The three stories at the terminal, in both languages."""

import re
import sys
import tomllib
from pathlib import Path
from string import Formatter

import pytest

from reslab import stories
from reslab.exercises.sheets import LANGUAGES
from reslab.stories import lowlevel
from reslab.stories.speaking import padded, tell


@pytest.mark.parametrize("file", sorted(Path(stories.__file__).parent.glob("*.toml")), ids=lambda file: file.stem)
def test_words_take_the_same_values_in_both_languages(file: Path) -> None:
    for name, texts in tomllib.loads(file.read_text(encoding="utf-8")).items():
        english, korean = ({field for _, field, _, _ in Formatter().parse(texts[key])} for key in ("en", "ko"))
        assert english == korean, name


@pytest.mark.parametrize(
    ("system", "typed", "spoken"),
    [
        ("ko_KR.UTF-8", [], "ko"),
        ("C.UTF-8", [], "en"),
        ("C.UTF-8", ["--lang", "ko"], "ko"),
        ("ko_KR.UTF-8", ["--lang=en"], "en"),
    ],
)
def test_a_story_is_told_in_the_language_asked_for(
    monkeypatch: pytest.MonkeyPatch, system: str, typed: list[str], spoken: str
) -> None:
    heard: list[str] = []

    def story(*, spoken: str) -> None:
        heard.append(spoken)

    monkeypatch.setenv("LC_ALL", system)
    monkeypatch.setattr(sys, "argv", ["story", *typed])
    tell(story)
    assert heard == [spoken]


@pytest.mark.slow  # 7 s
def test_the_languages_tell_the_same_shapes(capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for spoken in LANGUAGES:
        lowlevel.main(spoken=spoken)
        told.append(re.findall(r"\d+×\d+×\d+", capsys.readouterr().out))
    assert (
        told[0] == told[1] and len(told[0]) == 1 + 2 * 8
    )  # the images, and what goes into and comes out of every block


def test_hangul_takes_two_columns() -> None:
    assert padded("가지", 6) == "가지  " and padded("sum", 6, right=True) == "   sum"
