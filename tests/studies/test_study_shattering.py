"""Shattered gradients, on networks whose correlations are known."""

from pathlib import Path

import pytest
import torch
from helpers import SEEDS, pretended, refused

from reslab.errors import WrongValueError
from reslab.measures import rectifiers
from reslab.measures.rectifiers import Rectifiers, between_images, correlation
from reslab.studies import shattering
from reslab.studies.shattering import STUDY, ShatteringConfig, depths


def test_the_correlation_is_that_of_all_pairs_of_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rectifiers, "OUTPUTS", 1)
    width = 6
    torch.manual_seed(3)
    network, x = Rectifiers(width, width, 2, 1, kind="residual").double(), torch.randn(width, width).double()
    jacobians = [torch.autograd.functional.jacobian(network, one[None])[0, 0, 0] for one in x]
    pairs = [float(a @ b) for i, a in enumerate(jacobians) for b in jacobians[:i]]
    own = [float(a @ a) for a in jacobians]
    expected = (sum(pairs) / len(pairs)) / (sum(own) / len(own))
    assert correlation("residual", 2, width, 3) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("kind", "law"), [("plain", 0.5), ("residual", 0.75), ("residual-bn", 0.75)])
def test_one_wide_layer_has_the_paper_s_correlation(kind: str, law: float) -> None:
    measured = [correlation(kind, 1, 150, seed) for seed in range(3)]
    assert sum(measured) / 3 == pytest.approx(law, abs=0.04)


def test_a_plain_network_forgets_its_input_and_a_residual_one_does_not() -> None:
    x = torch.randn(4, 5)
    plain, residual = (Rectifiers(5, 8, 1, 2, kind=kind) for kind in ("plain", "residual"))
    for network in (plain, residual):
        torch.nn.init.zeros_(network.layers[0].weight)  # type: ignore[arg-type]  # a linear layer's
    assert not plain(x).any() and torch.equal(residual(x), residual.last(residual.first(x)))


def test_depths_double_and_hold_both_places() -> None:
    assert depths(ShatteringConfig()) == [1, 2, 4, 6, 8, 16, 32, 48]
    assert depths(ShatteringConfig(layers=3, far=8)) == [1, 2, 3, 4, 8]


@pytest.mark.parametrize("far", [5, 6])
def test_far_is_deeper_than_layers(far: int) -> None:
    with refused(WrongValueError, "far", "layers", 6):
        STUDY.configure("default", {"far": far})


def test_the_line_is_between_images_of_the_data_set() -> None:
    shallow = between_images("cifar_resnet", 8, "digits", 16, 0)
    assert (
        len(shallow) == 16
        and shallow[0] == pytest.approx(1)
        and shallow == between_images("cifar_resnet", 8, "digits", 16, 0)
    )


@pytest.mark.parametrize(("as_claimed", "verdict"), [(True, "supported"), (False, "refuted")])
def test_opposite_data_turn_the_verdicts_round(
    as_claimed: bool, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = {"plain": 0.5, "residual": 0.75} if as_claimed else {"plain": 0.7, "residual": 0.9}

    def line(kind: str, seed: int) -> list[float]:
        plain = kind.endswith("plain")
        return [1.0, (0.0 if plain == as_claimed else 0.9) + 0.01 * (seed % 3), *[0.0] * 14]

    def pretend(kind: str, layers: int, width: int, seed: int) -> float:
        exponent = -0.5 if as_claimed else -1.2
        value = layers**exponent if kind == "residual-bn" else base[kind] ** layers
        return float(value) * (1 + 0.001 * (seed % 3))

    monkeypatch.setattr(shattering, "along_the_line", lambda layers, kind, *rest: line(kind, rest[-1]))
    monkeypatch.setattr(shattering, "between_images", lambda family, *rest: line(family, rest[-1]))
    monkeypatch.setattr(shattering, "correlation", pretend)
    trials = pretended("shattering", tmp_path, lambda _: 0.0)
    measured = STUDY.measure(STUDY.configure("smoke", {"seeds": SEEDS}), trials)
    assert {claim.id: claim.verdict for claim in STUDY.verdicts(measured)} == {
        claim.id: verdict for claim in STUDY.claims
    }
    assert [chart.log_y for chart in measured.charts] == [False, True]
