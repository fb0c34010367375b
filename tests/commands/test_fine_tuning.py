"""`reslab train --from`, and `reslab predict` of this lab's own weights."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from helpers import TRAIN, assert_refused, reslab_here, tiny_trial
from PIL import Image

import reslab
from reslab.data import load_data
from reslab.executors.trial import fresh_network
from reslab.networks import zoo
from reslab.training.start import Start
from reslab.weights.files import read_weights, to_bytes


@pytest.fixture
def body(tmp_path: Path) -> Path:
    """Weights of an 8-layer network for five classes."""
    network = zoo.build("cifar_resnet", depth=8, num_classes=5, in_channels=1)
    path = tmp_path / "five.safetensors"
    path.write_bytes(to_bytes(network, "cifar_resnet", {"depth": 8, "num_classes": 5, "in_channels": 1}))
    return path


@pytest.mark.filterwarnings("ignore:.*left out what the network has no place for")
def test_a_trial_starts_from_a_files_weights_with_a_new_classifier(tmp_path: Path, body: Path) -> None:
    words = ("train", "cifar_resnet", *TRAIN[2:], "--from", body, "--out", tmp_path / "runs", "--json")
    made = json.loads(reslab_here(*words).stdout)
    start = made["config"]["start"]
    assert start.keys() == {"sha256", "zero_pad"} and made["result"]["status"] == "finished"
    moved = body.rename(tmp_path / "moved.safetensors")  # the same content is the same trial
    again = json.loads(reslab_here(*(moved if word == body else word for word in words)).stdout)
    assert again["directory"] == made["directory"] and len(list((tmp_path / "runs").glob("*/trial.json"))) == 1

    config = tiny_trial().model_copy(update={"start": Start(sha256=start["sha256"], file=moved)})
    network, theirs = fresh_network(config, load_data("digits")), read_weights(moved).sets[""]
    for name, value in network.state_dict().items():
        if name.startswith("fc."):
            assert len(value) == 10
        else:
            assert torch.equal(value, theirs[name])
    text = reslab_here(*(moved if word == body else word for word in words[:-1])).stdout
    assert start["sha256"][:16] in text and "new: fc, for 10 classes" in text
    extended = reslab_here(*(moved if word == body else word for word in words[:-1]), "--extend", "1")
    assert extended.returncode == 0 and "new:" not in extended.stdout, extended.stderr  # it keeps its classifier


@pytest.mark.filterwarnings("ignore:.*left out what the network has no place for")
def test_what_a_file_states_is_kept_in_the_run_that_starts_from_it(tmp_path: Path) -> None:
    stated = {"depth": 8, "shortcut": "B", "num_classes": 5, "in_channels": 1}
    file = tmp_path / "b.safetensors"
    file.write_bytes(to_bytes(zoo.build("cifar_resnet", **stated), "cifar_resnet", stated))
    run = reslab.train("cifar_resnet", depth=8, start=file, settings={"iterations": 1}, epochs=None, out=tmp_path)
    assert run.config.options == {"depth": 8, "shortcut": "B"}
    again = zoo.build("cifar_resnet", weights=run.directory)
    pairs = zip(again.state_dict().values(), run.network().state_dict().values(), strict=True)
    assert again.fc.out_features == 10 and all(torch.equal(one, other) for one, other in pairs)


def test_a_trial_without_a_start_is_the_trial_that_it_was() -> None:
    """The names of existing runs are of configs that know nothing of starts."""
    config = tiny_trial()
    assert "start" not in config.model_dump(mode="json") and "start" not in config.canonical_json()
    assert type(config)(**config.model_dump(mode="json")) == config
    started = config.model_copy(update={"start": Start(sha256="0" * 64)})
    assert started.digest() != config.digest()
    assert started.model_copy(update={"start": Start(sha256="0" * 64, file=Path("a"))}).digest() == started.digest()


def test_what_cannot_be_started_from_is_told(tmp_path: Path, body: Path) -> None:
    colour = tmp_path / "colour.safetensors"
    colour.write_bytes(to_bytes(zoo.build("cifar_resnet", depth=8, num_classes=5), "cifar_resnet", {"depth": 8}))
    for weights, values in (
        (tmp_path / "none.pt", ["none.pt"]),
        (colour, ["conv1.weight", "(16, 3, 3, 3)", "(16, 1, 3, 3)"]),
    ):
        done = reslab_here("train", "cifar_resnet", *TRAIN[2:], "--from", weights, "--out", tmp_path / "runs")
        assert_refused(done, *values)


@pytest.mark.filterwarnings("default::UserWarning")  # which the command line tells
def test_images_are_predicted_each_on_its_own(tmp_path: Path) -> None:
    data = load_data("digits")
    images = data.parts["test"].images
    files = []
    for number in range(4):
        pixels = (images[number, 0].float() * (255 / data.unit)).round().to(torch.uint8)  # type: ignore[index]  # one size
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels.numpy()).save(files[-1])
    (tmp_path / "torn.png").write_bytes(files[0].read_bytes()[:40])
    words = ("predict", "resnet20", files[0], tmp_path / "torn.png", *files[1:], "--weights", "digits", "--top", "3")
    done = reslab_here(*words, "--json")
    assert "note: left out 1 of 5 images" in done.stderr and "torn.png" in done.stderr
    found = json.loads(done.stdout)
    assert [one["image"] for one in found] == [str(file) for file in files]
    with torch.no_grad():
        network = zoo.build("resnet20", weights="digits").eval()
        shares = network(data.sample("test", 4)[0]).softmax(1)
    for one, share in zip(found, shares, strict=True):
        assert len(one["classes"]) == 3 and one["classes"][0]["label"] == int(share.argmax())
        assert one["classes"][0]["class"] == data.classes[int(share.argmax())]
        assert one["classes"][0]["probability"] == pytest.approx(float(share.max()), abs=0.02)  # pixels of 8 bits
    text = reslab_here("predict", "resnet20", files[0], "--weights", "digits").stdout
    assert text.count("%") == 5
    assert repr(reslab.predict("resnet20", files[0], "digits")) == text.rstrip("\n")
    predictions = reslab.predict("resnet20", files, "digits", top=3)
    assert predictions == found == pickle.loads(pickle.dumps(predictions))
    frame = predictions.to_frame()
    assert list(frame) == ["image", "label", "class", "probability"] and len(frame) == 3 * len(files)
    assert frame["class"][0] == found[0]["classes"][0]["class"]
    assert predictions._repr_html_().count("<tr") == len(frame) + 1


def test_an_evaluation_from_python_is_the_commands() -> None:
    words = ("evaluate", "resnet20", "--weights", "digits")
    found, told = reslab.evaluate("resnet20", "digits"), json.loads(reslab_here(*words, "--json").stdout)
    assert {**found, "seconds": 0} == {**told, "seconds": 0}
    frame = found.to_frame()
    assert len(frame) == 1 and frame["top1_error"][0] == found["top1_error"]
    assert frame["preprocessing.size"][0] == found["preprocessing"]["size"] and "top1_error" in found._repr_html_()
    assert repr(found) == reslab_here(*words).stdout.rstrip("\n")


def test_what_cannot_be_predicted_is_told(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    Image.new("L", (8, 8)).save(image)
    (tmp_path / "torn.png").write_bytes(b"")
    torch.save(zoo.build("cifar_resnet", depth=8).state_dict(), tmp_path / "bare.pt")
    network, digits = zoo.build("cifar_resnet", depth=8, num_classes=10, in_channels=1), load_data("digits")
    named = to_bytes(
        network,
        "cifar_resnet",
        {"depth": 8, "num_classes": 10, "in_channels": 1},
        {"mean": [0.5], "std": [0.5], "classes": [*digits.classes[:3]]},
    )
    (tmp_path / "three.safetensors").write_bytes(named)
    three = ("cifar_resnet", image, "--depth", "8", "--num_classes", "10", "--weights", tmp_path / "three.safetensors")
    bare = ("cifar_resnet", image, "--depth", "8", "--zero-pad", "end", "--weights", tmp_path / "bare.pt")
    for words, values in (
        ((image, "resnet20", "--weights", "digits"), [image, "NETWORK IMAGE"]),
        (("resnet20", tmp_path / "b.png", "--weights", "digits"), [tmp_path / "b.png"]),
        (("resnet20", tmp_path / "torn.png", "--weights", "digits"), [tmp_path / "torn.png", 1]),
        (bare, ["--mean", "--std"]),
        (three, ["three.safetensors", 3, 10]),
        (("resnet20", image, "--weights", "digits", "--top", "0"), [0]),
    ):
        assert_refused(reslab_here("predict", *words), *values)
