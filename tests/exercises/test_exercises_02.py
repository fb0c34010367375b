"""Sheet 02 of the exercises: its mistakes are told apart whatever is drawn, and its figures are those of the real
networks.
"""

import ast
import inspect
from typing import Any

import pytest
import torch
from helpers_exercises import LONG, judged
from helpers_networks import Toy
from torch import nn

import reslab
from reslab.analysis.ranking import spearman
from reslab.analysis.removal import remove_each
from reslab.analysis.split import split
from reslab.analysis.worth import block_worth
from reslab.exercises import sheets, tasks
from reslab.exercises.grading import Part
from reslab.exercises.tasks import (
    task_2_1,
    task_2_2,
    task_2_3,
    task_2_4,
    task_2_5,
    task_2_6,
    task_2_7,
    task_2_8,
    task_2_9,
)
from reslab.ledger.claim import Claim
from reslab.ledger.comparison import Comparison
from reslab.ledger.verdict import decide
from reslab.networks import zoo
from reslab.networks.counting import count_macs

NAMES = [name for name in tasks.names() if name.startswith("2.")]
PARTS = [part for name in NAMES for part in tasks.find(name).parts]
QUICK = [part for part in PARTS if part.name not in LONG]
REMOVALS = [part for part in PARTS if part.name.startswith("removal")]


def recognises(part: Part, seed: int) -> None:
    assert judged(part, part.right, seed).points == part.points
    for mistake, answer in part.mistakes.items():
        found = judged(part, answer, seed)
        assert (found.mistakes, found.points, found.status) == ((mistake,), 0, "wrong")


@pytest.mark.parametrize("part", QUICK, ids=lambda part: part.name)
def test_mistakes_are_told_apart_on_whatever_inputs(part: Part) -> None:
    for seed in (1, 2):
        recognises(part, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("part", REMOVALS, ids=lambda part: part.name)
def test_removals_gone_wrong_are_told_apart_on_whatever_networks(part: Part, seed: int) -> None:
    recognises(part, seed)


def test_removals_are_tried_once_in_the_fast_suite() -> None:
    for part in REMOVALS:
        assert judged(part, part.right).points == part.points


@pytest.mark.parametrize("name", NAMES)
def test_a_solution_takes_what_its_stub_takes_and_says_what_it_returns(name: str) -> None:
    asked = {
        node.name: node for node in ast.parse(sheets.task(name, "en").stub).body if isinstance(node, ast.FunctionDef)
    }
    parts = tasks.find(name).parts
    assert list(asked) == [part.name for part in parts]
    for part in parts:
        (solution,) = ast.parse(inspect.getsource(part.right)).body
        assert isinstance(solution, ast.FunctionDef) and (ast.get_docstring(solution) or "").startswith("Return")
        assert ast.unparse(solution.args) == ast.unparse(asked[part.name].args)


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
        assert task_2_3.block_macs(kind, 32, 9) == count_macs(block, x)
    convolution = nn.Conv2d(3, 16, 7, 2, padding=3, bias=False)
    assert task_2_3.conv_macs(3, 16, 7, 33, 40, 2) == count_macs(convolution, torch.randn(1, 3, 33, 40))
    assert task_2_3.share_of_3x3(256, 64) == pytest.approx(0.529, abs=5e-4)  # 52.9 % of a block of 256


def test_any_complete_prediction_is_worth_its_points() -> None:
    part = task_2_4.TASK.parts[0]
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
    claim = Claim("x.y", "statistical", "overview", {"ko": "", "en": ""}, "", direction, 0.02)
    control = {seed: 0.3 + 0.01 * seed for seed in range(5)}
    treatment = {seed: control[seed] + shift + 0.004 * (-1) ** seed for seed in range(5)}
    (expected,) = decide([Comparison(claim, treatment, control, paired=True)])
    low, high = task_2_6.interval(list(treatment.values()), list(control.values()), 0.95)
    assert (low, high) == pytest.approx(expected.interval)
    assert task_2_6.verdict(low, high, 0.02, direction) == expected.verdict


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
    assert rows[-1] == (
        "fc",
        1000,
        1,
        0,
        sum(parameter.numel() for parameter in network.get_submodule("fc").parameters()),
    )
    assert sum(row[-1] for row in rows) == zoo.reference("resnet50").params == 25_557_032


def test_depth_is_the_number_in_the_name() -> None:
    from reslab.paper.resnet_paper import IMAGENET_BLOCKS

    for depth, blocks in IMAGENET_BLOCKS.items():
        assert task_2_8.depth("basic" if depth < 50 else "bottleneck", blocks) == depth


def test_what_a_block_is_worth_and_says_is_what_the_lab_finds() -> None:
    branches, classifier, x, labels = tasks.drawn("2.9", "lesion", seed=0, case=0)
    made = []
    for inner, outer in branches:
        one, two = (nn.Linear(*matrix.shape[::-1], bias=False, dtype=x.dtype) for matrix in (inner, outer))
        one.weight, two.weight = nn.Parameter(inner), nn.Parameter(outer)
        made.append(Toy(nn.Sequential(one, nn.ReLU(), two)))
    head = nn.Linear(*classifier.shape[::-1], bias=False, dtype=x.dtype)
    head.weight = nn.Parameter(classifier)
    network = nn.Sequential(*made, head)
    found = block_worth(network, x, labels, permutations=0)
    lesion, turn = task_2_9.lesion(branches, classifier, x, labels), task_2_9.turn(branches, x)
    assert found.measures["loss, zero"].tolist() == pytest.approx(lesion.tolist())
    assert found.measures["turn"].tolist() == pytest.approx(turn.tolist())
    parts = task_2_9.logit_parts(branches, classifier, x)
    torch.testing.assert_close(split(network, x).parts[:-1], parts)
    torch.testing.assert_close(parts.sum(0), network(x).detach())
    for case in range(3):
        one, other = tasks.drawn("2.9", "agreement", seed=1, case=case)
        assert task_2_9.agreement(one, other) == pytest.approx(spearman(one, other).value)
