"""The public interface: its names and signatures are those of a snapshot, and every example runs.

`python tests/api/test_public.py` writes the snapshot anew, which is on purpose alone, with a line in CHANGELOG.md.
"""

import dataclasses
import doctest
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from torch import Tensor, nn

import reslab
import reslab.analysis
from reslab.analysis import Analysis, analyses
from reslab.data import Dataset
from reslab.gates.recording import BlockValues, Sides

SNAPSHOT = Path(__file__).with_name("public.txt")
NAMES = [name for name in reslab.__all__ if name != "__version__"]


def written() -> str:
    return "".join(f"{line}\n" for name in NAMES for line in _lines(name, getattr(reslab, name)))


def _lines(name: str, value: object) -> list[str]:
    """Return a function's signature, or those of a class's own public methods, without annotations' spelling."""
    if inspect.isclass(value):
        members = [(key, each) for key, each in vars(value).items() if not key.startswith("_")]
        return [f"class {name}", *(line for key, each in members for line in _lines(f"{name}.{key}", each))]
    if isinstance(value, FunctionType) or callable(value):
        parameters = inspect.signature(value).parameters.values()
        bare = ", ".join(str(each.replace(annotation=each.empty)) for each in parameters)
        return [f"{name}({re.sub(' at 0x[0-9a-f]+', '', bare)})"]
    return [name] if isinstance(value, property) else []


def test_names_and_signatures_are_those_of_the_snapshot() -> None:
    assert written() == SNAPSHOT.read_text(encoding="utf-8"), f"on purpose? python {Path(__file__).name}"


def test_every_analysis_is_public_by_its_functions_name() -> None:
    known: set[Analysis] = set(analyses().values())
    for each in known:
        assert getattr(reslab, each.function) is getattr(reslab.analysis, each.function) is each.load()
    assert {each.function for each in known} == set(reslab.analysis.__all__) - {"NEEDS", "Analysis", "analyses"}
    assert set(reslab.__all__) == set(dir(reslab))


def test_a_module_does_not_take_the_place_of_a_function() -> None:
    import reslab.analysis.jacobian
    import reslab.claims

    assert inspect.isfunction(reslab.analysis.jacobian) and inspect.isfunction(reslab.claims)
    assert inspect.ismodule(sys.modules["reslab.claims"])


def test_importing_and_listing_load_no_torch() -> None:
    code = "import sys, reslab; dir(reslab); reslab.list_models(); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True)
    assert out.stdout == "False\n"


def examples(name: str) -> list[doctest.DocTest]:
    value = getattr(reslab, name)
    return [test for test in doctest.DocTestFinder(recurse=False).find(value, name, module=False) if test.examples]


SLOW = {"Run", "Study", "block_worth", "jacobian", "lens", "prune", "remove_each", "remove_random", "reorder"}
SLOW |= {"sample_paths", "shapley", "split", "study", "torchvision_tour", "train"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in NAMES])
def test_an_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (test,) = examples(name)
    test.globs = {}
    failed, tried = doctest.DocTestRunner().run(test)
    assert tried and not failed


def test_every_name_has_an_example_and_says_what_it_takes() -> None:
    for name in NAMES:
        text = inspect.getdoc(getattr(reslab, name)) or ""
        assert examples(name), name
        if inspect.isfunction(getattr(reslab, name)):
            parameters = inspect.signature(getattr(reslab, name)).parameters
            unsaid = [each for each in parameters if f"    {each}: " not in text]
            assert not unsaid, (name, unsaid)


def hints(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the type hints of a function, or of a class, its properties and methods, by where they are."""
    if inspect.isclass(value):
        fields = getattr(value, "__annotations__", {}) if value.__module__.startswith("reslab") else {}
        yield from ((f"{value.__name__}.{name}", hint) for name, hint in fields.items())
        for name, member in vars(value).items():
            function = member.fget if isinstance(member, property) else member
            if not name.startswith("_") and inspect.isfunction(function):
                yield from ((f"{value.__name__}.{where}", hint) for where, hint in hints(function))
    else:
        signature = inspect.signature(value)
        taken = {name: parameter.annotation for name, parameter in signature.parameters.items()}
        yield from ((f"{value.__name__}({name})", hint) for name, hint in taken.items())
        yield value.__name__, signature.return_annotation


def public() -> Iterator[Any]:
    """Yield the public functions and classes, and the classes that they give."""
    for name in NAMES:
        value = getattr(reslab, name)
        yield value
        given = value if inspect.isclass(value) else inspect.signature(value).return_annotation
        if dataclasses.is_dataclass(given):
            yield given
    yield from (Dataset, BlockValues, Sides)


def test_every_public_tensor_has_its_shape_written_on_it() -> None:
    from helpers_shapes import bare, shaped  # which this file, run as a program, does not find

    found = dict(pair for value in public() for pair in hints(value))
    assert [where for where, hint in found.items() if bare(hint)] == []
    assert shaped(found["remove_each(images)"]) and shaped(found["Lens.settled"]) and len(found) > 200
    assert bare(dict[str, Tensor | None]) and bare(Callable[[Tensor], int]) and not bare(nn.Module)


if __name__ == "__main__":
    SNAPSHOT.write_text(written(), encoding="utf-8", newline="\n")
