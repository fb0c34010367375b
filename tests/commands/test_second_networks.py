"""What is compared with another network, from a file that states what it is of, or does not."""

import io
import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers import assert_refused, reslab_here

from reslab.commands import tables
from reslab.networks import zoo
from reslab.weights.files import to_bytes

pytestmark = pytest.mark.filterwarnings("ignore:the weights name no classes")
ALIKE = ("analyze", "alike", "--images", "8", "--json")


def test_a_second_file_has_its_own_options(tmp_path: Path) -> None:
    for depth in (8, 14):
        options = {"depth": depth, "in_channels": 1}
        network = zoo.build("cifar_resnet", **options)
        (tmp_path / f"{depth}.safetensors").write_bytes(to_bytes(network, "cifar_resnet", options))
    words = ("cifar_resnet", "--weights", tmp_path / "8.safetensors", "--other", tmp_path / "14.safetensors")
    done = reslab_here(*ALIKE, *words)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert "layer3.0" in json.dumps(rows) and "layer3.1" in json.dumps(rows)  # of 8 and of 14 layers


def test_what_is_said_of_the_first_file_holds_of_the_second_that_says_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        torch.save(zoo.build("cifar_resnet", depth=8, in_channels=1).state_dict(), tmp_path / f"{name}.pt")
    words = ("cifar_resnet", "--depth", "8", "--weights", tmp_path / "a.pt", "--other", tmp_path / "b.pt")
    done = reslab_here(*ALIKE, *words, "--zero-pad", "end")
    assert done.returncode == 0, done.stderr
    assert_refused(reslab_here(*ALIKE, *words), "--zero-pad")


def test_counts_beyond_64_bits_are_written_as_parquet() -> None:
    pytest.importorskip("pyarrow")
    written = pd.read_parquet(io.BytesIO(tables._parquet(pd.DataFrame({"paths": [2**80, 1], "n": [1, 2]}))))
    assert written["paths"].tolist() == [2.0**80, 1.0] and written["n"].dtype == "int64"


@pytest.mark.parametrize("text", ["learning_rate=,", "batch_size=,,"])
def test_a_setting_without_a_value_is_refused(text: str, tmp_path: Path) -> None:
    assert_refused(reslab_here("train", "resnet20", "--set", text, "--out", tmp_path), text)
