"""Commands that look inside a network, and that time the lab."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from reslab import arguments, show
from reslab.commands.app import Flag, Seed, Threads, app
from reslab.errors import UserError, suggest
from reslab.progress import display


@app.command
def analyze(
    name: str,
    model: str | None = None,
    /,
    *,
    weights: str | None = None,
    data: str = "digits",
    part: Literal["heldout", "train", "test"] = "heldout",
    images: int | None = None,
    seed: Seed = 0,
    zero_pad: Literal["end", "centred"] | None = None,
    out: Path | None = None,
    download: Flag = False,
    json: Flag = False,
    **options: str,
) -> None:
    """Look inside a residual network: `reslab analyze paths resnet20`, `reslab analyze removal resnet32 --weights FILE`.

    The analyses:

    - gradient-flow: signals and gradients at every block; training-flow: the same through training
    - paths: the gradient by path length, exactly; sampled-paths: Veit et al.'s estimate of it
    - removal, or lesion: the error without each block; random-removal, reorder: without k blocks, or with blocks exchanged
    - importance: dL/dg of each block's gate
    - jacobian: how much each block stretches and shrinks; responses: what its layers add
    - shattering: how fast gradients change along a line of inputs; landscape: the loss around the weights
    - smoothness, covariate-shift: what BatchNorm does
    - tour: a reading of the installed torchvision's ResNet; it takes no MODEL

    paths, sampled-paths, removal, random-removal, reorder, importance, jacobian, responses and landscape ask what training made: they look at a
    trained network that comes with the lab, if there is one of that name for the data (`reslab weights` lists them). The others, and
    networks that do not come with the lab, start fresh, in training mode where the analysis leaves the choice.

    Parameters
    ----------
    name
        The analysis.
    model
        The network: a name (see `reslab models`), torchvision/NAME, timm/NAME, or your own: package.module:factory, which returns a network,
        or a dict of `network` and perhaps `loader` (batches of images and labels) and `loss`.
    weights
        Its weights: any file that `reslab weights` reads; digits, or another word that `reslab weights` lists; or none, a fresh network.
    data
        As for `reslab train`; a factory's loader takes its place.
    part
        Part of the data; test is for final figures.
    images
        How many images (by default what the analysis needs).
    seed
        Seed of a fresh network's weights, and of what the analysis draws.
    zero_pad
        Where the file's option A puts its zero channels; only for files that are not this lab's.
    out
        Directory for the table (JSON) and the figure (SVG and PNG).
    download
        Download the data set if it is not there.
    json
        Print the table as JSON.
    options
        Settings of the analysis, such as `--draws 10` or `--precision bf16`, and options of the network, such as `--depth 26`.
    """
    from reslab.analyzing import analyze_model, places, write
    from reslab.networks import zoo

    words = arguments.words(options)
    arguments.see_whose(words, analyze, zoo.options(model or ""))
    if out is not None:
        arguments.make_writable(out)
        places(name, model, out)  # before the work, and not after it
    with display() as progress:
        found = analyze_model(
            name,
            model,
            weights=weights,
            data=data,
            part=part,
            images=images,
            seed=seed,
            zero_pad=zero_pad,
            download=download,
            options=words,
            progress=progress,
        )
    if found.record.get("untrained"):
        print(f"reslab: note: {model} is UNTRAINED and {name} asks what training made: these figures show chance; give --weights", file=sys.stderr)
    written = write(found, out) if out is not None else []
    show.print_json(found.record) if json else show.print_analysis(found.record, written)


@app.command
def bench(name: str, /, *, quick: Flag = False, json: Flag = False, **settings: str) -> None:
    """Measure what the lab claims about speed, as ratios in one run on this machine.

    The benchmarks:

    - train: a training step and a whole epoch of resnet20 against the ordinary script (DataLoader, PIL transforms, float32)
    - executors: a set of trials in worker processes against one process
    - lowlevel: Level 2 against torchvision
    - lesion: removal of every block, and the path spectrum, against the plain ways

    Parameters
    ----------
    name
        What to measure.
    quick
        Tiny sizes and one round, to see that it runs; its figures mean nothing.
    json
        Print the figures as JSON.
    settings
        Settings of the benchmark, such as `--rounds 10` or, for train, `--data cifar10 --epochs 3` (errors of both after three epochs).
    """
    import pkgutil
    from importlib import import_module
    from inspect import signature

    import reslab.bench

    names = [info.name for info in pkgutil.iter_modules(reslab.bench.__path__) if info.name not in ("airbench", "race", "timing")]
    if name not in names:
        raise UserError(f"no benchmark {name!r}{suggest(name, names)}")
    module = import_module(f"reslab.bench.{name}")
    words = arguments.words(settings)
    known = {key: parameter.default for key, parameter in signature(module.bench).parameters.items() if key != "progress"}
    for key, value in words.items():
        if key not in known:
            raise UserError(f"bench {name} has no setting {key!r}{suggest(key, known)}")
        least = 0 if key in ("warmup", "loaders") or known[key] == 0 else 1
        if not isinstance(value, type(known[key])) or (isinstance(value, int) and value < least):
            raise UserError(f"--{key.replace('_', '-')} {value}: expected a value such as {known[key]!r}")
    with display() as progress:
        figures = module.bench(**{**(module.QUICK if quick else {}), **words}, progress=progress)
    show.print_json(figures) if json else show.print_bench(figures)


@app.command
def speedrun(
    *,
    data: str = "digits",
    against: Literal["airbench94", "airbench94-muon"] | None = None,
    part: Literal["heldout", "test"] = "heldout",
    seeds: Annotated[int, Parameter(validator=Number(gte=1))] = 1,
    first_seed: Seed = 0,
    epochs: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    threads: Threads | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "32", "bf16"] = "auto",
    out: Path = Path("runs/speedrun"),
    download: Flag = False,
    json: Flag = False,
) -> None:
    """Train a residual network to the most accuracy in the fewest seconds: `reslab speedrun --data cifar10 --download`.

    Its recipe is in `reslab/studies/speedrun.py`. With `--against airbench94` that recipe runs too, in turn with it. Each run is a process of
    its own, and the table has the time from its start to its end as well as that of the training alone. Every image is seen in one view. Run
    again, the command does only what is missing; a run that was interrupted starts again, as its time counts.

    Parameters
    ----------
    data
        As for `reslab train`; the images are of one size.
    against
        What to race against: airbench94 (K. Jordan 2024) or the newer airbench94-muon, whose network is not residual. A race has runs of its own.
    part
        Part of the data that it is evaluated on. For choices: heldout. For final figures: test, and the held-out images are trained on too.
    seeds
        How many runs of each, of different seeds.
    first_seed
        The first of the seeds.
    epochs
        Length of the training of either, in epochs (by default the recipe's own).
    threads
        CPU threads (by default all cores).
    device
        Where to train; auto is the fastest that is here.
    precision
        Of convolutions and matrix products; auto is bf16 where the device computes in it, else 32.
    out
        Where run directories are made, one a run.
    download
        Download the data set if it is not there.
    json
        Print the results as JSON.
    """
    from pydantic import ValidationError

    from reslab.data import canonical, load_data
    from reslab.executors import default_workers
    from reslab.runs import one_line
    from reslab.speedrun import race
    from reslab.speedrun.sprint import SprintConfig
    from reslab.training.devices import best_device, best_precision, check

    chosen = best_device() if device == "auto" else device
    auto: Literal["bf16", "32"] = "bf16" if best_precision(chosen).value == "bf16" else "32"
    exact = auto if precision == "auto" else precision
    check(chosen, exact)
    arguments.make_writable(out)
    contenders = ["speedrun", *([against] if against else [])]
    try:
        configs = [
            SprintConfig(
                contender=name,
                against=against or "",
                data=canonical(data),
                part=part,
                epochs=epochs or race.CONTENDERS[name].epochs,
                seed=seed,
                threads=threads or default_workers(1),
                device=chosen,
                precision=exact,
            )
            for seed in range(first_seed, first_seed + seeds)
            for name in (contenders if seed % 2 == 0 else reversed(contenders))  # neither is always the second
        ]
    except ValidationError as error:
        raise UserError(one_line(error)) from error
    results: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in contenders}
    with display() as progress:
        dataset = load_data(data, download=download, progress=progress)
        race.check(dataset)
        for config in configs:
            results[config.contender][config.seed] = race.run(config, out, progress)
    show.warn_of_old([result for runs in results.values() for result in runs.values()], dataset)
    record = {
        "data": data,
        "part": part,
        "runs": results,
        "summary": {name: race.summary(runs) for name, runs in results.items()},
        "compared": race.compared(results["speedrun"], results[against]) if against else None,
    }
    show.print_json(record) if json else show.print_race(record)


@app.command
def doctor(*, json: Flag = False) -> int:
    """Show what this machine is, and whether its arithmetic agrees with the lab's references. Exit code 1 if something is not as it should be.

    Parameters
    ----------
    json
        Print the findings as JSON.
    """
    from dataclasses import asdict

    from reslab.doctor import examine

    findings, marks = [], {True: "✓", False: "✗", None: " "}
    for finding in examine():
        findings.append(finding)
        if not json:
            print(f"{marks[finding.fine]} {finding.what}: {finding.found}", flush=True)
    if json:
        show.print_json([asdict(finding) for finding in findings])
    return 1 if any(finding.fine is False for finding in findings) else 0
