"""CIFAR and Fashion-MNIST, from small files in their own formats."""

import gzip
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import refused
from helpers_images import image_folder
from PIL import Image

from reslab.data import load_data, published
from reslab.data.places import data_root
from reslab.errors import DamagedError, FailedError, MissingError

CLASSES = ["cat", "dog"]


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-10 and -100 with twenty images a file, in torchvision's layout; their checksums are not the real ones and
    are not looked at.
    """
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5: Path(path).is_file())
    random = np.random.default_rng(0)

    def write(folder: str, files: list[str], label: str, names: str) -> None:
        directory = tmp_path / folder
        directory.mkdir()
        for name in files:
            entry = {"data": random.integers(0, 256, (20, 3072), dtype=np.uint8), label: [0, 1] * 10}
            (directory / name).write_bytes(pickle.dumps(entry))
        (directory / ("batches.meta" if folder.endswith("py") and "100" not in folder else "meta")).write_bytes(
            pickle.dumps({names: CLASSES})
        )

    write("cifar-10-batches-py", [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"], "labels", "label_names")
    write("cifar-100-python", ["train", "test"], "fine_labels", "fine_label_names")
    return tmp_path


@pytest.mark.parametrize(("name", "sizes"), [("cifar10", [90, 10, 20]), ("cifar100", [18, 2, 20])])
def test_cifar_is_found_in_a_root(cifar: Path, name: str, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_data(f"{name}:{cifar}")
    assert [len(part.labels) for part in data.parts.values()] == sizes and list(data.classes) == CLASSES
    images = data.parts["test"].images
    assert isinstance(images, torch.Tensor) and images.dtype == torch.uint8
    folder, file = ("cifar-10-batches-py", "test_batch") if name == "cifar10" else ("cifar-100-python", "test")
    stored = pickle.loads((cifar / folder / file).read_bytes())["data"]
    assert torch.equal(images, torch.from_numpy(stored).view(-1, 3, 32, 32))  # red, green and blue planes, row by row
    monkeypatch.setenv("RESLAB_DATA", str(cifar))
    assert torch.equal(load_data(name).parts["test"].images, images)  # type: ignore[arg-type]  # one size


def test_the_jpeg_copy_in_memory_is_what_files_of_that_quality_hold(cifar: Path) -> None:
    original, copy = load_data(f"cifar10:{cifar}"), load_data(f"cifar10-jpeg75:{cifar}")
    for name in ("train", "test"):
        images, labels = original.parts[name]  # type: ignore[index]  # a part's name
        counts = [0, 0]
        for image, label in zip(images, labels.tolist(), strict=True):  # type: ignore[call-overload]  # one size
            path = cifar / "jpeg" / name / CLASSES[label] / f"{counts[label]:03}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(path, quality=75)
            counts[label] += 1
    files = load_data(f"folder:{cifar / 'jpeg'}").parts["test"]
    images, labels = copy.parts["test"]
    order = labels.argsort(stable=True)
    assert torch.equal(images[order], files.images) and torch.equal(labels[order], files.labels)  # type: ignore[index,arg-type]  # one size
    assert not torch.equal(images, original.parts["test"].images)  # type: ignore[arg-type]  # one size


def test_what_was_read_once_is_memory_mapped_afterwards_and_read_again_when_it_changes(
    cifar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_data(f"cifar10:{cifar}")
    monkeypatch.setattr(published, "_load", None)  # it is not read again
    second = load_data(f"cifar10:{cifar}")
    assert torch.equal(first.parts["train"].images, second.parts["train"].images)  # type: ignore[arg-type]  # one size
    assert first.statistics == second.statistics and first.classes == second.classes
    os.utime(cifar / "cifar-10-batches-py" / "test_batch", ns=(1, 1))
    with pytest.raises(TypeError):  # it would be
        load_data(f"cifar10:{cifar}")


@pytest.mark.parametrize("dated", [True, False])
def test_files_exchanged_for_others_of_their_size_and_time_are_read_again(
    cifar: Path, monkeypatch: pytest.MonkeyPatch, dated: bool
) -> None:
    monkeypatch.setattr("reslab.data.cache.CHANGES_ARE_DATED", dated and os.name == "posix")
    paths = [cifar / "cifar-10-batches-py" / name for name in ("data_batch_1", "test_batch")]
    for path in paths:
        os.utime(path, ns=(10**18, 10**18))
    before = load_data(f"cifar10:{cifar}").parts["test"].images.clone()  # type: ignore[union-attr]  # one size
    paths[0].rename(cifar / "aside")
    paths[1].rename(paths[0])
    (cifar / "aside").rename(paths[1])
    assert not torch.equal(load_data(f"cifar10:{cifar}").parts["test"].images, before)  # type: ignore[arg-type]  # one size


def test_a_user_without_a_home_reads_what_is_given(cifar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "RESLAB_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert len(load_data(f"cifar10:{cifar}").parts["train"].labels) == 90
    with refused(MissingError, "LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME"):
        load_data("cifar10")


def test_without_a_place_for_the_cache_the_images_stay_in_memory(
    cifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = load_data(f"cifar10:{cifar}")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "file"))
    found = load_data(f"cifar10:{cifar}")
    assert len(found.parts["train"].labels) == 90
    assert found.fingerprint == cached.fingerprint != ""  # so a run may be resumed with a cache, or without one


def test_the_directory_of_the_files_themselves_will_do(cifar: Path) -> None:
    given = load_data(f"cifar10:{cifar / 'cifar-10-batches-py'}")
    assert given.fingerprint == load_data(f"cifar10:{cifar}").fingerprint
    root = cifar / "deeper" / "cifar-10-batches-py"
    shutil.copytree(cifar / "cifar-10-batches-py", root / "cifar-10-batches-py")
    assert load_data(f"cifar10:{root}").fingerprint == given.fingerprint


COPY = os.environ.get("RESLAB_CIFAR10_JPEG", "")


@pytest.mark.slow
@pytest.mark.skipif(
    not COPY,
    reason="needs CIFAR-10 in RESLAB_DATA, and a folder of it as JPEG files of quality 75 in RESLAB_CIFAR10_JPEG",
)
def test_the_jpeg_copy_in_memory_is_a_given_copy() -> None:
    ours, files = load_data("cifar10-jpeg75").parts["test"], load_data(f"folder:{COPY}").parts["test"]
    for label in range(10):
        images = [{image.numpy().tobytes() for image in part.images[part.labels == label]} for part in (ours, files)]  # type: ignore[index]  # one size
        assert images[0] == images[1]


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def test_fashion_mnist_is_found_where_debian_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    labels = np.arange(40, dtype=np.uint8) % 10
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    monkeypatch.setattr(published, "DEBIAN", tmp_path)
    data = load_data("fashion_mnist")
    assert [len(part.labels) for part in data.parts.values()] == [30, 10, 40] and data.classes[0] == "T-shirt/top"
    assert torch.equal(data.parts["test"].images, torch.from_numpy(images)[:, None])  # type: ignore[arg-type]  # one size
    assert data.parts["test"].labels.tolist() == labels.tolist()


def test_a_home_in_the_place_of_data_sets_is_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESLAB_DATA", str(Path("~") / "sets"))
    assert data_root() == Path("~").expanduser().resolve() / "sets"


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "cifar10-jpeg75", "fashion_mnist"])
def test_nothing_is_downloaded_unless_asked_for(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    for where in ("cifar", "mnist"):
        monkeypatch.setattr(f"torchvision.datasets.{where}.download_and_extract_archive", offline)
    monkeypatch.setenv("RESLAB_DATA", str(tmp_path))
    monkeypatch.setattr(published, "DEBIAN", tmp_path / "none")
    whose = name.removesuffix("-jpeg75")  # which is made of it
    with refused(MissingError, whose, tmp_path, f"{whose}:ROOT", "--download", "download=True"):
        load_data(name)
    with refused(FailedError, whose, tmp_path):
        load_data(name, download=True)


def test_a_damaged_file_is_not_read(tmp_path: Path) -> None:
    """The real checksums guard what would be unpickled."""
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"x")
    with refused(DamagedError, "cifar10", tmp_path, "data_batch_1, data_batch_2"):
        load_data(f"cifar10:{tmp_path}")


def test_a_damaged_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fashion-MNIST's files have no checksums: each says how many bytes it has."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    sound = {
        f"{part}-{kind}": idx(
            np.zeros(shape, np.uint8) + np.arange(20, dtype=np.uint8).reshape(-1, *[1] * (len(shape) - 1)) % 10
        )
        for part in ("train", "t10k")
        for kind, shape in (("images-idx3-ubyte", (20, 28, 28)), ("labels-idx1-ubyte", (20,)))
    }
    for name in sound:
        for content in (sound[name][:-1], b"", bytes(1000)):
            for each, whole in sound.items():
                (raw / each).write_bytes(content if each == name else whole)
            with refused(DamagedError, "fashion_mnist", tmp_path, name):
                load_data(f"fashion_mnist:{tmp_path}")
    (raw / "t10k-labels-idx1-ubyte").write_bytes(idx(np.arange(10, dtype=np.uint8)))  # whole, and of other images
    with refused(DamagedError, "fashion_mnist", tmp_path):
        load_data(f"fashion_mnist:{tmp_path}")
    debian = tmp_path / "debian"
    debian.mkdir()
    (debian / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(1000))[:-9])
    monkeypatch.setattr(published, "DEBIAN", debian)
    with refused(DamagedError, debian / "train-images-idx3-ubyte.gz"):
        load_data("fashion_mnist")


def test_folders_are_not_downloaded(tmp_path: Path) -> None:
    assert load_data(f"folder:{image_folder(tmp_path)}", download=True).num_classes == 2
