"""The speedrun: its parts against what they should be, and the race."""

import hashlib
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from helpers import assert_refused, refused, reslab_here
from helpers_images import image_folder
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from reslab import residual
from reslab.commands.speedrun import print_race
from reslab.data import load_data
from reslab.errors import FailedError, Language, MismatchError
from reslab.ledger.registration import Registration
from reslab.networks.counting import count_macs
from reslab.runs import Run
from reslab.speedrun import airbench, race, winograd
from reslab.speedrun import network as speedrun
from reslab.speedrun.sprint import Batches, Pixels, SprintConfig, moved
from reslab.speedrun.whitening import Whitening, enlarged, whitening_filters
from reslab.training import muon
from reslab.training.devices import fabric_here
from reslab.training.muon import Muon, orthogonalised

CONFIG = SprintConfig(
    contender="speedrun", data="digits", part="heldout", epochs=1, seed=0, threads=1, device="cpu", precision="32"
)


def pixels(count: int = 64, channels: int = 3, side: int = 32) -> Pixels:
    drawn = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, channels, side, side), generator=drawn, dtype=torch.uint8)
    return Pixels(images, torch.arange(count), torch.full((channels, 1, 1), 128.0), torch.full((channels, 1, 1), 64.0))


# --- Muon


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000))
def test_orthogonalising_keeps_the_singular_vectors_and_levels_the_values(m: int, n: int, seed: int) -> None:
    matrix = torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    u, values, vt = torch.linalg.svd(matrix, full_matrices=False)
    levelled = u.T @ orthogonalised(matrix, iterations=5) @ vt.T
    assert torch.allclose(levelled, levelled.diagonal().diag(), atol=1e-9)  # the same vectors
    large = values / values.norm() > 0.02  # those that five iterations bring near 1
    assert ((levelled.diagonal()[large] > 0.5) & (levelled.diagonal()[large] < 1.5)).all()


def test_orthogonalising_nothing_gives_nothing() -> None:
    assert not orthogonalised(torch.zeros(3, 5)).any()


def test_muon_turns_a_filter_by_its_rate_whatever_the_size_of_filter_and_gradient() -> None:
    torch.manual_seed(0)
    start, gradient = torch.randn(8, 4, 3, 3), torch.randn(8, 4, 3, 3)
    ends = []
    for size, force in ((1.0, 1.0), (100.0, 1e-3)):
        weight = nn.Parameter(size * start)
        muon = Muon([weight], lr=0.1, momentum=0.6)
        for _ in range(2):
            weight.grad = force * gradient
            muon.step()
        ends.append(weight.detach().clone())
    assert torch.allclose(ends[0], ends[1], atol=1e-5)


def test_muon_steps_along_the_orthogonalised_gradient_and_its_momentum() -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(8, 4, 3, 3))
    muon = Muon([weight], lr=0.1, momentum=0.6)
    velocity = torch.zeros_like(weight)
    for _ in range(3):
        before, weight.grad = weight.detach().clone(), torch.randn_like(weight)
        velocity = 0.6 * velocity + weight.grad
        muon.step()
        turned = (before * 8**0.5 / before.norm() - weight.detach()).flatten(1) / 0.1
        assert torch.allclose(turned, orthogonalised((weight.grad + 0.6 * velocity).flatten(1)), atol=1e-4)
        assert (turned * weight.grad.flatten(1)).sum() > 0
    assert turned.norm() == pytest.approx(8**0.5, rel=0.3)  # eight orthogonal rows of length about 1


def test_muon_leaves_alone_what_has_no_gradient() -> None:
    weight = nn.Parameter(torch.ones(2, 2, 1, 1))
    Muon([weight], lr=0.1, momentum=0.6).step()
    assert (weight == 1).all()


# --- whitening


def test_whitened_patches_are_uncorrelated_and_of_mean_square_one() -> None:
    torch.manual_seed(0)
    images = F.avg_pool2d(torch.randn(50, 3, 18, 18), 3, stride=1)  # neighbours are alike
    answers = F.conv2d(images, whitening_filters(images, side=2, eps=0.0)).transpose(0, 1).flatten(1)
    assert torch.allclose(answers @ answers.T / answers.shape[1], torch.eye(12), atol=1e-3)
    layer = Whitening(3)
    layer.fit(images)
    both = layer(images)
    assert torch.allclose(both[:, :12], -both[:, 12:], atol=1e-5)
    assert [name for name, _ in layer.named_parameters()] == ["bias"]


# --- batches


@given(st.integers(-2, 2), st.integers(-2, 2), st.booleans())
def test_moving_is_cropping_what_was_padded_by_reflection_and_mirroring(down: int, right: int, flip: bool) -> None:
    images = pixels(3, side=8).images
    got = moved(images, torch.tensor([2]), torch.tensor([[down], [right]]), torch.tensor([flip]))
    padded = F.pad(images[2:].float(), (2,) * 4, "reflect")
    expected = padded[:, :, 2 - down : 10 - down, 2 - right : 10 - right]
    assert torch.equal(got.float(), expected.flip(3) if flip else expected)


def test_two_epochs_show_both_sides_of_every_image_once() -> None:
    data = pixels(40)
    batches = Batches(data, 8, shift=0, flip=True, seed=3)
    assert (len(batches), batches.batch_size) == (10, 4)  # at least ten steps an epoch
    sides: dict[int, list[Tensor]] = {}
    for x, y in islice(batches, 2 * len(batches)):
        for image, label in zip(x, y.tolist(), strict=True):
            sides.setdefault(label, []).append(image)
    assert sorted(sides) == list(range(40))
    assert all(torch.equal(first, second.flip(2)) for first, second in sides.values())


def test_batches_depend_on_the_seed_alone() -> None:
    first, again, other = (next(iter(Batches(pixels(), 32, shift=2, flip=True, seed=seed)))[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.is_contiguous(memory_format=torch.channels_last)


def test_only_small_images_are_enlarged() -> None:
    images = torch.arange(2.0 * 8 * 9).view(1, 2, 8, 9)
    assert enlarged(images).shape == (1, 2, 16, 18)
    assert enlarged(images).mean() == pytest.approx(images.mean().item())
    assert enlarged(enlarged(images)).shape == (1, 2, 16, 18)


# --- the networks


@pytest.mark.parametrize("side", [8, 28, 32])
def test_the_network_is_residual_and_takes_any_size(side: int) -> None:
    network = speedrun.SpeedResNet(num_classes=7, in_channels=1).eval()
    x = torch.randn(2, 1, side, side)
    view = residual.view(network, x)
    assert torch.equal(view(x), network(x))
    assert network(x).shape == (2, 7)
    assert len(view.blocks) == 3
    assert not torch.equal(view(x, torch.zeros(3)), network(x))


def test_the_first_filters_of_a_widening_layer_pass_their_channel_on() -> None:
    layer, x = speedrun.Down(3, 5), torch.randn(2, 3, 6, 6)
    passed = layer.conv(F.pad(x, (1, 1, 1, 1)))[:, :3]
    assert torch.equal(passed, x)


@pytest.mark.parametrize(("h", "w"), [(7, 7), (8, 8), (7, 8), (2, 3)])
def test_what_pooling_would_drop_is_not_computed(h: int, w: int) -> None:
    torch.manual_seed(0)
    layer, x = speedrun.Down(3, 4).eval(), torch.randn(2, 3, h, w)
    convolved: list[Tensor] = []
    layer.conv.register_forward_hook(lambda _module, _args, y: convolved.append(y))
    whole = F.conv2d(x, layer.conv.weight, padding=1)
    torch.testing.assert_close(layer(x), F.gelu(layer.norm(F.max_pool2d(whole, 2))))
    assert convolved[0].shape[2:] == (h - h % 2, w - w % 2)


@pytest.mark.parametrize(
    ("sides", "small"), [((32, 32), (24, 24)), ((28, 56), (21, 42)), ((18, 36), (16, 32)), ((40, 16), (40, 16))]
)
def test_images_are_small_at_first_unless_they_are_small_anyway(sides: tuple[int, int], small: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *sides)
    first, last = speedrun.resized(images, 0.1), speedrun.resized(images, 1.0)
    assert first.shape == (2, 3, *small) and last is images
    torch.testing.assert_close(first.mean(), images.mean(), rtol=0.02, atol=0)


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_training_is_on_small_images_and_then_on_whole_ones_without_the_first_stage(
    precision: Literal["32", "bf16"], monkeypatch: pytest.MonkeyPatch
) -> None:
    sides: list[int] = []
    learning: list[tuple[bool, ...]] = []
    products: list[bool] = []

    class Noting(speedrun.SpeedResNet):
        def forward(self, x: Tensor) -> Tensor:
            sides.append(x.shape[2])
            parts = self.whiten.bias, self.block1.conv.weight, self.block1.norm.bias, self.block2.conv.weight
            learning.append(tuple(part.requires_grad for part in parts))
            assert not self.block1.norm.weight.requires_grad
            return super().forward(x)

    def noting(matrix: Tensor) -> Tensor:
        products.append(torch.is_autocast_enabled("cpu"))
        return orthogonalised(matrix)

    monkeypatch.setattr(speedrun, "SpeedResNet", Noting)
    monkeypatch.setattr(muon, "orthogonalised", noting)
    monkeypatch.setattr(winograd, "seconds", lambda *_: 1.0)
    batches = Batches(pixels(20), 2, shift=2, flip=True, seed=0)
    fabric = fabric_here(CONFIG.model_copy(update={"precision": precision}))
    speedrun.train(batches, 64, fabric, 1, lambda *_: None)
    assert sides == [24] * 7 + [32] * 3
    assert learning == [(True,) * 4] + [(False, True, True, True)] * 7 + [(False, False, False, True)] * 2
    assert products == [precision == "bf16"] * (10 * 6 - 2 * 2)  # of six filters, two of which stop


def test_airbench94_is_its_papers_network() -> None:
    """As many numbers learn, and 0.36 PFLOPs (its README) are 476 steps of 1024 images, forward and twice
    as much back.
    """
    network = airbench.Airbench94()
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 1_971_352
    macs = count_macs(network, torch.zeros(1, 3, 32, 32))
    assert 2 * 3 * macs * 1024 * 476 == pytest.approx(0.36e15, rel=0.05)


def test_airbench94s_rate_is_a_triangle() -> None:
    steps = 476
    rates = [airbench.rate(step, steps) for step in range(steps + 1)]
    assert (rates[0], max(rates), rates.index(1.0)) == (0.2, 1.0, 109)
    assert rates[-1] == pytest.approx(0.07)


def test_lookahead_sets_the_network_to_the_average() -> None:
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(1.0)
    lookahead = airbench.Lookahead(network)
    network.weight.data.fill_(3.0)
    lookahead.update(0.75)
    assert network.weight.item() == pytest.approx(1.5)
    network.weight.data.fill_(9.0)
    lookahead.update(1.0)
    assert network.weight.item() == pytest.approx(1.5)


# --- the race


def sprints(seconds: float, accuracy: float) -> dict[int, dict[str, Any]]:
    """Return the results of three seeds."""
    keys = ("training_seconds", "process_seconds", "processor_seconds")
    return {
        seed: {
            **dict.fromkeys(keys, seconds + 0.01 * seed),
            "accuracy": accuracy + 0.0001 * seed,
            "machine": {"threads": 2},
            "status": "finished",
            "directory": f"runs/{seed}",
        }
        for seed in range(3)
    }


@pytest.fixture(scope="module")
def sprinted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A sprint that was run in this process."""
    config = CONFIG.model_copy(update={"part": "test", "epochs": 0.5})
    place = Run(tmp_path_factory.mktemp("sprint"), config)
    place.create()
    place.finish({**race.sprint(config, place), "process_seconds": 1.0})  # which it has no process of its own for
    return place


@pytest.mark.parametrize(
    ("language", "told"), [("en", ("seeds", "refuted", "whole process")), ("ko", ("시드", "반박됨", "프로세스 전체"))]
)
def test_a_race_is_told_in_both_languages(
    language: Language, told: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    runs = {"speedrun": sprints(900, 0.9), "airbench94": sprints(400, 0.9)}
    summary = {name: race.summary(results) for name, results in runs.items()}
    record = {"part": "test", "runs": runs, "summary": summary, "compared": race.compared(runs)}
    print_race(record, language)
    said = capsys.readouterr().out
    assert all(word in said for word in told)


@pytest.mark.slow
@pytest.mark.usefixtures("_forked_workers")
def test_the_race_trains_both_reports_and_does_nothing_twice(sprinted: Run, tmp_path: Path) -> None:
    # as the sprint here
    alike = ("--part", "test", "--epochs", "0.5", "--threads", "1", "--device", "cpu", "--precision", "32")
    words = ("speedrun", "--data", "digits", "--against", "airbench94", *alike, "--out", tmp_path)
    record = json.loads(reslab_here(*words, "--json").stdout)
    ours, anchor = (record["runs"][name]["0"] for name in ("speedrun", "airbench94"))
    for result in (ours, anchor):
        assert result["steps"] == 5
        assert 0 < result["training_seconds"] < result["process_seconds"]
    assert ours["accuracy"] > 0.7  # where one in ten is chance
    assert record["compared"]["training_seconds"] == [ours["training_seconds"] / anchor["training_seconds"]] * 3
    assert [claim["verdict"] for claim in record["compared"]["claims"]] == ["inconclusive"] * 2  # one seed
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    again = reslab_here(*words)
    assert "airbench94" in again.stdout and "speedrun.sooner" in again.stdout and "After ResNet" not in again.stdout
    assert "warning" not in again.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")} == stamps
    # in another process, which may have found other convolutions to be faster
    assert sprinted.result()["accuracy"] == pytest.approx(ours["accuracy"], abs=0.02)


@pytest.mark.slow  # it runs a sprint: 4 s
def test_a_sprints_weights_are_to_be_looked_into(sprinted: Run) -> None:
    result = sprinted.result()
    assert result["accuracy"] > 0.7
    network = "reslab.speedrun.network:SpeedResNet"
    weights = ("--weights", sprinted.weights, "--data", "digits", "--part", "test", "--in-channels", "1", "--json")
    paths = reslab_here("analyze", "paths", network, *weights)
    assert paths.returncode == 0, paths.stderr
    assert [row["length"] for row in json.loads(paths.stdout)["rows"]] == [0, 1, 2, 3]
    evaluated = reslab_here("evaluate", network, *weights)
    assert evaluated.returncode == 0, evaluated.stderr
    assert 1 - json.loads(evaluated.stdout)["top1_error"] == pytest.approx(result["accuracy"])


def test_for_the_test_images_the_held_out_ones_are_trained_on_too() -> None:
    data = load_data("digits")
    counts = {part: len(labels) for part, (_, labels) in data.parts.items()}
    sizes = {"heldout": tuple(map(len, race.parts(data, "heldout"))), "test": tuple(map(len, race.parts(data, "test")))}
    assert sizes == {
        "heldout": (counts["train"], counts["heldout"]),
        "test": (counts["train"] + counts["heldout"], counts["test"]),
    }


def test_images_of_class_after_class_are_mixed(tmp_path: Path) -> None:
    data = load_data(f"folder:{image_folder(tmp_path, train=20)}")
    training, evaluated = race.parts(data, "heldout")
    assert (training.labels.diff() < 0).any()
    assert torch.equal(evaluated.labels, data.parts["heldout"].labels)


RACE = ("speedrun", "--against", "airbench94", "--first-seed", "500", "--threads", "1")


def test_a_race_is_registered_before_it_is_run(tmp_path: Path) -> None:
    file, out = tmp_path / "new" / "race.json", tmp_path / "runs"
    places = (*RACE, "--precision", "32", "--device", "cpu", "--out", out)
    words = (*places, "--seeds", "5")
    done = reslab_here(*words, "--register", file)
    assert done.returncode == 0 and not out.exists()
    registration = Registration.model_validate_json(file.read_text(encoding="utf-8"))
    assert registration.sha256() in done.stdout
    assert (registration.seeds, registration.looks) == ([500, 501, 502, 503, 504], [5])
    assert [(claim.id, claim.margin) for claim in registration.claims] == [
        ("speedrun.sooner", 0.05),
        ("speedrun.as-accurate", 0.003),
    ]
    assert registration.config["epochs of airbench94"] == 9.9 and registration.config["data"] == "digits"
    assert registration.code["trains"] == SprintConfig.code_digest() and registration.code["decides"]
    as_json = json.loads(reslab_here(*words, "--register", tmp_path / "again.json", "--json").stdout)
    assert as_json.keys() == {"file", "sha256"}
    assert as_json["sha256"] == hashlib.sha256((tmp_path / "again.json").read_bytes()).hexdigest()
    assert_refused(reslab_here(*words, "--register", file), "never overwritten")
    assert_refused(reslab_here(*words, "--register", file, "--registered", file), "give one of them")
    assert_refused(reslab_here(*words, "--part", "test", "--registered", file), "other part;")
    assert_refused(reslab_here(*places, "--seeds", "6", "--registered", file), "other looks, seeds;")
    assert_refused(reslab_here(*words, "--registered", tmp_path / "none.json"), "none.json", "speedrun --register")
    new = ("--register", tmp_path / "other.json")
    assert_refused(reslab_here("speedrun", *new), "--against")
    assert_refused(reslab_here(*places, "--seeds", "2", *new), "--seeds 3")
    assert not (tmp_path / "other.json").exists()


def test_a_race_that_has_begun_is_not_registered(tmp_path: Path) -> None:
    begun = CONFIG.model_copy(
        update={"contender": "airbench94", "against": "airbench94", "seed": 502, "epochs": airbench.EPOCHS}
    )
    Run(tmp_path, begun).create()
    words = (*RACE, "--seeds", "5", "--precision", "32", "--device", "cpu", "--out", tmp_path)
    assert_refused(reslab_here(*words, "--register", tmp_path / "race.json"), "seeds were seen")


@pytest.mark.parametrize("code", [SprintConfig.code_digest(), "0123456789abcdef"])
def test_a_registered_race_has_its_registration_and_runs_of_its_code(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, ran = tmp_path / "race.json", []
    times = dict.fromkeys(("training_seconds", "process_seconds", "processor_seconds"), 1.0)

    def run(config: SprintConfig, *_: object) -> dict[str, Any]:
        ran.append((config.contender, config.seed))
        return {**times, "accuracy": 0.5, "machine": {}, "status": "finished", "code": code, "directory": "runs/here"}

    monkeypatch.setattr(race, "run", run)
    words = ("speedrun", "--against", "airbench94", "--seeds", "3", "--out", tmp_path / "runs", "--json")
    assert reslab_here(*words, "--register", file).returncode == 0
    assert ran == []
    done = reslab_here(*words, "--registered", file)
    if code != SprintConfig.code_digest():
        assert_refused(done, "runs/here", "other code")
        return
    record, registration = json.loads(done.stdout), Registration.model_validate_json(file.read_text(encoding="utf-8"))
    assert record["registered"] == registration.sha256()
    assert Registration.model_validate(record["registration"]) == registration
    assert ran == [(name, seed) for seed in range(3) for name in sorted(record["runs"], reverse=seed % 2 == 0)]
    assert "registered" not in json.loads(reslab_here(*words).stdout)


def test_what_cannot_be_raced_is_refused(tmp_path: Path) -> None:
    for words, value in (
        (("--epochs", "0"), "epochs"),
        (("--epochs", "inf"), "epochs"),
        (("--precision", "16"), "precision"),
        (("--seeds", "0"), "seeds"),
        (("--against", "airbench95"), "against"),
        (("--data", "digit"), "digits"),
    ):
        done = reslab_here("speedrun", "--out", tmp_path, *words)
        assert_refused(done, value)


@pytest.mark.usefixtures("_forked_workers")
def test_a_process_that_fails_is_one_error(tmp_path: Path) -> None:
    with refused(FailedError, "speedrun s0", "/nowhere"):
        race.run(CONFIG.model_copy(update={"data": "folder:/nowhere"}), tmp_path, lambda *_: None)


@pytest.mark.slow
def test_a_sprint_that_diverges_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speedrun, "HEAD_RATE", 1e30)
    config = CONFIG.model_copy(update={"epochs": 0.3})
    place = Run(tmp_path, config)
    place.create()
    result = race.sprint(config, place)
    assert result["status"] == "diverged"
    assert result["accuracy"] < 0.3


def test_images_that_differ_in_size_are_refused(tmp_path: Path) -> None:
    with refused(MismatchError, "one size"):
        race.check(load_data(f"folder:{image_folder(tmp_path, sizes=((8, 8), (9, 9)), train=20)}"))


@pytest.mark.slow  # emulated, five seconds
def test_bfloat16_trains_too(tmp_path: Path) -> None:
    """On any processor, if slowly: one step and a half."""
    config = CONFIG.model_copy(update={"precision": "bf16", "epochs": 0.15})
    place = Run(tmp_path, config)
    place.create()
    result = race.sprint(config, place)
    assert (result["steps"], result["machine"]["precision"]) == (2, "bf16")


@pytest.mark.slow  # ten seconds
@pytest.mark.parametrize(("name", "accuracy"), [("speedrun", 0.9), ("airbench94", 0.3)])
def test_in_one_epoch_both_learn_the_digits(name: str, accuracy: float, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"contender": name, "part": "test"})
    place = Run(tmp_path, config)
    place.create()
    result = race.sprint(config, place)
    assert result["steps"] == 10 and result["accuracy"] > accuracy


@pytest.mark.parametrize(("name", "scale"), [("airbench94", 9), ("airbench94-muon", 256)])
def test_each_anchor_trains(name: str, scale: int) -> None:
    contender, losses = race.CONTENDERS[name], []
    whole = race.parts(load_data("digits"), "heldout")[0]
    some = replace(whole, images=whole.images[:320], labels=whole.labels[:320])
    batches = Batches(some, 256, shift=0, flip=False, seed=0)  # of 32: ten steps an epoch
    torch.manual_seed(0)
    network = contender.train(
        batches, 10, fabric_here(CONFIG), 0.5, lambda step, steps, loss: losses.append(loss.item())
    )
    assert isinstance(network, airbench.Airbench94) and network.scale == scale
    assert len(losses) == 5
    assert losses[-1] < losses[0]


def test_the_verdicts_need_three_seeds_and_follow_the_times() -> None:
    def verdicts(
        ours: tuple[float, float], theirs: tuple[float, float], threads: int = 2, status: str = "finished"
    ) -> list[tuple[str, str]]:
        runs = {"speedrun": sprints(*ours), "airbench94": sprints(*theirs)}
        runs["airbench94"][2] |= {"machine": {"threads": threads}, "status": status}
        return [(claim["verdict"], claim["reason"]["code"]) for claim in race.compared(runs)["claims"]]

    under, over = "interval-under", "interval-over"
    assert verdicts((50, 0.9), (100, 0.9)) == [("supported", under), ("supported", under)]
    assert verdicts((100, 0.9), (50, 0.9)) == [("refuted", over), ("supported", under)]
    assert verdicts((50, 0.8), (100, 0.9)) == [("supported", under), ("refuted", over)]
    # one of a pair on another machine, and a network that is none
    assert verdicts((50, 0.9), (100, 0.9), threads=4) == [("untested", "different-machines")] * 2
    assert verdicts((50, 0.9), (100, 0.9), status="diverged") == [("untested", "diverged")] * 2


def test_pairs_of_a_race_may_be_of_different_machines(capsys: pytest.CaptureFixture[str]) -> None:
    runs = {"speedrun": sprints(50, 0.9), "airbench94": sprints(100, 0.9)}
    for results in runs.values():
        results[1] |= {"machine": {"threads": 4}}
    assert [claim["verdict"] for claim in race.compared(runs)["claims"]] == ["supported"] * 2
    summary = {name: race.summary(results) for name, results in runs.items()}
    print_race({"part": "test", "runs": runs, "summary": summary, "compared": race.compared(runs)})
    assert capsys.readouterr().out.splitlines()[:2] == ["threads 2", "threads 4"]


def test_errors_of_a_race_differ_by_whole_images() -> None:
    keys = ("training_seconds", "process_seconds", "processor_seconds")
    runs = {
        name: {
            seed: {**dict.fromkeys(keys, 1.0 + seed), "accuracy": accuracy, "machine": {}, "status": "finished"}
            for seed in range(5)
        }
        for name, accuracy in (("speedrun", 0.99), ("airbench94", 1.0))
    }
    assert race.compared(runs)["claims"][1]["interval"] == pytest.approx((0.01, 0.01))
    assert race.compared(runs, 0.01)["claims"][1]["interval"] == pytest.approx((0.0, 0.02), abs=1e-12)
