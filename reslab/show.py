"""What the commands print: JSON, tables, verdicts, networks, progress."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from reslab.runs import Json, Run


def print_json(value: Any) -> None:
    """Print a value as readable JSON."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], left: int = 1) -> None:
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


def show_network(name: str, other: str | None, options: dict[str, Any], as_json: bool) -> None:
    """Print a network stage by stage, and its differences from another."""
    from dataclasses import asdict

    import torch

    from reslab import anatomy, zoo

    with torch.device("meta"):
        networks = {name: zoo.build(name, **options)}
        if other is not None:
            networks[other if other != name else f"{other} (as it is)"] = zoo.build(other)
    rows = {label: anatomy.stages(network, zoo.input_shape(network)) for label, network in networks.items()}
    found = anatomy.differences(*networks.values()) if other is not None else []
    totals = {label: (zoo.count_params(networks[label]), sum(row.macs for row in rows[label])) for label in networks}
    if as_json:
        print_json(
            {
                "networks": {
                    label: {"params": params, "macs": macs, "stages": [asdict(row) for row in rows[label]]}
                    for label, (params, macs) in totals.items()
                },
                "differences": [asdict(difference) for difference in found],
            }
        )
        return
    for label, (params, macs) in totals.items():
        shape = "×".join(map(str, zoo.input_shape(networks[label])))
        print(f"{label}: {params:,} parameters, {macs / 1e9:.3f} G MACs for one {shape} image")
        columns = ("stage", "blocks", "output", "parameters", "MACs", "receptive field")
        print_table(
            columns,
            [
                (row.name, row.blocks, "×".join(map(str, row.output)), f"{row.params:,}", f"{row.macs / 1e6:,.1f} M", f"{row.receptive_field}")
                for row in rows[label]
            ],
            left=2,
        )
    if other is not None:
        print(f"{len(found)} layers differ" + (":" if found else f": {name} and {other} are the same layer by layer"))
        for difference in found:
            print(f"  {difference.layer}\n    {name}: {difference.first or 'none'}\n    {other}: {difference.second or 'none'}")


def percent(row: "Json", key: str) -> str:
    """Return a mean and its standard deviation over seeds, in %."""
    std = row[f"{key}_std"]
    return f"{100 * row[key]:.2f}" + (f" ± {100 * std:.2f}" if std is not None else "")


def print_study(record: "Json", rows: "list[Json]") -> None:
    """Print a study's table of errors and its verdicts."""
    columns = ("network", "parameters", "seeds", "training error (%)", "test error (%)")
    print_table(
        columns, [(row["group"], f"{row['params'] or 0:,}", str(row["n"]), percent(row, "train_error"), percent(row, "test_error")) for row in rows]
    )
    print_claims(record["claims"])


def print_claims(records: "list[Json]") -> None:
    """Print each claim with its verdict, effect and interval, or undecided."""
    from rich.console import Console
    from rich.markup import escape

    colours = {"supported": "green", "refuted": "red", "inconclusive": "yellow"}
    console = Console(highlight=False)
    for record in records:
        verdict = record.get("verdict")
        console.print(f"[bold]{escape(record['id'])}[/]" + (f": [{colours[verdict]}]{verdict}[/]" if verdict else ""))
        console.print(f"  {escape(record['statement']['en'])}\n  {escape(record['statement']['ko'])}")
        if record.get("corrects"):
            console.print(escape(f"  the chapter says: {record['corrects']['en']} / {record['corrects']['ko']}"))
        if verdict and record["interval"]:
            low, high = record["interval"]
            evidence = f"effect {record['effect']:+.4f} in {record['unit']}, {100 * record['level']:.2f} % interval [{low:+.4f}, {high:+.4f}]"
            console.print(escape(f"  {evidence}, n = {record['n']} ({record['method']}): {record['reason']}"))
        elif verdict:
            console.print(escape(f"  {record['reason']}"))
        else:
            rule = f"{record['direction']}, margin {record['margin']:g}" if record["kind"] == "statistical" else record["kind"]
            console.print(f"  [dim]{escape(record['source'])}; {rule}[/]")
        console.print()


@contextmanager
def trials(quiet: bool = False) -> "Iterator[Callable[[list[Run], int, int], None]]":
    """Give a `Watch` that draws a bar for all trials and the epoch of each running one; a quiet one draws nothing."""
    with _bars(quiet) as bars:
        yield _trials(bars)


@contextmanager
def steps() -> "Iterator[Callable[[str, int, int], None]]":
    """Give `watch(what, done, total)`, which draws a bar for each thing that it is told of."""
    with _bars() as bars:
        yield _steps(bars)


@contextmanager
def trials_and_steps() -> "Iterator[tuple[Callable[[list[Run], int, int], None], Callable[[str, int, int], None]]]":
    """Give both, in one display."""
    with _bars() as bars:
        yield _trials(bars), _steps(bars)


def _trials(bars: Any) -> "Callable[[list[Run], int, int], None]":
    def describe(run: "Run") -> str:
        config = run.config.model_dump()
        depth = config["options"].get("depth")
        last = {"epoch": 0.0, **dict((list(run.metrics()) or [{}])[-1])}
        return f"{config['model']}{f'-{depth}' if depth else ''} s{config['seed']} epoch {last['epoch']:.0f}"

    tasks: list[Any] = []

    def watch(running: "list[Run]", done: int, total: int) -> None:
        if not tasks:
            tasks.append(bars.add_task("trials"))
        bars.update(tasks[0], total=total, completed=done, description="trials: " + (" | ".join(map(describe, running)) or "done"))

    return watch


def _steps(bars: Any) -> Callable[[str, int, int], None]:
    tasks: dict[str, Any] = {}

    def watch(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=total)
        bars.update(tasks[what], completed=done)

    return watch


def _bars(quiet: bool = False) -> Any:
    """Return rich's progress display, on standard error: a description, a bar, how many of how many, and the time."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), disable=quiet)


def print_evaluation(record: "Json") -> None:
    """Print the errors of trained weights, and how the images were prepared."""
    how = record["preprocessing"]
    size = f"{how['size']}×{how['size']}" if how["size"] else "the images' own size"
    loss = "not finite" if record["loss"] is None else f"{record['loss']:.4f}"
    print(
        f"{record['model']} on the {record['part']} part of {record['data']} ({record['images']:,} images), {record['view']} view at {size}:\n"
        f"top-1 error {100 * record['top1_error']:.2f} %, top-5 error {100 * record['top5_error']:.2f} %, loss {loss}"
    )
    channels = [", ".join(f"{value:.4f}" for value in how[key]) for key in ("mean", "std")]
    whose = "the weights' metadata" if how["from"] == "weights" else "the data's own training part"
    print(f"mean ({channels[0]}) and standard deviation ({channels[1]}) from {whose}; BatchNorm statistics: {record['batchnorm']}")


def print_analysis(record: "Json", written: "list[Path]") -> None:
    """Print an analysis: what was looked at, its table, and where it was written."""
    rows = record["rows"]
    if "text" in record:
        print(record["text"])
    else:
        print(f"{record['analysis']} of {record['model']} on {record['images']} images of {record['data']}")
        columns = tuple(rows[0]) if rows else ()
        print_table(columns, [tuple(short(row[column]) for column in columns) for row in rows], left=1)
    for key, value in record["summary"].items():
        print(f"{key}: {short(value)}")
    for path in written:
        print(f"wrote {path}")


def short(value: Any) -> str:
    """Return a value as a table shows it: numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_mapping(file: "Path", report: "Json") -> None:
    """Print which tensors of a file went where."""
    print(f"{file} fits {report['network']}: {report['tensors']} tensors, {len(report['renamed'])} renamed")
    for original, name in report["renamed"].items():
        print(f"  {original} -> {name}")
    if report["zero_pad"] == "centred":
        print("  channels reordered so that the zeros are at the end")
    if report["out"] is not None:
        print(f"wrote {report['out']}")


def print_bench(figures: "Json") -> None:
    """Print the machine, and what was measured on it."""
    print(" · ".join(f"{key} {value}" for key, value in figures["machine"].items()))
    for what, values in figures.items():
        if what != "machine":
            print(f"{what}: " + (", ".join(f"{key} {figure(value)}" for key, value in values.items()) if isinstance(values, dict) else str(values)))


def figure(value: Any) -> str:
    """Return a number with two digits, or a ratio as its median and its spread."""
    if isinstance(value, tuple):
        return f"{value[0]:.2f} ({value[1]:.2f} to {value[2]:.2f})"
    return "not known here" if value is None else f"{value:.2f}"
