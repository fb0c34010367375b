"""Each ablation reduces to something known."""

import pytest
import torch
from torch import nn

from reslab.paper.identity_mappings import (
    ORDERS,
    DropoutShortcut,
    Unit,
    cifar_activation_order,
    cifar_shortcut_ablation,
)
from reslab.paper.resnet_paper import cifar_preresnet, cifar_resnet


def same_weights(ours: nn.Module, theirs: nn.Module) -> None:
    """Copy parameters and statistics over in their order, the gates' aside."""
    values = [value for name, value in theirs.state_dict().items() if "num_batches" not in name]
    targets = [value for name, value in ours.state_dict().items() if "num_batches" not in name and "gate" not in name]
    assert [t.shape for t in targets] == [v.shape for v in values]
    for target, value in zip(targets, values, strict=True):
        target.copy_(value)


@pytest.fixture
def original() -> nn.Module:
    network = cifar_resnet(14).double()
    network(torch.randn(8, 3, 16, 16).double())  # statistics that are not fresh
    return network.eval()


IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize(
    "options",
    [{"kind": "scaling"}, {"kind": "shortcut-gating", "gate_bias": -1e4}, {"kind": "dropout", "drop": 0.0}],
    ids=lambda o: o["kind"],
)
def test_shortcuts_that_reduce_to_the_original(original: nn.Module, options: dict[str, object]) -> None:
    network = cifar_shortcut_ablation(14, **options).double().eval()  # type: ignore[arg-type]  # words and numbers
    same_weights(network, original)
    assert torch.allclose(network(IMAGES), original(IMAGES), atol=1e-12)


def test_exclusive_gating_reduces_to_the_bare_shortcut() -> None:
    network = cifar_shortcut_ablation(8, "exclusive-gating", gate_bias=-1e4).double().eval()
    x = network.stem(IMAGES)
    for unit in network.units:
        assert isinstance(unit, Unit)
        assert torch.equal(unit(x), unit.shortcut(x))
        x = unit(x)


def test_the_gates_bias_is_the_one_asked_for() -> None:
    for kind in ("exclusive-gating", "shortcut-gating"):
        network = cifar_shortcut_ablation(8, kind, gate_bias=-7.0)  # type: ignore[arg-type]  # both are kinds
        biases = [value for name, value in network.named_parameters() if name.endswith("gate.bias")]
        assert len(biases) == 3 and all((bias == -7).all() for bias in biases)


def test_the_dropout_shortcut_is_not_inverted() -> None:
    shortcut = DropoutShortcut(0.25)
    ones, zeros = torch.ones(1, 1, 100, 100), torch.zeros(1, 1, 100, 100)
    kept = shortcut.train()(ones, ones, zeros)
    assert set(kept.unique().tolist()) == {0.0, 1.0} and kept.mean().item() == pytest.approx(0.75, abs=0.02)
    assert torch.allclose(shortcut.eval()(ones, ones, zeros), 0.75 * ones)


def test_the_original_order_is_the_2015_network(original: nn.Module) -> None:
    network = cifar_activation_order(14).double().eval()
    same_weights(network, original)
    assert torch.allclose(network(IMAGES), original(IMAGES), atol=1e-12)


def test_full_pre_activation_is_v2() -> None:
    """The same tensors in another order of definition: matched by role."""
    theirs = cifar_preresnet(8).double()
    theirs(torch.randn(8, 3, 16, 16).double())
    ours = cifar_activation_order(8, "full-pre-activation").double()
    state = theirs.eval().state_dict()
    roles = {"stem.0": "conv1", "stem.1": "bn1", "last.0": "bn_last", "fc": "fc"}
    for unit in range(3):
        block = f"layer{unit + 1}.0"
        roles |= {
            f"units.{unit}.{ours_}": f"{block}.{theirs_}"
            for ours_, theirs_ in {
                "before.0": "bn1",
                "branch.0": "conv1",
                "branch.1": "bn2",
                "branch.3": "conv2",
            }.items()
        }
    ours.load_state_dict(
        {name: state[f"{roles[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}"] for name in ours.state_dict()}
    )
    assert torch.allclose(ours.eval()(IMAGES), theirs(IMAGES), atol=1e-12)


def written_out(order: str, x: torch.Tensor, c: list[torch.Tensor]) -> torch.Tensor:
    """Return the second unit of an 8+6-layer network in words, with fresh BatchNorms in evaluation mode, which divide
    by √(1 + ε).
    """
    bn = lambda t: t / (1 + 1e-5) ** 0.5  # noqa: E731  # a formula
    conv = lambda t, w: nn.functional.conv2d(t, w, padding=1)  # noqa: E731  # a formula
    r = torch.relu
    return {
        "original": lambda: r(x + bn(conv(r(bn(conv(x, c[0]))), c[1]))),
        "bn-after-addition": lambda: r(bn(x + conv(r(bn(conv(x, c[0]))), c[1]))),
        "relu-before-addition": lambda: x + r(bn(conv(r(bn(conv(x, c[0]))), c[1]))),
        "relu-only-pre-activation": lambda: x + bn(conv(r(bn(conv(r(x), c[0]))), c[1])),
        "full-pre-activation": lambda: x + conv(r(bn(conv(r(bn(x)), c[0]))), c[1]),
    }[order]()


@pytest.mark.parametrize("order", ORDERS)
def test_each_order_as_figure_4_draws_it(order: str) -> None:
    network = cifar_activation_order(14, order).double().eval()  # type: ignore[arg-type]  # the test goes over all of them
    unit = network.units[1]
    x = torch.randn(2, 16, 5, 5).double()
    convolutions = [module.weight for module in unit.modules() if isinstance(module, nn.Conv2d)]
    assert torch.allclose(unit(x), written_out(order, x, convolutions), atol=1e-12)
    assert len(network.last) == {"relu-only-pre-activation": 1, "full-pre-activation": 2}.get(order, 0)
    assert network(torch.randn(2, 3, 16, 16).double()).shape == (2, 10)


def test_mistakes_are_told() -> None:
    with pytest.raises(ValueError, match="depth 15 is not 6n"):
        cifar_activation_order(15)
    with pytest.raises(ValueError, match="no order 'pre'"):
        cifar_activation_order(14, "pre")  # type: ignore[arg-type]  # the mistake is what is tested
    with pytest.raises(ValueError, match="no shortcut 'gate'"):
        cifar_shortcut_ablation(14, "gate")  # type: ignore[arg-type]  # the mistake is what is tested
