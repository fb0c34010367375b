"""The `reslab` command. Every command imports what it needs inside its function, so that help answers at once."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import cyclopts
from cyclopts import App, Parameter

from reslab import __version__, arguments, show
from reslab.errors import UserError

app = App(
    name="reslab",
    version=__version__,
    help="A laboratory for residual networks: build them, train them, and measure what is said about them.\n\n"
    "Start with `reslab study degradation`: it trains plain and residual networks on real digits in about two minutes.\n\n"
    "`--debug` after any command shows the traceback of an error.",
    help_format="markdown",
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # main says what was kept
)

Flag = Annotated[bool, Parameter(negative=())]


def main(typed: Sequence[str] | None = None) -> None:
    """Run the command line (`sys.argv` by default): exit code 0, or 2 for a mistake in what was asked, 1 for trials that failed, 130 for Ctrl-C."""
    words = list(sys.argv[1:] if typed is None else typed)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if hasattr(sys.stdout, "reconfigure"):  # a Windows console may not be UTF-8, and what it cannot show must not stop a run
        sys.stdout.reconfigure(errors="replace")
    try:
        sys.exit(app(words, exit_on_error=False, print_error=False))
    except cyclopts.CycloptsError as error:
        _complain(" ".join(str(error).split()), debug, error)
    except UserError as error:
        _complain(str(error), debug, error)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("reslab"):
            raise
        _complain(f"this command needs {error.name}; install it with: pip install 'reslab[lab]'", debug, error)
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept, and the same command goes on from there", file=sys.stderr)
        sys.exit(130)


def _complain(message: str, debug: bool, error: Exception) -> None:
    if debug:
        raise error
    print(f"reslab: {message}", file=sys.stderr)
    sys.exit(2)


@app.command
def models(name: str | None = None, /, *, diff: str | None = None, json: Flag = False, **options: str) -> None:
    """List every network, or show one as its paper's table would: `reslab models resnet50 --diff torchvision/resnet50`.

    Multiply-adds (MACs) are for one image of the paper's size.

    Parameters
    ----------
    name
        A network to show stage by stage.
    diff
        Another network: show where the two differ.
    json
        Print JSON.
    options
        Options of the network, such as `--depth 26` or `--stride-in 3x3`.
    """
    from reslab import zoo

    if name is not None:
        show.show_network(name, diff, arguments.words(options), json)
        return
    if diff is not None or options:
        raise UserError("name a network to show or compare: reslab models resnet50 --diff torchvision/resnet50")
    descriptions = [zoo.describe(name) for name in zoo.names()]
    if json:
        show.print_json([{**item._asdict(), "reference": item.reference._asdict()} for item in descriptions])
        return
    rows = [(d.name, f"{d.params:,}", f"{d.macs / 1e6:,.2f} M", "×".join(map(str, d.input))) for d in descriptions]
    show.print_table(("network", "parameters", "MACs", "input"), rows)
    print(f"Other depths: {', '.join(zoo.families())}, with --depth.")


@app.command
def train(
    model: str,
    /,
    *,
    data: str = "digits",
    recipe: str = "fast",
    epochs: int | None = None,
    seed: int = 0,
    threads: int = 1,
    set: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    out: Path = Path("runs/train"),
    download: Flag = False,
    json: Flag = False,
    **options: str,
) -> int:
    """Train one network: `reslab train resnet20`, `reslab train cifar_resnet --depth 26`.

    Interrupted, the same command goes on where it stopped; finished, it prints the result it has.

    Parameters
    ----------
    model
        Name of the network (see `reslab models`).
    data
        digits; cifar10, cifar10-jpeg75, cifar100 or fashion_mnist, also with a place: cifar10:ROOT; or folder:PATH, with images in
        PATH/train/CLASS and PATH/test/CLASS (folder:PATH?broken=skip leaves out what cannot be decoded).
    recipe
        How to train: fast, paper-cifar, paper-cifar-warmup, paper-imagenet.
    epochs
        Length in epochs, in place of the recipe's own.
    seed
        Seed of the initial weights and of the order of the images.
    threads
        CPU threads; part of the run's identity, as it changes sums.
    set
        A setting of the recipe: `--set learning_rate=0.01`, any number of times.
    out
        Where run directories are made, one a configuration.
    download
        Download the data set if it is not there.
    json
        Print the result as JSON.
    options
        Options of the network, such as `--depth 26`.
    """
    from pydantic import ValidationError

    from reslab import zoo
    from reslab.data import canonical, load_data
    from reslab.executors import run_trials
    from reslab.runs import Run
    from reslab.studies.study import one_line
    from reslab.training.loop import TrialConfig

    with show.steps() as steps:
        dataset = load_data(data, download=download, watch=steps)
    words = arguments.words(options)
    zoo.check(model, num_classes=dataset.num_classes, in_channels=dataset.in_channels, **words)
    try:
        settings = arguments.read_recipe(recipe, epochs, set)
        config = TrialConfig(model=model, options=words, data=canonical(data), recipe=settings, seed=seed, threads=threads)
    except ValidationError as error:
        raise UserError(one_line(error)) from error
    arguments.make_writable(out)
    with show.progress() as watch:
        failures = run_trials([config], out, 1, watch)
    if failures:
        raise UserError(failures[0].reason)
    run = Run(out, config)
    result = run.result()
    if json:
        show.print_json({"directory": str(run.path), "config": config.model_dump(mode="json"), "result": result})
    else:
        errors = ", ".join(f"{split} error {100 * result[f'{split}_error']:.2f} %" for split in ("train", "heldout", "test"))
        print(f"{model} on {data}, {result['status']} after {result['steps']} iterations in {result['seconds']:.0f} s: {errors}\n{run.path}")
    return 0


@app.command
def evaluate(
    model: str,
    /,
    *,
    weights: Path,
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
        Its weights: any file that `reslab weights` reads.
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

    if size is not None and size < 2:
        raise UserError(f"--size must be at least 2, got {size}")
    with show.steps() as steps:
        dataset = load_data(data, download=download, watch=steps)
        average = batchnorm == "true-average"
        words = arguments.words(options)
        record = evaluate_file(
            model, weights, dataset, part=part, view=view, size=size, average_batchnorm=average, zero_pad=zero_pad, options=words, watch=steps
        )
    show.print_json(record) if json else show.print_evaluation(record)


@app.command
def study(
    name: str,
    /,
    *,
    preset: str = "default",
    out: Path | None = None,
    fresh: Flag = False,
    workers: int | None = None,
    json: Flag = False,
    **settings: str,
) -> int:
    """Measure: train what is missing, decide the claims, write study.json and report.html.

    `reslab study degradation --data digits --seeds 5 --depths 20,56`. Run again, it trains only what is missing.

    Parameters
    ----------
    name
        The study: degradation.
    preset
        A set of settings: default, or smoke (seconds, to see that everything works).
    out
        The study's directory (by default `runs/NAME`).
    fresh
        Start over in a new directory beside the old one, which is kept.
    workers
        Trials at a time (by default as many as the cores allow); never changes a result.
    json
        Print study.json to standard output.
    settings
        Settings of the study: --data, --seeds, --recipe, --epochs, --threads, and its own, such as `--depths 20,56`.
    """
    from reslab import studies
    from reslab.executors import default_workers
    from reslab.report.page import summary_rows, write_report
    from reslab.studies.study import Directory, run_study

    chosen = studies.find(name)
    config = chosen.configure(preset, arguments.words(settings))
    if workers is not None and workers < 1:
        raise UserError(f"--workers must be at least 1, got {workers}")
    path = out or Path("runs") / name
    directory = Directory(arguments.unused(path) if fresh else path).prepare(chosen)
    with show.progress() as watch:
        finished = run_study(chosen, config, directory, workers or default_workers(config.threads), watch)
    report = write_report([directory.path], directory.path / "report.html")
    if finished.reused_from_other_code:
        print(f"warning: {finished.reused_from_other_code} results were made by other code than this; --fresh measures again", file=sys.stderr)
    for failure in finished.failures:
        print(f"failed: {failure.config.model} {failure.config.options} seed {failure.config.seed}: {failure.reason}", file=sys.stderr)
    if json:
        show.print_json(finished.record)
    else:
        show.print_study(finished.record, summary_rows(finished.record))
        print(f"Report: {report}")
    return 1 if finished.failures else 0


@app.command
def report(*directories: Path, out: Path = Path("report.html"), json: Flag = False) -> None:
    """Write one self-contained HTML page, Korean and English, about one or more studies.

    Parameters
    ----------
    directories
        Study directories (the --out of `reslab study`).
    out
        The page to write.
    json
        Print the path of the page as JSON.
    """
    from reslab.report.page import write_report

    if not directories:
        raise UserError("report needs at least one study directory: reslab report runs/degradation")
    arguments.make_writable(out.parent)
    page = write_report(directories, out)
    show.print_json({"report": str(page)}) if json else print(page)


@app.command
def claims(*directories: Path, json: Flag = False) -> None:
    """List the claims the lab tests, with their verdicts if study directories are given.

    Parameters
    ----------
    directories
        Study directories (the --out of `reslab study`); without any, the claims are listed undecided.
    json
        Print one JSON list.
    """
    from dataclasses import asdict

    from reslab import studies

    if directories:
        from reslab.report.page import read_study

        records = [claim for directory in directories for claim in read_study(directory)["claims"]]
    else:
        records = [asdict(claim) for name in studies.names() for claim in studies.find(name).claims]
    if json:
        show.print_json(records)
    else:
        show.print_claims(records)


@app.command
def weights(
    file: Path,
    /,
    *,
    as_: Annotated[str, Parameter(name="--as")],
    zero_pad: Literal["end", "centred"] | None = None,
    mean: str | None = None,
    std: str | None = None,
    out: Path | None = None,
    json: Flag = False,
    **options: str,
) -> None:
    """Take weights from any file into a network, say what was mapped, and write them as safetensors or ONNX.

    `reslab weights resnet20.th --as resnet20 --zero-pad centred --out resnet20.safetensors`

    Parameters
    ----------
    file
        safetensors, or a saved state dict (also nested, also with `module.` prefixes).
    as_
        The network that the weights are for.
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
    from reslab import weightfiles, zoo
    from reslab.runs import write_atomically

    if out is not None and out.suffix not in (".safetensors", ".onnx"):
        raise UserError(f"--out must end in .safetensors or .onnx, got {out.name}")
    if out is not None and out.exists():
        raise UserError(f"{out} exists and is not overwritten; give another --out")
    words = arguments.words(options)
    read = weightfiles.read_weights(file)
    network = zoo.build(as_, **words)
    weightfiles.load(network, read, as_, words, zero_pad)
    if out is not None:
        arguments.make_writable(out.parent)
        prepared = {key: arguments.numbers(f"--{key}", text) for key, text in (("mean", mean), ("std", std)) if text is not None}
        preprocessing = prepared or read.metadata.get("preprocessing")
        explicit = {**read.metadata.get("options", {}), **words}
        content = (
            weightfiles.to_bytes(network, as_, explicit, preprocessing)
            if out.suffix == ".safetensors"
            else weightfiles.to_onnx(network, zoo.input_shape(network))
        )
        write_atomically(out, content)
    report = {"network": as_, "tensors": len(read.state), "renamed": read.renamed, "zero_pad": zero_pad, "out": str(out) if out else None}
    show.print_json(report) if json else show.print_mapping(file, report)


@app.command
def bench(name: str, /, *, quick: Flag = False, json: Flag = False) -> None:
    """Measure what the lab claims about speed, as ratios in one run on this machine.

    Parameters
    ----------
    name
        What to measure: lowlevel (Level 2 against torchvision).
    quick
        Tiny sizes and one round, to see that it runs; its figures mean nothing.
    json
        Print the figures as JSON.
    """
    import pkgutil
    from importlib import import_module

    import reslab.bench
    from reslab.errors import suggest

    names = [info.name for info in pkgutil.iter_modules(reslab.bench.__path__) if info.name != "timing"]
    if name not in names:
        raise UserError(f"no benchmark {name!r}{suggest(name, names)}")
    module = import_module(f"reslab.bench.{name}")
    figures = module.bench(**(module.QUICK if quick else {}))
    show.print_json(figures) if json else show.print_bench(figures)
