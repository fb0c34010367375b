"""`reslab analyze`: a network, its weights, some images, and one analysis of them."""

import inspect
import json as jsonlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reslab.analysis.declared import Analysis, analyses
from reslab.commands import printing, tables, typed
from reslab.commands.app import Flag, Seed, app
from reslab.commands.korean import COMPLETED
from reslab.errors import (
    ExistsError,
    Language,
    MismatchError,
    MissingError,
    UnknownNameError,
    UserError,
    WrongValueError,
    at_least,
    suggested,
    worded,
)
from reslab.progress import Progress, display, short, silent

if TYPE_CHECKING:
    import pandas as pd

    from reslab.analysis.result import Result
    from reslab.data.dataset import PartName
    from reslab.files import Json
    from reslab.weights.untold import Asked

WORDS: dict[Language, dict[str, str]] = {
    "ko": {
        "subject": "{analysis}: {network}. {data}의 {images}. 가중치: {weights}",
        "untrained": "학습하지 않은 {}",
        "both": "{}, {}",
        "image": "이미지 {}장",
        "images": "이미지 {}장",
        "wrote": "저장: {}",
    },
    "en": {
        "subject": "{analysis} of {network} on {images} of {data}; weights: {weights}",
        "untrained": "an UNTRAINED {}",
        "both": "{} and {}",
        "image": "{} image",
        "images": "{} images",
        "wrote": "wrote {}",
    },
}


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
    head: Literal["fresh", "none"] | None = None,
    raw: Flag = False,
    other: str | None = None,
    out: Path | None = None,
    csv: Path | None = None,
    parquet: Path | None = None,
    download: Flag = False,
    lang: Language | None = None,
    json: Flag = False,
    **options: str,
) -> None:
    """Look inside a residual network: `reslab analyze paths resnet20`, `reslab analyze removal resnet32 --weights
    FILE`.

    The analyses:

    ANALYSES

    TRAINED need trained weights, and use the bundled ones if there are any for this network and data set (see `reslab
    weights`). All others use fresh weights, in training mode unless the analysis sets it.

    Parameters
    ----------
    name
        The analysis.
    model
        The network: a name (see `reslab models`), torchvision/NAME, timm/NAME, hf:ORG/NAME, or your own:
        package.module:factory or file.py:factory, which returns a network, or a dict of `network` and perhaps `loader`
        (batches of images and labels) and `loss`.
    weights
        Its weights: any file that `reslab weights` reads; digits, or another word that `reslab weights` lists;
        torchvision, torchvision:IMAGENET1K_V2, pretrained or hf:ORG/NAME, as for `reslab evaluate`; or none, a fresh
        network.
    data
        As for `reslab train`; a factory's loader takes its place.
    part
        Part of the data; keep test for final figures.
    images
        Number of images (default: what the analysis needs).
    seed
        Seed of a fresh network's weights and of the analysis' random draws.
    zero_pad
        Where option A puts its zero channels in this file; only for files from elsewhere.
    head
        A classifier in place of the file's, for weights trained without labels: fresh, or none, which leaves the
        features.
    raw
        If a file holds both weights and their average (EMA), use the weights; the default is the average.
    other
        For alike: a second network on the same images. Its name (with the first's choice of weights, unless that is a
        file), or a weights file, for example of the same network from another seed.
    out
        Directory for the table (JSON) and the figure (SVG and PNG).
    csv
        A CSV file to write the table to, UTF-8 as spreadsheets know it.
    parquet
        A Parquet file to write the table to; it needs pyarrow. What was looked at is in its metadata.
    download
        Download the data set if it is missing.
    lang
        ko or en, by default the system's language.
    json
        Print the table as JSON.
    options
        Settings of the analysis, such as `--draws 10` or `--precision bf16`; `--output logits` to select one of the
        network's outputs by name or position; and options of the network, such as `--depth 26`.
    """
    from reslab.networks import zoo
    from reslab.weights.untold import Asked

    words = typed.words(options)
    typed.see_whose(words, analyze, zoo.options(model or ""))
    if out is not None:
        typed.make_writable(out)
        places(name, model, out)  # before the work, and not after it
    files = tables.places(csv, parquet)
    with display() as progress:
        found = analyze_model(
            name,
            model,
            weights=weights,
            data=data,
            part=part,
            images=images,
            seed=seed,
            asked=Asked(zero_pad, head, raw),
            other=other,
            download=download,
            options=words,
            progress=progress,
        )
    language = typed.language(lang)
    for fresh in (each["model"] for each in (found.record, found.record.get("other", {})) if each.get("untrained")):
        printing.note(worded("untrained", network=fresh, analysis=name), language)
    if hasattr(found.result, "text"):
        found.record["text"] = found.result.text(language)
    written = [WORDS[language]["wrote"].format(path) for path in write(found, out)] if out is not None else []
    written += tables.write(found.table, files, language)
    printing.print_json(found.record) if json else print_analysis(found.record, written, language)


def _known() -> list[Analysis]:
    """Return the analyses, each once."""
    return list(dict.fromkeys(analyses().values()))


def _listed(text: str) -> str:
    """Return a docstring with the analyses in it."""
    lines = [
        f"- {each.name}{f', or {each.alias}' if each.alias else ''}: {each.says}. {each.needed}" for each in _known()
    ]
    *others, last = [each.name for each in _known() if each.trained]
    return text.replace("ANALYSES", "\n    ".join(lines)).replace("TRAINED", f"{', '.join(others)} and {last}")


def _listed_in_korean(text: str) -> str:
    """Return the Korean text with the analyses in it."""
    lines = []
    for each in _known():
        shows, needs = each.in_korean()
        lines.append(f"- {each.name}{f' (또는 {each.alias})' if each.alias else ''}: {shows}. 필요한 것: {needs}.")
    trained = ", ".join(each.name for each in _known() if each.trained)
    return text.replace("ANALYSES", "\n".join(lines)).replace("TRAINED", trained)


analyze.__doc__ = _listed(analyze.__doc__ or "")
COMPLETED["analyze"] = _listed_in_korean


@dataclass(frozen=True)
class Found:
    """A result, the same as plain data, and its table, which knows in `attrs` what it is of."""

    result: "Result"
    record: dict[str, Any]
    table: "pd.DataFrame"


def analyze_model(
    name: str,
    model: str | None,
    *,
    weights: str | Path | None = None,
    data: str = "digits",
    part: "PartName" = "heldout",
    images: int | None = None,
    asked: "Asked | None" = None,
    other: str | None = None,
    download: bool = False,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Found:
    """Build the network, read the images, and run the analysis; `options` are passed to the analysis or to the network.

    Without `weights`, an analysis of trained networks uses bundled ones if there are any for this network and data;
    "none" means a fresh network. `seed` determines a fresh network's weights and the random draws. `other` is the name
    of a second network, or its weights file, for an analysis of two.

    Raises:
        UserError: if there is no such analysis, or network, weights, data and analysis do not fit together.
    """
    import torch

    from reslab.commands.taking import images_of, take, take_other
    from reslab.data import load_data
    from reslab.networks.sources import HUGGING_FACE

    if name not in analyses():
        raise UnknownNameError(*worded("no-analysis", name=name, near=suggested(name, analyses())))
    analysis = analyses()[name]
    function = analysis.load()
    known = inspect.signature(function).parameters
    settings, others = _sorted_out(dict(options or {}), known)
    with_settings = ", ".join(f"{key} {value}" for key, value in settings.items())
    if images is not None and images < 1:
        raise WrongValueError(*worded("out-of-range", option="--images", typed=images, bounds=at_least(1)))
    if "network" not in known:
        if others or data != "digits" or any(each is not None for each in (model, weights, images, other)):
            raise MismatchError(*worded("takes-no-network", name=name))
        return _found(name, analysis, function(**settings), {})
    if model is None:
        raise MissingError(*worded("no-network-named", name=name))
    if asked is not None and asked.head == "none" and "labels" in known:
        raise MismatchError(*worded("needs-a-classifier", name=name, others=", ".join(_without_labels())))
    if other is not None and "other" not in known:
        both = [each.name for each in _known() if "other" in each.parameters]
        raise MismatchError(*worded("takes-one-network", name=name, both=", ".join(both)))
    fresh_head = asked is not None and asked.head == "fresh" and "labels" in known
    torch.manual_seed(seed)
    if "seed" in known:
        settings["seed"] = seed
    if model.startswith(HUGGING_FACE):  # classifiers with logits among their outputs
        settings.setdefault("output", "logits")
    shipped_for = data if analysis.trained and not others else None
    dataset = cache(partial(load_data, data, download=download, progress=progress))
    one = take(model, weights, others, asked, dataset, shipped_for, seed)
    about = {"model": model, "weights": one.origin, "untrained": analysis.trained and (fresh_head or one.drawn)}
    if other is not None:
        two = take_other(other, one, weights, asked, dataset, shipped_for, seed)
        settings["other"] = two.subject.network
        about["other"] = {"model": other, "weights": two.origin, "untrained": analysis.trained and two.drawn}
    x, y, source = images_of(one, part, images or analysis.images, data)
    if one.subject.own.loss is not None and "loss" in known:
        settings["loss"] = one.subject.own.loss
    if "labels" in known:
        settings["labels"] = y
    if "progress" in known:
        settings["progress"] = progress
    try:
        result = function(one.subject.network, x, **settings)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        if isinstance(error, UserError) or not with_settings:
            raise
        raise MismatchError(*worded("cannot-run-with", name=name, settings=with_settings, reason=error)) from error
    return _found(name, analysis, result, {**about, "images": len(x), "data": source})


def places(name: str, model: str | None, directory: Path) -> list[Path]:
    """Return the paths of an analysis's table (JSON) and figure (SVG and PNG).

    Raises:
        UserError: if one of them exists.
    """
    from reslab.files import file_name

    stem = "-".join(file_name(word) for word in (name, model) if word)
    paths = [directory / f"{stem}.{kind}" for kind in ("json", "svg", "png")]
    for path in paths:
        if path.exists():
            raise ExistsError(*worded("exists", path=path))
    return paths


def write(found: Found, directory: Path) -> list[Path]:
    """Write the table and the figure; refuse to overwrite.

    Raises:
        UserError: if a file of that name exists.
    """
    from reslab.analysis.result import drawn
    from reslab.files import write_atomically

    paths = places(found.record["analysis"], found.record.get("model"), directory)
    figure = found.result.figure()
    contents = [
        jsonlib.dumps(found.record, ensure_ascii=False, indent=1, default=str).encode(),
        *(drawn(figure, kind) for kind in ("svg", "png")),
    ]
    for path, content in zip(paths, contents, strict=True):
        write_atomically(path, content)
    return paths


def _sorted_out(
    options: dict[str, Any], known: Mapping[str, inspect.Parameter]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of the analysis, and the others, which are the network's."""
    settings = {
        key: value
        for key, value in options.items()
        if key in known and key not in ("network", "images", "labels", "progress", "loss", "other")
    }
    others = {key: value for key, value in options.items() if key not in settings}
    return {key: _of_kind(key, value, known[key].annotation) for key, value in settings.items()}, others


def _of_kind(key: str, value: Any, kind: Any) -> Any:
    """Return a setting's value in its annotated type: a single value becomes a sequence, and 32 may become text.

    Raises:
        UserError: if that is impossible.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    adapter = TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False))
    complaints = []
    for candidate in (value, str(value), (value,), (str(value),)):
        try:
            return adapter.validate_python(candidate)
        except ValidationError as error:
            complaints.append(error.errors()[0]["msg"])
    raise WrongValueError(f"--{key.replace('_', '-')} {value}: {complaints[0]}")


def _without_labels() -> list[str]:
    """Return the analyses of networks that need no labels."""
    return [each.name for each in _known() if "network" in each.parameters and "labels" not in each.parameters]


def _found(name: str, analysis: Analysis, result: "Result", about: dict[str, Any]) -> Found:
    from reslab.files import finite

    frame = result.to_frame()
    frame = frame.reset_index(drop=frame.index.name is None)
    summary = finite({key: getattr(result, key) for key in analysis.summary})
    frame.attrs = {"analysis": name, **about, "summary": summary}
    record: dict[str, Any] = {**frame.attrs, "rows": tables.rows(frame)}
    if hasattr(result, "text"):
        record["text"] = result.text()
    return Found(result, record, frame)


def _told(network: "Json", words: Mapping[str, str]) -> str:
    return words["untrained"].format(network["model"]) if network["untrained"] else str(network["model"])


def _cell(value: Any) -> str:
    """Return a value as the table shows it: a large count in full, and a dash where there is no value."""
    if value is None:
        return "–"
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer() and abs(value) >= 1e4)
    return f"{value:,.0f}" if whole and not isinstance(value, bool) else short(value)


def print_analysis(record: "Json", written: "list[str]", language: Language = "en") -> None:
    """Print an analysis: its subject, its table, and what is said of the files written."""
    rows, words = record["rows"], WORDS[language]
    if "text" in record:
        print(record["text"])
    else:
        network, weights = _told(record, words), record["weights"]
        if "other" in record:
            network = words["both"].format(network, _told(record["other"], words))
            weights = words["both"].format(weights, record["other"]["weights"])
        images = words["image" if record["images"] == 1 else "images"].format(record["images"])
        subject = {"analysis": record["analysis"], "network": network, "images": images, "data": record["data"]}
        print(words["subject"].format(**subject, weights=weights))
        columns = tuple(rows[0]) if rows else ()
        texts = [column for column in columns if any(isinstance(row[column], str) for row in rows)]
        printing.print_table(columns, [tuple(_cell(row[column]) for column in columns) for row in rows], texts)
    for key, value in record["summary"].items():
        print(f"{key}: {_cell(value)}")
    for line in written:
        print(line)
