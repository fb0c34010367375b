"""Blocks that learn the identity: what is wanted of them, and what counts as learned."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import pretended
from torch import Tensor, nn

from reslab.measures import courses
from reslab.measures.courses import Course, course, steps, unlearned, wanted
from reslab.studies import learning_identity
from reslab.studies.learning_identity import STUDY


def test_the_functions_are_those_that_the_claims_name() -> None:
    x, change = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([-0.5, -0.5, 0.5])
    assert wanted("identity", x, change).tolist() == [0, 1, 2]
    assert wanted("near-identity", x, change).tolist() == [0, 0.5, 2.5]
    assert wanted("near-zero", x, change).tolist() == [0, 0, 0.5]


def test_what_is_learned_is_the_change_to_x_where_that_is_near_it() -> None:
    """A block that gives x has learned the identity, and nothing of a function near it."""
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).relu()
    assert torch.equal(unlearned("near-identity", x), wanted("identity", x, x))
    for function in ("identity", "near-zero"):
        assert not unlearned(function, x).any()


def test_errors_are_fractions_of_that_of_having_learned_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Untaught(nn.Module):
        """A block that gives what it gives that has learned nothing, whatever it is taught."""

        def __init__(self, function: str) -> None:
            super().__init__()
            self.function, self.unused = function, nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            return unlearned(self.function, x) + 0 * self.unused

    for function in ("identity", "near-identity", "near-zero"):
        network = SimpleNamespace(get_submodule=lambda _, function=function: Untaught(function))
        monkeypatch.setattr(courses.zoo, "build", lambda *_, network=network, **__: network)
        assert course("plain", function, 0.1, 0.5, 0.1, 3, 0).losses == [1.0] * 3


def test_steps_are_counted_to_the_level_and_are_the_most_there_are_where_it_is_not_reached() -> None:
    assert steps(Course([1.0, 0.5, 0.01], True), 100) == 2
    assert steps(Course([0.01], True), 100) == 1
    assert steps(Course([1.0, 0.9], False), 100) == 100


def test_a_course_ends_at_the_level_and_is_the_same_again() -> None:
    found = course("residual", "identity", 0.3, 0.1, 0.3, 50, 0)
    assert found.reached and found.losses[-1] <= 0.3 < min(found.losses[:-1])
    assert found == course("residual", "identity", 0.3, 0.1, 0.3, 50, 0)
    slow = course("plain", "identity", 0.3, 0.1, 1e-6, 5, 0)
    assert not slow.reached and len(slow.losses) == 5


@pytest.mark.parametrize(("residual", "plain", "verdict"), [(4, 100, "supported"), (100, 4, "refuted")])
def test_opposite_data_turn_the_verdicts_round(
    residual: int, plain: int, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pretend(block: str, function: str, rate: float, *rest: float) -> Course:
        fast = {"residual": residual, "plain": plain}
        if function == "near-zero":
            fast = {"residual": plain, "plain": residual}
        return Course([1.0] * (fast[block] + int(rest[-1]) % 2 + 1), rate == 0.3)

    monkeypatch.setattr(learning_identity, "course", pretend)
    config = STUDY.configure("smoke", {"seeds": 5, "rates": (0.1, 0.3), "most": 1000})
    measured = STUDY.measure(config, pretended("learning_identity", tmp_path, lambda _: 0.0))
    assert {claim.verdict for claim in STUDY.verdicts(measured)} == {verdict}
    assert [row[-1] for row in measured.tables[0].rows] == ["5/5"] * 6


def test_where_no_block_learned_anything_nothing_is_concluded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning_identity, "course", lambda *_: Course([1.0] * 3, False))
    config = STUDY.configure("smoke", {"seeds": 5, "rates": (0.1,), "most": 3})
    measured = STUDY.measure(config, pretended("learning_identity", tmp_path, lambda _: 0.0))
    assert {claim.verdict for claim in STUDY.verdicts(measured)} == {"untested"}
