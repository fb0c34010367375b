"""Sheet 02 of the exercises: its reference solutions, its recognised mistakes, its text, and its figures against the real networks."""

import ast
import inspect
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import reslab
from reslab import claims, exercises, zoo
from reslab.analysis.removal import remove_each
from reslab.exercises import sheets
from reslab.exercises.grading import Judgement, Part, Task, judge
from reslab.exercises.tasks import find, names, task_2_1, task_2_2, task_2_3, task_2_4, task_2_5, task_2_6, task_2_7, task_2_8

TASKS = {name: find(name) for name in names() if name.startswith("2.")}
PARTS = [(name, part) for name, task in TASKS.items() for part in task.parts]
MISTAKES = [(name, part, mistake) for name, part in PARTS for mistake in part.mistakes]
TEXT = tomllib.loads(Path(exercises.__file__).with_name("feedback.toml").read_text(encoding="utf-8"))


def quick(part: Part) -> bool:
    """Say whether a part trains no networks and traces none, so that all of it can be tried in the fast suite."""
    return part.name not in ("run", "removal_errors", "removal_curve")


def judged(part: Part, answer: Callable[..., Any], seed: int) -> Judgement:
    answers = ModuleType("answers")
    answers.__file__ = "answers.py"
    setattr(answers, part.name, answer)
    (judgement,) = judge(Task("", [part]), answers, seed)
    return judgement


def slow_unless(fast: bool) -> list[pytest.MarkDecorator]:
    return [] if fast else [pytest.mark.slow]


def test_the_sheet_has_eight_tasks() -> None:
    assert list(TASKS) == [f"2.{number}" for number in range(1, 9)]


@pytest.mark.parametrize(("name", "part"), [pytest.param(*each, id=f"{each[0]}-{each[1].name}", marks=slow_unless(quick(each[1]))) for each in PARTS])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_reference_solution_gets_full_points(name: str, part: Part, seed: int) -> None:
    assert judged(part, part.right, seed) == Judgement(part.name, "right", part.points, part.points)


@pytest.mark.parametrize("part", [part for name, part in PARTS if name == "2.5"], ids=lambda part: part.name)
def test_a_slow_part_is_tried_once_in_the_fast_suite(part: Part) -> None:
    assert judged(part, part.right, 1).points == part.points


@pytest.mark.parametrize(
    ("name", "part", "mistake"),
    [pytest.param(*each, id=f"{each[0]}-{each[1].name}-{each[2]}", marks=slow_unless(quick(each[1]))) for each in MISTAKES],
)
def test_a_mistake_is_recognised_by_its_name_and_explained(name: str, part: Part, mistake: str) -> None:
    for seed in (1, 2, 3) if part.name != "run" else (1,):
        judgement = judged(part, part.mistakes[mistake], seed)
        assert (judgement.mistake, judgement.points, judgement.status) == (mistake, 0, "wrong")


@pytest.mark.parametrize("name", TASKS)
def test_every_mistake_and_no_other_has_a_text_in_both_languages(name: str) -> None:
    assert {part.name: set(part.mistakes) for part in TASKS[name].parts} == {part: set(texts) for part, texts in TEXT[name].items()}
    for texts in TEXT[name].values():
        for text in texts.values():
            assert text.keys() == {"ko", "en"} and all(text.values())
    assert sum(len(part.mistakes) for part in TASKS[name].parts) >= 3


def functions(stub: str) -> dict[str, str]:
    return {node.name: ast.unparse(node.args) for node in ast.parse(stub).body if isinstance(node, ast.FunctionDef)}


def test_the_two_languages_agree() -> None:
    korean, english = (sheets.read("02", language) for language in sheets.LANGUAGES)
    assert korean.preamble == english.preamble
    assert list(korean.tasks) == list(english.tasks) == list(TASKS)
    for name, text in korean.tasks.items():
        other = english.tasks[name]
        assert (text.points, text.minutes, text.difficulty, text.stub) == (other.points, other.minutes, other.difficulty, other.stub)
        assert len(text.hints) == len(other.hints) >= 2
        assert text.points == TASKS[name].points and 10 <= text.points <= 15
        assert set(functions(text.stub)) == {part.name for part in TASKS[name].parts}


@pytest.mark.parametrize("language", sheets.LANGUAGES)
def test_what_a_learner_starts_with_runs_and_is_unfinished(language: sheets.Language) -> None:
    answers = ModuleType("answers")
    answers.__file__ = "answers.py"
    exec(compile(sheets.starter("02", language), "answers.py", "exec"), vars(answers))
    for task in TASKS.values():
        parts = [part for part in task.parts if quick(part)]
        assert {judgement.status for judgement in judge(Task(task.id, parts), answers, 1)} <= {"unfinished"}


@pytest.mark.parametrize("name", TASKS)
def test_a_solution_takes_what_the_stub_names_and_stands_where_the_stub_stood(name: str) -> None:
    source = inspect.getsource(import_module(f"reslab.exercises.tasks.task_{name.replace('.', '_')}"))
    solution = source.split("# the solution\n")[1].split("# how it is judged")[0]
    task, sheet = TASKS[name], sheets.read("02", "en")
    assert {part.name: functions(solution)[part.name] for part in task.parts} == functions(sheet.tasks[name].stub)
    assert all(ast.get_docstring(node) for node in ast.parse(solution).body if isinstance(node, ast.FunctionDef))
    answers = ModuleType("answers")
    answers.__file__ = "answers.py"
    exec(compile(sheet.preamble + solution, "answers.py", "exec"), vars(answers))
    judgements = judge(Task(name, [part for part in task.parts if quick(part)]), answers, 1)
    assert all(judgement.status == "right" for judgement in judgements)


# --- What the solutions say, against the real networks ----------------------------------------------------------------


def test_a_deeper_plain_network_answers_as_the_shallower() -> None:
    weights = [torch.randn(4, 1, 3, 3), torch.randn(5, 4, 3, 3)]
    deeper = task_2_1.deeper(task_2_1.deeper(weights, 1), 3)
    assert [tuple(weight.shape) for weight in deeper] == [(4, 1, 3, 3), (4, 4, 3, 3), (5, 4, 3, 3), (5, 5, 3, 3)]


@pytest.mark.parametrize("depth", [8, 20])
def test_the_shortcuts_cost_what_they_cost_in_the_real_networks(depth: int) -> None:
    def parameters(name: str, **options: Any) -> int:
        return sum(parameter.numel() for parameter in zoo.build(name, depth=depth, **options).parameters())

    plain = parameters("cifar_plain")
    for option in "ABC":
        assert task_2_2.extra_parameters(option, depth) == parameters("cifar_resnet", shortcut=option) - plain


def test_option_a_and_the_projection_are_the_labs() -> None:
    from reslab.paper.resnet_paper import ZeroPad, conv1x1

    x, convolution = torch.randn(2, 3, 7, 8), conv1x1(3, 5, 2)
    assert torch.equal(task_2_2.zero_pad(x, 8, 2), ZeroPad(3, 8, 2)(x))
    torch.testing.assert_close(task_2_2.projection(x, convolution.weight[:, :, 0, 0], 2), convolution(x))


def test_multiply_adds_are_those_that_are_measured() -> None:
    from reslab.paper.resnet_paper import BasicBlock, Bottleneck

    x = torch.randn(1, 32, 9, 9)
    blocks = {"basic": BasicBlock(32, 32, 1, "A"), "bottleneck": Bottleneck(32, 32, 1, "A", "1x1")}
    for kind, block in blocks.items():
        assert task_2_3.block_macs(kind, 32, 9) == zoo.count_macs(block, x)
    convolution = nn.Conv2d(3, 16, 7, 2, padding=3, bias=False)
    assert task_2_3.conv_macs(3, 16, 7, 33, 40, 2) == zoo.count_macs(convolution, torch.randn(1, 3, 33, 40))
    assert task_2_3.share_of_3x3(256, 64) == pytest.approx(0.529, abs=5e-4)  # 52.9 % of a block of 256


def test_any_complete_prediction_is_worth_its_points() -> None:
    (part, *_) = TASKS["2.4"].parts
    for order in (["plain8", "plain20", "resnet8", "resnet20"], ["resnet8", "plain20", "resnet20", "plain8"]):
        assert judged(part, lambda order=order: order, 1).points == part.points


@pytest.mark.slow
def test_a_run_repeats_to_the_digit_and_shows_degradation_in_the_plain_network_alone() -> None:
    first = task_2_4.run(0)
    assert task_2_4.run(0) == first
    assert first["plain20"] > first["resnet20"]


def test_removal_agrees_with_the_labs_own() -> None:
    network = reslab.build("cifar_resnet", depth=8, num_classes=10, in_channels=1).eval()
    images, labels = torch.randn(16, 1, 6, 6), torch.randint(10, (16,))
    expected = remove_each(network, images, labels)
    assert task_2_5.removal_errors(network, images, labels) == pytest.approx(expected.without.tolist())
    assert task_2_5.removal_curve(network, images, labels, []) == pytest.approx([expected.error])


@pytest.mark.parametrize("direction", ["higher", "lower", "not higher"])
@pytest.mark.parametrize("shift", [-0.06, -0.01, 0.0, 0.01, 0.06])
def test_intervals_and_verdicts_are_the_labs_own(direction: Any, shift: float) -> None:
    claim = claims.Claim("x.y", "statistical", "overview", {"ko": "", "en": ""}, "", direction, 0.02)
    control = {seed: 0.3 + 0.01 * seed for seed in range(5)}
    treatment = {seed: control[seed] + shift + 0.004 * (-1) ** seed for seed in range(5)}
    (expected,) = claims.decide([claims.Comparison(claim, treatment, control)])
    low, high = task_2_6.interval(list(treatment.values()), list(control.values()), 0.95)
    assert (low, high) == pytest.approx(expected.interval)
    assert task_2_6.verdict(low, high, 0.02, direction) == expected.decision


def test_the_planned_seeds_are_enough_and_one_less_is_not() -> None:
    n = task_2_6.seeds_needed(0.02, 0.01, 0.95)
    assert task_2_6.half_width(0.02, n, 0.95) <= 0.01 < task_2_6.half_width(0.02, n - 1, 0.95)


def test_the_real_case_is_open() -> None:
    plan = {"margin": 0.02, "seeds": [0, 1, 2, 3, 4]}
    assert task_2_7.may_say(-0.0264, 0.0201, plan, plan) == ["open"]
    assert task_2_7.may_say(-0.0264, 0.0201, plan, plan | {"margin": 0.03}) == ["open"]
    assert task_2_7.may_say(-0.0264, 0.0201, plan, plan | {"seeds": [0, 1, 2, 3]}) == ["not as planned"]


@pytest.mark.parametrize("size", [64, 97])
def test_the_stages_from_memory_are_those_of_the_network(size: int) -> None:
    network = reslab.build("resnet50").eval()
    rows = task_2_8.stages(size)
    parts: dict[str, list[nn.Module]] = {"conv1": [network.conv1, network.bn1, network.relu], "pool": [network.maxpool]}  # type: ignore[list-item]  # ResNet's own modules
    parts |= {name: [network.get_submodule(name)] for name in ("layer1", "layer2", "layer3", "layer4", "avgpool")}
    with torch.no_grad():
        x = torch.randn(1, 3, size, size)
        for (name, channels, height, blocks, parameters), modules in zip(rows, parts.values(), strict=False):
            for module in modules:
                x = module(x)
            assert x.shape == (1, channels, height, height), name
            assert parameters == sum(parameter.numel() for module in modules for parameter in module.parameters())
            assert blocks == (len(list(modules[0].children())) if name.startswith("layer") else 0)
    assert rows[-1] == ("fc", 1000, 1, 0, sum(parameter.numel() for parameter in network.get_submodule("fc").parameters()))
    assert sum(row[-1] for row in rows) == zoo.reference("resnet50").params == 25_557_032


def test_depth_is_the_number_in_the_name() -> None:
    from reslab.paper.resnet_paper import IMAGENET_BLOCKS

    for depth, blocks in IMAGENET_BLOCKS.items():
        assert task_2_8.depth("basic" if depth < 50 else "bottleneck", blocks) == depth
