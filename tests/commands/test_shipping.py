"""The trained networks that come with the lab, their cards, and how such a file is made."""

import json
from pathlib import Path

import pytest
import torch
from helpers import assert_refused, refused, reslab_here
from helpers_images import image_folder
from helpers_ledger import a_record
from safetensors import safe_open

import reslab
from reslab.commands import ship as shipping
from reslab.data import load_data
from reslab.errors import MissingError, UnknownNameError, UnusableError, UserError
from reslab.files import write_json
from reslab.networks import zoo
from reslab.networks.counting import count_params
from reslab.runs import Run
from reslab.trained import evaluate
from reslab.training.loop import TrialConfig
from reslab.training.recipes import FAST, PAPER_CIFAR
from reslab.training.start import Start
from reslab.weights import shipped as room
from reslab.weights.files import read_weights, to_bytes
from reslab.weights.shipped import shipped, trained_on

SHIPPED = shipped()
FILES = [pytest.param(data, model, id=f"{data}-{model}") for data, model in SHIPPED]


def test_four_of_the_digits_and_five_of_cifar_are_there_and_all_files_are_small() -> None:
    assert {("digits", f"{kind}{depth}") for kind in ("resnet", "plain") for depth in (20, 56)} <= SHIPPED.keys()
    cifar = ("resnet20", "resnet56", "preresnet56", "plain20", "plain56")
    assert {("cifar10-jpeg", name) for name in cifar} <= SHIPPED.keys()
    assert sum(path.stat().st_size for path in room.SHIPPED.rglob("*")) < 12e6
    assert {path.with_suffix(".md") for path in SHIPPED.values()} == set(room.SHIPPED.glob("*/*.md"))


@pytest.mark.parametrize(("data", "model"), FILES)
def test_the_card_is_that_of_the_file(data: str, model: str) -> None:
    path = SHIPPED[data, model]
    facts = read_weights(path).metadata["card"]
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    assert text == shipping.card(model, data, facts, path.stat().st_size)
    assert (
        facts["command"] in text and f"{100 * facts['errors']['test']['shipped']:.2f} %" in text and "/tmp" not in text
    )
    assert facts["params"] == count_params(reslab.build(model, weights=data))


@pytest.mark.parametrize(("data", "model"), FILES)
def test_kernels_are_float16_in_the_file_and_float32_in_the_network(data: str, model: str) -> None:
    with safe_open(SHIPPED[data, model], framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    network = reslab.build(model, weights=data)
    for name, value in network.state_dict().items():
        stored = tensors[name]
        assert stored.dtype == (
            torch.int64 if stored.dtype == torch.int64 else torch.float16 if stored.dim() > 1 else torch.float32
        )
        assert value.dtype == (torch.int64 if stored.dtype == torch.int64 else torch.float32) and torch.equal(
            value, stored.to(value.dtype)
        )


@pytest.mark.parametrize("model", [model for data, model in SHIPPED if data == "digits"])
def test_the_errors_on_the_digits_are_those_of_the_card(model: str) -> None:
    errors = read_weights(SHIPPED["digits", model]).metadata["card"]["errors"]
    network, data = reslab.build(model, weights="digits").eval(), load_data("digits")
    for images, labels, expected in ((*data.heldout, errors["heldout"]), (*data.test, errors["test"])):
        with torch.no_grad():
            logits = network(images)
        first, second = logits.topk(2).values.unbind(1)
        # images that another machine's rounding may decide otherwise
        ties = int((first - second < 1e-4 * logits.abs().max()).sum())
        wrong = int((logits.argmax(1) != labels).sum())
        assert abs(wrong - round(expected["shipped"] * len(labels))) <= ties <= 1
        assert expected["shipped"] < (0.7 if model == "plain56" else 0.05)


@pytest.mark.slow
def test_an_analysis_of_what_training_made_takes_them_and_says_so() -> None:
    def record(*arguments: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(reslab_here("analyze", *arguments, "--images", "8", "--json").stdout)
        return found

    error = read_weights(SHIPPED["digits", "resnet20"]).metadata["card"]["errors"]["test"]["shipped"]
    told = f"shipped: digits/resnet20 (test error {100 * error:.2f} %)"
    trained = record("importance", "resnet20")
    assert trained["weights"] == told == record("importance", "resnet20", "--weights", "digits")["weights"]
    fresh = record("importance", "resnet20", "--weights", "none", "--seed", "3")
    assert fresh["weights"] == "fresh, seed 3" and fresh["rows"] != trained["rows"]
    assert (
        record("importance", "resnet20", "--shortcut", "B")["weights"]
        == record("gradient-flow", "resnet20")["weights"]
        == "fresh, seed 0"
    )
    assert f"of digits (heldout); weights: {told}" in " ".join(
        reslab_here("analyze", "importance", "resnet20", "--images", "8").stdout.split()
    )


def test_the_list_and_the_word_for_evaluate() -> None:
    listed = {(item["data"], item["model"]): item for item in json.loads(reslab_here("weights", "--json").stdout)}
    assert listed.keys() == SHIPPED.keys() and "plain56" in reslab_here("weights").stdout
    found = json.loads(reslab_here("evaluate", "plain20", "--weights", "digits", "--json").stdout)
    assert found["top1_error"] == listed["digits", "plain20"]["errors"]["test"]["shipped"]


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (["evaluate", "resnet32", "--weights", "digits"], ["resnet32", "digits", "plain20"]),
        (["weights", "--as", "resnet20"], ["reslab weights FILE --as NETWORK"]),
        (["weights", "x.th"], ["x.th"]),
        (["evaluate", "resnet20", "--weights", "torchvision"], ["torchvision", "'resnet20'"]),
        (["ship", "nowhere"], ["nowhere", "trial.json"]),
        (["analyze", "paths", "resnet20", "--weights", "digit"], ["digit", "'digits'"]),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], values: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = reslab_here(*arguments)
    assert_refused(done, *values)
    assert not list(tmp_path.iterdir())  # a mistake leaves nothing behind


@pytest.mark.parametrize(
    ("data", "folder"),
    [
        ("digits", "digits"),
        ("cifar10-jpeg75", "cifar10-jpeg"),
        ("cifar10-jpeg75:/a place", "cifar10-jpeg"),
        ("folder:/a place/cifar10-jpeg?broken=skip", "cifar10-jpeg"),
        ("folder:/a place/digits", None),
        ("cifar10", None),
    ],
)
def test_data_are_known_by_name(data: str, folder: str | None) -> None:
    assert trained_on(data) == folder


# --- Making one -------------------------------------------------------------------------------------------------------


def pretended_run(root: Path, *, finish: bool = True, status: str = "finished", **settings: object) -> Path:
    """Return the directory of a run whose weights are fresh."""
    config = TrialConfig(**{"model": "resnet20", "data": "digits", "recipe": FAST, "seed": 5, **settings})  # type: ignore[arg-type]  # a dict
    run, data = Run(root, config), load_data(config.data)
    run.create()
    network = zoo.build(config.model, num_classes=data.num_classes, in_channels=data.in_channels, **config.options)
    run.weights.write_bytes(to_bytes(network, config.model, config.options, data.preprocessing))
    if finish:
        run.finish(
            {"status": status, "steps": 140, "seconds": 1.0, **{f"{part}_error": 0.25 for part in shipping.PARTS}}
        )
    return run.path


def test_a_run_becomes_a_file_with_the_errors_that_evaluate_finds_and_nothing_of_this_machine(tmp_path: Path) -> None:
    place = image_folder(tmp_path / "그림" / "cifar10-jpeg", ((32, 32),))
    run = pretended_run(tmp_path / "runs", data=f"folder:{place}")
    out = tmp_path / "out"
    done = reslab_here("ship", run, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    path = out / "cifar10-jpeg" / "resnet20.safetensors"
    facts = read_weights(path).metadata["card"]
    assert facts["made_for"] == {"num_classes": 2, "in_channels": 3} and facts["images"] == {
        "train": 6,
        "heldout": 2,
        "test": 4,
    }
    dataset = load_data(f"folder:{place}")
    for part, figures in facts["errors"].items():
        found = evaluate("resnet20", path, dataset, part=part)
        assert figures == {"trained": 0.25, "shipped": found["top1_error"]}  # what the run says, and what is measured
    for written in out.rglob("*.*"):
        assert str(tmp_path).encode() not in written.read_bytes() and "그림".encode() not in written.read_bytes()
    again = reslab_here("ship", run, "--out", out)
    assert_refused(again, path, "--out")


def test_a_card_names_the_study_that_the_run_is_a_trial_of(tmp_path: Path) -> None:
    run = pretended_run(tmp_path / "trials")
    record = a_record(range(5, 8), date="2026-01-01T00:00:00+00:00")
    entry = record.trials[0].model_copy(update={"directory": f"trials/{run.name}"})
    write_json(tmp_path / "study.json", record.model_copy(update={"trials": [entry, *record.trials[1:]]}).to_json())
    made = shipping.make(run, tmp_path / "out", study=tmp_path)
    assert made.facts["study"] == {"name": "study", "group": "a", "seeds": [5, 6, 7], "registered": "2026-01-01"}
    told = "One of the networks `a` of the study `study`, seeds 5, 6, 7; registered on 2026-01-01."
    card = made.card.read_text(encoding="utf-8")
    assert (
        told in card
        and "연구 `study`의 `a` 신경망 가운데 하나이며, 시드는 5, 6, 7입니다(2026-01-01에 사전 등록)." in card
    )
    facts = {**made.facts, "study": {**made.facts["study"], "registered": ""}}
    assert "seeds 5, 6, 7.\n" in shipping.card("resnet20", "digits", facts, 1)
    done = reslab_here("ship", pretended_run(tmp_path / "others", seed=9), "--out", tmp_path / "o", "--study", tmp_path)
    assert_refused(done, "others", "no trial of the study")


def test_a_network_of_a_family_is_shipped_by_the_name_that_it_has(tmp_path: Path) -> None:
    made = shipping.make(pretended_run(tmp_path, model="cifar_plain", options={"depth": 20}), tmp_path / "out")
    assert made.weights.name == "plain20.safetensors"
    assert made.facts["command"].startswith("reslab train cifar_plain --depth 20 --data digits")
    network = zoo.build("plain20", weights=made.weights)
    assert count_params(network) == made.facts["params"]


@pytest.mark.parametrize(
    ("settings", "kind", "value"),
    [
        ({"finish": False}, MissingError, "result.json"),
        ({"status": "diverged"}, MissingError, "diverged"),
        ({"model": "cifar_resnet", "options": {"depth": 8}}, UnknownNameError, "cifar_resnet {'depth': 8}"),
        ({"start": Start(sha256="0" * 64)}, UnusableError, "--from"),
        ({"options": {"shortcut": "B"}}, UnknownNameError, "{'shortcut': 'B'}"),
    ],
)
def test_what_cannot_be_shipped_is_refused(
    settings: dict[str, object], kind: type[UserError], value: str, tmp_path: Path
) -> None:
    run = pretended_run(tmp_path, **settings)  # type: ignore[arg-type]  # a dict
    with refused(kind, value):
        shipping.make(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_data_of_unknown_origin_are_refused(tmp_path: Path) -> None:
    run = pretended_run(tmp_path / "runs", data=f"folder:{image_folder(tmp_path / 'mine')}")
    with refused(UnknownNameError, tmp_path / "mine"):
        shipping.make(run, tmp_path / "out")


def test_the_command_trains_the_same_again() -> None:
    def config(**settings: object) -> TrialConfig:
        return TrialConfig(**{"model": "resnet20", "data": "digits", "recipe": FAST, "seed": 5, **settings})  # type: ignore[arg-type]  # a dict

    assert (
        shipping.command(config()) == "reslab train resnet20 --data digits --recipe fast "
        "--epochs 7 --seed 5 --threads 1 --device cpu --precision 32"
    )
    assert shipping.command(config(model="cifar_resnet", options={"depth": 20})).startswith(
        "reslab train cifar_resnet --depth 20 --data digits "
    )
    changed = config(
        recipe=PAPER_CIFAR.model_copy(update={"iterations": 9, "learning_rate": 0.2}),
        data="folder:/a/cifar10-jpeg",
        threads=2,
    )
    assert shipping.command(changed) == (
        "reslab train resnet20 --data folder:cifar10-jpeg --recipe paper-cifar --seed 5 --threads 2 --device cpu "
        "--precision 32 "
        "--set 'learning_rate=0.2' --set 'iterations=9'"
    )
