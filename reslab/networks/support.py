"""The support matrix: which other libraries' networks can be viewed, and which analyses apply to them, a row per
network.

The networks are untrained, nothing is downloaded, and each is viewed in a separate process with limits of time and
memory.
"""

import contextlib
import json
import multiprocessing
import random
import re
import signal
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reslab.errors import DamagedError, UserError, worded
from reslab.gates.making import view
from reslab.networks import sources
from reslab.networks.meta import shapes_only

SECONDS, GIGABYTES = 300, 24
"""Limits for one network: of CPU time, which does not depend on other load, and of memory."""
HANGS = 10 * SECONDS
"""The limit of wall time, for a process that hangs or a system without such limits."""


@dataclass(frozen=True)
class Row:
    """The view of one network, or why there is none."""

    name: str  # as `reslab` takes it
    family: str
    blocks: int = 0
    kinds: str = ""  # of the blocks: "add 8, concat 2"
    chain: bool = False
    not_split: int = 0  # skips that no gate is on
    refusal: str = ""  # in one line
    traceback: bool = False  # whether it ended in an error that is not reslab's


def look(name: str) -> Row:
    """Return the row of one network, built small and untrained."""
    family = family_of(name)
    torch.manual_seed(0)
    random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        try:
            network, example = built(name)
        except Exception as error:
            return Row(name, family, refusal=f"not built: {_line(error)}")
        try:
            made = view(network.eval(), example)
        except UserError as error:
            return Row(name, family, refusal=_line(error, named=False))
        except Exception as error:
            return Row(name, family, refusal=_line(error), traceback=True)
    kinds = Counter(block.kind for block in made.blocks)
    said = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    return Row(name, family, len(made), said, made.is_chain, len(made.not_split))


def _line(error: Exception, named: bool = True) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if named else text


def family_of(name: str) -> str:
    """Return the family of a network: timm's module, Hugging Face's kind of model, or torchvision itself."""
    source, _, short = name.partition("/" if "/" in name else ":")
    if source == "timm":
        from timm.models import _registry

        return f"timm {_registry._model_to_module[short]}"
    return f"{'Hugging Face' if source == 'hf' else source} {short}"


# --- Which ------------------------------------------------------------------------------------------------------------


def names(kept: Path | None = None) -> list[str]:
    """Return the names of the networks in the matrix: for timm a small one per module, taken from the file `kept` if
    possible, as choosing takes a second each.
    """
    import timm
    from torchvision.models import list_models

    chosen = {row.family: row.name.removeprefix("timm/") for row in read(kept)}
    timms = [
        chosen.get(f"timm {module}") or _smallest(timm.list_models(module=module)) for module in timm.list_modules()
    ]
    torchvisions = sorted(list_models(), key=lambda name: name.startswith(DETECTORS))  # which take longest
    return [*(f"timm/{name}" for name in timms if name), *hugging(), *(f"torchvision/{name}" for name in torchvisions)]


SIZES = (
    "test",
    "zepto",
    "atto",
    "femto",
    "pico",
    "nano",
    "xxs",
    "xxt",
    "micro",
    "mini",
    "tiny",
    "_t",
    "xs",
    "small",
    "_s",
)
"""Words in the names of small networks, the smallest first."""


def _smallest(candidates: Sequence[str]) -> str:
    """Return the network with the fewest parameters among the five smallest by name; an empty string if none can be
    built.
    """

    def promised(name: str) -> tuple[int, int, str]:
        rank = next((place for place, word in enumerate(SIZES) if word in name), len(SIZES))
        numbers = [int(digits) for digits in re.findall(r"\d+", name)]
        return rank, min(numbers, default=0), name

    sizes: dict[str, int] = {}
    for name in sorted(candidates, key=promised)[:5]:
        try:
            with shapes_only(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                network = sources.timms(name, {})
        except Exception:
            continue
        sizes[name] = sum(parameter.numel() for parameter in network.parameters())
    return min(sizes, key=lambda name: sizes[name], default="")


def hugging() -> list[str]:
    """Return Hugging Face's kinds of image models: those that classify, and those that give features of images."""
    from transformers import AutoConfig
    from transformers.models.auto import modeling_auto

    classify = modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    others = [
        kind
        for kind in modeling_auto.MODEL_FOR_IMAGE_MAPPING_NAMES
        if kind not in classify and not hasattr(AutoConfig.for_model(kind), "text_config")
    ]
    left_out = {"dinat", "shieldgemma2", "timm_backbone", "timm_wrapper"}  # needs natten; a language model; timm's own
    return [f"hf:{kind}" for kind in sorted({*classify, *others} - left_out)]


# --- How they are built -----------------------------------------------------------------------------------------------


def built(name: str) -> tuple[nn.Module, Any]:
    """Return a network and an example that it takes, a batch of two."""
    if name.startswith("timm/"):
        network: nn.Module = sources.timms(name, {"depth": 2} if name.removeprefix("timm/").startswith(DEEP) else {})
        return network, torch.randn(2, *network.default_cfg["input_size"])  # type: ignore[index]  # timm is untyped
    if name.startswith("torchvision/"):
        short = name.removeprefix("torchvision/")
        small = {"min_size": 128, "max_size": 128} if short.startswith(RESIZING) else {}
        return sources.torchvisions_own(name, small), _torchvisions_example(short)
    return _huggings(name.removeprefix("hf:"))


DEEP = ("deepseek_vit", "gemma4_vit", "naflexvit", "qwen3_vit")
"""timm's whose smallest has hundreds of millions of parameters, in layers that are all equal."""
VIDEOS = ("mc3", "mvit", "r2plus1d", "r3d", "s3d", "swin3d")
LARGE = ("inception", "googlenet", "maxvit", "quantized_inception", "quantized_googlenet", "vit")
RESIZING = ("fasterrcnn", "fcos", "keypointrcnn", "maskrcnn", "retinanet")
DETECTORS = (*RESIZING, "ssd")


def _torchvisions_example(name: str) -> Any:
    """Return the smallest input of one of torchvision's networks."""
    if name.startswith(VIDEOS):
        size = 224 if name.startswith(("mvit", "s3d")) else 64
        return torch.randn(2, 3, 16, size, size)
    if name.startswith("raft"):
        return torch.randn(2, 3, 128, 128), torch.randn(2, 3, 128, 128)
    if name.startswith(DETECTORS):
        return [torch.rand(3, 96, 96), torch.rand(3, 96, 96)]
    size = 224 if name.startswith(LARGE) else 64
    return torch.randn(2, 3, size, size)


LAYERS = (
    "num_hidden_layers",
    "encoder_layers",
    "decoder_layers",
    "decoder_num_hidden_layers",
    "num_spatial_layers",
    "num_temporal_layers",
    "num_self_attends_per_block",
)
"""A config's names of the number of equal layers, of which two are enough."""


def _huggings(kind: str) -> tuple[nn.Module, Any]:
    """Return one of Hugging Face's networks of its default config, with two layers where all are equal."""
    from transformers import AutoConfig, AutoModel, AutoModelForImageClassification
    from transformers.models.auto import modeling_auto

    config = AutoConfig.for_model(kind)
    config.architectures = config.architectures or []
    vision = getattr(config, "vision_config", config)
    for key in LAYERS:
        if isinstance(getattr(vision, key, None), int) and not hasattr(vision, "depths"):
            setattr(vision, key, 2)
    if getattr(config, "use_pretrained_backbone", False):  # the weights of a part, which would be downloaded
        config.use_pretrained_backbone = False
    classifies = kind in modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    network = (AutoModelForImageClassification if classifies else AutoModel).from_config(config)
    network.config.use_cache = False  # of keys and values, for generating
    if network.main_input_name == "input_ids":
        return network, {"input_ids": torch.randint(100, (2, 64))}
    size, frames = getattr(vision, "image_size", None) or 224, getattr(vision, "num_frames", None)
    if kind == "depth_pro":
        size = config.patch_size * 4
    height, width = size if isinstance(size, list | tuple) else (size, size)
    of_frames = (frames,) if isinstance(frames, int) and kind in FILMS else ()
    shape = (2, *of_frames, getattr(vision, "num_channels", None) or 3, height, width)
    if kind == "siglip2":  # patches, which of them are none, and how many lie in a column and a row
        patches = torch.randn(2, 16, vision.num_channels * vision.patch_size**2)
        return network, {
            "pixel_values": patches,
            "pixel_attention_mask": torch.ones(2, 16, dtype=torch.int64),
            "spatial_shapes": torch.tensor([[4, 4], [4, 4]]),
        }
    return network, {network.main_input_name: torch.randn(shape)}


FILMS = ("timesformer", "videomae", "videoprism_vision_model", "vivit")
"""Hugging Face's kinds that take several images of one film."""


# --- One after another, in a separate process -----------------------------------------------------------------------


def read(kept: Path | None) -> list[Row]:
    """Return the rows in a file, a row per line; none if it is not there.

    Raises:
        UserError: if it holds something else.
    """
    if kept is None or not kept.exists():
        return []
    try:
        return [Row(**json.loads(line)) for line in kept.read_text(encoding="utf-8").splitlines()]
    except (ValueError, TypeError) as error:
        raise DamagedError(*worded("no-rows-of-networks", path=kept)) from error


def rows(wanted: Sequence[str], kept: Path | None = None) -> Iterator[Row]:
    """Yield the rows of these networks, in order; rows in the file `kept`, one per line, are reused, and new ones are
    added to it.
    """
    known = {row.name: row for row in read(kept)}
    worker = _Worker()
    try:
        for name in wanted:
            row = known.get(name) or worker.look(name)
            if kept is not None and name not in known:
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(row)) + "\n")
            yield row
    finally:
        worker.stop()


def markdown(found: Sequence[Row], left_out: Sequence[str] = ()) -> str:
    """Return the matrix as a page, with the number of networks viewed and, at its end, those still missing."""
    viewed, errors = sum(row.blocks > 0 for row in found), sum(row.traceback for row in found)
    lines = [*INTRODUCTION.splitlines(), ""]
    lines += [
        f"Looked at: {len(found)} of {len(found) + len(left_out)}. Viewed: {viewed}. Refused in one line: "
        f"{len(found) - viewed - errors}. Errors: {errors}."
    ]
    lines += ["", "| network | blocks | kinds | chain | not split |", "|---|---|---|---|---|"]
    lines += [line(row) for row in found if row.blocks]
    lines += ["", "Refused, in these words:", "", "| network | why |", "|---|---|"]
    lines += [line(row) for row in found if not row.blocks]
    if left_out:
        lines += ["", f"Not looked at yet, as the run was stopped before: {', '.join(left_out)}."]
    return "\n".join([*lines, ""])


def line(row: Row) -> str:
    """Return a network's line in the page."""
    if row.blocks:
        chain = "yes" if row.chain else "no"
        return f"| {row.name} | {row.blocks} | {row.kinds} | {chain} | {row.not_split or ''} |"
    why = re.sub(r"(/[^\s:()]*/)?site-packages/", "", row.refusal)  # where it is installed is this machine's own
    return f"| {row.name} | {'(an error) ' if row.traceback else ''}{why.replace('|', ' ')} |"


INTRODUCTION = """# Which networks can be viewed

Generated by `reslab doctor --networks --out docs/support-matrix.md`. The networks are untrained: all of
torchvision's, a small one from each of timm's modules, and Hugging Face's image models with their default configs.
Hugging Face's models, and timm's with hundreds of millions of parameters, have two layers where all are equal. Each
network is viewed on a batch of two, on which the view must equal the network bit for bit.

A network with a view can be analysed by `removal`, `random-removal` and `gradient-flow`, and by the analyses that need
no blocks; a chain also by `paths`, `sampled-paths` and `reorder`. "Not split" is the number of skips without a gate
(`view.not_split` has their places and reasons)."""


class _Worker:
    """A process that views networks, and is replaced when it takes too long or dies."""

    def __init__(self) -> None:
        self.process: Any = None

    def look(self, name: str) -> Row:
        if self.process is None or not self.process.is_alive():
            self._start()
        self.pipe.send(name)
        slow, why = True, f"not seen in {HANGS} seconds"
        try:
            if self.pipe.poll(HANGS):
                return Row(**self.pipe.recv())
        except (EOFError, ConnectionError):
            self.process.join()
            slow = self.process.exitcode == -getattr(signal, "SIGXCPU", 0)
            why = f"not seen in {SECONDS} seconds" if slow else "the process that looked at it died"
        self.stop()
        return Row(name, family_of(name), refusal=why, traceback=not slow)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, torch.get_num_threads(), SECONDS), daemon=True)
        self.process.start()
        theirs.close()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None


def _serve(pipe: Any, threads: int, seconds: int) -> None:
    """View the networks whose names arrive, until there are no more."""
    torch.set_num_threads(threads)
    while True:
        try:
            name = pipe.recv()
        except EOFError:
            return
        _limit(seconds)
        pipe.send(asdict(look(name)))


def _limit(seconds: int) -> None:
    """Have the system end this process if it exceeds the limits for one network."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such limits, macOS none that hold
        import resource

        for what, most in (
            (resource.RLIMIT_CPU, int(time.process_time()) + seconds),
            (resource.RLIMIT_AS, GIGABYTES << 30),
        ):
            resource.setrlimit(what, (most, resource.getrlimit(what)[1]))
