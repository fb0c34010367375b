"""The lesion study's own arithmetic, on made-up damage; and the networks that only studies train."""

from pathlib import Path

import pytest
import torch
from helpers import pretended, tiny_trial

from reslab.analysis.removal import remove_each, remove_random, reorder
from reslab.executors import local, run_trial
from reslab.experiment.directory import Directory
from reslab.experiment.study import run_study
from reslab.experiment.trials import Trial, Trials, label
from reslab.measures.lesions import Curve, Lesions, changes, exchanges, largest_step, lesions
from reslab.networks import zoo
from reslab.networks.variants import RandomBlocks, no_batchnorm, short_paths, stochastic_depth, whole
from reslab.residual import view
from reslab.runs import Run
from reslab.studies import lesion


def curve(start: float, *means: float) -> Curve:
    return Curve(start, [1, 4, 7][: len(means)], list(means))


@pytest.mark.parametrize(
    ("errors", "share"),
    [
        ((0.0, 0.3, 0.6, 0.9), 1 / 3),
        ((0.1, 0.9, 0.9, 0.9), 1.0),
        ((0.2, 0.2, 0.2, 0.2), 0.0),
        ((0.5, 0.4, 0.3, 0.1), -0.25),
    ],
)
def test_the_largest_step_is_a_share_of_the_rise(errors: tuple[float, ...], share: float) -> None:
    assert largest_step(curve(*errors)) == pytest.approx(share)


def test_blocks_that_change_the_shape_are_apart() -> None:
    names = [f"layer{stage}.{index}" for stage in (1, 2, 3) for index in range(2)]
    assert [name for name in names if changes(name)] == ["layer2.0", "layer3.0"]
    network = zoo.build("cifar_resnet", depth=14)
    assert [changes(block.name) for block in view(network, torch.zeros(2, 3, 8, 8)).blocks] == [
        not block.identity for block in view(network, torch.zeros(2, 3, 8, 8)).blocks
    ]
    without = dict(zip(names, [0.2, 0.2, 0.6, 0.2, 0.8, 0.2], strict=True))
    lost = Lesions(0.1, without, curve(0.1, 0.2, 0.5, 0.7))
    assert lost.rise() == pytest.approx(0.1) and lost.rise(transitions=True) == pytest.approx(0.6)
    assert lost.half() == pytest.approx(0.4)  # 4 of 6 and not 1: the nearer to a half
    assert curve(0.1, 0.15).rises == pytest.approx([0.05])


@pytest.mark.slow
def test_what_is_lost_is_what_the_analyses_say(tmp_path: Path) -> None:
    """The mean is over the draws, of the network that the trial trained, on its first test images."""
    config = tiny_trial(epochs=1).model_copy(update={"options": {"depth": 20}})
    trial = Trial(("resnet",), config, run_trial(config, tmp_path), Run(tmp_path, config))
    network, (images, labels) = trial.network(), trial.data().sample("test", 50)
    each, some = remove_each(network, images, labels), remove_random(network, images, labels, draws=2, seed=0)
    lost = lesions(trial, 50, 2)
    assert lost.error == lost.removed.error == each.error == some.error
    assert (
        list(lost.without) == [block.name for block in each.blocks]
        and list(lost.without.values()) == each.without.tolist()
    )
    assert lost.removed.amounts == list(some.amounts) and lost.removed.means == pytest.approx(
        some.errors.mean(1).tolist()
    )
    order = reorder(network, images, labels, draws=2, seed=0)
    assert exchanges(trial, 50, 2).means == pytest.approx(order.errors.mean(1).tolist())


def test_sides_are_those_that_the_claims_name_and_untrained_networks_decide_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pretended networks: a block costs 1 point in residual ones, 50 in the plain control; a transition 30
    in v2 alone.
    """
    study = lesion.STUDY
    config = study.configure("smoke", {})
    errors = {label(key): 0.0 for key in study.grid(config)}
    gone: set[str] = set()  # groups whose networks diverged

    def pretend(trial: Trial, *_: object) -> Lesions:
        rise, noise = 0.5 if trial.key == ("plain",) else 0.01, 0.001 * trial.seed
        without = {
            "layer1.0": rise + noise,
            "layer1.1": rise + noise,
            "layer2.0": (0.3 if trial.key == ("preresnet",) else rise) + noise,
        }
        return Lesions(
            0.0, without, curve(0.0, *((0.1, 0.2, 0.3) if trial.key == ("stochastic",) else (0.3, 0.6, 0.9)))
        )

    def exchange(_: Trial, *__: object) -> Curve:
        return curve(0.0, 0.01)

    def verdicts() -> dict[str, str]:
        given = {
            status: pretended("lesion", tmp_path, errors.__getitem__, status=status)
            for status in ("finished", "diverged")
        }
        trials = Trials(
            {key: given["diverged" if label(key) in gone else "finished"][key] for key in given["finished"]}
        )
        return {v.id.partition(".")[2]: str(v.verdict) for v in study.verdicts(study.measure(config, trials))}

    monkeypatch.setattr(lesion, "lesions", pretend)
    monkeypatch.setattr(lesion, "exchanges", exchange)
    expected = dict.fromkeys([claim.id.partition(".")[2] for claim in study.claims], "supported") | {
        "transitions-matter-more": "refuted"
    }
    assert verdicts() == expected
    gone, errors["stochastic"] = {"stochastic"}, 0.9
    assert verdicts() == expected | {"stochastic-depth-makes-robust": "untested"}
    gone, errors["stochastic"], errors["control"] = set(), 0.0, 0.5
    assert verdicts() == expected | {"plain-breaks": "untested"}
    errors["resnet"] = 0.5
    left = {"transitions-matter-more-in-v2", "one-block-costs-little-in-v2"}
    assert {name for name, decision in verdicts().items() if decision != "untested"} == left


@pytest.mark.parametrize("make", [lambda: stochastic_depth(10, 1, 14), lambda: short_paths(10, 1, 14, 2)])
def test_random_blocks_have_gates_of_mean_1_and_are_all_on_in_evaluation(make: "type[RandomBlocks]") -> None:
    torch.manual_seed(0)
    network, x = make(), torch.randn(4, 1, 8, 8)
    gates = torch.stack([network.draw(6) for _ in range(4000)])
    assert torch.allclose(gates.mean(0), torch.ones(6), atol=0.1)  # 4 standard errors
    assert torch.equal(network.eval()(x), network.network(x))
    network.train()
    assert not torch.equal(network(x), network(x))


def test_the_number_of_blocks_on_is_exact_and_stochastic_depth_spares_the_first() -> None:
    torch.manual_seed(0)
    short, stochastic = short_paths(10, 1, 14, 2), stochastic_depth(10, 1, 14)
    assert all(int(short.draw(6).count_nonzero()) == 2 for _ in range(20))
    on = torch.stack([stochastic.draw(6) for _ in range(500)]).ne(0).float().mean(0)
    assert torch.allclose(on, 1 - torch.arange(1, 7) / 12, atol=0.1)


def test_without_batchnorm_the_weights_are_the_twins() -> None:
    networks = []
    for name, options in (("cifar_resnet", {}), ("cifar_no_batchnorm", {"family": "cifar_resnet"})):
        torch.manual_seed(3)
        networks.append(zoo.build(name, depth=8, num_classes=10, in_channels=1, **options))
    twin = dict(networks[0].named_parameters())
    assert all(torch.equal(value, twin[name]) for name, value in networks[1].named_parameters())
    assert not any("bn" in name for name, _ in networks[1].named_parameters())
    assert zoo.input_shape(networks[1]) == zoo.input_shape(networks[0])
    assert no_batchnorm("cifar_plain", 10, 1, 8)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_a_variant_trains_as_a_trial_and_comes_back_whole(tmp_path: Path) -> None:
    config = tiny_trial(epochs=1).model_copy(update={"model": "cifar_stochastic_depth"})
    result = run_trial(config, tmp_path)
    trial = Trial(("stochastic",), config, result, Run(tmp_path, config))
    images, labels = trial.data().test
    with torch.no_grad():
        errors = (whole(trial.network())(images).argmax(1) != labels).double().mean().item()
    assert errors == pytest.approx(result["test_error"], abs=1.01 / len(labels))


@pytest.mark.slow  # trains and dissects fifteen networks
def test_smoke(tmp_path: Path) -> None:
    study = lesion.STUDY
    config = study.configure("smoke", {})
    done = run_study(study, config, Directory(tmp_path).prepare(study), local(1))
    again = run_study(study, config, Directory(tmp_path), local(1))
    assert not done.failures and done.record == again.record
    assert len(done.record.charts) == 3 and len(done.record.tables[0].rows) == 5
    each = done.record.charts[0]
    assert [(band.first, band.last) for band in each.bands] == [
        (f"layer{stage}.0", f"layer{stage}.2") for stage in (1, 2, 3)
    ]
    assert each.marks == ["layer2.0", "layer3.0"]
    assert [len(series.y) for series in each.series] == [10, 10, 10, 7, 7]  # and the whole network


@pytest.mark.parametrize(("scaled", "on"), [(True, 3.0), (False, 1.0)])
def test_short_paths_take_so_many_blocks_of_the_family_scaled_or_not(scaled: bool, on: float) -> None:
    torch.manual_seed(0)
    network = short_paths(10, 1, 14, 2, family="cifar_preresnet", scaled=scaled)
    assert type(network.network) is type(zoo.build("cifar_preresnet", depth=14, in_channels=1))
    draws = torch.stack([network.draw(6) for _ in range(50)])
    assert ((draws == 0) | (draws == on)).all() and ((draws > 0).sum(1) == 2).all() and (draws > 0).any(0).all()
