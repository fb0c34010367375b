"""Tensors have the shapes that are written on them."""

import doctest
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers_forks import done as forked
from helpers_shapes import hook

from reslab.analysis import analyses

HERE = str(Path(__file__).parents[1] / "analysis")
ROOMS = ["reslab.analysis", "reslab.gates", "reslab.api", "reslab.data"]
MODELS = [
    "resnet18",
    "preresnet20",
    "cifar_plain",
    "resnext50_32x4d",
    "densenet121",
    "efficientnet_b0",
    "regnet_x_200mf",
]


def analysed(names: list[str]) -> None:
    """Run analyses of a small network with their shapes checked."""
    hook(ROOMS)
    import torch
    from jaxtyping import TypeCheckError

    sys.path.insert(0, HERE)
    from test_results_shown import result

    from reslab.analysis.removal import Importance, Removals

    with pytest.raises(TypeCheckError):
        Removals([], 0.0, torch.zeros(2, 2))
    assert Importance([], torch.zeros(2)).gradient.shape == (2,)
    for name in names:
        result(name)


def shown(names: list[str]) -> None:
    """Run public names' examples with their shapes checked."""
    hook(ROOMS)
    import reslab as again

    for name in names:
        for test in doctest.DocTestFinder(recurse=False).find(getattr(again, name), name, module=False):
            test.globs = {}
            assert not doctest.DocTestRunner().run(test).failed, name


def built(names: list[str]) -> None:
    """Run networks with their shapes checked."""
    hook(["reslab.paper", "reslab.successors"])
    import torch
    from jaxtyping import TypeCheckError

    from reslab.networks import zoo

    for name in names:
        network = zoo.build(name, **({"depth": 8} if name == "cifar_plain" else {})).eval()
        network(torch.zeros(1, *zoo.input_shape(network)))
        with pytest.raises(TypeCheckError):
            network(torch.zeros(zoo.input_shape(network)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "names"),
    [
        (analysed, [each.name for each in set(analyses().values())]),
        (shown, ["View", "load_data", "train", "view"]),
        (built, MODELS),
    ],
)
def test_shapes_are_what_they_are_said_to_be(work: Any, names: list[str], tmp_path: Path) -> None:
    done = forked(tmp_path, work, names)
    assert done.returncode == 0, done.stdout + done.stderr
