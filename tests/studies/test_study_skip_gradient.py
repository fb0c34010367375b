"""The study of the shortcut's gradient: its formulas against a dense Jacobian, its singular values where they are
known, and one run.
"""

from pathlib import Path

import pytest
import torch
from helpers import pretended
from torch import Tensor

from reslab.analysis.jacobian import dense_jacobian
from reslab.executors import local
from reslab.experiment.directory import Directory
from reslab.experiment.study import run_study
from reslab.experiment.trials import Trial
from reslab.networks import zoo
from reslab.studies import skip_gradient
from reslab.studies.skip_gradient import BLOCKS, STUDY, Backward, Spectra, fits, formulas, histogram, singular_values


def test_the_formulas_are_as_claimed() -> None:
    checks, table = formulas()
    assert len(checks) == 3 and all(check.measured == check.expected for check in checks.values())
    errors = {row[0]: row[1:] for row in table.rows}
    assert all(isinstance(full, float) and full < 1e-12 for _, full in errors.values())
    chapter = errors["v1, identity"][0]
    assert isinstance(chapter, float) and chapter > 0.1
    assert errors["v1, option A"][0] is None and not fits(None)


@pytest.mark.parametrize("kind", BLOCKS)
def test_the_gradient_is_that_of_the_dense_jacobian(kind: str) -> None:
    made = Backward(kind)
    family, option, name = BLOCKS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        block = zoo.build(family, depth=14, shortcut=option).get_submodule(name).double().eval()
    shape = (1, *made.x.shape[1:])

    def flat(x: Tensor) -> Tensor:
        found: Tensor = block(x.reshape(shape))
        return found.flatten()

    jacobian = dense_jacobian(flat, made.x[0].detach().flatten())
    torch.testing.assert_close(made.gradient[0].flatten(), jacobian.T @ made.delta[0].flatten(), rtol=1e-10, atol=1e-10)


def test_every_seed_has_an_image() -> None:
    torch.manual_seed(0)
    network, images = zoo.build("cifar_preresnet", depth=8, in_channels=1), torch.randn(4, 1, 8, 8)
    first, again = (singular_values(network, images, seed) for seed in (1, 4 * 10**6 + 1))
    assert first and first == again


def test_a_block_that_is_the_identity_has_singular_values_of_one() -> None:
    network = zoo.build("cifar_preresnet", depth=14, in_channels=1)
    images = torch.randn(8, 1, 8, 8)
    for name in ("layer1.1", "layer2.1", "layer3.1"):
        torch.nn.init.zeros_(network.get_submodule(f"{name}.conv2").weight)  # type: ignore[arg-type]  # a parameter
    for values in singular_values(network, images, 3).values():
        assert values == pytest.approx([1.0] * len(values), rel=1e-12)


def test_a_histogram_by_hand() -> None:
    shares = histogram([0.0, 0.0, 0.55, 1.0, 9.0])
    assert len(shares) == 32 and {place: share for place, share in enumerate(shares) if share} == {
        0: 40,
        5: 20,
        10: 20,
        31: 20,
    }


def test_both_before_and_after_training_have_to_be_as_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretended networks: of v1 half of the directions are lost, and of v2 half shrink, but not in the smallest value
    after training.
    """

    def pretend(trial: Trial) -> Spectra:
        low, noise = (0.0 if trial.key == ("v1",) else 0.4), 0.01 * trial.seed
        before, after = (
            {"layer1.0": [low, 2.0], "layer2.1": [2.0, 2.0]},
            {"layer1.0": [2 * low + noise, 2 * low, 2.0, 2.0]},
        )
        return {"before": before, "after": after}

    monkeypatch.setattr(skip_gradient, "spectra", pretend)
    trials, config = pretended("skip_gradient", tmp_path, lambda _: 0.0), STUDY.configure("smoke", {})
    found = {verdict.id.partition(".")[2]: verdict for verdict in STUDY.verdicts(STUDY.measure(config, trials))}
    effects = {key: verdict.effect for key, verdict in found.items() if verdict.kind == "statistical"}
    assert effects == pytest.approx(
        {
            "v1-blocks-shrink-some-directions": -1,
            "v2-blocks-shrink-some-directions": -0.2,
            "many-directions-shrink": 0.25,
            "v1-blocks-lose-directions": 0.25,
        }
    )
    decided = {key: verdict.verdict for key, verdict in found.items() if key in effects}
    assert list(decided.values()) == ["supported", "refuted", "inconclusive", "supported"]
    untrained = pretended("skip_gradient", tmp_path, lambda group: 0.9 if group == "v2" else 0.0)
    reasons = {
        verdict.id.partition(".")[2]: verdict.reason for verdict in STUDY.verdicts(STUDY.measure(config, untrained))
    }
    assert {key for key in effects if (reason := reasons[key]) and reason.code == "untrained"} == {
        "v2-blocks-shrink-some-directions",
        "many-directions-shrink",
    }


@pytest.mark.slow  # trains six small networks
def test_a_smoke_run_supports_every_claim(tmp_path: Path) -> None:
    done = run_study(STUDY, STUDY.configure("smoke", {}), Directory(tmp_path).prepare(STUDY), local(1))
    assert len(done.record.claims) == len(STUDY.claims) and done.record.charts
    assert {claim.verdict for claim in done.record.claims} == {"supported"}
