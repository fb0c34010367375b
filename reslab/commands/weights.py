"""`reslab weights`: loads a file's tensors into a network, or lists the bundled networks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from reslab.commands import printing, typed
from reslab.commands.app import Flag, app
from reslab.errors import ExistsError, Language, MismatchError, MissingError, WrongValueError, worded

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reslab.files import Json

WORDS: dict[Language, dict[str, str]] = {
    "ko": {
        "fits": "{file}, {network}: 맞는다. 텐서 {tensors}개, 이름을 바꾼 것 {renamed}개, 더한 것 {added}개, "
        "파일에서 버린 것 {dropped}개",
        "counts": "더함: 배치의 수를 세는 텐서 {}개 (0으로)",
        "added": "더함: {} (새로 초기화)",
        "dropped": "버림: {}",
        "converted": "변환한 텐서 {}개: {}",
        "centred": "0인 채널이 끝에 오도록 채널의 순서를 바꿈",
        "without": "뺀 블록: {}. {}",
        "parameters": "매개변수",
        "macs": "곱셈-누산 수",
        "assumed": "텐서만으로는 알 수 없어 가정한 것: {}",
        "wrote": "저장: {}",
        "network": "신경망",
        "data": "데이터",
        "error": "테스트 오류 (%)",
        "use": '쓰는 법: `reslab.build("resnet20", weights="digits")`, `reslab evaluate resnet20 --weights digits`. '
        "파일마다 옆에 설명 카드가 있다",
    },
    "en": {
        "fits": "{file} fits {network}: {tensors} tensors, {renamed} renamed, {added} added, {dropped} of the file's "
        "dropped",
        "counts": "added {} counts of batches, as 0",
        "added": "added {}, freshly drawn",
        "dropped": "dropped {}",
        "converted": "{} tensors converted from {}",
        "centred": "channels reordered so that the zeros are at the end",
        "without": "without {}: {}",
        "parameters": "parameters",
        "macs": "multiply-adds",
        "assumed": "assumed, as no tensor tells it: {}",
        "wrote": "wrote {}",
        "network": "network",
        "data": "data",
        "error": "test error (%)",
        "use": '`reslab.build("resnet20", weights="digits")`, `reslab evaluate resnet20 --weights digits`; a card is '
        "beside each file",
    },
}


@app.command
def weights(
    file: Path | None = None,
    /,
    *,
    as_: Annotated[str | None, Parameter(name="--as")] = None,
    zero_pad: Literal["end", "centred"] | None = None,
    head: Literal["fresh", "none"] | None = None,
    raw: Flag = False,
    mean: str | None = None,
    std: str | None = None,
    without: str | None = None,
    out: Path | None = None,
    json: Flag = False,
    **options: str,
) -> None:
    """Load weights from any file into a network, report what was mapped, and write them as safetensors or ONNX; or list
    the bundled weights.

    `reslab weights` · `reslab weights resnet20.th --as resnet20 --zero-pad centred --out resnet20.safetensors`

    Parameters
    ----------
    file
        safetensors, or a saved state dict (also nested, also with `module.` and other prefixes, also of other
        libraries' names), Keras' .h5, Detectron's .pkl, or the directory of a run. Without it, the list.
    as_
        The network that the weights are for; this lab's own files state it.
    zero_pad
        Where option A puts its zero channels in this file, which no tensor reveals.
    head
        A classifier in place of the file's, for weights trained without labels: fresh, or none, which leaves the
        features.
    raw
        If a file holds both weights and their average (EMA), use the weights; the default is the average.
    mean
        Channel means with which the network's images, from 0 to 1, are normalised, `0.5,0.5,0.5`: stored in the written
        file.
    std
        Channel standard deviations, likewise.
    without
        Blocks to remove, `layer2.1,layer3.4`: the network with their branches at 0, with fewer parameters and
        multiply-adds. A safetensors file records which, and other commands load it as the network without them.
    out
        File to write: NAME.safetensors or NAME.onnx; without it, only the report is printed.
    json
        Print the report as JSON.
    options
        Options of the network, such as `--stride-in 3x3` or `--num-classes 100`.
    """
    from itertools import chain
    from math import isfinite

    import torch

    from reslab.files import write_atomically
    from reslab.networks import zoo
    from reslab.networks.counting import count_params
    from reslab.subject import Subject
    from reslab.subject import without as taken_out
    from reslab.weights.files import read_weights, to_bytes
    from reslab.weights.onnx import to_onnx
    from reslab.weights.shipped import shipped
    from reslab.weights.untold import Asked, assumed

    if file is None:
        if options or raw or any(each is not None for each in (as_, zero_pad, head, mean, std, without, out)):
            raise MissingError(*worded("no-weights-given"))
        found = [
            {
                "data": data,
                "model": model,
                "file": str(path),
                "bytes": path.stat().st_size,
                **read_weights(path).metadata["card"],
            }
            for (data, model), path in shipped().items()
        ]
        printing.print_json(found) if json else print_shipped(found, typed.language())
        return
    if out is not None and out.suffix not in (".safetensors", ".onnx"):
        raise WrongValueError(*worded("no-kind-of-weights", name=out.name))
    if out is not None and out.exists():
        raise ExistsError(*worded("exists", path=out))
    if (mean is None) != (std is None):
        raise MismatchError(*worded("mean-and-std"))
    if mean is not None and (out is None or out.suffix != ".safetensors"):
        raise MismatchError(*worded("mean-without-out"))
    prepared = {
        key: typed.numbers(f"--{key}", text) for key, text in (("mean", mean), ("std", std)) if text is not None
    }
    if not all(map(isfinite, chain(*prepared.values()))) or min(prepared.get("std", [1])) <= 0:
        raise WrongValueError(*worded("mean-not-finite", mean=mean, std=std))
    if not all(0 <= value <= 1 for value in prepared.get("mean", [])):
        raise WrongValueError(*worded("mean-of-other-images", mean=mean))
    blocks = [] if without is None else [name.strip() for name in without.split(",")]
    read = read_weights(file)
    model = as_ or read.network
    if model is None:
        raise MissingError(*worded("weights-of-which", file=file))
    given = typed.words(options)
    typed.see_whose(given, weights, zoo.options(model))
    subject = Subject.of(model, read, given, asked=Asked(zero_pad, head, raw))
    network, fit = subject.network, subject.fit
    assert fit is not None
    channels, height, width = zoo.input_shape(network)
    for key, values in prepared.items():
        if len(values) != channels:
            raise MismatchError(*worded("a-number-a-channel", option=f"--{key}", count=len(values), channels=channels))
    image = torch.zeros(1, channels, height, width)
    written = taken_out(network, blocks) if blocks else network
    gone = [*read.without, *blocks]
    if out is not None:
        typed.make_writable(out.parent)
        kept = subject.preprocessing
        size = kept.get("size")
        content = (
            to_bytes(written, model, subject.options, {**kept, **prepared}, without=gone)
            if out.suffix == ".safetensors"
            # this size, where the network takes one only
            else to_onnx(written, (channels, size or height, size or width))
        )
        write_atomically(out, content)
    language: Language = "en" if json else typed.language()
    report = {
        "network": model,
        "tensors": len(fit.state),
        "renamed": fit.renamed,
        "dropped": fit.dropped,
        "added": fit.added,
        "converted": fit.converted,
        "options": subject.options,
        "preprocessing": {**subject.preprocessing, **prepared},
        "notes": fit.notes,
        "assumed": [words.said_in(language) for words in assumed(network)],
        "zero_pad": zero_pad,
        "without": gone,
        "parameters": {"network": count_params(network), "written": count_params(written)},
        "macs": {"network": _macs(network, image), "written": _macs(written, image)},
        "out": str(out) if out else None,
    }
    printing.print_json(report) if json else print_mapping(file, report, language)


def _macs(network: "nn.Module", image: "Tensor") -> int | None:
    """Return the multiply-adds for an image; None for a network that takes no image of this size."""
    from reslab.networks.counting import count_macs

    try:
        return count_macs(network, image)
    except Exception:  # whatever a forward raises
        return None


def print_mapping(file: Path, report: "Json", language: Language = "en") -> None:
    """Print which tensors of a file went where."""
    words, dropped, added = WORDS[language], report["dropped"], report["added"]
    print(
        words["fits"].format(
            file=file,
            network=report["network"],
            tensors=report["tensors"],
            renamed=len(report["renamed"]),
            added=len(added),
            dropped=len(dropped),
        )
    )
    for original, name in report["renamed"].items():
        print(f"  {original} -> {name}")
    counts = [name for name in added if name.endswith("num_batches_tracked")]
    if counts:
        print(f"  {words['counts'].format(len(counts))}")
    for name in added:
        if name not in counts:
            print(f"  {words['added'].format(name)}")
    for name in dropped:
        print(f"  {words['dropped'].format(name)}")
    for kinds, count in report["converted"].items():
        print(f"  {words['converted'].format(count, kinds)}")
    if report["zero_pad"] == "centred":
        print(f"  {words['centred']}")
    if report["without"]:
        counts = [
            f"{report[what]['network']:,} -> {report[what]['written']:,} {words[what]}"
            for what in ("parameters", "macs")
            if report[what]["network"] is not None
        ]
        print(words["without"].format(", ".join(report["without"]), ", ".join(counts)))
    print(words["assumed"].format(", ".join(report["assumed"])))
    if report["out"] is not None:
        print(words["wrote"].format(report["out"]))


def print_shipped(found: "list[Json]", language: Language = "en") -> None:
    """Print the bundled networks."""
    words = WORDS[language]
    columns = (words["network"], words["data"], words["parameters"], words["error"], "MB")
    rows = [
        (
            f["model"],
            f["data"],
            f"{f['params']:,}",
            f"{100 * f['errors']['test']['shipped']:.2f}",
            f"{f['bytes'] / 1e6:.1f}",
        )
        for f in found
    ]
    printing.print_table(columns, rows, words=columns[:2])
    print(words["use"])
