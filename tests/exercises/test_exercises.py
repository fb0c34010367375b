"""Exercises: the sheets' text, the graders, and the feedback that names a mistake."""

import copy
import inspect
import itertools
import random
import re
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import refused
from helpers_exercises import LONG, judged, part
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

import reslab
from reslab.errors import Language, UnknownNameError
from reslab.exercises import checking, sheets, tasks, telling
from reslab.exercises.causes import cause
from reslab.exercises.checking import Checked
from reslab.exercises.checklist import CHECKLIST
from reslab.exercises.grading import Part, call
from reslab.exercises.judgement import Judgement
from reslab.exercises.likeness import Raised, same
from reslab.exercises.settings import Settings, held
from reslab.exercises.showing import IN_KOREAN, described_apart

ALL = tasks.names()
PARTS = [(name, part) for name in ALL for part in tasks.find(name).parts]
MISTAKES = [(name, part, mistake) for name, part in PARTS for mistake in part.mistakes]


def marked(*each: Any) -> Any:
    """Return what a test of a part takes, as slow where the part is."""
    name, part, *rest = each
    return pytest.param(
        *each, id="-".join([name, part.name, *rest]), marks=[pytest.mark.slow] if part.name in LONG else []
    )


@pytest.mark.parametrize(("name", "part"), [marked(*each) for each in PARTS])
def test_reference_solutions_get_full_points(name: str, part: Part) -> None:
    assert judged(part, part.right, seed=3) == Judgement(part.name, "right", part.points, part.points)


@pytest.mark.parametrize(("name", "part", "mistake"), [marked(*each) for each in MISTAKES])
def test_a_mistake_is_recognised_and_explained(name: str, part: Part, mistake: str) -> None:
    found = judged(part, part.mistakes[mistake], seed=7)
    assert found.mistakes == (mistake,) and found.points < part.points and (part.shares or not found.points)
    said = checking.said(name, part.name, mistake)
    assert said is not None and said.keys() == {"ko", "en"} and said not in checking._texts()["any"].values()
    assert re.search("[가-힣]", said["ko"]) and not re.search("[가-힣]", said["en"])


def test_every_task_has_three_recognised_mistakes_and_belongs_to_the_checklist() -> None:
    assert len(ALL) >= 14
    for name in ALL:
        assert sum(len(part.mistakes) for part in tasks.find(name).parts) >= 3
    assert {task for item in CHECKLIST for task in item.tasks} == set(ALL) and len(CHECKLIST) == 8


def test_no_feedback_is_left_over() -> None:
    used = {(name, part.name, mistake) for name, part, mistake in MISTAKES}
    texts = {key: value for key, value in checking._texts().items() if key != "any"}
    assert {
        (name, part, mistake) for name, parts in texts.items() for part, said in parts.items() for mistake in said
    } == used


@pytest.mark.parametrize("number", sheets.SHEETS)
def test_both_languages_of_a_sheet_say_the_same(number: str) -> None:
    korean, english = (sheets.read(number, language) for language in sheets.LANGUAGES)
    assert korean.preamble == english.preamble and list(korean.tasks) == list(english.tasks)
    for name, text in korean.tasks.items():
        twin = english.tasks[name]
        assert (text.points, text.minutes, text.difficulty, len(text.hints)) == (
            twin.points,
            twin.minutes,
            twin.difficulty,
            len(twin.hints),
        )
        assert text.stub == twin.stub and text.points == tasks.find(name).points and text.hints
        assert all(
            re.search("[가-힣]", part)
            for part in (text.title, text.aim, text.task, text.right, text.words, *text.hints)
        )
        assert not any(
            re.search("[가-힣]", part)
            for part in (twin.title, twin.aim, twin.task, twin.right, twin.words, *twin.hints)
        )
        codes = [set(re.findall(r"`([^`]+)`", each)) for each in (text.task, twin.task)]
        assert codes[0] == codes[1], name


@pytest.mark.parametrize("language", sheets.LANGUAGES)
@pytest.mark.parametrize("number", sheets.SHEETS)
def test_every_code_fence_runs(number: str, language: Language) -> None:
    names: dict[str, Any] = {}
    for fence in re.findall(
        r"^```python\n(.*?)^```$", sheets.path(number, language).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        exec(fence, names)
    asked = {part.name for name in sheets.read(number, language).tasks for part in tasks.find(name).parts}
    assert asked <= names.keys()


@pytest.mark.parametrize("language", sheets.LANGUAGES)
@pytest.mark.parametrize("number", sheets.SHEETS)
def test_the_file_to_fill_in_runs_and_has_all_of_the_text(number: str, language: Language) -> None:
    text = sheets.starter(number, language)
    exec(compile(text, "starter", "exec"), {})
    flat = " ".join(line.removeprefix("# ") for line in text.splitlines())
    for task in sheets.read(number, language).tasks.values():
        assert task.title in text and " ".join(task.words.split())[:60] in " ".join(flat.split())
        assert all(hint not in text for hint in task.hints)


class Agreeable:
    """Says of itself that it is equal to anything."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]  # as of what compares so


class Liar(float):
    """A number that says of itself that it is any other."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]  # as of what compares so


class LyingFraction(Fraction):
    """Another, of a kind that is left as it is."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]  # as of what compares so


class LyingTensor(Tensor):
    """A tensor that differs from nothing."""

    def detach(self) -> "LyingTensor":
        return self

    def double(self) -> "LyingTensor":
        return self

    def __sub__(self, other: Any) -> Tensor:
        return torch.zeros_like(other)


class Mute:
    """Cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError


def endless() -> list[Any]:
    """Return a list that holds itself."""
    found: list[Any] = []
    found.append(found)
    return found


def no_answers(part: Part) -> list[Any]:
    """Return functions that know nothing of their task: they return constants, callables, or an argument as it came."""
    values: list[Any] = [
        print,
        sum,
        int,
        lambda *_: 0,
        "".join,
        [].append,
        Tensor,
        Agreeable,
        Agreeable(),
        torch.zeros(2),
        torch.zeros(2, dtype=torch.bool),
        None,
        True,
        0,
        1,
        0.0,
        1.0,
        "",
        (),
        [],
        {},
        float("nan"),
        np.float64(1),
        Fraction(1),
        LyingFraction(1),
        torch.zeros(2).as_subclass(LyingTensor),
    ]
    (arguments, *_) = part.cases(torch.Generator().manual_seed(0))
    return [
        *(lambda *_, value=value: value for value in values),
        *(lambda *given, place=place: given[place] for place in range(len(arguments))),
    ]


COSTLY = LONG | {"measured_share", "gradient_ratio", "most_shrunk", "batch_norm", "block_norms"}
COSTLY |= {"basic_block", "pre_activation_block"}  # to try many answers on


@pytest.mark.parametrize(
    ("name", "part"),
    [pytest.param(*each, marks=[pytest.mark.slow] if each[1].name in COSTLY else []) for each in PARTS],
)
def test_an_answer_that_knows_nothing_earns_nothing(name: str, part: Part) -> None:
    for answer in no_answers(part):
        assert judged(part, answer).points == 0, answer()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 99) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


OWN = {"prediction", "my_network"}  # any prediction is worth its points, and any network
QUICK = [each for _, each in PARTS if each.name not in COSTLY | OWN]


@given(st.sampled_from(QUICK), VALUES)
@settings(max_examples=30, deadline=None)
def test_no_constant_earns_a_point(each: Part, value: Any) -> None:
    assert judged(each, lambda *_: value).points == 0


@pytest.mark.parametrize(
    ("name", "part"),
    [
        pytest.param(*each, marks=[pytest.mark.slow] if each[1].name in COSTLY else [])
        for each in PARTS
        if each[1].name not in OWN
    ],
)
def test_what_is_right_for_one_input_earns_nothing(name: str, part: Part) -> None:
    """An answer learnt by heart is of no use, whichever input it is learnt from."""
    for arguments in part.cases(torch.Generator().manual_seed(5)):
        learnt = part.right(*arguments[: len(inspect.signature(part.right).parameters)])
        assert judged(part, lambda *_, learnt=learnt: copy.deepcopy(learnt), seed=6).points == 0


@pytest.mark.parametrize(
    ("came", "expected", "alike"),
    [
        (torch.tensor(2.0), 2.0, True),
        (np.float32(0.5), 0.5, True),
        (Fraction(1, 2), 0.5, True),
        (torch.tensor(3), 3, True),
        (54.0, 54, True),
        (torch.tensor(True), True, True),
        (1.0 + 1e-9, 1.0, True),
        (14_964_746, 14_964_736, False),  # whole numbers are exact
        (True, 1, False),
        (1, True, False),
        ("1", 1, False),
        (print, print, False),
        (Agreeable(), 1, False),
        # of one class: a mistake may give such a thing, and an answer that gives it too was made that way
        (Agreeable(), Agreeable(), True),
        ([1.0, 2.0], (1.0, 2.0), True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        (np.ones(2), torch.ones(2), True),
        (np.ones(2, dtype=int), torch.ones(2), False),
        (np.ones(2).astype(str), torch.ones(2), False),
        ([np.ones(2)], [torch.zeros(2)], False),
        (torch.ones(2), torch.ones(2, dtype=torch.float64), True),
        (torch.ones(2, dtype=torch.int64), torch.ones(2), False),  # a convolution could not use it
        (torch.ones(2, dtype=torch.bool), torch.ones(2), False),
        (torch.ones(2, dtype=torch.complex64), torch.ones(2), False),
        (torch.tensor([2**53 + 1]), torch.tensor([2**53]), False),
        (Raised("E", "size 4 and 2"), Raised("E", "size 2 and 4"), True),
        (Raised("E", "size 4 and 2"), Raised("E", "size 3 and 2"), False),
        (Raised("E", "at 0x7f3a"), Raised("E", "at 0x11"), True),
        (Raised("E", "", 1, ([(2, 2)],)), Raised("E", "", 2, ([(4, 4)],)), False),
    ],
)
def test_what_is_alike(came: Any, expected: Any, alike: bool) -> None:
    assert same(came, expected, 1e-6) == alike


def doubled(x: Tensor) -> Tensor:
    return 2 * x


@pytest.mark.parametrize(
    ("answer", "status", "mistake"),
    [
        (lambda x: 2 * x, "right", None),
        (lambda x: x.mul_(2), "wrong", "changes-its-input"),
        (lambda x: None, "wrong", "returns-nothing"),
        (lambda x: 2 * x[:1], "wrong", "shape"),
        (lambda x: [2.0], "wrong", "kind"),
        (lambda x: (2 * x).numpy(), "right", None),
        (lambda x: (2 * x[:1]).numpy(), "wrong", "shape"),
        (lambda x: (2 * x).int(), "wrong", "kind"),
        (lambda x: (2 * x).sum, "wrong", "callable"),
        (lambda x: Tensor, "wrong", "callable"),
        (lambda x: 2.00001 * x, "wrong", "nearly"),
        (lambda x: x @ torch.ones(3), "error", "sizes"),
        (lambda x: x.double() @ x, "error", "dtypes"),
        (lambda x: x / 0, "wrong", "not-finite"),
        (lambda x: 3 * x, "wrong", "unknown"),
        (lambda x: x[7], "error", "raised"),
        (3, "missing", "missing"),
    ],
)
def test_general_causes(answer: Any, status: str, mistake: str | None) -> None:
    found = judged(part(doubled, (torch.ones(2),)), answer)
    assert (found.status, found.mistakes) == (status, (mistake,) if mistake else ())
    assert found.line is None or mistake in Path(__file__).read_text(encoding="utf-8").splitlines()[found.line - 1]
    assert mistake is None or checking.said("0.0", "doubled", mistake)


@pytest.mark.parametrize(
    ("expected", "came", "mistake"),
    [
        ("degradation", "Degradation", "spelling"),
        (54, "54", "kind"),
        (14_964_736, 14_964_746, "not-exact"),
        (["a", "b"], ["b", "a"], "order"),
        ([1, 2], [1], "length"),
        ({"a": 1}, {"b": 1}, "keys"),
        ((torch.ones(2), torch.ones(2)), (torch.ones(2), torch.ones(1, 2)), "shape"),
        (0.5, float("inf"), "not-finite"),
        (1, True, "kind"),
        (lambda: 1, print, "callable"),
    ],
)
def test_causes_are_looked_for_within(expected: Any, came: Any, mistake: str) -> None:
    assert cause(expected, came, False, 1e-6) == mistake
    assert checking.said("0.0", "any", mistake)


def test_what_was_asked_printed_and_raised_is_shown() -> None:
    def loud(x: Tensor) -> Tensor:
        print("h is", x)
        return x

    found = judged(part(doubled, (torch.ones(2),), (torch.zeros(1),)), loud)
    assert found.printed == "h is tensor([1., 1.])\n" and found.input == (
        "doubled(torch.tensor([1.0, 1.0], dtype=torch.float32))"
    )
    found = judged(tasks.find("1.1").parts[0], lambda h: h, seed=3)
    assert found.input == 'branch_target(*drawn("0.0", "branch_target", seed=3, case=0))'
    (h,) = tasks.drawn("1.1", "branch_target", seed=3, case=0)
    assert callable(h)


@pytest.mark.parametrize(
    "change",
    [
        lambda: torch.set_grad_enabled(False),
        lambda: torch.set_default_dtype(torch.float64),
        pytest.param(lambda: torch.use_deterministic_algorithms(True), marks=pytest.mark.slow),  # imports a compiler
        lambda: torch.autograd.set_detect_anomaly(True),
        lambda: torch.set_default_device("meta"),
        lambda: np.seterr(all="raise"),
        lambda: torch.manual_seed(7),
        lambda: np.random.seed(7),
        lambda: random.seed(7),
    ],
)
def test_what_an_answer_sets_ends_with_it(change: Callable[[], Any]) -> None:
    def changes(x: Tensor) -> Tensor:
        change()
        return 3 * x

    drawn = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]  # legacy
    before = Settings.now()
    judged(part(doubled, (torch.ones(2),)), changes)
    assert before == Settings.now() == Settings() and not torch.overrides.has_torch_function((torch.ones(1),))
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]  # legacy
    assert torch.equal(drawn[0], after[0]) and drawn[1:] == after[1:]


def test_what_a_file_sets_holds_for_its_answers_but_does_not_stop_them() -> None:
    (block,) = tasks.find("1.4").parts
    seen: list[Settings] = []

    def answer(*arguments: Any) -> Any:
        seen.append(Settings.now())
        return block.right(*arguments)

    theirs = Settings(dtype=torch.float64, gradients=False)
    with held(theirs):
        assert judged(block, answer).status == "right" and Settings.now() == theirs
    assert set(seen) == {Settings(dtype=torch.float64)} and Settings.now() == Settings()


def test_a_failing_reference_solution_is_not_the_answers_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    (norm,) = (each for each in tasks.find("1.9").parts if each.name == "block_norms")
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", None)
    found = judged(norm, lambda *tower: [])
    assert (found.status, found.mistakes, found.points, found.came.partition(":")[0]) == (
        "stopped",
        ("solution-fails",),
        0,
        "TypeError",
    )
    assert checking.said("1.9", "block_norms", *found.mistakes)


@pytest.mark.parametrize(
    ("task", "function", "answer", "shown"),
    [
        (
            "1.4",
            "basic_block",
            lambda *_: print,
            ("torch.Tensor", "builtin_function_or_method <built-in function print>"),
        ),
        ("1.6", "most_shrunk", lambda *_: 0.5, ("torch.Tensor", "float 0.5")),
        ("1.9", "draw_flow", lambda norms: (1, 2), ("matplotlib.figure.Figure", "tuple (1, 2)")),
        ("2.1", "deeper", lambda *_: 1, ("list of torch.Tensor", "int 1")),
        ("2.4", "prediction", lambda: 1, ("list of str", "int 1")),
        ("1.1", "branch_target", lambda h: 1, ("function", "int 1")),
    ],
)
def test_a_result_in_which_there_is_nothing_to_observe_is_told_by_its_kind(
    task: str, function: str, answer: Any, shown: tuple[str, str]
) -> None:
    (one,) = (each for each in tasks.find(task).parts if each.name == function)
    found = judged(one, answer)
    assert (found.status, found.expected, found.came, found.line) == ("wrong", *shown, None)


def test_tensors_are_shown_from_where_they_differ() -> None:
    zeros, last = torch.zeros(2, 5), torch.zeros(2, 5)
    last[1, 3] = 1
    assert described_apart(zeros, last) == ("[2, 5] …, 0, 0", "[2, 5] …, 1, 0")
    assert described_apart((zeros, {"output": zeros}), [zeros, {"output": last}]) == (
        "tuple ([2, 5] 0, 0, 0, 0, …, {output: [2, 5] …, 0, 0})",
        "list ([2, 5] 0, 0, 0, 0, …, {output: [2, 5] …, 1, 0})",
    )
    early = torch.tensor([1.0, 2, 3, 4, 5])
    assert described_apart(early, -early) == ("[5] 1, 2, 3, 4, …", "[5] -1, -2, -3, -4, …")
    assert described_apart(early, early.to("meta"))[0] == "[5] 1, 2, 3, 4, …"
    assert described_apart(early, early[:4]) == ("[5] 1, 2, 3, 4, …", "[4] 1, 2, 3, 4")


OBSERVED = [each for _, each in PARTS if each.observe is not call and each.name not in LONG]


@pytest.mark.parametrize("each", OBSERVED, ids=lambda each: each.name)
def test_what_is_observed_has_a_korean_name(each: Part) -> None:
    arguments = next(each.cases(torch.Generator().manual_seed(0)))
    seen = each.observe(each.right, *arguments)
    names = list(seen) if isinstance(seen, dict) else [seen] if isinstance(seen, str) else []
    assert set(names) <= IN_KOREAN.keys()


def test_what_was_observed_is_told_in_korean() -> None:
    (block,) = tasks.find("1.4").parts
    found = judged(block, lambda x, *_: 2 * x)
    result = Checked("1.4", 0, 12, [found.to_json() | {"cell": None}], None, "", None, None, "", True, 0).to_json()
    korean, english = (list(telling.lines(result, "", language))[-2:] for language in sheets.LANGUAGES)
    assert all("{출력: " in line for line in korean) and all("{output: " in line for line in english)


def smallest(values: list[float]) -> float:
    return min(values)


def test_what_is_given_is_kept_whatever_it_is() -> None:
    def sorts(values: list[float]) -> float:
        values.sort()
        return values[0]

    found = judged(part(smallest, ([2.0, 1.0],)), sorts)
    assert (found.points, found.mistakes) == (0, ("changes-its-input",))


def test_two_mistakes_at_once_are_both_told() -> None:
    mistakes = {"tripled": partial(_scaled, by=3), "moved": partial(_scaled, plus=1), "other": partial(_scaled, by=5)}
    two = Part(doubled, 1, lambda generator: iter([(torch.ones(2),), (torch.zeros(2) + 5,)]), mistakes)
    assert judged(two, lambda x: 3 * x + 1).mistakes == ("tripled", "moved")
    assert judged(two, lambda x: 4 * x + 1).mistakes == ("unknown",)


def _scaled(x: Tensor, *, by: float = 2, plus: float = 0) -> Tensor:
    return by * x + plus


def test_what_is_right_of_several_items_keeps_its_points() -> None:
    (norm,) = tasks.find("1.3").parts
    earned = {name: judged(norm, wrong, seed=7).points for name, wrong in norm.mistakes.items()}
    assert (earned["biased-variance-tracked"], earned["momentum-swapped"], earned["torchs-own"]) == (9, 6, 0)
    assert earned["eps-outside"] == 6 and earned["batch-statistics-in-evaluation"] == 6
    assert judged(norm, lambda x, weight, bias, mean, var, *rest: (x, mean, var)).points == 0


@pytest.mark.parametrize(
    ("task", "mistake", "points"),
    [
        ("1.4", "skip-detached", 8),
        ("1.4", "no-skip", 0),  # an input that is kept earns nothing by itself
        ("1.9", "no-legend", 7),
        ("1.9", "linear-axis", 7),
        ("1.9", "counted-from-one", 7),
        ("1.9", "logarithms-drawn", 0),
        pytest.param("1.10", "left-evaluating", 5, marks=pytest.mark.slow),
        pytest.param("1.10", "squared", 0, marks=pytest.mark.slow),
    ],
)
def test_what_is_right_beside_a_right_first_item_keeps_its_points(task: str, mistake: str, points: int) -> None:
    part = tasks.find(task).parts[-1]
    assert judged(part, part.mistakes[mistake], seed=7).points == points
    assert sum(part.shares) == part.points


def test_a_mistake_must_fit_every_case() -> None:
    """An answer that is right in one case and like a mistake in another was not made by that mistake."""
    tripled = Part(
        doubled, 1, lambda generator: iter([(torch.ones(2),), (torch.zeros(2) + 5,)]), {"tripled": lambda x: 3 * x}
    )
    assert judged(tripled, lambda x: 3 * x).mistakes == ("tripled",)
    assert judged(tripled, lambda x: 3 * x if x[0] == 1 else 2 * x).mistakes == ("unknown",)


def test_what_counts_as_the_same() -> None:
    assert (
        same(torch.tensor(2.0), 2, 1e-6)
        and same((1, [2.0]), [1, (2.0,)], 0)
        and same({"a": torch.ones(2)}, {"a": torch.ones(2)}, 0)
    )
    assert (
        not same(torch.ones(2), torch.ones(3), 1)
        and not same("x", 1, 1)
        and not same(None, 0, 1)
        and not same({"a": 1}, {"b": 1}, 1)
    )
    assert same(1e9, 1e9 + 1, 1e-6) and not same(float("nan"), 1.0, 1.0)


def test_unknown_sheets_and_tasks_are_told() -> None:
    with refused(UnknownNameError, "'03'"):
        sheets.read("03", "en")
    with refused(UnknownNameError, "'1.99'; did you mean"):
        sheets.task("1.99", "en")


def test_words_are_read_without_running_the_file(tmp_path: Any) -> None:
    file = tmp_path / "답.py"
    file.write_text('raise SystemExit\nIN_WORDS_1_1 = """F는 0이다."""\nIN_WORDS_1_2 = 3\n', encoding="utf-8")
    assert [checking.words(file, task) for task in ("1.1", "1.2", "1.3")] == ["F는 0이다.", "", ""]
    file.write_text("def (", encoding="utf-8")
    assert checking.words(file, "1.1") == ""


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ('f"plain: {measured(1):.2f} %"', "plain: {measured(1)} %"),
        ('"a {} b".format(x)', "a {} b"),
        ('"a %s b" % x', "a %s b"),
        ('dedent("""a""") + "b".strip()', "ab"),
        ("open(x)", ""),
        ('"-".join(["a", f"{x}"]) + lines', "-a{x}so far"),
        ('("a" "b",)\nIN_WORDS_1_5 += "c"', "abc"),
    ],
)
def test_words_that_are_computed_are_read_as_far_as_they_are_written(code: str, text: str, tmp_path: Any) -> None:
    (tmp_path / "a.py").write_text(f"lines = 'so far'\nIN_WORDS_1_5 = {code}\n", encoding="utf-8")
    assert checking.words(tmp_path / "a.py", "1.5") == text


def test_a_projection_may_keep_the_size() -> None:
    def by_stride(x: Any, w1: Any, bn1: Any, w2: Any, bn2: Any, stride: int, projection: Any) -> Any:
        out = bn2(F.conv2d(bn1(F.conv2d(x, w1, stride=stride, padding=1)).relu(), w2, padding=1))
        shortcut = x if stride == 1 else F.conv2d(x, projection, stride=stride)
        return F.relu(shortcut + out)

    (part,) = tasks.find("1.4").parts
    assert judged(part, by_stride).points < part.points


def test_each_verdict_on_an_order_is_asked_for() -> None:
    def never_failed(order: Any, results: Any, margin: float) -> Any:
        return {
            (a, b): "held" if all(result[b] - result[a] > margin for result in results) else "open"
            for a, b in itertools.combinations(order, 2)
        }

    part = next(each for each in tasks.find("2.4").parts if each.name == "held")
    assert judged(part, never_failed).points < part.points


def test_the_fewest_seeds_are_three() -> None:
    def from_two(std: float, half: float, level: float) -> int:
        return next(n for n in itertools.count(2) if stats.t.ppf((1 + level) / 2, n - 1) * std / n**0.5 <= half)

    part = next(each for each in tasks.find("2.6").parts if each.name == "seeds_needed")
    assert judged(part, from_two).points < part.points


def test_a_failing_answer_is_described_shortly() -> None:
    long = Part(doubled, 1, lambda generator: iter([(torch.ones(2),)]), {})
    found = judged(long, lambda x: {"key": "x" * 1000, "other": SimpleNamespace()})
    assert len(found.came) <= 300 and found.expected.endswith("[2] 2, 2")


def test_a_tensor_of_another_class_is_compared_by_its_values() -> None:
    class Image(Tensor):
        pass

    values = torch.tensor([1.0, 2.0])
    assert same(values.as_subclass(Image), values, 1e-6) and not same(values.as_subclass(Image), values + 1, 1e-6)
    assert not same((values + 1).as_subclass(LyingTensor), values, 1e-6)
    assert same(torch.nn.Parameter(values), values, 1e-6)


@pytest.mark.parametrize(("name", "points"), [("resnet20", True), ("plain20", False)])
def test_a_network_to_dissect_has_residual_blocks(name: str, points: bool) -> None:
    (part,) = (part for _, part in PARTS if part.name == "my_network")
    answer = lambda: (reslab.build(name, in_channels=1).eval(), torch.randn(2, 1, 8, 8))  # noqa: E731
    assert bool(judged(part, answer).points) is points
