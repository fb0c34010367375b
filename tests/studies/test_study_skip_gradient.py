"""The study of the shortcut's gradient: its formulas against a dense Jacobian, its singular values where they are
known, and one run.
"""

from pathlib import Path

import pytest
import torch
from helpers import pretended

from reslab.analysis.jacobian import dense_jacobian
from reslab.executors import local
from reslab.experiment.directory import Directory
from reslab.experiment.study import run_study
from reslab.experiment.trials import Trial
from reslab.measures.backward import BLOCKS, Backward, rounding
from reslab.measures.directions import Look, histogram, shortened, singular_values
from reslab.networks import zoo
from reslab.studies import skip_gradient
from reslab.studies.skip_gradient import STUDY, formulas


def test_the_formulas_are_as_claimed() -> None:
    checks, table = formulas()
    assert len(checks) == 3 and all(check.measured == check.expected for check in checks.values())
    chapter, bare, full = ({row[0]: row[place] for row in table.rows} for place in (1, 2, 3))
    assert {kind for kind, error in chapter.items() if error is None} == {kind for kind in BLOCKS if "option" in kind}
    assert all(rounding(error) for error in full.values())  # type: ignore[arg-type]  # numbers
    wrong = [chapter["v1, identity"], bare["v2, option A"], bare["v2, option B"]]
    assert all(isinstance(error, float) and error > 0.1 for error in wrong)


@pytest.mark.parametrize("kind", BLOCKS)
def test_the_formulas_parts_add_up_to_the_dense_jacobian(kind: str) -> None:
    """The parts are written down from weights and taken forwards; autograd's Jacobian of the whole block is neither."""
    made = Backward(kind)
    whole = dense_jacobian(made, made.x)
    torch.testing.assert_close(made.gradient, whole.T @ made.delta, rtol=1e-10, atol=1e-10)
    branch = dense_jacobian(made.branch, made.x)
    mask = torch.ones_like(made.y) if made.v2 else (made.y > 0).double()
    torch.testing.assert_close(
        mask[:, None] * (made.shortcut @ made.activation + branch), whole, rtol=1e-10, atol=1e-10
    )


@pytest.mark.slow
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


def test_a_gradient_is_as_long_before_a_block_of_no_branch_and_shorter_before_one_that_takes_half_away() -> None:
    """F = 0 passes the gradient on as it is; F(x) = relu(bn(x)) scaled by a negative number shortens it."""
    torch.manual_seed(0)
    network, images = zoo.build("cifar_preresnet", depth=14, in_channels=1), torch.randn(8, 1, 8, 8)
    labels = torch.arange(8)
    identities = [network.get_submodule(name) for name in ("layer1.0", "layer1.1", "layer2.1", "layer3.1")]
    for block in identities:
        torch.nn.init.zeros_(block.get_parameter("conv2.weight"))
    assert shortened(network, images, labels) == 0
    for block in identities:
        for conv in ("conv1", "conv2"):
            torch.nn.init.dirac_(block.get_parameter(f"{conv}.weight"))
        block.get_parameter("conv2.weight").data.mul_(-0.5)
    assert shortened(network, images, labels) > 0.5


def test_a_histogram_by_hand() -> None:
    shares = histogram([0.0, 0.0, 0.55, 1.0, 9.0])
    assert len(shares) == 32 and {place: share for place, share in enumerate(shares) if share} == {
        0: 40,
        5: 20,
        10: 20,
        31: 20,
    }


def test_both_before_and_after_training_have_to_be_as_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretended networks: of v1 half of the directions are lost, and of v2 half shrink, but not to less than half once
    they are trained.
    """

    def pretend(trial: Trial) -> dict[str, Look]:
        low, noise = (0.0 if trial.key == ("v1",) else 0.4), 0.01 * (trial.seed % 3)
        before = Look({"layer1.0": [low, 2.0], "layer2.1": [low, 2.0]}, 0.02 + noise)
        after = Look({"layer1.0": [2 * low + noise, 2 * low, 2.0, 2.0]}, 0.01)
        return {"before": before, "after": after}

    monkeypatch.setattr(skip_gradient, "looks", pretend)
    trials, config = pretended("skip_gradient", tmp_path, lambda _: 0.0), STUDY.configure("smoke", {})
    found = {verdict.id.partition(".")[2]: verdict for verdict in STUDY.verdicts(STUDY.measure(config, trials))}
    effects = {key: verdict.effect for key, verdict in found.items() if verdict.kind == "statistical"}
    assert effects == pytest.approx(
        {
            "v1-blocks-shrink-some-directions": 0.5,
            "v2-blocks-shrink-some-directions": 0.0,
            "many-directions-shrink": 0.5,
            "v1-blocks-lose-directions": 1 / 3,  # of every third seed half, of the others a quarter
            "the-gradient-itself-seldom-shrinks": 0.03,
        }
    )
    decided = {key: verdict.verdict for key, verdict in found.items() if key in effects}
    assert list(decided.values()) == ["supported", "refuted", "supported", "supported", "supported"]
    untrained = pretended("skip_gradient", tmp_path, lambda group: 0.9 if group == "v2" else 0.0)
    reasons = {
        verdict.id.partition(".")[2]: verdict.reason for verdict in STUDY.verdicts(STUDY.measure(config, untrained))
    }
    assert {key for key in effects if (reason := reasons[key]) and reason.code == "untrained"} == {
        "v2-blocks-shrink-some-directions",
        "many-directions-shrink",
        "the-gradient-itself-seldom-shrinks",
    }


@pytest.mark.slow  # trains six small networks
def test_a_smoke_run_refutes_no_claim(tmp_path: Path) -> None:
    done = run_study(STUDY, STUDY.configure("smoke", {}), Directory(tmp_path).prepare(STUDY), local(1))
    assert len(done.record.claims) == len(STUDY.claims) and done.record.charts
    # of three seeds without spread, the exact test decides nothing
    assert {claim.verdict for claim in done.record.claims} == {"supported", "inconclusive"}
