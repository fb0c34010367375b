"""`reslab doctor`: a description of this machine, and a check of its arithmetic against the lab's references.

The references come from a network whose weights and images are given by a formula, in float64, so that no random
generator is involved.
"""

import importlib.metadata
import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from reslab.commands import printing
from reslab.commands.app import Flag, app
from reslab.errors import MismatchError, MissingError
from reslab.files import write_atomically
from reslab.progress import display

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    from torch import Tensor, nn


@app.command
def doctor(*, speed: Flag = False, networks: Flag = False, out: Path | None = None, json: Flag = False) -> int:
    """Describe this machine and check its arithmetic against the lab's references. Exit code 1 if a check fails.

    Parameters
    ----------
    speed
        Instead, measure for up to a minute what this machine does fastest (precision, layout of images, threads, what
        becomes of freed memory), and keep it: `--precision auto` and the speedrun then choose by it.
    networks
        Instead, view every network of torchvision, timm and Hugging Face that can be built without a download, and list
        its blocks. This takes hours. With --out, an interrupted run leaves a page that says what is missing, and the
        same command resumes it.
    out
        With --networks: the Markdown file to write.
    json
        Print the findings as JSON.
    """
    if speed and (networks or out is not None):
        raise MismatchError("--speed measures this machine alone; give it without --networks and --out")
    if speed:
        return _speed(json)
    if networks:
        return _networks(out, json)
    if out is not None:
        raise MissingError("--out names the page that --networks writes; add --networks")
    findings, marks = [], {True: "✓", False: "✗", None: " "}
    for finding in examine():
        findings.append(finding)
        if not json:
            print(f"{marks[finding.fine]} {finding.what}: {finding.found}", flush=True)
    if json:
        printing.print_json([asdict(finding) for finding in findings])
    return 1 if any(finding.fine is False for finding in findings) else 0


def _speed(json: bool) -> int:
    """Measure what this machine does fastest, keep it, and print it with what `auto` now stands for."""
    from reslab.bench.choices import BATCH, measure
    from reslab.bench.timing import machine
    from reslab.commands.bench import print_bench
    from reslab.training import speed
    from reslab.training.devices import best_device, best_precision

    device = best_device()
    with display(quiet=json) as progress:
        found = measure(device, progress=progress)
    freed = {name: median(seconds) for name, seconds in found.freed_memory.items()}
    file = speed.keep(device, found.seconds(), freed)
    chosen = best_precision(device)
    times = {
        f"seconds of a training step of resnet20, {BATCH} images": {
            f"{what} {name}": timing.median
            for what, timings in (("precision", found.precision), ("layout", found.layout), ("threads", found.threads))
            for name, timing in timings.items()
        }
        | {f"freed memory {name}": seconds for name, seconds in freed.items()},
        "precision auto": f"{chosen.value}: {chosen.why}",
        "kept": str(file),
    }
    figures = {"machine": machine() | {"device": device}, **times}
    printing.print_json(figures) if json else print_bench(figures)
    return 0


def _networks(out: Path | None, json: bool) -> int:
    """View other libraries' networks. Exit code 1 if one ended in an error that is not reslab's."""
    missing = [module for module in ("timm", "transformers") if find_spec(module) is None]
    if missing:
        raise MissingError(f"--networks needs {' and '.join(missing)}; install them with: pip install 'reslab[zoo,hf]'")
    from reslab.networks import support

    kept = None if out is None else out.with_suffix(".jsonl")
    names = support.names(kept)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
    found = []
    try:
        with display(quiet=json) as progress:
            for row in support.rows(names, kept):
                found.append(row)
                progress("networks", len(found), len(names), row.name)
        if kept is not None:
            kept.unlink()
    finally:
        if out is not None and found:
            write_atomically(out, support.markdown(found, names[len(found) :]))
    if json:
        printing.print_json([asdict(row) for row in found])
    elif out is None:
        print(support.markdown(found), end="")
    return 1 if any(row.traceback for row in found) else 0


FOR_DEVELOPERS = ("docs", "dev")
"""Extras that are not the doctor's business."""

REFERENCE = {"loss": 2.3733988200915106, "gradient": 3.697585279500928, "trained": 2.1346208123639965}
"""Of `formula_network`: the loss of one batch, the L2 norm of its gradient, and the loss after three steps of SGD at
rate 0.01.
"""


@dataclass(frozen=True)
class Finding:
    """A finding about this machine, and whether it is as expected (None if nothing is expected)."""

    what: str
    found: str
    fine: bool | None = None


def examine() -> Iterator[Finding]:
    """Yield findings about this machine, the quick ones first."""
    import torch

    from reslab.cache import user_cache
    from reslab.training.devices import best_device, best_precision

    stated = _stated()
    releases = {
        "Python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in ("torch", "torchvision")},
    }
    for what, release in releases.items():
        needed = stated.get(what)
        fine = needed.contains(release, prereleases=True) if needed else None
        yield Finding(what, f"{release}, and reslab needs {needed}" if needed else release, fine)
    for extra, packages in _extras().items():
        absent = [package for package in packages if not _is_installed(package)]
        yield Finding(
            f"extra {extra}", f"missing: {', '.join(absent)}; pip install 'reslab[{extra}]'" if absent else "installed"
        )
    device = best_device()
    precision = best_precision(device)
    yield Finding("fastest device", device)
    yield Finding("precision there", f"{precision.value}: {precision.why}")
    yield Finding("threads", str(torch.get_num_threads()))
    yield Finding("cache", str(user_cache()), _writable())
    for what, check in CHECKS.items():
        yield check(what)


def _stated() -> "dict[str, SpecifierSet]":
    """Return the releases that reslab's metadata allow, by package; empty if reslab is not installed."""
    from packaging.specifiers import SpecifierSet

    if not _is_installed("reslab"):
        return {}
    return {
        "Python": SpecifierSet(importlib.metadata.metadata("reslab")["Requires-Python"]),
        **{requirement.name: requirement.specifier for requirement in _requirements()},
    }


def _extras() -> dict[str, list[str]]:
    """Return the packages that each of reslab's extras for users asks for, by its metadata."""
    of_extras: dict[str, list[str]] = {}
    for requirement in _requirements():
        found = re.search(r"extra == ['\"](\w+)", str(requirement.marker))
        if found and found[1] not in FOR_DEVELOPERS:
            of_extras.setdefault(found[1], []).append(requirement.name)
    return of_extras


def _requirements() -> "list[Requirement]":
    """Return what reslab's metadata ask for; nothing if it is not installed."""
    from packaging.requirements import Requirement

    stated = importlib.metadata.metadata("reslab").get_all("Requires-Dist") if _is_installed("reslab") else None
    return [Requirement(each) for each in stated or []]


def _is_installed(package: str) -> bool:
    """Return whether a distribution is installed, or another with its module, such as `onnxruntime-gpu`."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return find_spec(package.replace("-", "_")) is not None
    return True


def formula_network() -> "tuple[nn.Module, Tensor, Tensor]":
    """Return resnet8 in float64 with weights, images `[8, 1, 8, 8]` and labels that are given by a formula."""
    import torch

    from reslab.networks import zoo

    network = zoo.build("cifar_resnet", depth=8, num_classes=10, in_channels=1).double()
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters(), start=1):
            wave = torch.sin(number + 0.7 * torch.arange(parameter.numel(), dtype=torch.float64)).reshape(
                parameter.shape
            )
            parameter.copy_(wave / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 1 + 0.1 * wave)
    images = torch.cos(0.3 * torch.arange(8 * 64, dtype=torch.float64)).reshape(8, 1, 8, 8)
    return network, images, torch.arange(8)


def measure() -> dict[str, float]:
    """Return the values of `REFERENCE`, as computed on this machine."""
    import torch
    import torch.nn.functional as F

    network, images, labels = formula_network()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    figures: dict[str, float] = {}
    for step in range(4):
        optimiser.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        if step == 0:
            norms = [parameter.grad.norm() for parameter in network.parameters() if parameter.grad is not None]
            figures = {"loss": loss.item(), "gradient": torch.stack(norms).norm().item()}
        optimiser.step()
    return {**figures, "trained": loss.item()}


def _references(what: str) -> Finding:
    found = measure()
    worst = max(abs(found[key] - value) / abs(value) for key, value in REFERENCE.items())
    return Finding(what, f"off by {worst:.1e} of their size at most", worst < 1e-9)


def _repeats(what: str) -> Finding:
    same = measure() == measure()
    return Finding(what, "they are" if same else "they differ", same)


def _single(what: str) -> Finding:
    import torch

    network, images, _ = formula_network()
    with torch.no_grad():
        exact = network.eval()(images)
        single = network.float()(images.float())
    off = float((single - exact).abs().max() / exact.abs().max())
    return Finding(what, f"off by {off:.1e} of the largest", off < 1e-4)


def _shipped(what: str) -> Finding:
    import torch

    from reslab.data import load_data
    from reslab.networks import zoo
    from reslab.weights.files import read_weights
    from reslab.weights.shipped import locate

    network = zoo.build("resnet20", weights="digits").eval()
    images, labels = load_data("digits").test
    with torch.no_grad():
        wrong = int((network(images).argmax(1) != labels).sum())
    card = read_weights(locate("digits", "resnet20")).metadata["card"]
    expected = round(card["errors"]["test"]["shipped"] * len(labels))
    return Finding(what, f"{wrong} of {len(labels)} wrong, {expected} by its card", abs(wrong - expected) <= 1)


def _writable() -> bool:
    from reslab.cache import user_cache

    try:
        user_cache().mkdir(parents=True, exist_ok=True)
        probe = user_cache() / ".probe"
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


CHECKS: dict[str, Callable[[str], Finding]] = {
    "references in float64": _references,
    "two runs agree bit for bit": _repeats,
    "float32 against float64": _single,
    "a bundled network on the digits": _shipped,
}
