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

from reslab.commands import printing, typed
from reslab.commands.app import Flag, app
from reslab.errors import Language, MismatchError, MissingError, Wording, worded
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
        raise MismatchError(*worded("speed-alone"))
    if speed:
        return _speed(json)
    if networks:
        return _networks(out, json)
    if out is not None:
        raise MissingError(*worded("out-of-networks"))
    findings, marks, language = [], {True: "✓", False: "✗", None: " "}, typed.language()
    for finding in examine():
        findings.append(finding)
        if not json:
            what, found = finding.what.said_in(language), finding.found.said_in(language)
            print(f"{marks[finding.fine]} {what}: {found}", flush=True)
    if json:
        printing.print_json(
            [{"what": each.what.english, "found": each.found.english, "fine": each.fine} for each in findings]
        )
    return 1 if any(finding.fine is False for finding in findings) else 0


WORDS: dict[Language, dict[str, str]] = {
    "ko": {
        "step": "resnet20의 학습 한 스텝, 이미지 {}장",
        "milliseconds": "밀리초",
        "precision": "정밀도",
        "layout": "메모리 배치",
        "threads": "스레드",
        "freed memory": "해제한 메모리",
        "kept": "쥐고 있음",
        "given back": "돌려줌",
        "auto": "정밀도 auto",
        "file": "기억해 둔 파일",
    },
    "en": {
        "step": "a training step of resnet20, {} images",
        "milliseconds": "milliseconds",
        "precision": "precision",
        "layout": "layout",
        "threads": "threads",
        "freed memory": "freed memory",
        "kept": "kept",
        "given back": "given back",
        "auto": "precision auto",
        "file": "kept in",
    },
}


def _speed(json: bool) -> int:
    """Measure what this machine does fastest, keep it, and print it with what `auto` now stands for."""
    from reslab.bench.choices import BATCH, measure
    from reslab.bench.timing import machine
    from reslab.cache import VARIABLE, user_cache
    from reslab.commands.bench import print_machine, print_markdown
    from reslab.training import speed
    from reslab.training.devices import best_device, best_precision

    device = best_device()
    typed.make_writable(user_cache(), VARIABLE)
    with display(quiet=json) as progress:
        found = measure(device, progress=progress)
    freed = {name: median(seconds) for name, seconds in found.freed_memory.items()}
    file = speed.keep(device, found.seconds(), freed)
    chosen, here = best_precision(device), machine() | {"device": device}
    medians = {
        what: {name: timing.median for name, timing in timings.items()}
        for what, timings in (("precision", found.precision), ("layout", found.layout), ("threads", found.threads))
    } | {"freed memory": freed}
    times = [(what, name, seconds) for what, each in medians.items() for name, seconds in each.items()]
    if json:
        printing.print_json(
            {
                "machine": here,
                f"seconds of {WORDS['en']['step'].format(BATCH)}": {
                    f"{what} {name}": seconds for what, name, seconds in times
                },
                "precision auto": f"{chosen.value}: {chosen.why.english}",
                "kept": str(file),
            }
        )
        return 0
    language = typed.language()
    said = WORDS[language]
    print_machine(here)
    print_markdown(
        (said["step"].format(BATCH), said["milliseconds"]),
        [(f"{said[what]}: {said.get(name, name)}", f"{1000 * seconds:.4g}") for what, name, seconds in times],
    )
    print(f"\n{said['auto']}: {chosen.value} ({chosen.why.said_in(language)})\n{said['file']}: {file}")
    return 0


def _networks(out: Path | None, json: bool) -> int:
    """View other libraries' networks. Exit code 1 if one ended in an error that is not reslab's."""
    missing = [module for module in ("timm", "transformers") if find_spec(module) is None]
    if missing:
        raise MissingError(*worded("networks-need", packages=", ".join(missing)))
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

    what: Wording
    found: Wording
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
    for package, release in releases.items():
        needed = stated.get(package)
        fine = needed.contains(release, prereleases=True) if needed else None
        found = Wording(f"{release}, and reslab needs {needed}", f"{release}, 필요한 버전: {needed}")
        yield Finding(_plain(package), found if needed else _plain(release), fine)
    for extra, packages in _extras().items():
        absent = ", ".join(package for package in packages if not _is_installed(package))
        advice = f"pip install 'reslab[{extra}]'"
        missing = Wording(f"missing: {absent}; {advice}", f"없는 패키지: {absent}. 설치: {advice}")
        found = missing if absent else Wording("installed", "설치됨")
        yield Finding(Wording(f"extra {extra}", f"추가 패키지 {extra}"), found)
    device = best_device()
    precision = best_precision(device)
    auto = Wording(*(f"{precision.value}: {why}" for why in precision.why))
    yield Finding(Wording("fastest device", "가장 빠른 장치"), _plain(device))
    yield Finding(Wording("precision there", "그 장치의 정밀도"), auto)
    yield Finding(Wording("threads", "스레드"), _plain(str(torch.get_num_threads())))
    try:
        found, fine = _plain(str(user_cache())), _writable()
    except MissingError as error:  # of a user without a home
        found, fine = Wording(str(error), error.korean or str(error)), False
    yield Finding(Wording("cache", "캐시"), found, fine)
    for what, check in CHECKS.items():
        yield Finding(what, *check())


def _plain(text: str) -> Wording:
    """Return names and figures, which are the same in both languages."""
    return Wording(text, text)


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


def _references() -> tuple[Wording, bool]:
    found = measure()
    worst = max(abs(found[key] - value) / abs(value) for key, value in REFERENCE.items())
    return Wording(f"off by {worst:.1e} of their size at most", f"상대 오차 최대 {worst:.1e}"), worst < 1e-9


def _repeats() -> tuple[Wording, bool]:
    same = measure() == measure()
    return Wording("they are", "같음") if same else Wording("they differ", "다름"), same


def _single() -> tuple[Wording, bool]:
    import torch

    network, images, _ = formula_network()
    with torch.no_grad():
        exact = network.eval()(images)
        single = network.float()(images.float())
    off = float((single - exact).abs().max() / exact.abs().max())
    return Wording(f"off by {off:.1e} of the largest", f"가장 큰 값의 {off:.1e}만큼 차이"), off < 1e-4


def _shipped() -> tuple[Wording, bool]:
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
    expected, count = round(card["errors"]["test"]["shipped"] * len(labels)), len(labels)
    found = Wording(
        f"{wrong} of {count} wrong, {expected} by its card", f"{count}장 가운데 {wrong}장 틀림, 카드에는 {expected}장"
    )
    return found, abs(wrong - expected) <= 1


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


CHECKS: dict[Wording, Callable[[], tuple[Wording, bool]]] = {
    Wording("references in float64", "float64 기준값"): _references,
    Wording("two runs agree bit for bit", "두 번 계산한 값이 비트까지 같은지"): _repeats,
    Wording("float32 against float64", "float32와 float64의 차이"): _single,
    Wording("a bundled network on the digits", "들어 있는 신경망으로 숫자 분류"): _shipped,
}
