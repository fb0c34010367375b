"""Damaged and senseless files: run directories, studies, weights, images. An answer, or one line that says what was wrong, with exit code 2."""

import contextlib
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_trial
from helpers_fuzz import elsewhere, enough, sizes, told, watchdog
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from PIL import Image
from safetensors.torch import save

from reslab import weightfiles, zoo
from reslab.analysis.torchvision_tour import torchvision_tour
from reslab.data import load_data
from reslab.errors import UserError
from reslab.exercises import sheets
from reslab.exercises.confinement import Ended

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(("digits", "../..", "\0", "<b>", "Infinity"))
)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=5)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where in a JSON value there is something: keys and indices from the outside in."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    return [path, *(place for key, part in inner for place in places(part, (*path, key)))]


@st.composite
def wrong_shape(draw: DrawFn, value: Any) -> bytes:
    """Draw a JSON text of the value with one of its parts, at any depth, exchanged for another, or taken out."""
    value = json.loads(json.dumps(value))
    *outer, last = draw(st.sampled_from([place for place in places(value) if place]))
    holder = value
    for key in outer:
        holder = holder[key]
    if draw(st.booleans()) and isinstance(holder, dict):
        del holder[last]
    else:
        holder[last] = draw(JSON)
    return json.dumps(value).encode()


@st.composite
def damaged(draw: DrawFn, content: bytes) -> bytes:
    """Draw what a disk or a transfer makes of a file."""
    kind = draw(st.sampled_from(("cut", "flipped", "doubled", "zeros", "other")))
    if kind == "flipped":
        changed = bytearray(content)
        for _ in range(draw(st.integers(1, 4))):
            changed[draw(st.integers(0, len(content) - 1))] ^= 1 << draw(st.integers(0, 7))
        return bytes(changed)
    at = draw(st.integers(0, len(content)))
    return {"cut": content[:at], "doubled": content[:at] + content, "zeros": content[:at] + bytes(len(content) - at), "other": b""}[kind] or draw(
        st.binary(max_size=64) | st.just(b"\xff\xfe{\0}\0") | st.text(max_size=16).map(lambda text: text.encode("utf-16"))
    )


# --- Weights ----------------------------------------------------------------------------------------------------------

NETWORK = ("cifar_resnet", {"depth": 8, "num_classes": 10, "in_channels": 1})
SOUND = zoo.build(NETWORK[0], **NETWORK[1]).state_dict()
FACTS = {
    "model": NETWORK[0],
    "options": NETWORK[1],
    "zero_pad": "end",
    "preprocessing": {"data": "digits", "mean": [0.3], "std": [0.4], "size": None},
}
DTYPES = (torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.float16, torch.bfloat16, torch.float64, torch.int64)


class Content(bytes):
    """A file's bytes, which Hypothesis need not print."""

    def __repr__(self) -> str:
        return f"{len(self):,} bytes {self[:40]!r}"


def saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return Content(file.getvalue())


def safe(state: dict[str, torch.Tensor], facts: Any = FACTS) -> bytes:
    text = facts if isinstance(facts, str) else json.dumps(facts)
    return Content(save({name: tensor.contiguous() for name, tensor in state.items()}, {"reslab": text}))


@st.composite
def states(draw: DrawFn) -> dict[str, torch.Tensor]:
    """Draw a state dict with some tensors of other kinds: another dtype, empty, of no dimensions, not finite, missing, under another name."""
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
            made = {"empty": torch.empty(0), "scalar": torch.tensor(1.0), "nan": torch.full_like(tensor, -1), "flat": tensor.flatten()}
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
        return saved({draw(st.sampled_from(("state_dict", "x"))): draw(states())})
    if kind == "facts":
        return save(SOUND, {"reslab": draw(wrong_shape(FACTS)).decode()})
    if kind == "text":
        return safe(SOUND, draw(st.text(max_size=20) | JSON.map(json.dumps) | st.just("[" * 100_000)))
    if kind == "header":  # a length of header, and a header, that promise what is not there
        header = draw(JSON.map(json.dumps) | st.just('{"x": {"dtype": "F32", "shape": [99999999999], "data_offsets": [0, 399999999996]}}')).encode()
        return struct.pack("<Q", draw(st.integers(0, 2**64 - 1) | st.just(len(header)))) + header
    tied: dict[str, Any] = {}
    tied["model"] = tied
    return saved(draw(JSON | st.sampled_from((tied, {0: torch.zeros(1)}, {"x": torch.zeros(2).to_sparse()}))))


@pytest.fixture
def _few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward passes over eight images and not over all: they are not what is tried."""
    digits = load_data("digits")
    few = {part: type(some)(some.images[:8], some.labels[:8]) for part, some in digits.parts.items()}
    monkeypatch.setattr("reslab.data.digits._digits", lambda: type(digits)(**{**vars(digits), "parts": few}))


@pytest.mark.usefixtures("_few_images")
@sizes(120, 600)
def test_weights_files(inputs: Any) -> None:
    @inputs
    @given(content=weights(), command=st.sampled_from(("read", "evaluate", "weights", "analyze")))
    def holds(content: bytes, command: str) -> None:
        with elsewhere() as here:
            file = here / "가중치.pt"
            file.write_bytes(content)
            if command == "read":
                network = zoo.build(NETWORK[0], **NETWORK[1])
                with watchdog(), contextlib.suppress(UserError):
                    weightfiles.load(network, weightfiles.read_weights(file), *NETWORK, "end")
            elif command == "weights":
                told("weights", file, "--as", "cifar_resnet", "--depth", "8", "--in-channels", "1", "--zero-pad", "end", "--out", "x.safetensors")
            elif command == "evaluate":
                told("evaluate", "cifar_resnet", "--depth", "8", "--weights", file, "--zero-pad", "end")
            else:
                told("analyze", "importance", "cifar_resnet", "--depth", "8", "--weights", file, "--zero-pad", "end", "--images", "2")

    holds()


# --- Run directories and studies --------------------------------------------------------------------------------------

STUDY = {
    "study": "degradation",
    "title": {"ko": "퇴화", "en": "Degradation"},
    "question": {"ko": "왜?", "en": "Why?"},
    "config": {"data": "digits", "seeds": 3, "depths": [20, 56]},
    "claims": [
        {
            "id": "degradation.deep",
            "kind": "statistical",
            "section": "degradation",
            "statement": {"ko": "가", "en": "a"},
            "source": "Table 2",
            "direction": "higher",
            "margin": 0.5,
            "unit": "points",
            "corrects": None,
            "verdict": "supported",
            "effect": 1.0,
            "interval": [0.6, 1.4],
            "level": 0.95,
            "n": 3,
            "method": "paired",
            "reason": "",
        }
    ],
    "tables": [{"title": {"ko": "표", "en": "table"}, "columns": ["a", "b"], "rows": [["x", 1.5]]}],
    "charts": [
        {
            "title": {"ko": "그림", "en": "chart"},
            "caption": {"ko": "볼 것", "en": "see"},
            "x": {"ko": "가로", "en": "x"},
            "y": {"ko": "세로", "en": "y"},
            "series": [{"name": "s", "x": [1.0, 2.0], "y": [0.1, 0.2], "spread": [0.0, 0.1], "text": None, "kind": None, "z": None}],
            "kind": "lines",
            "log_x": True,
            "bands": [{"name": {"ko": "띠", "en": "band"}, "first": 1.0, "last": 2.0}],
            "marks": [1.0],
        }
    ],
    "trials": [
        {"group": "plain-20", "directory": "trials/0", "seed": 0, "config": {}, "result": {"status": "finished", "params": 3, "train_error": 0.5}}
    ],
    "failures": [{"config": {"model": "resnet20", "options": {"depth": 20}, "seed": 1}, "reason": "out of memory"}],
}
TRIAL = {"config": tiny_trial().model_dump(mode="json"), "environment": {"python": "3.11", "packages": {"torch": "2.6"}}, "code": "0" * 16}
RESULT = {
    "status": "finished",
    "params": 3,
    "steps": 10,
    "train_error": 0.1,
    "train_loss": 0.1,
    "heldout_error": 0.2,
    "test_error": 0.3,
    "code": "0" * 16,
}
LINES = [{"epoch": 1.0, "step": 5, "train_error": 0.5, "train_loss": 1.0}, {"epoch": 2.0, "step": 10, "train_error": 0.4, "train_loss": 0.5}]
FILES: dict[str, Any] = {"study.json": STUDY, "trials/0/trial.json": TRIAL, "trials/0/result.json": RESULT, "trials/0/metrics.jsonl": LINES}


def text(name: str) -> bytes:
    value = FILES[name]
    return "".join(json.dumps(line) + "\n" for line in value).encode() if name.endswith("jsonl") else json.dumps(value).encode()


@st.composite
def changes(draw: DrawFn) -> dict[str, bytes | str]:
    """Draw the files of a study that are not as they were: their bytes, or what stands in their place."""
    found: dict[str, bytes | str] = {}
    for name in draw(st.lists(st.sampled_from(sorted(FILES)), min_size=1, max_size=2, unique=True)):
        kind = draw(st.sampled_from(("shape", "shape", "shape", "bytes", "directory", "loop", "none", "deep")))
        if kind == "shape":
            found[name] = draw(
                wrong_shape(FILES[name])
                if not name.endswith("jsonl")
                else st.lists(JSON, max_size=3).map(lambda lines: "\n".join(map(json.dumps, lines)).encode())
            )
        else:
            found[name] = {"bytes": lambda name=name: draw(damaged(text(name))), "deep": lambda: b"[" * 100_000}.get(kind, lambda kind=kind: kind)()
    return found


def write_study(root: Path, changed: dict[str, bytes | str]) -> None:
    for name in FILES:
        path, what = root / name, changed.get(name, text(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        if what == "directory":
            path.mkdir()
        elif what == "loop":
            with contextlib.suppress(OSError):  # Windows may not let everybody make links
                path.symlink_to(path.name)
        elif isinstance(what, bytes):
            path.write_bytes(what)


TOUR = torchvision_tour()


@pytest.fixture
def _page_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what is on every page and takes seconds: the explorer's networks, the tour, plotly's code, the font."""
    monkeypatch.setattr("reslab.report.explorer.catalogue", dict)
    monkeypatch.setattr("reslab.report.page.get_plotlyjs", str)
    monkeypatch.setattr("reslab.report.page.font_face", lambda page: "")
    monkeypatch.setattr("reslab.analysis.torchvision_tour.torchvision_tour", lambda: TOUR)
    monkeypatch.setattr("reslab.report.page.chapter", lambda anchors: None)
    monkeypatch.setattr("reslab.executors.run_trials", enough)
    monkeypatch.setattr("reslab.studies.study.run_trials", enough)
    monkeypatch.setattr("reslab.shipping.trained", enough)  # the weights have a test of their own


COMMANDS = {
    "report": ("report", "study", "--json"),
    "claims": ("claims", "study"),
    "claims as JSON": ("claims", "study", "--json"),
    "ship": ("ship", "study/trials/0"),
    "study": ("study", "degradation", "--out", "study"),
}


@pytest.mark.usefixtures("_page_alone")
@sizes(120, 600)
def test_study_directories(inputs: Any) -> None:
    @inputs
    @given(changed=changes(), command=st.sampled_from(sorted(COMMANDS)))
    def holds(changed: dict[str, bytes | str], command: str) -> None:
        with elsewhere() as here:
            write_study(here / "study", changed)
            told(*COMMANDS[command])

    holds()


# --- Answers to exercises ---------------------------------------------------------------------------------------------

ANSWERS = sheets.starter("01", "en").encode()
RECORD = {"language": "ko", "hints": {"1.1": 1}, "solutions": ["1.2"], "tasks": {"1.1": {"points": 1, "best": 2, "of": 3, "when": ""}}}


@pytest.fixture
def _no_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers would run in processes of their own, for seconds; there are tests of that."""
    monkeypatch.setattr("reslab.exercises.confinement.run", lambda _, tasks, **__: dict.fromkeys(tasks, Ended((), "stopped")))


@pytest.mark.usefixtures("_no_children")
@sizes(40, 200)
def test_answers_and_their_records(inputs: Any) -> None:
    code = (
        damaged(ANSWERS)
        | st.text(max_size=30).map(str.encode)
        | st.sampled_from((b"(" * 5000, b"x = " + b"-" * 50_000 + b"1", b"\0", b"\xff", ANSWERS))
    )
    record = wrong_shape(RECORD) | damaged(json.dumps(RECORD).encode()) | JSON.map(lambda value: json.dumps(value).encode()) | st.just(b"[" * 100_000)

    @inputs
    @given(
        code=code,
        record=record,
        command=st.sampled_from((("grade", "."), ("check", "01", "--dir", "."), ("list", "--dir", "."), ("hint", "1.1", "--dir", "."))),
    )
    def holds(code: bytes, record: bytes, command: tuple[str, ...]) -> None:
        with elsewhere() as here:
            (here / "01_gradient_analysis.py").write_bytes(code)
            (here / "progress.json").write_bytes(record)
            (here / "grades.jsonl").write_bytes(record + b"\n")
            told("exercise", *command)

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
    if kind == "bomb":  # a header that promises 10^10 pixels; Pillow's limit is 10^8 and a warning, twice that and an error
        side = draw(st.sampled_from((10_000, 12_000, 100_000)))
        body = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        packed = zlib.compress(bytes(1000))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (body, b"IDAT" + packed, b"IEND")
        )
    mode, size = draw(st.sampled_from(MODES)), draw(st.sampled_from(SIZES))
    image = Image.linear_gradient("L").resize(size).convert("RGB" if mode in ("P", "CMYK", "YCbCr") else "L").convert(mode)
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
            st.sampled_from((*sorted(files), "train/loose.png", "train/가/deep/er/x.png", "train/가/notes.txt", "train/new/x.jpg", "test/가/y.gif"))
        )
        files[place] = draw(pictures())
    return files


def plain(seed: int) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((8, 8)).rotate(90 * seed).save(file, "PNG")
    return file.getvalue()


@sizes(60, 300)
def test_folders_of_images(inputs: Any) -> None:
    @inputs
    @given(files=folders(), skip=st.booleans())
    def holds(files: dict[str, bytes], skip: bool) -> None:
        with elsewhere() as here:
            for place, content in files.items():
                path = here / "그림" / place
                with contextlib.suppress(OSError):  # a name that this system does not take, or a directory of the same name
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
