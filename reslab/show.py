"""What the commands print: JSON, tables, verdicts, networks."""

import json
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal

from reslab.progress import short

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from reslab.data import Dataset
    from reslab.ledger.record import Record, Verdict
    from reslab.runs import Json


def print_json(value: Any) -> None:
    """Print a value as readable JSON."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], words: Collection[str] | None = None) -> None:
    """Print a table; the columns named in `words` (by default the first) are text, the others numbers.

    No number and no word is ever broken: text wraps at its spaces, and where a terminal is too narrow even so, each row is a block of lines,
    `column: value`. A file or a pipe gets the table in its full width.
    """
    from rich.box import SIMPLE
    from rich.cells import cell_len
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    words = columns[:1] if words is None else words
    table = Table(box=SIMPLE)
    for column, *cells in zip(columns, *rows, strict=True):
        whole = max(map(cell_len, (column, *cells)))
        longest = max(map(cell_len, " ".join((column, *cells)).split()), default=1)
        wraps = column in words and longest < whole
        table.add_column(column, justify="left" if column in words else "right", no_wrap=not wraps, min_width=longest if wraps else whole)
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, highlight=False)  # names are not for Rich to read
    endless = console.options.update(max_width=ENDLESS)
    needed = Measurement.get(console, endless, table)
    if not console.is_terminal:
        console.width = needed.maximum
    elif console.width < needed.minimum:
        for row in rows:
            print("\n".join(f"{column}: {cell}" for column, cell in zip(columns, row, strict=True)), end="\n\n")
        return
    console.print(table)


ENDLESS = 100_000
"""Columns of a console that nothing has to be broken for."""


def show_network(name: str, other: str | None, options: dict[str, Any], as_json: bool) -> None:
    """Print a network stage by stage, and its differences from another."""
    from dataclasses import asdict

    import torch

    from reslab.errors import UserError
    from reslab.networks import anatomy, zoo
    from reslab.networks.counting import count_params

    with torch.device("meta"):
        networks = {name: zoo.fresh(name, options)}
        if other is not None:
            networks[other if other != name else f"{other} (as it is)"] = zoo.fresh(other, {})
    rows = {}
    for label, network in networks.items():
        try:
            rows[label] = anatomy.stages(network, zoo.input_shape(network))
        except RuntimeError as error:  # options may leave nothing of an image, or ask for one that is too large
            raise UserError(f"{label} cannot run on an image of its size, {zoo.input_shape(network)}: {error}") from error
    found = anatomy.differences(*networks.values()) if other is not None else []
    totals = {label: (count_params(networks[label]), sum(row.macs for row in rows[label])) for label in networks}
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
            words=("stage", "blocks"),
        )
    if other is not None:
        print(f"{len(found)} layers differ" + (":" if found else f": {name} and {other} are the same layer by layer"))
        for difference in found:
            print(f"  {difference.layer}\n    {name}: {difference.first or 'none'}\n    {other}: {difference.second or 'none'}")


def percent(row: "Json", key: str) -> str:
    """Return a mean and its standard deviation over seeds, in %."""
    std = row[f"{key}_std"]
    return f"{100 * row[key]:.2f}" + (f" ± {100 * std:.2f}" if std is not None else "")


def print_study(record: "Record", rows: "list[Json]") -> None:
    """Print a study's table of errors and its verdicts."""
    columns = ("network", "parameters", "seeds", "training error (%)", "test error (%)")
    print_table(
        columns, [(row["group"], f"{row['params'] or 0:,}", str(row["n"]), percent(row, "train_error"), percent(row, "test_error")) for row in rows]
    )
    print_claims([(claim, "") for claim in record.claims])


def errors(parts: "Json") -> str:
    """Return the error of each part of a data set, in %."""
    return ", ".join(f"{part} error {100 * error:.2f} %" for part, error in parts.items())


Lang = Literal["en", "ko"]
WORDS: dict[Lang, dict[str, str]] = {
    "en": {
        **{word: word for word in ("supported", "counted", "refuted", "inconclusive", "exact", "statistical", "cited")},
        "higher": "Supported if the effect is over {}.",
        "lower": "Supported if the effect is under -{}.",
        "not higher": "Supported if the effect is no more than {}.",
        "effect": "Effect {} ({}), {} % interval [{}, {}], n = {}.",
        "chapter": "The chapter says",
        "source": "Source",
        "holm": "The levels of the intervals differ as the claims of a study share one error rate of 5 % (Holm's adjustment).",
        "how": "`reslab study STUDY` decides a claim: STUDY is what its id begins with.",
        "again": "Decided more than once: {} alike each time, {} inconclusive in some cases only, {} supported here and refuted there.",
    },
    "ko": {
        **{"supported": "지지됨", "counted": "셈", "refuted": "반박됨", "inconclusive": "판단 보류"},
        **{"exact": "세기·계산", "statistical": "통계", "cited": "문헌"},
        "higher": "효과가 {}보다 크면 지지됨.",
        "lower": "효과가 -{}보다 작으면 지지됨.",
        "not higher": "효과가 {} 이하이면 지지됨.",
        "effect": "효과 {} ({}), {} % 구간 [{}, {}], n = {}.",
        "chapter": "이 장의 말",
        "source": "출처",
        "holm": "구간마다 신뢰수준이 다른 것은 한 연구의 주장들이 오류율 5 %를 나누어 쓰기 때문이다(Holm 보정).",
        "how": "`reslab study 이름`이 주장을 판정한다. 이름은 주장의 id 앞부분이다.",
        "again": "두 번 이상 판정한 것: 매번 같은 주장 {}개, 더러만 판단 보류인 주장 {}개, 지지되기도 반박되기도 한 주장 {}개.",
    },
}
SUPPORTED = {"statistical": "supported", "exact": "counted", "cited": "cited"}
"""What stands before a supported claim, by its kind: what was counted or looked up is no measurement."""

COLOURS = {"supported": "green", "counted": "blue", "cited": "magenta", "refuted": "red", "inconclusive": "yellow"}


def print_claims(claims: "list[tuple[Verdict, str]]", lang: Lang = "en") -> None:
    """Print the claims section by section: verdict, or kind where undecided; statement, what the chapter says instead, evidence and source.

    With each claim comes the command that decides it: one that several studies decided, with other seeds or data, stands several times in a row,
    each time with its command.
    """
    from collections import Counter

    from rich.console import Console

    from reslab.ledger.claim import SECTIONS
    from reslab.ledger.verdict import agreement

    words, console = WORDS[lang], Console(highlight=False)
    ids = [claim.id for claim, _ in claims]
    for section, title in SECTIONS.items():
        members = sorted((each for each in claims if each[0].section == section), key=lambda each: ids.index(each[0].id))
        counts = ", ".join(f"{count} {words[mark]}" for mark, count in Counter(_mark(claim) for claim, _ in members).most_common())
        if members:
            console.print(f"[bold underline]{title[lang]}[/] [dim]({section})[/]: {counts}", _claims(members, lang), sep="\n")
    if len({claim.level for claim, _ in claims if claim.interval}) > 1:
        console.print(words["holm"])
    if any(claim.verdict is None for claim, _ in claims):
        console.print(words["how"])
    repeated = agreement([claim for claim, _ in claims])
    if any(repeated):
        console.print(words["again"].format(*map(len, repeated)))
    for id in repeated.both_ways:
        console.print(f"  {id}", markup=False)


def _claims(claims: "list[tuple[Verdict, str]]", lang: Lang = "en") -> "Table":
    """Return a table of claims; those that stand in it several times name the command that decided them."""
    from rich.table import Table

    words = WORDS[lang]
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    ids = [claim.id for claim, _ in claims]
    for claim, command in claims:
        mark, text = _mark(claim), _claim(claim, words, lang)
        if ids.count(claim.id) > 1:
            text.append(f"{command}\n", "dim")
        table.add_row(f"[{COLOURS.get(mark, 'dim')}]{words[mark]}[/]", text)
    return table


def _mark(claim: "Verdict") -> str:
    """Return what stands before a claim: its verdict, told apart by kind where it is supported, or its kind where it is undecided."""
    return SUPPORTED[claim.kind] if claim.verdict == "supported" else claim.verdict or claim.kind


def _claim(claim: "Verdict", words: dict[str, str], lang: Lang) -> Any:
    """Return what is said of a claim beside its verdict, and an empty line."""
    from rich.text import Text

    from reslab.ledger.wording import reason
    from reslab.report.units import effect_and_interval

    text = Text()
    text.append(f"{claim.id}\n", "bold")
    text.append(f"{claim.statement[lang]}\n")
    if claim.corrects:
        text.append(f"{words['chapter']}: {claim.corrects[lang]}\n", "italic")
    if claim.interval and claim.effect is not None and claim.level is not None:
        effect, low, high = effect_and_interval(claim.effect, claim.interval)
        unit = claim.unit if isinstance(claim.unit, str) else claim.unit[lang]
        text.append(words["effect"].format(effect, unit, f"{100 * claim.level:.4g}", low, high, claim.n) + " ")
    elif claim.reason:
        said = reason(claim)
        text.append(f"{said if isinstance(said, str) else said[lang]}\n")
    if claim.direction is not None:
        text.append(words[claim.direction].format(f"{claim.margin:g}") + "\n")
    text.append(f"{words['source']}: {claim.source}\n", "dim")
    return text


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
        network = f"an UNTRAINED {record['model']}" if record["untrained"] else record["model"]
        images = f"{record['images']} image{'' if record['images'] == 1 else 's'}"
        print(f"{record['analysis']} of {network} on {images} of {record['data']}; weights: {record['weights']}")
        columns = tuple(rows[0]) if rows else ()
        words = [column for column in columns if any(isinstance(row[column], str) for row in rows)]
        print_table(columns, [tuple(short(row[column]) for column in columns) for row in rows], words)
    for key, value in record["summary"].items():
        print(f"{key}: {short(value)}")
    for path in written:
        print(f"wrote {path}")


def print_mapping(file: "Path", report: "Json") -> None:
    """Print which tensors of a file went where."""
    print(f"{file} fits {report['network']}: {report['tensors']} tensors, {len(report['renamed'])} renamed")
    for original, name in report["renamed"].items():
        print(f"  {original} -> {name}")
    if report["zero_pad"] == "centred":
        print("  channels reordered so that the zeros are at the end")
    print(f"assumed, as no tensor tells it: {', '.join(report['assumed'])}")
    if report["out"] is not None:
        print(f"wrote {report['out']}")


def print_shipped(found: "list[Json]") -> None:
    """Print the trained networks that come with the lab."""
    columns = ("network", "data", "parameters", "test error (%)", "MB")
    rows = [(f["model"], f["data"], f"{f['params']:,}", f"{100 * f['errors']['test']['shipped']:.2f}", f"{f['bytes'] / 1e6:.1f}") for f in found]
    print_table(columns, rows, words=("network", "data"))
    print('`reslab.build("resnet20", weights="digits")`, `reslab evaluate resnet20 --weights digits`; a card is beside each file')


def print_bench(figures: "Json") -> None:
    """Print the machine, and what was measured on it."""
    print(" · ".join(f"{key} {value}" for key, value in figures["machine"].items()))
    for what, values in figures.items():
        if what != "machine":
            print(f"{what}: " + (", ".join(f"{key} {figure(value)}" for key, value in values.items()) if isinstance(values, dict) else str(values)))


def warn_of_old(results: "Sequence[Json]", data: "Dataset") -> None:
    """Say on standard error if a result was made by other code than this, or of other images than there are now."""
    from reslab.runs import code_digest

    code = sum(result["code"] != code_digest() for result in results)
    images = sum(result.get("images", data.fingerprint) != data.fingerprint for result in results)
    for old, one, several, what in (
        (code, "was", "were", "made by other code than this"),
        (images, "is", "are", f"of other images than {data.name} has now"),
    ):
        if old:
            which = f"this result {one}" if len(results) == 1 else f"{old} of {len(results)} results {several}"
            print(f"warning: {which} {what}; another --out measures again", file=sys.stderr)


def print_race(record: "Json") -> None:
    """Print how accurate and how fast each contender was, and how they compare."""
    from rich.console import Console

    from reslab.ledger.record import Verdict

    def spread(values: tuple[float, float | None], scale: float, digits: int) -> str:
        average, deviation = values
        return f"{scale * average:.{digits}f}" + (f" ± {scale * deviation:.{digits}f}" if deviation is not None else "")

    first = next(iter(record["runs"]["speedrun"].values()))
    print(" · ".join(f"{key} {value}" for key, value in first["machine"].items()))
    columns = ("network", "seeds", f"{record['part']} accuracy (%)", "training (s)", "whole process (s)")
    rows = [
        (
            name,
            str(len(found["seeds"])),
            spread(found["accuracy"], 100, 2),
            spread(found["training_seconds"], 1, 1),
            spread(found["process_seconds"], 1, 1),
        )
        for name, found in record["summary"].items()
    ]
    print_table(columns, rows)
    for name, runs in record["runs"].items():
        for seed, result in runs.items():
            print(f"{name} s{seed}: {result['directory']}")
    if compared := record["compared"]:
        training, whole = (figure(compared[key]) for key in ("training_seconds", "process_seconds"))
        print(f"time of the speedrun over the other's: training {training}, whole process {whole}")
        Console(highlight=False).print(_claims([(Verdict(**claim), "") for claim in compared["claims"]]))


def figure(value: Any) -> str:
    """Return a number with two digits, or a ratio as its median and its spread."""
    if isinstance(value, tuple):
        return f"{value[0]:.2f} ({value[1]:.2f} to {value[2]:.2f})"
    return "not known here" if value is None else f"{value:.2f}"
