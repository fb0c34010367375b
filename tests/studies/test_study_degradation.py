"""The deeper network that contains a shallower one, and the loss surfaces."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reslab.experiment.config import StudyConfig
from reslab.experiment.trials import Trial, Trials
from reslab.measures.construction import contain
from reslab.networks import zoo
from reslab.studies.degradation import DegradationConfig, surfaces


def trained(family: str, depth: int) -> tuple[nn.Module, Tensor]:
    """Return a network with statistics and BatchNorm parameters of its own, and images."""
    torch.manual_seed(depth)
    network, images = zoo.build(family, depth=depth, in_channels=1), torch.randn(32, 1, 8, 8)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2)
                module.bias.uniform_(-1, 1)
        for _ in range(5):
            network(images)
    return network.eval(), images


def test_the_deep_network_computes_what_the_shallow_one_does_and_could_do_more() -> None:
    shallow, images = trained("cifar_plain", 8)
    before = {name: value.clone() for name, value in shallow.state_dict().items()}
    deep = contain(shallow, zoo.build("cifar_plain", depth=26, in_channels=1))
    with torch.no_grad():
        assert torch.allclose(deep(images), shallow(images), rtol=1e-5, atol=1e-5)
        assert all(torch.equal(value, before[name]) for name, value in shallow.state_dict().items())
        deep.get_submodule("layer2.3.conv1").weight.mul_(-1)  # type: ignore[union-attr, operator]  # a convolution's
        assert not torch.allclose(deep(images), shallow(images), rtol=1e-2)


def test_without_the_right_variance_the_layers_would_not_be_the_identity() -> None:
    shallow, images = trained("cifar_plain", 8)
    deep = contain(shallow, zoo.build("cifar_plain", depth=26, in_channels=1)).double()
    with torch.no_grad():
        exact = shallow.double()(images.double())
        assert (deep(images.double()) - exact).abs().max() < 1e-5 * exact.abs().max()
        for name, module in deep.named_modules():
            if isinstance(module, nn.BatchNorm2d) and name not in dict(shallow.named_modules()):
                module.running_var.fill_(1.1)  # type: ignore[union-attr]  # it tracks
        assert (deep(images.double()) - exact).abs().max() > 0.1 * exact.abs().max()


def pair(status: str, seeds: tuple[int, ...] = (0, 1)) -> dict[str, list[Trial]]:
    """Return trials of a plain and a residual network that are as they were drawn; the plain one of seed 0 has this
    status.
    """

    class Fresh(Trial):
        def network(self) -> nn.Module:
            return self.fresh_network().eval()

    def trial(kind: str, seed: int) -> Trial:
        config = StudyConfig(seeds=2).trials(f"cifar_{kind}", depth=14)[seed]
        unused: Any = None
        return Fresh((kind, 14), config, {"status": status if (kind, seed) == ("plain", 0) else "finished"}, unused)

    return Trials({(kind, 14): [trial(kind, seed) for seed in seeds] for kind in ("plain", "resnet")})


def test_the_surfaces_have_the_loss_in_the_middle_and_are_of_a_pair_that_did_not_diverge() -> None:
    config = DegradationConfig(depths=(8, 14), surface=2)
    trials = pair("diverged")
    (chart,) = surfaces(config, trials)
    assert "seed 1" in chart.caption["en"] and [series.name for series in chart.series] == ["plain-14", "resnet-14"]
    trial = trials["resnet", 14][1]
    images, labels = (part[:64] for part in trial.data().train)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(trial.network()(images), labels).item()
    heights = chart.series[1].z
    assert heights and heights[2][2] == pytest.approx(math.log10(loss), rel=1e-5)
    assert all(-6 <= height <= 12 for row in heights for height in row) and len({tuple(row) for row in heights}) == 5
    assert surfaces(config, pair("diverged", (0,))) == []
