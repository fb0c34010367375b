"""What the BatchNorm study computes, on networks and errors whose answer is known."""

from math import inf, log10
from pathlib import Path

import pytest
import torch
from helpers import SEEDS, refused, tiny_trial
from torch import Tensor, nn

from reslab.analysis.batchnorm import CovariateShift, LayerShift, without_batchnorm
from reslab.errors import DamagedError, WrongValueError
from reslab.executors import local, run_trial
from reslab.experiment.directory import Directory
from reslab.experiment.study import run_study
from reslab.experiment.trials import Key, Trial, Trials, Values
from reslab.ledger.record import Reason, Verdict
from reslab.measures import descent
from reslab.measures.descent import Look, bounded_log10, drift, early_loss, input_moments, look, stepped, turned
from reslab.measures.rates import best_rates, beyond, chosen, largest_usable
from reslab.measures.twins import branch_share
from reslab.networks import zoo
from reslab.runs import Run
from reslab.studies import batchnorm_role
from reslab.studies.batchnorm_role import STUDY
from reslab.training.devices import threads
from reslab.training.loop import TrialConfig
from reslab.training.recipes import Steps


def test_the_largest_usable_rate_of_each_seed() -> None:
    errors = {0.01: {0: 0.4, 1: 0.9, 2: 0.9}, 0.1: {0: 0.1, 1: 0.49, 2: 0.5}, 1.0: {0: 0.3, 1: 0.9, 2: 1.0}}
    assert largest_usable(errors) == pytest.approx({0: 0, 1: -1, 2: log10(0.001)})


def test_limits_at_the_ends_of_the_grid_are_not_compared() -> None:
    rates = (0.01, 0.1, 1.0)
    below, at = largest_usable({rate: {0: 1.0} for rate in rates})[0], [log10(rate) for rate in rates]
    assert beyond(rates, {"with": {0: at[0], 1: at[1]}, "without": {0: at[1]}}) is None
    one, both = (Reason(code="outside-grid", values={"kinds": kinds}) for kinds in (["with"], ["with", "without"]))
    assert beyond(rates, {"with": {0: at[1], 1: at[2]}, "without": {0: at[1]}}) == one
    assert beyond(rates, {"with": {0: at[2]}, "without": {0: below}}) == both


@pytest.mark.parametrize("name", ["rates", "batches"])
@pytest.mark.parametrize("values", [(0, 1), (2, 1), (1, 1)])
def test_rates_and_batches_that_cannot_be_compared_are_refused(name: str, values: tuple[int, int]) -> None:
    with refused(WrongValueError, name):
        STUDY.configure("default", {name: values})


def test_each_seed_has_its_best_rate_and_the_training_error_of_that_run() -> None:
    errors = {
        rate: Values({0: first, 1: second}, {f"at {rate}": {0: rate, 1: 2 * rate}})
        for rate, first, second in ((0.01, 0.3, 0.25), (0.1, 0.0, 0.5), (1.0, 0.0, 0.25))
    }
    assert best_rates(errors) == {0: 0.1, 1: 0.01}
    found = chosen(errors, {0: 0.1, 1: 0.01})
    assert chosen(errors, {0: 0.1, 2: 0.01}) == {0: 0.0}  # of a seed whose trial failed there is nothing
    assert found == {0: 0.0, 1: 0.25} and found.trained == {"at 0.1": {0: 0.1}, "at 0.01": {1: 0.02}}


def test_the_rate_of_the_steps_is_one_that_is_trained() -> None:
    with refused(WrongValueError, "step", "0.02"):
        STUDY.configure("default", {"step": 0.02})


class Scaled(nn.Module):
    """x + scale · x."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.branch = nn.Linear(3, 3)
        with torch.no_grad():
            self.branch.weight.copy_(scale * torch.eye(3))
            self.branch.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def test_the_branch_share_is_that_of_squares() -> None:
    network = nn.Sequential(Scaled(0.5), Scaled(2.0))
    assert branch_share(network, torch.randn(4, 3)) == pytest.approx((0.2 + 0.8) / 2)


def test_batchnorm_makes_the_branch_smaller() -> None:
    torch.manual_seed(0)
    network, images = zoo.build("cifar_preresnet", depth=32, in_channels=1), torch.randn(16, 1, 8, 8)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert branch_share(network, images) < branch_share(without_batchnorm(network), images)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_gradient_that_overflowed_has_turned_by_a_right_angle(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = tuple(LayerShift("layer", 1.0, 1.0, cosine) for cosine in (1.0, 0.5, float("nan")))
    monkeypatch.setattr(descent, "covariate_shift", lambda *_, **__: CovariateShift(layers, 0.1))
    # the first layer has none before it
    assert turned(nn.Identity(), torch.zeros(1), torch.zeros(1), 0.1) == pytest.approx(0.75)


def of_constant_rate(iterations: int) -> TrialConfig:
    """Return a trial whose first steps are the same however long it is."""
    return tiny_trial(epochs=None, iterations=iterations, schedule=Steps(milestones=(0.999,)))  # type: ignore[arg-type]  # iterations instead


def test_training_is_repeated_bit_for_bit_and_looked_into_where_levels_are_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, shorter = of_constant_rate(7), of_constant_rate(6)  # into the second epoch of five steps
    trial, end = (Trial(("with",), c, run_trial(c, tmp_path), Run(tmp_path, c)) for c in (config, shorter))
    seen: list[dict[str, Tensor]] = []

    def record(network: nn.Module, *_: object) -> Look:
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return Look(len(seen), 2.0 * len(seen), 0.0)

    monkeypatch.setattr(descent, "look", record)
    monkeypatch.setattr(descent, "LEVELS", (1e9, 1e9))
    monkeypatch.setattr(descent, "WINDOW", 5)
    files = {path: path.stat().st_mtime_ns for path in trial.run.path.iterdir()}
    with threads(config.threads):  # as the trial was trained
        assert descent.descent(trial, 0.1) == Look(1.5, 3.0, 0.0)  # the mean of the looks at steps 5 and 6
    trained = end.network().state_dict()
    assert len(seen) == 2 and all(torch.equal(value, trained[name]) for name, value in seen[1].items())
    assert {path: path.stat().st_mtime_ns for path in trial.run.path.iterdir()} == files
    monkeypatch.setattr(descent, "LEVELS", (1e9, 0.0))
    assert descent.descent(trial, 0.1) is None


def test_a_look_is_at_a_step_and_leaves_the_network_as_it_is() -> None:
    torch.manual_seed(0)
    network, images, labels = (
        zoo.build("cifar_resnet", depth=8, in_channels=1).train(),
        torch.randn(16, 1, 8, 8),
        torch.arange(16) % 10,
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    moved = stepped(network, images, labels, 0.5)
    near, far = (look(network, images, labels, rate) for rate in (1e-3, 0.5))
    assert near.turned < far.turned and near.drift < far.drift
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    nn.functional.cross_entropy(network(images), labels).backward()
    optimizer.step()
    assert all(
        torch.allclose(value, after, atol=1e-6)
        for value, after in zip(moved.parameters(), network.parameters(), strict=True)
    )


AT_START = {"residual": (-0.1, 1.0), "plain": (2.0, -2.0), "branch": (0.4, 0.6)}
"""What is pretended of networks at initialisation, with BatchNorm and without."""


def test_sides_and_rates_are_those_that_the_claims_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretended networks: with BatchNorm less of everything, best at rate 0.1; without it, best at 0.01."""
    config = STUDY.configure("smoke", {"seeds": SEEDS, "epochs": 2, "rates": (0.001, 0.01, 0.1, 1.0)})
    looked: list[tuple[float, float]] = []

    def pretend(trial: Trial, rate: float) -> Look:
        looked.append((trial.config.recipe.learning_rate, rate))
        return Look(-2.0, -2.0, -2.0) if trial.config.model == "cifar_resnet" else Look(0.0, 0.0, 0.0)

    def pretend_nothing(trial: Trial, rate: float) -> Look | None:
        return None

    def pretend_start(data: str, name: str, depth: int, seed: int) -> dict[str, float]:
        return dict(zip(("with", "without"), AT_START[name], strict=True))

    def trial(key: Key, config: TrialConfig) -> Trial:
        run = Run(tmp_path, config)
        run.create()
        kind, what, size = key
        best, usable = (0.1, 0.1) if kind == "with" else (0.01, 0.01)
        for loss in (5.0, 0.01 if kind == "with" else 1.0):
            run.append_metrics({"loss": loss})
        trained = what == "batch" or float(size) <= usable
        errors = dict.fromkeys(("train_error", "heldout_error"), 0.1 - 0.05 * (size == best) if trained else 0.9)
        gap = {("with", 0.1): 0.02, ("with", 0.01): 0.03, ("without", 0.01): 0.05, ("with", 16): 0.01}.get(
            (str(kind), float(size)), 0.05
        )
        return Trial(key, config, {"status": "finished", **errors, "test_error": errors["train_error"] + gap}, run)

    def decided() -> dict[str, Verdict]:
        return {verdict.id.partition(".")[2]: verdict for verdict in STUDY.verdicts(STUDY.measure(config, trials))}

    monkeypatch.setattr(batchnorm_role, "twins", pretend_start)
    monkeypatch.setattr(batchnorm_role, "descent", pretend)
    trials = Trials({key: [trial(key, one) for one in members] for key, members in STUDY.grid(config).items()})
    found = decided()
    assert {key: verdict.effect for key, verdict in found.items() if verdict.effect is not None} == pytest.approx(
        {
            "no-less-covariate-shift": 2,
            "steadier-layer-inputs": -2,
            "smoother-loss": -2,
            "larger-usable-rate": 1,
            "the-larger-rate-is-the-mechanism": (0.05 + 0.05) - (0.1 + 0.03),
            "converges-faster": -2,
            "smaller-gap": 0.02 - 0.05,
            "small-batches-regularise": 0.01 - 0.05,
            "stabilises-residual-gradients": 0.1 - 1,
            "plain-gradients-explode": 2,
            "scales-the-branch-down": 0.4 - 0.6,
        }
    )
    assert [key for key, verdict in found.items() if verdict.verdict != "supported"] == [
        "no-less-covariate-shift",
        "larger-usable-rate",
    ]
    assert found["no-less-covariate-shift"].verdict == "refuted" and looked == [(0.01, 0.01)] * 2 * SEEDS

    def unseen() -> list[str]:
        return [
            key for key, verdict in decided().items() if verdict.reason and verdict.reason.code == "too-little-learned"
        ]

    looks = ["no-less-covariate-shift", "steadier-layer-inputs", "smoother-loss"]
    assert not unseen()
    monkeypatch.setattr(batchnorm_role, "descent", pretend_nothing)
    assert unseen() == looks
    monkeypatch.setattr(batchnorm_role, "descent", pretend)
    without = ("without", "rate", 0.01)
    last = trials[without][-1]
    diverged = last._replace(result={**last.result, "status": "diverged"})
    trials = Trials({**trials, without: [*trials[without][:-1], diverged]})
    assert unseen() == looks  # one that diverged is not looked into, and the others do not stand for all


def test_the_drift_of_inputs_is_in_their_standard_deviations() -> None:
    before = [
        (torch.tensor([0.0, 1.0, 5.0]), torch.tensor([1.0, 2.0, 0.0])),
        (torch.tensor([0.0]), torch.tensor([0.0])),
    ]
    after = [(torch.tensor([3.0, 0.0, 9.0]), torch.ones(3)), (torch.tensor([7.0]), torch.ones(1))]
    assert drift(before, after) == pytest.approx((3 + 0.5) / 2)  # channels and layers that did not vary are left out
    assert drift(before[1:], after[1:]) == inf
    assert (
        bounded_log10(inf) == bounded_log10(float("nan")) == 9
        and bounded_log10(0.0) == -9
        and bounded_log10(0.01) == -2
    )


def test_the_moments_are_those_of_the_inputs_of_every_convolution_but_the_first() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1)).double()
    images = torch.randn(8, 1, 3, 3, dtype=torch.float64)
    nn.init.ones_(network[0].weight)  # or BatchNorm's eps is felt
    statistics = network[1].running_mean.clone()
    ((mean, std),) = input_moments(network, images)
    assert mean.shape == std.shape == (2,)
    # unbiased: √(72/71)
    assert torch.allclose(mean, torch.zeros(2).double(), atol=1e-9) and torch.allclose(
        std, torch.ones(2).double(), atol=0.02
    )
    assert torch.equal(network[1].running_mean, statistics)  # looked at, not trained


def test_the_early_loss_is_the_second_epochs(tmp_path: Path) -> None:
    config = tiny_trial(epochs=1)
    trial = Trial(("with",), config, run_trial(config, tmp_path), Run(tmp_path, config))
    (line,) = trial.run.metrics()
    assert early_loss(trial) == pytest.approx(log10(line["loss"]))  # there is no second
    for loss in (0.01, 5.0):
        trial.run.append_metrics({**line, "loss": loss})
        assert early_loss(trial) == -2
    trial.run.cut_metrics(0)
    trial.run.append_metrics({**line, "loss": None})
    assert early_loss(trial) == 9  # diverged
    (trial.run.path / "metrics.jsonl").write_bytes(b"")
    with pytest.raises(DamagedError):
        early_loss(trial)


@pytest.mark.slow  # trains twelve networks
def test_smoke(tmp_path: Path) -> None:
    config = STUDY.configure("smoke", {})
    done = run_study(STUDY, config, Directory(tmp_path).prepare(STUDY), local(1))
    again = run_study(STUDY, config, Directory(tmp_path), local(1))
    assert not done.failures and done.record == again.record
