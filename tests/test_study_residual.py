"""The studies of residual learning and of the shortcut's gradient: their algebra against oracles, and one run of each."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from reslab import studies
from reslab.analysis.jacobian import dense_jacobian
from reslab.executors import local
from reslab.ledger.verdict import check
from reslab.networks import zoo
from reslab.studies.residual_learning import algebra, changes
from reslab.studies.skip_gradient import BLOCKS, Backward, fits, formulas, histogram, singular_values
from reslab.studies.study import Directory, over_seeds, run_study


def test_the_algebra_is_as_claimed() -> None:
    checks, table = formulas()
    assert {check(evidence).verdict for evidence in [*checks, *algebra()]} == {"supported"}
    errors = {kind: (chapter, full) for kind, chapter, full in table.rows}
    assert all(isinstance(full, float) and full < 1e-12 for _, full in errors.values())
    assert isinstance(errors["v1, identity"][0], float) and errors["v1, identity"][0] > 0.1
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
        return block(x.reshape(shape)).flatten()

    jacobian = dense_jacobian(flat, made.x[0].detach().flatten())
    torch.testing.assert_close(made.gradient[0].flatten(), jacobian.T @ made.delta[0].flatten(), rtol=1e-10, atol=1e-10)


def test_changes_are_those_of_hooks() -> None:
    network, images = zoo.build("cifar_resnet", depth=14, in_channels=1), torch.randn(16, 1, 8, 8)
    measured, found = changes(network, images), []

    def note(block: torch.nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        x = inputs[0]
        found.append(float((block.branch(x).square().mean() / x.square().mean()).sqrt()))  # type: ignore[operator]  # a BasicBlock

    for name in ("layer1.0", "layer1.1", "layer2.1", "layer3.1"):
        network.get_submodule(name).register_forward_hook(note)
    network.train()  # normalises with the batch, as `changes` does
    with torch.no_grad():
        network(images)
    assert measured == pytest.approx(found, rel=1e-4)


def test_every_seed_has_an_image() -> None:
    torch.manual_seed(0)
    network, images = zoo.build("cifar_preresnet", depth=8, in_channels=1), torch.randn(4, 1, 8, 8)
    first, again = (singular_values(network, images, seed) for seed in (1, 4 * 10**6 + 1))
    assert first and all(torch.equal(values, again[name]) for name, values in first.items())


def test_a_block_that_is_the_identity_has_singular_values_of_one() -> None:
    network = zoo.build("cifar_preresnet", depth=14, in_channels=1)
    images = torch.randn(8, 1, 8, 8)
    for name in ("layer1.1", "layer2.1", "layer3.1"):
        torch.nn.init.zeros_(network.get_submodule(f"{name}.conv2").weight)  # type: ignore[arg-type]  # a parameter
    for values in singular_values(network, images, 3).values():
        torch.testing.assert_close(values, torch.ones_like(values), rtol=1e-12, atol=1e-12)


def test_a_histogram_by_hand() -> None:
    shares = histogram(torch.tensor([0.0, 0.0, 0.55, 1.0, 9.0], dtype=torch.float64))
    assert len(shares) == 32 and {place: share for place, share in enumerate(shares) if share} == {0: 40, 5: 20, 10: 20, 31: 20}


def test_over_seeds_by_hand() -> None:
    series = over_seeds("a", [0.0, 1.0], {0: [1.0, 2.0], 3: [3.0, 2.0]})
    assert list(series.y) == [2.0, 2.0] and series.spread == pytest.approx([2**0.5, 0.0])
    assert over_seeds("a", [0.0], {0: [1.0]}).spread is None


@pytest.mark.slow  # trains fifteen small networks
@pytest.mark.parametrize("name", ["skip_gradient", "residual_learning"])
def test_a_smoke_run_decides_every_claim(name: str, tmp_path: Path) -> None:
    study = studies.find(name)
    config = study.configure("smoke", {})
    record = run_study(study, config, Directory(tmp_path).prepare(study), local(1), lambda *_: None).record
    verdicts = {claim["id"]: claim["verdict"] for claim in record["claims"]}
    assert len(verdicts) == len(study.claims) and record["charts"]
    if name == "skip_gradient":
        assert set(verdicts.values()) == {"supported"}
