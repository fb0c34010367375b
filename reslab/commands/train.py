"""`reslab train`: one network, its recipe, its run."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from reslab.commands import printing, typed
from reslab.commands.app import Flag, Log, Seed, Threads, app
from reslab.errors import Language, MissingError, UserError, worded
from reslab.progress import Progress, display, each

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from reslab.data import Dataset
    from reslab.data.dataset import PartName
    from reslab.executors import Failure
    from reslab.files import Json
    from reslab.training.loop import TrialConfig

PARTS: "tuple[PartName, ...]" = ("train", "heldout", "test")
WORDS: dict[Language, dict[str, str]] = {
    "ko": {
        "start": "시작 가중치: {file} (SHA-256 {digest}…). 텐서 {tensors}개 중 {kept}개를 이어받는다. "
        "새로 만드는 것: {new} (클래스 {classes}개)",
        "done": "이미 학습되어 있어 아무것도 하지 않았다. ",
        "finished": "{model}, {data}: {steps}스텝({seconds:.0f}초) 만에 학습을 마쳤다. {errors}",
        "diverged": "{model}, {data}: {steps}스텝({seconds:.0f}초) 만에 발산했다. {errors}",
        "ema": "가중치의 이동 평균으로는: {}",
        "lag": "{steps}스텝밖에 학습하지 않아 배치 정규화의 이동 평균이 가중치를 아직 따라오지 못했다. "
        "훈련 이미지에서 통계를 다시 구하면: {errors}\n그렇게 평가하려면: {command}",
        "error": "{part} 오류",
        "train": "훈련",
        "heldout": "검증",
        "test": "테스트",
        "directory": "디렉터리",
        "choices": "위치: {}. 무엇을 고를 때는 검증 오류를 본다",
        "failed": "실패",
    },
    "en": {
        "start": "starts from {file} (SHA-256 {digest}…): {kept} of {tensors} tensors kept; new: {new}, for {classes} "
        "classes",
        "done": "already trained; nothing done: ",
        "finished": "{model} on {data}, finished after {steps} iterations in {seconds:.0f} s: {errors}",
        "diverged": "{model} on {data}, diverged after {steps} iterations in {seconds:.0f} s: {errors}",
        "ema": "with the moving average of the weights: {}",
        "lag": "after only {steps} steps BatchNorm's moving averages lag behind the weights; with true averages of the "
        "training images: {errors}\nto evaluate so: {command}",
        "error": "{part} error",
        "train": "training",
        "heldout": "held-out",
        "test": "test",
        "directory": "directory",
        "choices": "in {}; choices are made on the held-out error",
        "failed": "failed",
    },
}


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
    extend: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    log: Log | None = None,
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
        A setting of the recipe: `--set learning_rate=0.01`, any number of times; `--set learning_rate=0.01,0.03` is a
        grid of runs. Off unless set: label_smoothing, ema (of the weights, evaluated beside them), no_vector_decay,
        mixup, cutmix, cutout, accumulate, clip_norm, optimizer (adamw or muon), schedule=cosine.
    extend
        Train the finished run for so many more epochs: a new run that starts from all its weights, with a new schedule
        and a new optimiser.
    log
        Write the metrics for another tool too, into logs/ of --out: csv, tensorboard, wandb or trackio. Never part of
        a run's identity.
    out
        Where run directories are made, one per configuration.
    download
        Download the data set if it is missing.
    json
        Print the result as JSON.
    options
        Options of the network, such as `--depth 26`.
    """
    from reslab.api import planning
    from reslab.executors import loaded, run_trials
    from reslab.networks import zoo
    from reslab.runs import Run
    from reslab.training.devices import is_main_process
    from reslab.training.logs import logging
    from reslab.training.loop import TrialConfig
    from reslab.training.recipes import Recipe

    if zero_pad is not None and from_ is None:
        raise MissingError(*worded("zero-pad-of-nothing"))
    machine = planning.Machine.of(device, precision, threads=threads, devices=devices, compile=compile)
    words = typed.words(options)
    typed.see_whose(words, train, zoo.options(model), Recipe.model_fields)
    with display() as progress:
        dataset = planning.checked_data(model, data, words, download, progress)
    start = None if from_ is None else planning.start_from(from_, model, zero_pad, words)
    settings = typed.settings_of(set)
    recipes = [planning.recipe_of(recipe, data, epochs, each) for each in settings]
    configs = [planning.trial(model, data, each, seed, machine, words, start) for each in recipes]
    typed.make_writable(out)
    if extend is not None:
        configs = [planning.extended(out, config, extend) for config in configs]
    runs = [Run(out, config) for config in configs]
    before, language = runs[0].finished, typed.language()
    if is_main_process() and not json:
        print(dataset.describe(language), flush=True)
        if start is not None and extend is None:  # which keeps all
            print(kept_and_new(configs[0], dataset, language), flush=True)
    with (
        display(quiet=not is_main_process()) as progress,
        logging(log if is_main_process() else None, runs, out / "logs"),
    ):
        failures = run_trials(configs, out, loaded(dataset), progress)
    if len(configs) == 1 and failures:
        raise failures[0].error()
    if not is_main_process():
        return 0
    done = [(config, run.result()) for config, run in zip(configs, runs, strict=True) if run.finished]
    printing.warn_of_old([result for _, result in done], TrialConfig.code_digest(), dataset)
    with display(quiet=json) as progress:
        told = [outcome(out, config, result, dataset, progress) for config, result in done]
    if len(configs) > 1:
        print_grid(settings, told, failures, json, configs, out, language)
    elif json:
        printing.print_json(told[0])
    else:
        print_run(told[0], data, before, language)
    return 1 if failures else 0


def outcome(root: Path, config: "TrialConfig", result: "Json", dataset: "Dataset", progress: Progress) -> "Json":
    """Return the summary of a finished run; for a short one, including the errors with BatchNorm's true averages,
    measured where it was trained.
    """
    import torch

    from reslab.executors import build_network, data_for
    from reslab.runs import Run
    from reslab.state import whole_float32

    averaged = None
    run = Run(root, config)
    if result["steps"] < STEPS_TO_SETTLE and result["status"] == "finished":
        device = torch.device(config.device)
        network = build_network(config, dataset, weights=run.weights).to(device)
        with whole_float32():
            averaged = true_average_errors(network, data_for(config, network, dataset).to(device), progress)
    return {
        "directory": str(run.path),
        "config": config.model_dump(mode="json"),
        "result": result,
        "true_average_errors": averaged,
    }


def print_run(told: "Json", data: str, before: bool, language: Language = "en") -> None:
    """Print what became of one run."""
    result, averaged, model = told["result"], told["true_average_errors"], told["config"]["model"]
    words, steps = WORDS[language], result["steps"]
    errors = _errors(_of_parts(result), words)
    became = words[result["status"]].format(
        model=model, data=data, steps=steps, seconds=result["seconds"], errors=errors
    )
    print((words["done"] if before else "") + became)
    if "ema" in result:
        print(words["ema"].format(_errors(_of_parts(result["ema"]), words)))
    print(told["directory"])
    if averaged and any(averaged[part] != result[f"{part}_error"] for part in averaged):
        weights = Path(told["directory"]) / "weights.safetensors"
        parts = ("reslab", "evaluate", model, "--weights", weights, "--data", data, "--batchnorm", "true-average")
        command = shlex.join(map(str, parts))
        print(words["lag"].format(steps=steps, errors=_errors(averaged, words), command=command))


def print_grid(
    settings: "list[dict[str, Any]]",
    told: "list[Json]",
    failures: "Sequence[Failure]",
    json: bool,
    configs: "list[TrialConfig]",
    root: Path,
    language: Language = "en",
) -> None:
    """Print a table of a grid's runs, best held-out error first, and what failed."""
    from reslab.runs import Run

    if json:
        printing.print_json({"runs": told, "failures": [failure.reason for failure in failures]})
        return
    words = WORDS[language]
    known = {each["directory"]: each["result"] for each in told}
    varied = [key for key in settings[0] if len({str(each[key]) for each in settings}) > 1]
    rows = []
    for chosen, config in zip(settings, configs, strict=True):
        result = known.get(str(Run(root, config).path))
        errors = _of_parts(result) if result else {}
        shares = [errors.get(part) for part in PARTS]
        numbers = ["–" if share is None else f"{100 * share:.2f}" for share in shares]
        order = shares[1] if shares[1] is not None else 2.0
        rows.append((order, (*(str(chosen[key]) for key in varied), *numbers, config.digest())))
    columns = (*varied, *(f"{_error_of(part, words)} (%)" for part in PARTS), words["directory"])
    printing.print_table(columns, [row for _, row in sorted(rows, key=lambda row: row[0])], words=columns[-1:])
    print(words["choices"].format(root))
    for failure in failures:
        print(f"{words['failed']}: {failure.config.digest()}: {failure.reason}", file=sys.stderr)


def _of_parts(result: "Json") -> dict[str, float]:
    return {part: result[f"{part}_error"] for part in PARTS}


def kept_and_new(config: "TrialConfig", data: "Dataset", language: Language = "en") -> str:
    """Return in a line what a network keeps of the weights that it starts from, and what is new in it.

    Raises:
        UserError: if they do not fit.
    """
    from reslab.executors.trial import fresh_network
    from reslab.state import draws_apart
    from reslab.weights.fitting import classifier

    assert config.start is not None
    with draws_apart():
        network = fresh_network(config, data)
    new = classifier(network)
    tensors = list(network.state_dict())
    kept = [name for name in tensors if not name.startswith(f"{new}.")]
    return WORDS[language]["start"].format(
        file=config.start.file,
        digest=config.start.sha256[:16],
        kept=len(kept),
        tensors=len(tensors),
        new=new,
        classes=data.num_classes,
    )


STEPS_TO_SETTLE = 100
"""Before so many steps BatchNorm's moving averages (momentum 0.1, so of about the last ten steps) may lag behind
weights that still move fast.
"""


def true_average_errors(network: "nn.Module", data: "Dataset", progress: Progress) -> dict[str, float | None] | None:
    """Return a network's error on each part with BatchNorm's statistics averaged over the training images; None where
    it keeps none.
    """
    from reslab.training.batchnorm import true_average
    from reslab.training.evaluation import evaluate

    try:
        true_average(network, data.shuffled())
    except UserError:
        return None
    return {part: evaluate(network, data.batches(part))["error"] for part in each(PARTS, "true averages", progress)}


def _errors(parts: "Json", words: "Mapping[str, str]") -> str:
    """Return the error of each part of a data set, in %."""
    return ", ".join(f"{_error_of(part, words)} {100 * error:.2f} %" for part, error in parts.items())


def _error_of(part: str, words: "Mapping[str, str]") -> str:
    return words["error"].format(part=words[part])
