"""Damaged and senseless weights and images: an answer, or one line that says what was wrong, with exit code 2."""

import contextlib
import io
import json
import struct
import warnings
import zlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers_fuzz import JSON, Content, damaged, elsewhere, sizes, told, watchdog, wrong_shape
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from PIL import Image
from safetensors.torch import save

from reslab.data import load_data
from reslab.errors import UserError
from reslab.networks import zoo
from reslab.weights.files import read_weights
from reslab.weights.untold import Asked, load

# --- Weights ----------------------------------------------------------------------------------------------------------

NETWORK = ("cifar_resnet", {"depth": 8, "num_classes": 10, "in_channels": 1})
SOUND = zoo.build(NETWORK[0], **NETWORK[1]).state_dict()
FACTS = {
    "model": NETWORK[0],
    "options": NETWORK[1],
    "zero_pad": "end",
    "preprocessing": {"data": "digits", "mean": [0.3], "std": [0.4], "size": None, "classes": list("0123456789")},
}
DTYPES = (
    torch.int8,
    torch.bool,
    torch.complex64,
    torch.float8_e4m3fn,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.int64,
)


def saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return Content(file.getvalue())


def safe(state: dict[str, torch.Tensor], facts: Any = FACTS) -> bytes:
    text = facts if isinstance(facts, str) else json.dumps(facts)
    return Content(save({name: tensor.contiguous() for name, tensor in state.items()}, {"reslab": text}))


def tied() -> dict[str, Any]:
    """Return a mapping that holds itself."""
    knot: dict[str, Any] = {}
    knot["model"] = knot
    return knot


@st.composite
def states(draw: DrawFn) -> dict[str, torch.Tensor]:
    """Draw a state dict with some tensors of other kinds: another dtype, empty, of no dimensions, not finite, missing,
    under another name.
    """
    state = dict(SOUND)
    for name in draw(st.lists(st.sampled_from(sorted(state)), min_size=1, max_size=3, unique=True)):
        tensor = state[name]
        change = draw(st.sampled_from(("dtype", "all", "empty", "scalar", "nan", "missing", "renamed", "flat")))
        if change == "dtype":
            state[name] = tensor.to(draw(st.sampled_from(DTYPES)))
        elif change == "all":
            dtype = draw(st.sampled_from(DTYPES))
            return {each: value.to(dtype) for each, value in state.items()}
        elif change == "renamed":
            state[draw(st.text(max_size=8))] = state.pop(name)
        elif change == "missing":
            del state[name]
        else:
            made = {
                "empty": torch.empty(0),
                "scalar": torch.tensor(1.0),
                "nan": torch.full_like(tensor, -1),
                "flat": tensor.flatten(),
            }
            state[name] = made[change]
    return state


@st.composite
def weights(draw: DrawFn) -> bytes:
    """Draw the content of a weights file."""
    return Content(draw(_weights()))


@st.composite
def _weights(draw: DrawFn) -> bytes:
    kind = draw(st.sampled_from(("damaged", "state", "pickled state", "facts", "text", "header", "object")))
    if kind == "damaged":
        return draw(damaged(draw(st.sampled_from((safe(SOUND), saved(SOUND))))))
    if kind == "state":
        return safe(draw(states()), draw(st.sampled_from((FACTS, {}))))
    if kind == "pickled state":
        places = draw(
            st.lists(st.sampled_from(("state_dict", "model", "model_ema", "x")), min_size=1, max_size=2, unique=True)
        )
        prefix = draw(st.sampled_from(("", "module.", "_orig_mod.module.")))
        return saved({place: {prefix + name: tensor for name, tensor in draw(states()).items()} for place in places})
    if kind == "facts":
        return save(SOUND, {"reslab": draw(wrong_shape(FACTS)).decode()})
    if kind == "text":
        return safe(SOUND, draw(st.text(max_size=20) | JSON.map(json.dumps) | st.just("[" * 100_000)))
    if kind == "header":  # a length of header, and a header, that promise what is not there
        header = draw(
            JSON.map(json.dumps)
            | st.just('{"x": {"dtype": "F32", "shape": [99999999999], "data_offsets": [0, 399999999996]}}')
        ).encode()
        return struct.pack("<Q", draw(st.integers(0, 2**64 - 1) | st.just(len(header)))) + header
    return saved(draw(JSON | st.sampled_from((tied(), {0: torch.zeros(1)}, {"x": torch.zeros(2).to_sparse()}))))


@pytest.fixture
def _few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward passes over eight images and not over all: they are not what is tried."""
    digits = load_data("digits")
    few = {part: type(some)(some.images[:8], some.labels[:8]) for part, some in digits.parts.items()}
    monkeypatch.setattr("reslab.data.digits._digits", lambda: replace(digits, parts=few))


@pytest.mark.usefixtures("_few_images")
@sizes(8, 300)
def test_weights_files(inputs: Any) -> None:
    @inputs
    @given(content=weights(), command=st.sampled_from(("read", "evaluate", "weights", "analyze")))
    # metadata that are no JSON, no facts, too deep, or half there
    @example(content=safe(SOUND, "["), command="evaluate")
    @example(content=safe(SOUND, "[]"), command="evaluate")
    @example(content=Content(safe(SOUND, "[" * 100_000)), command="read")
    @example(content=safe(SOUND, {"model": NETWORK[0]}), command="evaluate")
    @example(content=safe(SOUND, {**FACTS, "preprocessing": {"mean": ["0.3"], "std": [0]}}), command="evaluate")
    @example(content=safe(SOUND, {**FACTS, "preprocessing": {"size": 10**9}}), command="evaluate")
    @example(content=safe(SOUND, {**FACTS, "preprocessing": {"classes": "0123456789"}}), command="evaluate")
    @example(content=safe(SOUND, {**FACTS, "preprocessing": {"classes": [0]}}), command="analyze")
    @example(content=safe(SOUND, {**FACTS, "options": {"weights": "x"}}), command="evaluate")
    @example(content=safe(SOUND, {**FACTS, "options": {"depth": 6 * 10**9 + 2}}), command="evaluate")
    # quantised weights were taken as they are
    @example(content=safe({name: value.to(torch.int8) for name, value in SOUND.items()}), command="read")
    @example(content=safe({name: value.to(torch.float8_e4m3fn) for name, value in SOUND.items()}), command="read")
    @example(content=saved(tied()), command="read")  # it looked inside forever
    @example(content=saved({0: torch.zeros(1)}), command="weights")
    @example(content=saved({"module.x": torch.zeros(1), "x": torch.zeros(1)}), command="weights")
    def holds(content: bytes, command: str) -> None:
        with elsewhere() as here:
            file = here / "가중치.pt"
            file.write_bytes(content)
            if command == "read":
                network = zoo.build(NETWORK[0], **NETWORK[1])
                with watchdog(), contextlib.suppress(UserError), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of what was left out or chosen
                    load(network, read_weights(file), *NETWORK, Asked("end"))
            elif command == "weights":
                told(
                    "weights",
                    file,
                    "--as",
                    "cifar_resnet",
                    "--depth",
                    "8",
                    "--in-channels",
                    "1",
                    "--zero-pad",
                    "end",
                    "--out",
                    "x.safetensors",
                )
            elif command == "evaluate":
                told("evaluate", "cifar_resnet", "--depth", "8", "--weights", file, "--zero-pad", "end")
            else:
                told(
                    "analyze",
                    "importance",
                    "cifar_resnet",
                    "--depth",
                    "8",
                    "--weights",
                    file,
                    "--zero-pad",
                    "end",
                    "--images",
                    "2",
                )

    holds()


# --- Folders of images ------------------------------------------------------------------------------------------------

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F")
SIZES = ((1, 1), (1, 700), (700, 1), (8, 8), (9, 7))


@st.composite
def pictures(draw: DrawFn) -> bytes:
    """Draw an image file of any mode, size and format, or the bytes of something else."""
    kind = draw(st.sampled_from(("image", "image", "animated", "damaged", "empty", "text", "bomb")))
    if kind in ("empty", "text"):
        return draw(st.binary(max_size=40)) if kind == "text" else b""
    # a header that promises 10^10 pixels; Pillow's limit is 10^8 and a warning, twice that and an error
    if kind == "bomb":
        side = draw(st.sampled_from((10_000, 12_000, 100_000)))
        body = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        packed = zlib.compress(bytes(1000))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
            for part in (body, b"IDAT" + packed, b"IEND")
        )
    mode, size = draw(st.sampled_from(MODES)), draw(st.sampled_from(SIZES))
    image = (
        Image.linear_gradient("L").resize(size).convert("RGB" if mode in ("P", "CMYK", "YCbCr") else "L").convert(mode)
    )
    file = io.BytesIO()
    if kind == "animated":
        image.convert("L").save(file, "GIF", save_all=True, append_images=[Image.new("L", size, 255)])
    else:
        image.save(file, "TIFF" if mode in ("CMYK", "YCbCr", "F", "I") else draw(st.sampled_from(("PNG", "TIFF"))))
    return draw(damaged(Content(file.getvalue()))) if kind == "damaged" else file.getvalue()


@st.composite
def folders(draw: DrawFn) -> dict[str, bytes]:
    """Draw the files of a folder of images by their path: mostly a sound layout, with something wrong somewhere."""
    names = draw(st.sampled_from((["가", "b c"], ["a"], [], ["train", ".hidden"], ["\udcff", "b"])))
    parts = draw(st.sampled_from((["train", "test"], ["train", "val"], ["train"], ["test"], ["Train", "test"])))
    files = {f"{part}/{name}/{number}.png": plain(number) for part in parts for name in names for number in range(3)}
    for _ in range(draw(st.integers(1, 3))):
        place = draw(
            st.sampled_from(
                (
                    *sorted(files),
                    "train/loose.png",
                    "train/가/deep/er/x.png",
                    "train/가/notes.txt",
                    "train/new/x.jpg",
                    "test/가/y.gif",
                )
            )
        )
        files[place] = draw(pictures())
    return files


def plain(seed: int) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((8, 8)).rotate(90 * seed).save(file, "PNG")
    return file.getvalue()


@sizes(6, 150)
def test_folders_of_images(inputs: Any) -> None:
    @inputs
    @given(files=folders(), skip=st.booleans())
    def holds(files: dict[str, bytes], skip: bool) -> None:
        with elsewhere() as here:
            for place, content in files.items():
                path = here / "그림" / place
                # a name that this system does not take, or a directory of the same name
                with contextlib.suppress(OSError):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
            (here / "w.safetensors").write_bytes(safe(SOUND))
            told(
                "evaluate",
                "cifar_resnet",
                "--depth",
                "8",
                "--weights",
                "w.safetensors",
                "--data",
                "folder:그림" + "?broken=skip" * skip,
                "--size",
                "8",
            )

    holds()
