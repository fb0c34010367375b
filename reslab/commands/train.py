"""`reslab train`: one network, its recipe, its run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from reslab.commands import printing, typed
from reslab.commands.app import Flag, Seed, Threads, app
from reslab.errors import MissingError, UserError, WrongValueError
from reslab.progress import display

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from reslab.data import Dataset
    from reslab.files import Json
    from reslab.training.loop import TrialConfig
    from reslab.training.start import Start


@app.command
def train(
    model: str,
    /,
    *,
    data: str = "digits",
    recipe: str = "fast",
    epochs: int | None = None,
    seed: Seed = 0,
    threads: Threads = 1,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "32", "bf16", "16"] = "auto",
    devices: Threads = 1,
    strategy: Literal["ddp"] = "ddp",
    compile: Flag = False,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    zero_pad: Literal["end", "centred"] | None = None,
    set: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    out: Path = Path("runs/train"),
    download: Flag = False,
    json: Flag = False,
    **options: str,
) -> int:
    """Train one network: `reslab train resnet20`, `reslab train cifar_resnet --depth 26`.

    Kill it at any time: the same command resumes. Once finished, it prints the existing result.

    Parameters
    ----------
    model
        Name of the network (see `reslab models`).
    data
        digits; cifar10, cifar10-jpeg75, cifar100 or fashion_mnist, also with a path: cifar10:ROOT; or folder:PATH, with
        images in PATH/train/CLASS and PATH/test/CLASS (folder:PATH?broken=skip skips images that cannot be decoded).
    recipe
        How to train: fast (7 epochs on the digits, 16 on larger data), paper-cifar, paper-cifar-warmup, paper-imagenet.
    epochs
        Length in epochs (default: the recipe's own).
    seed
        Seed of the initial weights and of the order of the images.
    threads
        CPU threads; part of the run's identity, because it changes the order of sums.
    device
        Where to train; auto chooses the fastest device available.
    precision
        Precision of convolutions and matrix products; auto chooses the fastest that the device supports natively. The
        result records the choice and the reason.
    devices
        Processes that share each batch, each with its own device (and `threads` threads): on one machine, or started by
        torchrun on several.
    strategy
        How they share: ddp (gradients averaged, BatchNorm normalising each share by itself).
    compile
        Use torch.compile: it costs minutes at the start and pays off in longer runs on some hardware. Needs a C++
        compiler.
    from_
        Fine-tune existing weights with a new classifier: a file, a word that `reslab weights` lists, or another
        library's trained weights by name, as for `reslab evaluate`. Their content is part of the run's identity.
    zero_pad
        Where option A puts its zero channels in that file; only for files from elsewhere.
    set
        A setting of the recipe: `--set learning_rate=0.01`; repeatable.
    out
        Where run directories are made, one per configuration.
    download
        Download the data set if it is missing.
    json
        Print the result as JSON.
    options
        Options of the network, such as `--depth 26`.
    """
    from pydantic import ValidationError

    from reslab.data import canonical, load_data
    from reslab.executors import build_network, data_for, loaded, run_trials
    from reslab.files import one_line
    from reslab.networks import zoo
    from reslab.runs import Run
    from reslab.training.devices import best_device, best_precision, check, is_main_process
    from reslab.training.loop import TrialConfig
    from reslab.training.recipes import Recipe

    chosen = best_device() if device == "auto" else device
    exact = best_precision(chosen).value if precision == "auto" else precision
    check(chosen, exact)
    words = typed.words(options)
    typed.see_whose(words, train, zoo.options(model), Recipe.model_fields)
    with display() as progress:
        dataset = load_data(data, download=download, progress=progress)
    dataset.part("train")
    zoo.check(model, **{"num_classes": dataset.num_classes, "in_channels": dataset.in_channels, **words})
    start = None if from_ is None else read_start(from_, model, zero_pad, words)
    try:
        settings = typed.read_recipe(recipe, data, epochs, set)
        config = TrialConfig(
            model=model,
            options=words,
            data=canonical(data),
            recipe=settings,
            seed=seed,
            threads=threads,
            device=chosen,
            precision=exact,
            devices=devices,
            compile=compile,
            start=start,
        )
    except ValidationError as error:
        raise WrongValueError(one_line(error)) from error
    typed.make_writable(out)
    run = Run(out, config)
    trained_before = run.finished
    if is_main_process() and not json:
        print(dataset.describe(), flush=True)
        if start is not None:
            print(kept_and_new(config, dataset), flush=True)
    with display(quiet=not is_main_process()) as progress:
        failures = run_trials([config], out, loaded(dataset), progress)
    if failures:
        raise failures[0].error()
    if not is_main_process():
        return 0
    result = run.result()
    averaged = None
    if result["steps"] < STEPS_TO_SETTLE and result["status"] == "finished":
        network = build_network(config, dataset, weights=run.weights)
        averaged = true_average_errors(network, data_for(config, network, dataset))
    printing.warn_of_old([result], config.code_digest(), dataset)
    if json:
        printing.print_json(
            {
                "directory": str(run.path),
                "config": config.model_dump(mode="json"),
                "result": result,
                "true_average_errors": averaged,
            }
        )
    else:
        before = "already trained; nothing done: " if trained_before else ""
        errors = _errors({part: result[f"{part}_error"] for part in ("train", "heldout", "test")})
        print(
            f"{before}{model} on {data}, {result['status']} after {result['steps']} iterations in "
            f"{result['seconds']:.0f} s: {errors}\n{run.path}"
        )
        if averaged and any(averaged[part] != result[f"{part}_error"] for part in averaged):
            print(
                f"after only {result['steps']} steps BatchNorm's moving averages lag behind the weights; with true "
                "averages of the training images: "
                f"{_errors(averaged)}\nto evaluate so: reslab evaluate {model} --weights {run.weights} --data "
                f"{data} --batchnorm true-average"
            )
    return 0


def read_start(
    weights: str, model: str, zero_pad: Literal["end", "centred"] | None, options: "Mapping[str, Any]"
) -> "Start":
    """Return the weights' file and the hash of its content; trained weights of others are put into a file, in the
    user's cache directory.

    Raises:
        UserError: if there are no such weights.
    """
    from reslab.files import sha256
    from reslab.networks.pretrained import is_word
    from reslab.training.start import Start
    from reslab.weights.shipped import locate

    file = (_written(weights, model, options) if is_word(weights) else locate(weights, model)).absolute()
    file = file / "weights.safetensors" if file.is_dir() else file
    if not file.is_file():
        raise MissingError(f"no file {file}; --from takes weights in a file")
    return Start(sha256=sha256(file), file=file, zero_pad=zero_pad)


def _written(word: str, model: str, options: "Mapping[str, Any]") -> Path:
    """Return the file of trained weights of others, as this lab writes them."""
    from reslab.data.places import user_cache
    from reslab.files import write_atomically
    from reslab.networks.pretrained import pretrained
    from reslab.weights.files import to_bytes

    network, metadata, told = pretrained(model, word, options)
    content = to_bytes(network, model, told, metadata["preprocessing"])
    name = "-".join(part.replace("/", "-").replace(":", "-") for part in (model, word))
    file = user_cache() / "trained" / f"{name}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, content)
    return file


def kept_and_new(config: "TrialConfig", data: "Dataset") -> str:
    """Return in a line what a network keeps of the weights that it starts from, and what is new in it.

    Raises:
        UserError: if they do not fit.
    """
    import torch

    from reslab.executors.trial import fresh_network
    from reslab.weights.fitting import classifier

    assert config.start is not None
    with torch.random.fork_rng():
        network = fresh_network(config, data)
    new = classifier(network)
    tensors = list(network.state_dict())
    kept = [name for name in tensors if not name.startswith(f"{new}.")]
    return (
        f"starts from {config.start.file} (SHA-256 {config.start.sha256[:16]}…): {len(kept)} of {len(tensors)} tensors "
        f"kept; new: {new}, for {data.num_classes} classes"
    )


STEPS_TO_SETTLE = 100
"""Before so many steps BatchNorm's moving averages (momentum 0.1, so of about the last ten steps) may lag behind
weights that still move fast.
"""


def true_average_errors(network: "nn.Module", data: "Dataset") -> dict[str, float | None] | None:
    """Return a network's error on each part with BatchNorm's statistics averaged over the training images; None where
    it keeps none.
    """
    from reslab.training.batchnorm import true_average
    from reslab.training.evaluation import evaluate

    try:
        true_average(network, data.shuffled())
    except UserError:
        return None
    parts: tuple[Literal["train", "heldout", "test"], ...] = ("train", "heldout", "test")
    return {part: evaluate(network, data.batches(part))["error"] for part in parts}


def _errors(parts: "Json") -> str:
    """Return the error of each part of a data set, in %."""
    return ", ".join(f"{part} error {100 * error:.2f} %" for part, error in parts.items())
