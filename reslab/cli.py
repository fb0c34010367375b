"""The `reslab` command. Every command imports what it needs inside its function, so that help answers at once."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts
from cyclopts import App, Parameter

from reslab import __version__
from reslab.errors import UserError

if TYPE_CHECKING:
    from reslab.runs import Json, Run
    from reslab.training.recipes import Recipe

app = App(
    name="reslab",
    version=__version__,
    help="A laboratory for residual networks: build them, train them, and measure what is said about them.\n\n"
    "Start with `reslab study degradation`: it trains plain and residual networks on real digits in about two minutes.\n\n"
    "`--debug` after any command shows the traceback of an error.",
    help_format="markdown",
    result_action="return_value",
)

Flag = Annotated[bool, Parameter(negative=())]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (`sys.argv` by default): exit code 0, or 2 for a mistake in what was asked, 1 for trials that failed, 130 for Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if hasattr(sys.stdout, "reconfigure"):  # a Windows console may not be UTF-8, and what it cannot show must not stop a run
        sys.stdout.reconfigure(errors="replace")
    try:
        sys.exit(app(arguments, exit_on_error=False, print_error=False))
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
def models(*, json: Flag = False) -> None:
    """List every network: family, parameters, multiply-adds (MACs) for one image of the paper's size, and the reference.

    Parameters
    ----------
    json
        Print one JSON list.
    """
    from reslab import zoo

    descriptions = [zoo.describe(name) for name in zoo.names()]
    if json:
        _print_json([{**item._asdict(), "reference": item.reference._asdict()} for item in descriptions])
        return
    rows = [(d.name, f"{d.params:,}", f"{d.macs / 1e6:,.2f} M", "×".join(map(str, d.input))) for d in descriptions]
    _print_table(("network", "parameters", "MACs", "input"), rows)
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
    set: tuple[str, ...] = (),
    out: Path = Path("runs/train"),
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
        Data set.
    recipe
        How to train: fast, paper-cifar, paper-cifar-warmup.
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
    json
        Print the result as JSON.
    options
        Options of the network, such as `--depth 26`.
    """
    from pydantic import ValidationError

    from reslab import zoo
    from reslab.data import load_data
    from reslab.executors import run_trials
    from reslab.runs import Run
    from reslab.studies.study import one_line
    from reslab.training.loop import TrialConfig

    dataset = load_data(data)
    words = {key.replace("-", "_"): _value(text) for key, text in options.items()}
    zoo.check(model, num_classes=dataset.num_classes, in_channels=dataset.in_channels, **words)
    try:
        config = TrialConfig(model=model, options=words, data=data, recipe=_recipe(recipe, epochs, set), seed=seed, threads=threads)
    except ValidationError as error:
        raise UserError(one_line(error)) from error
    _make_writable(out)
    with _progress() as watch:
        failures = run_trials([config], out, 1, watch)
    if failures:
        raise UserError(failures[0].reason)
    run = Run(out, config)
    result = run.result()
    if json:
        _print_json({"directory": str(run.path), "config": config.model_dump(mode="json"), "result": result})
    else:
        errors = ", ".join(f"{split} error {100 * result[f'{split}_error']:.2f} %" for split in ("train", "heldout", "test"))
        print(f"{model} on {data}, {result['status']} after {result['steps']} iterations in {result['seconds']:.0f} s: {errors}\n{run.path}")
    return 0


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
    config = chosen.configure(preset, {key.replace("-", "_"): _value(text) for key, text in settings.items()})
    if workers is not None and workers < 1:
        raise UserError(f"--workers must be at least 1, got {workers}")
    path = out or Path("runs") / name
    directory = Directory(_unused(path) if fresh else path).prepare(chosen)
    with _progress() as watch:
        finished = run_study(chosen, config, directory, workers or default_workers(config.threads), watch)
    report = write_report([directory.path], directory.path / "report.html")
    if finished.reused_from_other_code:
        print(f"warning: {finished.reused_from_other_code} results were made by other code than this; --fresh measures again", file=sys.stderr)
    for failure in finished.failures:
        print(f"failed: {failure.config.model} {failure.config.options} seed {failure.config.seed}: {failure.reason}", file=sys.stderr)
    if json:
        _print_json(finished.record)
    else:
        _print_study(finished.record, summary_rows(finished.record))
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
    _make_writable(out.parent)
    page = write_report(directories, out)
    _print_json({"report": str(page)}) if json else print(page)


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
        _print_json(records)
    else:
        _print_claims(records)


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
    if json:
        _print_json(figures)
        return
    print(" · ".join(f"{key} {value}" for key, value in figures["machine"].items()))
    for what, values in figures.items():
        if isinstance(values, dict) and what != "machine":
            print(f"{what}: " + ", ".join(f"{key} {_figure(value)}" for key, value in values.items()))


def _figure(value: Any) -> str:
    """Return a number with two digits, or a ratio as its median and its spread."""
    if isinstance(value, tuple):
        return f"{value[0]:.2f} ({value[1]:.2f} to {value[2]:.2f})"
    return "not known here" if value is None else f"{value:.2f}"


# --- Reading what was typed ------------------------------------------------------------------------------------------


def _value(text: str) -> Any:
    """Return a typed-in value: JSON where it is JSON, a tuple where it has commas, else the text itself."""
    if "," in text:
        return tuple(_value(part) for part in text.split(",") if part)
    try:
        return json.loads(text)
    except ValueError:
        return text


def _recipe(name: str, epochs: int | None, settings: tuple[str, ...]) -> "Recipe":
    """Return the named recipe with `KEY=VALUE` settings changed."""
    from pydantic import ValidationError

    from reslab.errors import suggest
    from reslab.studies.study import one_line
    from reslab.training.recipes import RECIPES, Recipe

    if name not in RECIPES:
        raise UserError(f"no recipe {name!r}{suggest(name, RECIPES)}")
    values = RECIPES[name].model_dump()
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or key not in values:
            raise UserError(f"--set {setting}: expected KEY=VALUE with a setting of the recipe{suggest(key, values)}")
        values[key] = _value(text)
        if key in ("epochs", "iterations"):
            values["iterations" if key == "epochs" else "epochs"] = None
    if epochs is not None:
        values |= {"epochs": epochs, "iterations": None}
    try:
        return Recipe(**values)
    except ValidationError as error:
        raise UserError(one_line(error)) from error


def _unused(path: Path) -> Path:
    """Return `path`, or the first of `path-2`, `path-3`, … that does not exist."""
    candidates = (path.with_name(f"{path.name}-{number}") for number in range(2, sys.maxsize))
    return path if not path.exists() else next(candidate for candidate in candidates if not candidate.exists())


def _make_writable(path: Path) -> None:
    import os

    try:
        path.mkdir(parents=True, exist_ok=True)
        writable = os.access(path, os.W_OK)
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror}; give another --out") from error
    if not writable:
        raise UserError(f"cannot write to {path}: permission denied; give another --out")


# --- Showing ---------------------------------------------------------------------------------------------------------


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))


def _print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], left: int = 1) -> None:
    """Print a table; the first `left` columns are text, the others numbers."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _percent(row: "Json", key: str) -> str:
    std = row[f"{key}_std"]
    return f"{100 * row[key]:.2f}" + (f" ± {100 * std:.2f}" if std is not None else "")


def _print_study(record: "Json", rows: "list[Json]") -> None:
    columns = ("network", "parameters", "seeds", "training error (%)", "test error (%)")
    _print_table(
        columns, [(row["group"], f"{row['params'] or 0:,}", str(row["n"]), _percent(row, "train_error"), _percent(row, "test_error")) for row in rows]
    )
    _print_claims(record["claims"])


def _print_claims(records: "list[Json]") -> None:
    """Print each claim with its verdict, effect and interval, or undecided."""
    from rich.console import Console
    from rich.markup import escape

    colours = {"supported": "green", "refuted": "red", "inconclusive": "yellow"}
    console = Console(highlight=False)
    for record in records:
        verdict = record.get("verdict")
        console.print(f"[bold]{escape(record['id'])}[/]" + (f": [{colours[verdict]}]{verdict}[/]" if verdict else ""))
        console.print(f"  {escape(record['statement']['en'])}\n  {escape(record['statement']['ko'])}")
        if verdict and record["interval"]:
            low, high = record["interval"]
            evidence = f"effect {record['effect']:+.4f} in {record['unit']}, {100 * record['level']:.2f} % interval [{low:+.4f}, {high:+.4f}]"
            console.print(escape(f"  {evidence}, n = {record['n']} ({record['method']}): {record['reason']}"))
        elif verdict:
            console.print(escape(f"  {record['reason']}"))
        else:
            console.print(f"  [dim]{escape(record['source'])}; {record['direction']}, margin {record['margin']:g}[/]")
        console.print()


def _progress() -> Any:
    """Return a context manager that gives a `Watch` drawing a bar for all trials and the epoch of each running one."""
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    def describe(run: "Run") -> str:
        config = run.config.model_dump()
        depth = config["options"].get("depth")
        last = {"epoch": 0.0, **dict((list(run.metrics()) or [{}])[-1])}
        return f"{config['model']}{f'-{depth}' if depth else ''} s{config['seed']} epoch {last['epoch']:.0f}"

    @contextmanager
    def live() -> Any:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("trials", total=None)

            def watch(running: "list[Run]", done: int, total: int) -> None:
                bar.update(task, total=total, completed=done, description="trials: " + (" | ".join(map(describe, running)) or "done"))

            yield watch

    return live()
