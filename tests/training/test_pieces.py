"""The pieces that a recipe may add, each against what its paper says, by hand."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import refused, timeless, tiny_trial
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch import Tensor, nn

from reslab.data import load_data
from reslab.errors import MismatchError, UnusableError
from reslab.executors import run_trial
from reslab.runs import Run
from reslab.training import loop
from reslab.training.ema import Average
from reslab.training.evaluation import evaluate_each
from reslab.training.loop import Trainer, generator
from reslab.training.mixing import mixed
from reslab.training.muon import Muon
from reslab.training.objective import Classes, OwnLoss
from reslab.training.optimizers import optimizers_of
from reslab.training.recipes import FAST, Cosine, Recipe

TWO = {"optimizer": "muon", "clip_norm": 1e-3}
SET = {
    "label_smoothing": 0.1,
    "ema": 0.99,
    "no_vector_decay": True,
    "mixup": 0.2,
    "cutmix": 1.0,
    "accumulate": 2,
    "clip_norm": 1.0,
    "optimizer": "adamw",
}


def recipe(**settings: object) -> Recipe:
    return Recipe(**{**FAST.model_dump(), **settings})


def test_a_piece_is_part_of_the_identity_only_where_it_is_set() -> None:
    assert set(SET) == set(Recipe.later) and not set(SET) & FAST.model_dump().keys()
    assert recipe(**dict.fromkeys(SET, 0) | {"no_vector_decay": False, "optimizer": "sgd"}).digest() == FAST.digest()
    assert tiny_trial(epochs=1).digest() == "241fa7453e8307ea"  # as before there were any
    digests = {recipe(**{key: value}).digest() for key, value in SET.items()}
    assert len(digests | {FAST.digest()}) == len(SET) + 1
    for key, value in SET.items():
        assert Recipe(**recipe(**{key: value}).model_dump()) == recipe(**{key: value})


def test_cosine_by_hand() -> None:
    schedule = Cosine(warmup=0.25)  # 8 steps: the line up ends at 2
    rates = [schedule.rate(1.0, step, 8) for step in range(8)]
    assert rates[:2] == pytest.approx([0.25, 0.75])
    assert rates[4] == pytest.approx((1 + torch.tensor(torch.pi * 2.5 / 6).cos().item()) / 2)
    assert rates[2:] == sorted(rates[2:], reverse=True) and rates[-1] > 0
    assert recipe(schedule="cosine").schedule == Cosine()


def test_mixed_images_are_sums_or_have_a_rectangle_of_another() -> None:
    images, labels = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 1, 8, 8) + 1, torch.arange(6)
    sums, others, share = mixed(images, labels, recipe(mixup=1.0), generator(0, "mix", 0))
    assert torch.allclose(sums, share * images + (1 - share) * images[others]) and sorted(others.tolist()) == [
        *range(6)
    ]
    cut, others, share = mixed(images, labels, recipe(cutmix=1.0), generator(0, "mix", 3))
    own = (cut == images).flatten(1).sum(1)[others != labels] / 64
    assert (
        0 < share < 1
        and torch.allclose(own, torch.tensor(share))
        and set(cut[0].unique().tolist())
        == {
            1.0,
            others[0].item() + 1.0,
        }
    )


def test_shares_are_of_the_beta_distribution() -> None:
    images, labels = torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64)
    shares = torch.tensor(
        [mixed(images, labels, recipe(mixup=0.4), generator(1, "mix", step))[2] for step in range(2000)]
    )
    assert abs(shares.mean() - 0.5) < 0.04 and shares.var().item() == pytest.approx(0.25 / 1.8, rel=0.1)


def trainer(path: Path, network: nn.Module, **settings: object) -> Trainer:
    config = tiny_trial(**settings)
    run = Run(path, config)
    run.create()
    return Trainer(Fabric(devices=1), network, load_data("digits"), config, run)


def linear() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()


class Doubled:
    """The digits in float64, so that what is compared differs by rounding alone."""

    def __init__(self) -> None:
        self.data = load_data("digits")

    def training_batch(self, index: Tensor, draws: object) -> tuple[Tensor, Tensor]:
        images, labels = self.data.training_batch(index, None)
        return images.double(), labels


def stepped(path: Path, **settings: object) -> nn.Module:
    made = trainer(path, linear(), augment=False, **settings)
    made.data = Doubled()  # type: ignore[assignment]  # as far as a step needs
    made.iterate(torch.arange(64))
    return made.network


def test_accumulated_parts_give_the_step_of_the_whole_batch(tmp_path: Path) -> None:
    """Where nothing normalises over the batch."""
    whole, parts = stepped(tmp_path / "whole"), stepped(tmp_path / "parts", accumulate=3)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-14)


def test_a_gradient_is_clipped_and_labels_are_smoothed(tmp_path: Path) -> None:
    before = linear()
    images, labels = Doubled().training_batch(torch.arange(64), None)
    loss = -(0.9 * F.one_hot(labels, 10) + 0.01) * before(images).log_softmax(1)
    gradients = torch.autograd.grad(loss.sum(1).mean(), list(before.parameters()))
    norm = torch.cat([each.flatten() for each in gradients]).norm()
    settings = {"label_smoothing": 0.1, "weight_decay": 0.0, "nesterov": False}
    for clip in (0.5 * float(norm), 2 * float(norm)):
        after = stepped(tmp_path / str(clip), clip_norm=clip, **settings)
        rate = tiny_trial(**settings).recipe.rate(0, 10)
        for old, new, gradient in zip(before.parameters(), after.parameters(), gradients, strict=True):
            assert torch.allclose(old - new, rate * gradient * min(1.0, clip / float(norm)), rtol=1e-5)


def test_a_gradient_of_two_optimisers_is_clipped_as_one(tmp_path: Path) -> None:
    made = trainer(tmp_path, nn.Sequential(nn.Conv2d(1, 2, 8), nn.Flatten(), nn.Linear(2, 10)), **TWO)
    assert len(made.optimizers) == 2
    made.iterate(torch.arange(64))
    norms = [each.grad.norm() for each in made.network.parameters() if each.grad is not None]
    assert torch.stack(norms).norm().item() == pytest.approx(TWO["clip_norm"], rel=1e-4)


def test_norms_and_biases_do_not_decay_and_muon_takes_the_filters() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    (sgd,) = optimizers_of(network, recipe(no_vector_decay=True))
    decays = {parameter: group["weight_decay"] for group in sgd.param_groups for parameter in group["params"]}
    assert {each.dim(): decay for each, decay in decays.items()} == {4: 1e-4, 2: 1e-4, 1: 0.0}
    assert len(decays) == len(list(network.parameters()))
    (adam,) = optimizers_of(network, recipe(optimizer="adamw"))
    assert isinstance(adam, torch.optim.AdamW) and adam.param_groups[0]["betas"] == (0.9, 0.999)
    muon, rest = optimizers_of(network, recipe(optimizer="muon"))
    assert isinstance(muon, Muon) and muon.param_groups[0]["params"] == [network[0].weight]
    assert sum(len(group["params"]) for group in rest.param_groups) == 5
    network.register_parameter("scale", nn.Parameter(torch.zeros(1, 2, 1, 1)))
    assert optimizers_of(network, recipe(optimizer="muon"))[0].param_groups[0]["params"] == [network[0].weight]


def test_cutmix_of_what_is_no_image_is_refused() -> None:
    with refused(MismatchError, "cutmix", [4, 3]):
        mixed(torch.randn(4, 3), torch.arange(4), recipe(cutmix=1.0), torch.Generator().manual_seed(0))


def test_an_own_loss_is_evaluated_without_learning_from_what_is_held_out() -> None:
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
            self.seen += 1.0  # whatever its mode
            return F.cross_entropy(self.drop(outputs), labels)

    mine, network = Centred(), nn.Linear(3, 4)
    batch = torch.randn(8, 3), torch.arange(8) % 4
    first, second = (OwnLoss(mine).evaluate_each(network, [batch])[0] for _ in range(2))
    with torch.no_grad():
        assert first == second and first["loss"] == pytest.approx(float(F.cross_entropy(network(batch[0]), batch[1])))
    assert mine.training and mine.seen == 0


def test_without_momentum_a_recipe_is_plain_sgd() -> None:
    (sgd,) = optimizers_of(linear(), recipe(momentum=0))
    assert FAST.nesterov and sgd.defaults["momentum"] == 0 and not sgd.defaults["nesterov"]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_first_step_that_the_scaler_of_float16_leaves_out_leaves_no_momentum(name: str) -> None:
    network = linear()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    chosen = {"adamw": {"optimizer": "adamw"}}.get(name, {})
    (optimizer,) = optimizers_of(network, recipe(weight_decay=0.0, **chosen), scaled=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for gradient in (float("inf"), 0.0):
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        scaler.scale(torch.zeros(()))
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() == 1.0
    assert all(map(torch.equal, before, network.parameters()))


def test_two_optimisers_do_not_share_the_scale_of_float16() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    with refused(UnusableError, "--precision bf16"):
        optimizers_of(network, recipe(optimizer="muon"), scaled=True)


def test_the_average_is_the_recursion_and_its_statistics_are_averaged() -> None:
    network = nn.BatchNorm1d(2)
    average = Average(network, 0.5)
    expected = 1.0
    for step in (1, 2, 20):
        network.weight.data.fill_(step)
        network.num_batches_tracked.fill_(step)
        average.update(network, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert average.network.weight.tolist() == pytest.approx([expected] * 2)
    assert average.network.num_batches_tracked == 20 and not average.network.weight.requires_grad


def test_the_average_of_complex_weights_is_one() -> None:
    network = nn.Module()
    network.register_parameter("weight", nn.Parameter(torch.ones(2, dtype=torch.complex64)))
    average = Average(network, 0.5)
    network.weight.data.fill_(3j)
    average.update(network, 100)
    assert average.network.weight.tolist() == [0.5 + 1.5j] * 2


class KilledError(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["muon", pytest.param("adamw", marks=pytest.mark.slow)])
def test_with_every_piece_an_interrupted_run_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    config = tiny_trial(epochs=1, **{**SET, "optimizer": optimizer, "learning_rate": 0.01})
    whole = run_trial(config, tmp_path / "whole")
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    iterate = Trainer.iterate

    def killed(self: Trainer, index: Tensor) -> None:
        if self.step == 3:
            raise KilledError
        iterate(self, index)

    monkeypatch.setattr(Trainer, "iterate", killed)
    with pytest.raises(KilledError):
        run_trial(config, tmp_path / "broken")
    monkeypatch.setattr(Trainer, "iterate", iterate)
    resumed = run_trial(config, tmp_path / "broken")
    assert timeless(resumed) == timeless(whole) and resumed["ema"].keys() == {
        "train_error",
        "heldout_error",
        "test_error",
    }
    for name in ("weights", "ema"):
        one, other = (load_file(getattr(Run(tmp_path / where, config), name)) for where in ("whole", "broken"))
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    line = list(Run(tmp_path / "whole", config).metrics())[-1]
    assert line["ema_heldout_error"] == resumed["ema"]["heldout_error"]


def test_a_confusion_counts_what_each_image_is_taken_for() -> None:
    scores = torch.tensor([[2.0, 1, 0], [0, 1, 0], [0, 0, 1], [float("nan"), 0, 0]])
    labels = torch.tensor([0, 0, 2, 1])
    figures, answers = evaluate_each(nn.Identity(), [(scores[:3], labels[:3]), (scores[3:], labels[3:])])
    assert answers.confusion() == [[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    assert answers.wrong.tolist() == [False, True, False, True] and figures["error"] == 0.5


def test_a_parameter_may_have_its_first_gradient_after_others() -> None:
    """As that of a block which a forward skips at first."""
    found = []
    for fused in (True, False):
        torch.manual_seed(0)
        network = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
        (sgd,) = optimizers_of(network, FAST, scaled=not fused)
        assert sgd.defaults["fused"] is fused
        x = torch.randn(4, 3)
        for layers in (network[:1], network, network):
            sgd.zero_grad()
            sum(layer(x).pow(2).sum() for layer in layers).backward()
            sgd.step()
        found.append([parameter.detach() for parameter in network.parameters()])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_shares_of_the_classes_are_no_labels() -> None:
    scores, shares = torch.randn(4, 3), torch.full((4, 3), 1 / 3)
    with refused(MismatchError, "[4, 3]"):
        Classes().loss(scores, shares)
