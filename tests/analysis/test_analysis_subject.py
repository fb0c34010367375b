"""Networks as people have them: every analysis measures the network itself, or says in one line why not, and leaves it
as it was.
"""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from helpers import NoFloat64, refused, snapshot
from torch import Tensor, nn
from torch.nn.utils import prune

from reslab import sending
from reslab.analysis.alike import alike
from reslab.analysis.batchnorm import covariate_shift, loss_smoothness, without_batchnorm
from reslab.analysis.direction import direction
from reslab.analysis.gradient_flow import gradient_flow, through_training
from reslab.analysis.inference import FastView, fast_view
from reslab.analysis.jacobian import jacobian
from reslab.analysis.landscape import filter_normalised, landscape
from reslab.analysis.lens import lens
from reslab.analysis.lesions import lesions
from reslab.analysis.paths import path_spectrum, sample_paths
from reslab.analysis.probe import probe
from reslab.analysis.pruning import prune as prune_blocks
from reslab.analysis.removal import importance, remove_each, remove_random
from reslab.analysis.responses import responses
from reslab.analysis.shattering import shattering
from reslab.analysis.split import split
from reslab.analysis.worth import block_worth
from reslab.errors import MismatchError, UnseenError, UserError, WrongValueError
from reslab.networks.counting import count_macs
from reslab.residual import view
from reslab.training.batchnorm import true_average

X, Y = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6)

ANALYSES: dict[str, Callable[..., Any]] = {
    "gradient_flow": gradient_flow,
    "through_training": lambda network, x, y: through_training(network, x, y, steps=1, batch_size=4),
    "path_spectrum": path_spectrum,
    "sample_paths": lambda network, x, y: sample_paths(network, x, y, lengths=[1], draws=1),
    "remove_each": remove_each,
    "remove_random": lambda network, x, y: remove_random(network, x, y, counts=[1], draws=1),
    "importance": importance,
    "jacobian": lambda network, x, _: jacobian(network, x[:1], method="extreme", steps=1),
    "responses": lambda network, x, _: responses(network, x, kernel=None),
    "shattering": lambda network, x, _: shattering(network, x[:2], points=4, lags=1),
    "landscape": lambda network, x, y: landscape(network, x, y, points=3, dimensions=1),
    "loss_smoothness": lambda network, x, y: loss_smoothness(network, x, y, multiples=[1.0]),
    "covariate_shift": covariate_shift,
    "direction": direction,
    "block_worth": lambda network, x, y: block_worth(network, x, y, permutations=1),
    "prune": lambda network, x, y: prune_blocks(network, x, y, steps=1),
    "split": lambda network, x, _: split(network, x, classes=[0, 1]),
    "lens": lens,
    "alike": lambda network, x, _: alike(network, x),
    "probe": probe,
}


class Block(nn.Module):
    """A block of a convolution and a BatchNorm of any number of dimensions."""

    def __init__(self, conv: type[nn.Module] = nn.Conv2d, bn: type[nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv, self.bn = conv(4, 4, 3, padding=1), bn(4)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.bn(self.conv(x)))


def tower(
    *blocks: nn.Module, conv: type[nn.Module] = nn.Conv2d, pool: type[nn.Module] = nn.AdaptiveAvgPool2d
) -> nn.Sequential:
    return nn.Sequential(conv(1, 4, 3, padding=1), *blocks, pool(1), nn.Flatten(), nn.Linear(4, 10)).eval()


def changed(change: Callable[[nn.Module], object]) -> nn.Module:
    """Return a tower whose convolutions were changed."""
    network = tower(Block(), Block())
    for layer in [module for module in network.modules() if isinstance(module, nn.Conv2d)]:
        change(layer)
    network(X)
    return network


def tied() -> nn.Module:
    network = tower(Block(), Block())
    network[2].conv.weight = network[1].conv.weight  # type: ignore[union-attr]  # a Block's
    return network


def without_statistics() -> nn.Module:
    return tower(Block(bn=lambda width: nn.BatchNorm2d(width, track_running_stats=False)))  # type: ignore[arg-type]  # as good as a class


class Words(nn.Module):
    """A network of token ids."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc = nn.Embedding(50, 8), nn.Linear(8, 10)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8)) for _ in range(2))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = x + block(x)
        return self.fc(x.mean(1))  # type: ignore[no-any-return]  # modules return Any


class Gives(nn.Module):
    """A tower that gives something else than logits."""

    def __init__(self, what: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.what, self.network = what, tower(Block())

    def forward(self, x: Tensor) -> Any:
        return self.what(self.network(x))


def always_dropping() -> nn.Module:
    class Drops(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x, 0.3)  # in evaluation mode too

    return tower(Block(), Drops())


PEOPLES: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "shared modules": (lambda: tower(*[Block()] * 2), X),
    "tied weights": (tied, X),
    "pruned": (lambda: changed(lambda layer: prune.l1_unstructured(layer, "weight", 0.5)), X),
    "spectrally normed": (lambda: changed(nn.utils.spectral_norm), X),
    "weight-normed": (lambda: changed(nn.utils.parametrizations.weight_norm), X),
    "without statistics": (without_statistics, X),
    "hooked": (lambda: changed(lambda layer: layer.register_forward_hook(lambda module, inputs, out: 2 * out)), X),
    "DataParallel": (lambda: nn.DataParallel(tower(Block())), X),
    "float64": (lambda: tower(Block()).double(), X.double()),
    "bfloat16": (lambda: tower(Block()).bfloat16(), X.bfloat16()),
    "1-D": (lambda: tower(Block(nn.Conv1d, nn.BatchNorm1d), conv=nn.Conv1d, pool=nn.AdaptiveAvgPool1d), X[:, :, 0]),
    "3-D": (
        lambda: tower(Block(nn.Conv3d, nn.BatchNorm3d), conv=nn.Conv3d, pool=nn.AdaptiveAvgPool3d),
        X.reshape(6, 1, 4, 4, 4),
    ),
    "token ids": (Words, torch.arange(72).reshape(6, 12) % 50),
    "a dict": (lambda: Gives(lambda logits: {"out": logits}), X),
    "a tuple": (lambda: Gives(lambda logits: (logits, logits)), X),
    "a score": (lambda: Gives(lambda logits: logits[:, 0]), X),
    "pixels": (lambda: Gives(lambda logits: logits[:, :, None, None].expand(-1, -1, 2, 2)), X),
    "dropout always on": (always_dropping, X),
    "images with a graph": (lambda: tower(Block()), X.clone().requires_grad_() * 1),
    "one image": (lambda: tower(Block()).train(), X[:1]),
    "frozen": (lambda: tower(Block()).requires_grad_(False), X),
}
REFUSED: dict[str, tuple[type[UserError], str]] = {  # by those that measure an error or a loss
    "a dict": (UnseenError, "logits"),
    "a tuple": (UnseenError, "logits"),
    "a score": (MismatchError, "outputs"),
    "pixels": (MismatchError, "outputs"),
    "dropout always on": (UnseenError, "dropout"),
}


@pytest.mark.parametrize("name", [*ANALYSES, "lesions", "true_average"])
def test_a_device_without_float64_measures_in_float32(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"lesions": lesions, "true_average": lambda network, x, y: true_average(network, [(x, y)])}
    measure = {**ANALYSES, **more}[name]
    network = tower(Block(), Block())
    monkeypatch.setattr(sending, "WITHOUT_FLOAT64", {"cpu"})
    with NoFloat64():
        measure(network, X, Y)


@pytest.mark.parametrize("name", ["direction", "importance", "loss_smoothness", "covariate_shift"])
def test_steps_and_gradients_of_half_precision_are_not_rounded_away(name: str) -> None:
    network = tower(Block(), Block()).to(torch.bfloat16)
    found = ANALYSES[name](network, X.to(torch.bfloat16), Y)
    whole = ANALYSES[name](copy.deepcopy(network).float(), X.to(torch.bfloat16).float(), Y)
    pd.testing.assert_frame_equal(found.to_frame(), whole.to_frame())
    assert next(network.parameters()).dtype == torch.bfloat16


def test_an_image_without_a_direction_spoils_no_block() -> None:
    network = tower(Block(), Block())
    network[0] = nn.Conv2d(1, 4, 3, padding=1, bias=False)
    x = X.clone()
    x[0] = 0  # so that the first block's input is zero, and its branch is not
    found = block_worth(network, x, Y, permutations=0).measures
    assert found["ratio"].isfinite().all() and found["turn"].isfinite().all()


@pytest.mark.parametrize("without", [set(), {"cpu"}])
def test_blocks_that_are_the_same_for_all_images_are_like_none(
    without: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "WITHOUT_FLOAT64", without)
    network = tower(Block(), Block())
    nn.init.zeros_(network[0].weight)  # type: ignore[arg-type]  # a convolution's
    assert alike(network, torch.randn(32, 1, 8, 8)).cka.isnan().all()


class Conv1D(nn.Module):
    """A linear layer as transformers has it for GPT-2."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)


def test_a_filter_of_a_transposed_linear_layer_is_an_output() -> None:
    network = Conv1D()
    step = filter_normalised(network, torch.Generator().manual_seed(0))["weight"]
    assert torch.allclose(step.norm(dim=0), network.weight.norm(dim=0))


LIKE_ANOTHER = (
    *("a tuple", "a score", "pixels", "1-D", "bfloat16", "images with a graph", "frozen", "weight-normed"),
    *("hooked", "spectrally normed", "float64"),
)
"""Those that go the way of one that is tried each time."""


EACH_TIME = [whose for whose in PEOPLES if whose not in LIKE_ANOTHER]
HALVES = [pytest.param(whose, list(ANALYSES)[place % 2 :: 2], id=whose) for place, whose in enumerate(EACH_TIME)]
WHOLE = [pytest.param(whose, list(ANALYSES), id=f"{whose}, every", marks=pytest.mark.slow) for whose in PEOPLES]


@pytest.mark.filterwarnings("ignore:no faster copy")  # told, of some of them
@pytest.mark.parametrize(("whose", "names"), [*HALVES, *WHOLE])
def test_every_analysis_measures_it_or_says_why_not(whose: str, names: list[str]) -> None:
    """Every second analysis by turns, and all of them where there is time."""
    make, images = PEOPLES[whose]
    labels, network = Y[: len(images)], make()
    before = snapshot(network)
    for name in names:
        torch.manual_seed(0)
        try:
            ANALYSES[name](network, images, labels)
        except UserError as error:
            assert "\n" not in str(error), name
        assert {key: value for key, value in snapshot(network).items() if key != "torch"} == {
            k: v for k, v in before.items() if k != "torch"
        }, name
    if whose in REFUSED:
        with refused(*REFUSED[whose]):
            remove_each(network, images, labels)
    else:
        inner = network.module if isinstance(network, nn.DataParallel) else network
        with torch.no_grad():
            if isinstance(inner, nn.Sequential):
                inner[-1].bias -= inner.eval()(images).mean(0)  # type: ignore[operator]  # so that its answers vary
            own = inner.eval()(images).argmax(1)
        assert remove_each(network, images, own).error == 0, "the error on the network's own answers"


def test_what_is_faster_is_taken_where_it_answers_as_the_network() -> None:
    plain, blocks = [], ("shared modules", "tied weights", "pruned", "hooked", "without statistics", "3-D")
    for whose in (*blocks, "frozen", "float64"):
        make, images = PEOPLES[whose]
        network = make().eval()
        gated = view(network, images)
        with torch.no_grad(), warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            fast = fast_view(gated, images)
            assert bool(told) == (not isinstance(fast, FastView))
            assert (fast(images) - network(images)).norm() <= 1e-4 * network(images).norm()
        plain += [whose] if not isinstance(fast, FastView) else []
    assert set(plain) <= set(blocks), "an ordinary network is folded"


@pytest.mark.parametrize("before", [nn.Dropout(0.1), nn.Identity(), nn.Flatten(0, 0)])
def test_a_relu_behind_what_changes_nothing_does_not_write_into_the_shortcut(before: nn.Module) -> None:
    class PreActivated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.relu, self.conv = before, nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.conv(self.relu(self.before(x)))  # type: ignore[no-any-return]  # modules return Any

    network, images = tower(PreActivated()), torch.randn(40, 1, 8, 8)
    with torch.no_grad():
        network[-1].bias -= network(images).mean(0)  # type: ignore[operator]  # so that its answers vary
        own = network(images).argmax(1)
    assert remove_each(network, images, own).error == 0
    assert isinstance(fast_view(view(network, images), images), FastView)


def test_images_whose_answers_depend_on_one_another_are_one_batch() -> None:
    network, images = without_statistics(), torch.randn(251, 1, 4, 4)
    with torch.no_grad():
        own = network(images).argmax(1)
    with pytest.warns(UserWarning, match="all 251 images"):
        assert remove_each(network, images, own).error == 0
    for analyse in ("jacobian", "shattering"):
        with refused(UnseenError, "BatchNorm"):
            ANALYSES[analyse](network, images[:6], own[:6])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_statistics_that_no_images_give_are_refused(value: float) -> None:
    network = tower(Block())
    network[1].bn.running_var[0] = value  # type: ignore[index,union-attr]  # a Block's
    for analyse in (remove_each, path_spectrum, ANALYSES["landscape"]):
        with refused(UnseenError, "1.bn"):
            analyse(network, X, Y)


def test_a_loss_gives_one_number() -> None:
    with refused(WrongValueError, [6, 10]):
        importance(tower(Block()), X, torch.rand(6, 10), loss=lambda outputs, targets: outputs - targets)


@pytest.mark.parametrize(
    ("network", "images", "kind", "values"),
    [
        (lambda: "resnet20", X, WrongValueError, ["torch.nn.Module", "str"]),
        (lambda: tower(Block()), [(X, Y)], WrongValueError, ["images", "list"]),
        (lambda: tower(Block()), X[:0], WrongValueError, ["images", [0, *X.shape[1:]]]),
        (lambda: tower(Block()), X * float("nan"), WrongValueError, ["images", "NaN"]),
        (lambda: tower(Block()).to("meta"), X, UnseenError, ["meta"]),
        (lambda: tower(Block(), conv=lambda *_, **__: nn.LazyConv2d(4, 3)), X, UnseenError, ["lazy"]),
    ],
)
def test_what_is_no_network_and_no_images_is_refused(
    network: Callable[[], Any], images: Any, kind: type[UserError], values: list[object]
) -> None:
    with refused(kind, *values):
        importance(network(), images, Y)
    with pytest.raises(TypeError, match="missing"):
        importance(tower(Block()), X)  # type: ignore[call-arg]  # a mistake in the call is Python's to tell


def test_batchnorm_is_taken_out_of_a_pruned_network() -> None:
    network = without_batchnorm(changed(lambda layer: prune.l1_unstructured(layer, "weight", 0.5)))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()) and network(X).shape == (6, 10)


def test_attention_is_counted() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.module(x, x, x, need_weights=False)[0]  # type: ignore[no-any-return]  # modules return Any

    for place in ("cpu", "meta"):
        assert (
            count_macs(Attention().to(place), torch.empty(1, 32, 16, device=place)) == 32 * 16 * 64 + 2 * 32 * 32 * 16
        )


@pytest.mark.parametrize("name", ["direction", "jacobian", "shattering", "split", "alike"])
def test_a_network_that_draws_is_refused_for_that(name: str) -> None:
    class Drops(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x, 0.5)

    with refused(UnseenError, "different outputs for the same input"):
        ANALYSES[name](tower(Block(), Drops()), X, Y)
