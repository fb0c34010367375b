"""Commands about networks and their weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from reslab import arguments, show
from reslab.commands.app import Flag, app
from reslab.errors import UserError, suggest
from reslab.progress import display

if TYPE_CHECKING:
    from reslab.networks.zoo import Description


@app.command
def models(name: str | None = None, /, *, diff: str | None = None, family: str | None = None, json: Flag = False, **options: str) -> None:
    """List every network, or show one as its paper's table would: `reslab models resnet50 --diff torchvision/resnet50`.

    Multiply-adds (MACs) are for one image of the paper's size.

    Parameters
    ----------
    name
        A network to show stage by stage.
    diff
        Another network: show where the two differ.
    family
        List only networks whose names begin so, such as resnet or regnet.
    json
        Print JSON.
    options
        Options of the network, such as `--depth 26` or `--stride-in 3x3`.
    """
    from reslab.networks import zoo
    from reslab.report.explorer import catalogue

    if name is not None:
        words = arguments.words(options)
        arguments.see_whose(words, models, zoo.options(name))
        show.show_network(name, diff, words, json)
        return
    if diff is not None or options:
        raise UserError("name a network to show or compare: reslab models resnet50 --diff torchvision/resnet50")
    known = list(dict.fromkeys(map(zoo.family, zoo.names())))
    if family is not None and family not in known:
        raise UserError(f"no family {family!r}{suggest(family, known)}")
    chosen = [name for name in zoo.names() if family in (None, zoo.family(name))]
    sides = {name: network["image"] for name, network in catalogue()["networks"].items()}
    descriptions = [_described(name, sides.get(name.removeprefix("lowlevel/"))) for name in chosen]
    if json:
        show.print_json([{**item._asdict(), "reference": item.reference._asdict()} for item in descriptions])
        return
    rows = [(d.name, f"{d.params:,}", f"{d.macs / 1e6:,.2f} M", "×".join(map(str, d.input))) for d in descriptions]
    show.print_table(("network", "parameters", "MACs", "input"), rows)
    print("Where these figures come from:")
    for source in dict.fromkeys(item.reference.source for item in descriptions):
        print(f"  {', '.join(item.name for item in descriptions if item.reference.source == source)}: {source}")
    print("Of any size, with the options named:")
    for name in zoo.families():
        print(f"  {name} {' '.join('--' + option.replace('_', '-') for option in zoo.required_options(name))}")


def _described(name: str, side: int | None) -> "Description":
    """Return a network's reference figures, which tests hold equal to what is measured; without its image's side, what is measured now."""
    from reslab.networks import zoo

    reference = zoo.reference(name)
    return zoo.describe(name) if side is None else zoo.Description(name, zoo.family(name), *reference[:2], (3, side, side), reference)


@app.command
def weights(
    file: Path | None = None,
    /,
    *,
    as_: Annotated[str | None, Parameter(name="--as")] = None,
    zero_pad: Literal["end", "centred"] | None = None,
    mean: str | None = None,
    std: str | None = None,
    out: Path | None = None,
    json: Flag = False,
    **options: str,
) -> None:
    """Take weights from any file into a network, say what was mapped, and write them as safetensors or ONNX; or list those that come with the lab.

    `reslab weights` · `reslab weights resnet20.th --as resnet20 --zero-pad centred --out resnet20.safetensors`

    Parameters
    ----------
    file
        safetensors, or a saved state dict (also nested, also with `module.` prefixes), or a run's directory. Without it, the list.
    as_
        The network that the weights are for; this lab's files say it themselves.
    zero_pad
        Where the file's option A puts its zero channels; its tensors cannot tell.
    mean
        Channel means that the network's images are prepared with, `0.5,0.5,0.5`: kept in the file written.
    std
        Channel standard deviations, likewise.
    out
        What to write: NAME.safetensors or NAME.onnx; without it, only the report is printed.
    json
        Print the report as JSON.
    options
        Options of the network, such as `--stride-in 3x3` or `--num-classes 100`.
    """
    from itertools import chain
    from math import isfinite

    from reslab.networks import zoo
    from reslab.runs import write_atomically
    from reslab.weights.files import read_weights, to_bytes
    from reslab.weights.onnx import to_onnx
    from reslab.weights.shipped import shipped
    from reslab.weights.untold import assumed

    if file is None:
        if as_ is not None or out is not None or options:
            raise UserError("name the file: reslab weights FILE --as NETWORK")
        found = [
            {"data": data, "model": model, "file": str(path), "bytes": path.stat().st_size, **read_weights(path).metadata["card"]}
            for (data, model), path in shipped().items()
        ]
        show.print_json(found) if json else show.print_shipped(found)
        return
    if out is not None and out.suffix not in (".safetensors", ".onnx"):
        raise UserError(f"--out must end in .safetensors or .onnx, got {out.name}")
    if out is not None and out.exists():
        raise UserError(f"{out} exists and is not overwritten; give another --out")
    if (mean is None) != (std is None):
        raise UserError("--mean and --std go together: give both or neither")
    if mean is not None and (out is None or out.suffix != ".safetensors"):
        raise UserError("--mean and --std are kept in a file that is written: add --out NAME.safetensors")
    prepared = {key: arguments.numbers(f"--{key}", text) for key, text in (("mean", mean), ("std", std)) if text is not None}
    if not all(map(isfinite, chain(*prepared.values()))) or min(prepared.get("std", [1])) <= 0:
        raise UserError(f"--mean {mean} --std {std}: expected finite numbers, and deviations over 0")
    read = read_weights(file)
    model = as_ or read.network
    if model is None:
        raise UserError(f"say which network the weights are for: reslab weights {file} --as NETWORK")
    typed = arguments.words(options)
    arguments.see_whose(typed, weights, zoo.options(model))
    words = {**read.options(model), **typed}
    network, fit = zoo.loaded(model, read, zero_pad, typed)
    if out is not None:
        arguments.make_writable(out.parent)
        channels, height, width = zoo.input_shape(network)
        kept = read.metadata.get("preprocessing", {})
        size = kept.get("size")
        content = (
            to_bytes(network, model, words, {**kept, **prepared})
            if out.suffix == ".safetensors"
            else to_onnx(network, (channels, size or height, size or width))  # this size, where the network takes one only
        )
        write_atomically(out, content)
    report = {
        "network": model,
        "tensors": len(fit.state),
        "renamed": fit.renamed,
        "notes": fit.notes,
        "assumed": assumed(network),
        "zero_pad": zero_pad,
        "out": str(out) if out else None,
    }
    show.print_json(report) if json else show.print_mapping(file, report)


@app.command
def ship(run: Path, /, *, out: Path = Path("weights"), json: Flag = False) -> None:
    """Make a small weights file to come with the lab, and its card, of a finished run: `reslab ship runs/train/RUN --out weights`.

    Kernels and matrices are rounded to float16; the card states the errors before and after.

    Parameters
    ----------
    run
        The run directory, as `reslab train` prints it.
    out
        Where to write DATA/MODEL.safetensors and DATA/MODEL.md, over nothing that is there.
    json
        Print what the card states as JSON.
    """
    from reslab import shipping

    with display() as progress:
        shipped = shipping.ship(run, out, progress)
    if json:
        show.print_json({"weights": str(shipped.weights), "card": str(shipped.card), **shipped.facts})
    else:
        test = shipped.facts["errors"]["test"]
        print(
            f"wrote {shipped.weights}\nwrote {shipped.card}\ntest error {100 * test['shipped']:.2f} % ({100 * test['trained']:.2f} % before rounding)"
        )


@app.command
def evaluate(
    model: str,
    /,
    *,
    weights: str,
    data: str = "digits",
    part: Literal["test", "heldout", "train"] = "test",
    view: Literal["single", "ten-crop", "multi-scale"] = "single",
    size: int | None = None,
    batchnorm: Literal["stored", "true-average"] = "stored",
    zero_pad: Literal["end", "centred"] | None = None,
    download: Flag = False,
    json: Flag = False,
    **options: str,
) -> None:
    """Measure trained weights: `reslab evaluate resnet20 --weights FILE --data folder:PATH`.

    Top-1 and top-5 error. Images are standardised as the weights' metadata say, else by the data's own training statistics.

    Parameters
    ----------
    model
        Name of the network.
    weights
        Its weights: any file that `reslab weights` reads, a word that it lists, such as digits, or torchvision for torchvision's.
    data
        As for `reslab train`.
    part
        Choices are made on heldout; test is read at the end.
    view
        single: shorter side 256, centre 224; ten-crop: corners and centre, mirrored too; multi-scale: whole images, shorter sides 224 to 640.
        Sizes are in proportion where the network's is not 224; single leaves images that have it as they are.
    size
        Side that the network sees (by default the one in the weights' metadata, else its paper's).
    batchnorm
        true-average: BatchNorm statistics from all training images, in place of the file's moving averages.
    zero_pad
        Where the file's option A puts its zero channels; only for files that are not this lab's.
    download
        Download the data set if it is not there.
    json
        Print the figures as JSON.
    options
        Options of the network, such as `--depth 26`.
    """
    from reslab.data import load_data
    from reslab.evaluation import evaluate_file
    from reslab.networks import zoo
    from reslab.weights.shipped import locate

    words = arguments.words(options)
    arguments.see_whose(words, evaluate, zoo.options(model))
    with display() as progress:
        dataset = load_data(data, download=download, progress=progress)
        average = batchnorm == "true-average"
        file = locate(weights, model)
        record = evaluate_file(
            model, file, dataset, part=part, view=view, size=size, average_batchnorm=average, zero_pad=zero_pad, options=words, progress=progress
        )
    show.print_json(record) if json else show.print_evaluation(record)
