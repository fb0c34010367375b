"""Files of answers, made from the reference solutions."""

import inspect
import re
from collections.abc import Mapping

from reslab.exercises import sheets, tasks


def solved(number: str, language: sheets.Language = "en", changes: Mapping[str, str] | None = None) -> str:
    """Return a sheet's file, every stub filled with its reference solution, or with what `changes` has for the function."""
    text = sheets.starter(number, language)
    for name in sheets.read(number, language).tasks:
        for part in tasks.find(name).parts:
            source = (changes or {}).get(part.name, inspect.getsource(part.right))
            text, count = re.subn(rf"^def {part.name}\(.*?raise NotImplementedError\n", lambda _, source=source: source, text, flags=re.S | re.M)
            assert count == 1, (name, part.name)
    return text
