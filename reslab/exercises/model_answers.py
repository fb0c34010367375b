"""Model answers to the sheets' questions in words, with rubrics."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from reslab.errors import Language


@dataclass(frozen=True)
class Model:
    """A model answer with its derivation, and the rubric, one point per item."""

    text: str
    rubric: tuple[str, ...]


def model(task: str, language: Language) -> Model:
    """Return the model answer to a task's question in words."""
    entry = _texts()[task]
    return Model(entry[language], tuple(entry["rubric"][language]))


@cache
def _texts() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("model_answers.toml").read_text(encoding="utf-8"))
