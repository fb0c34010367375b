"""`reslab ship`: makes a small weights file to be bundled, and its card, from a finished run.

    OUT/DATA/MODEL.safetensors    kernels and matrices in float16; the metadata hold every figure of the card
    OUT/DATA/MODEL.md             the card

The errors of the trained network were measured by its run; those of the written file are measured here.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from reslab.commands import printing
from reslab.commands.app import Flag, app
from reslab.errors import (
    DamagedError,
    ExistsError,
    MismatchError,
    MissingError,
    UnknownNameError,
    UnusableError,
    worded,
)
from reslab.naming import without_path
from reslab.progress import Progress, display, silent

if TYPE_CHECKING:
    from torch import nn

    from reslab.data.dataset import Dataset, PartName
    from reslab.files import Json
    from reslab.training.loop import TrialConfig


@app.command
def ship(run: Path, /, *, out: Path = Path("weights"), study: Path | None = None, json: Flag = False) -> None:
    """Make a small weights file and its card from a finished run, to be bundled with the lab: `reslab ship
    runs/train/RUN --out weights`.

    Kernels and matrices are rounded to float16; the card states the errors before and after.

    Parameters
    ----------
    run
        The run directory, as `reslab train` prints it.
    out
        Where to write DATA/MODEL.safetensors and DATA/MODEL.md; refuses to overwrite.
    study
        The directory of a study that the run is a trial of: the card says so, with the study's seeds.
    json
        Print what the card states as JSON.
    """
    with display() as progress:
        shipped = make(run, out, progress, study)
    if json:
        printing.print_json({"weights": str(shipped.weights), "card": str(shipped.card), **shipped.facts})
    else:
        test = shipped.facts["errors"]["test"]
        print(
            f"wrote {shipped.weights}\nwrote {shipped.card}\ntest error {100 * test['shipped']:.2f} % "
            f"({100 * test['trained']:.2f} % before rounding)"
        )


PARTS: "dict[PartName, str]" = {"train": "training", "heldout": "held-out", "test": "test"}


class Origin(NamedTuple):
    """The origin of images, and their licence."""

    images: str
    source: str
    licence: str


ORIGINS = {
    "digits": Origin(
        "handwritten digits, 8×8 pixels, grey, 10 classes; part of scikit-learn (`sklearn.datasets.load_digits`)",
        "E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, "
        "1998 (its test part)",
        "CC BY 4.0, as the repository states",
    ),
    "cifar10-jpeg": Origin(
        "CIFAR-10 after JPEG compression of quality 75, 32×32 pixels, colour, 10 classes; not the published pixels, "
        "so its errors are not CIFAR-10's (`--data cifar10-jpeg75` compresses the published images in this way)",
        "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; collected from the web",
        "none is stated by its authors; it is used for research and teaching",
    ),
}
"""The origin of the training images of bundled networks, by folder of `weights/`."""


class Shipped(NamedTuple):
    """A weights file to be bundled, and its card."""

    weights: Path
    card: Path
    facts: "Json"


def make(run: Path, out: Path, progress: Progress = silent, study: Path | None = None) -> Shipped:
    """Write a finished run's network and its card below `out`; refuse to overwrite.

    Raises:
        UserError: if the run is not finished or no trial of the study, its network has no name, its data have no known
            origin, or its file or card exists.
    """
    from reslab.data import load_data
    from reslab.files import write_atomically
    from reslab.networks import zoo
    from reslab.networks.counting import count_params
    from reslab.subject import Subject
    from reslab.weights.files import halved, to_bytes
    from reslab.weights.shipped import trained_on

    config, stated = _read(run)
    told = {} if study is None else {"study": _of_study(run, study)}
    folder = trained_on(config.data)
    if folder not in ORIGINS:
        raise UnknownNameError(*worded("origin-unknown", data=config.data, names=", ".join(ORIGINS)))
    model = zoo.named(config.model, config.options)
    if model is None:
        raise UnknownNameError(*worded("network-without-name", model=config.model, options=config.options or ""))
    target = out / folder / f"{model}.safetensors"
    card_path = target.with_suffix(".md")
    for path in (target, card_path):
        if path.exists():
            raise ExistsError(*worded("exists-to-remove", path=path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror
        raise UnusableError(*worded("unwritable", path=target.parent, reason=reason, option="--out")) from error
    data = load_data(config.data, progress=progress)
    subject, data = Subject.of(config.model, run / "weights.safetensors", {}, like=data).seeing(data)
    network = subject.network
    network.load_state_dict(halved(network.state_dict()))
    rounded = _errors(network, data, progress)
    facts = {
        "made_for": {"num_classes": data.num_classes, "in_channels": data.in_channels},
        "params": count_params(network),
        "errors": {part: {"trained": stated["errors"][part], "shipped": rounded[part]} for part in PARTS},
        "images": {part: len(data.parts[part].labels) for part in PARTS},
        "split": data.split_rule.english,
        "seed": config.seed,
        "steps": stated["steps"],
        "epochs": round(stated["steps"] / (len(data.labels) // min(config.recipe.batch_size, len(data.labels)))),
        "recipe": config.recipe.model_dump(mode="json"),
        "versions": stated["packages"],
        "command": command(config),
        **told,
    }
    # the data's name may contain a path of this machine
    preprocessing = {**data.preprocessing, "data": folder}
    content = to_bytes(network, model, {}, preprocessing, facts)
    write_atomically(card_path, card(model, folder, facts, len(content)))
    write_atomically(target, content)
    return Shipped(target, card_path, facts)


def _read(run: Path) -> "tuple[TrialConfig, Json]":
    """Return a finished run's config, and further facts for its card: status, steps, errors, packages."""
    from reslab.files import read_record
    from reslab.runs import RESULT, TRIAL, check_files
    from reslab.shapes import TrialFile
    from reslab.training.loop import TrialConfig, TrialOutcome
    from reslab.training.recipes import RECIPES

    try:
        trial, result = read_record(run / TRIAL, TrialFile), read_record(run / RESULT, TrialOutcome)
        config = TrialConfig(**trial["config"])
        stated = {"status": result["status"], "steps": result["steps"], "packages": trial["environment"]["packages"]}
        stated["errors"] = {part: result[f"{part}_error"] for part in PARTS}
    except FileNotFoundError as error:
        raise MissingError(*worded("no-finished-run", run=run, file=Path(error.filename).name)) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(*worded("run-unreadable", run=run, reason=error)) from error
    check_files(run)
    if stated["status"] != "finished":
        raise MissingError(*worded("nothing-to-ship", run=run, status=stated["status"]))
    if config.start is not None:
        raise UnusableError(*worded("started-from-others", run=run))
    if config.recipe.name not in RECIPES:
        names = ", ".join(RECIPES)
        raise UnknownNameError(*worded("recipe-without-name", run=run, recipe=config.recipe.name, names=names))
    return config, stated


def _of_study(run: Path, directory: Path) -> "Json":
    """Return what a card says of the study that a run is a trial of: its name and seeds, and the date of its
    registration, empty without one.

    Raises:
        UserError: if there is no such study, or the run is not among its trials.
    """
    from reslab.report.records import read_study

    record = read_study(directory)
    entry = next((entry for entry in record.trials if Path(entry.directory).name == run.resolve().name), None)
    if entry is None:
        raise MismatchError(*worded("no-trial-of-study", run=run, directory=directory))
    seeds = sorted(one.seed for one in record.trials if one.group == entry.group and one.seed is not None)
    date = str((record.registration or {}).get("date", ""))[:10]
    return {"name": record.study, "group": entry.group, "seeds": seeds, "registered": date}


def _errors(network: "nn.Module", data: "Dataset", progress: Progress) -> "dict[PartName, float]":
    """Return the error on each part."""
    from reslab.trained import look

    errors = {}
    for part, name in PARTS.items():
        error = look(network, data, part, "single", _called(f"{name} images", progress))["error"]
        assert error is not None
        errors[part] = error
    return errors


def _called(what: str, progress: Progress) -> Progress:
    """Return a fact under another name."""
    return lambda _, done, total, said="": progress(what, done, total, said)


OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW", "muon": "Muon"}
"""The optimisers of recipes, as a card calls them."""


def command(config: "TrialConfig") -> str:
    """Return the command that trains a network again, without the path of a folder of images."""
    from reslab.training.recipes import recipe_for

    data = without_path(config.data)
    base, recipe = (
        recipe_for(config.data, config.recipe.name).model_dump(mode="json"),
        config.recipe.model_dump(mode="json"),
    )
    options = [word for key, value in config.options.items() for word in (f"--{key}", str(value))]
    words = ["reslab", "train", config.model, *options, "--data", data, "--recipe", config.recipe.name]
    if config.recipe.epochs is not None:
        words += ["--epochs", str(config.recipe.epochs)]
    for key in ("seed", "threads", "device", "precision"):
        words += [f"--{key}", str(getattr(config, key))]
    changed = {
        key: value for key, value in recipe.items() if value != base[key] and key not in ("epochs", "iterations")
    }
    if recipe["iterations"] != base["iterations"] and recipe["iterations"] is not None:
        changed["iterations"] = recipe["iterations"]
    words += [word for key, value in changed.items() for word in ("--set", f"'{key}={json.dumps(value)}'")]
    words += [f"--devices {config.devices}"] * (config.devices > 1) + ["--compile"] * config.compile
    return " ".join(words)


def card(model: str, folder: str, facts: "Json", size: int) -> str:
    """Return the card, in Markdown."""
    origin, recipe, errors = ORIGINS[folder], facts["recipe"], facts["errors"]
    plain = "without shortcuts, the control for its residual twin (deep ones train badly: the degradation problem)"
    kind = plain if model.startswith("plain") else "residual"
    rows = "\n".join(
        f"| {PARTS[part]} | {facts['images'][part]:,} | {100 * errors[part]['trained']:.2f} % | "
        f"{100 * errors[part]['shipped']:.2f} % |"
        for part in PARTS
    )
    test = f"{100 * errors['test']['shipped']:.2f} %"
    made_for = facts["made_for"]
    words = _trial_of(facts["study"]) if "study" in facts else None
    study, korean = (f"\n- {words['en']}", f" {words['ko']}") if words else ("", "")
    optimizer = OPTIMIZERS[recipe.get("optimizer") or "sgd"]
    seen = "" if folder == "digits" else f" --data folder:PATH/{folder}"
    rates = ", ".join(
        f"{key.replace('_', ' ')} {recipe[key]:g}" for key in ("learning_rate", "momentum", "weight_decay")
    )
    return f"""# {model}, trained on {folder}

A network to analyse: {kind}; {facts["params"]:,} parameters, {made_for["in_channels"]} image channel(s), {made_for["num_classes"]} classes.

    reslab.build("{model}", weights="{folder}")
    reslab analyze removal {model} --weights {folder}{seen}

## Errors

| part | images | as trained | this file |
|---|---|---|---|
{rows}

One run with one seed: neither a mean nor a benchmark. The file stores kernels and matrices in float16 ({size:,} bytes), and they are loaded as float32.
The last column was measured after this rounding. Measure it again with `reslab evaluate {model} --weights {folder}{seen} --part test`.

## Data

- Images: {origin.images}.
- Source: {origin.source}.
- Licence of the images: {origin.licence}. None of them is in this file.
- Split: {facts["split"]}.

## Training

- Recipe `{recipe["name"]}`: {facts["epochs"]} epochs, {facts["steps"]:,} steps of {recipe["batch_size"]} images; {optimizer} with {rates};
  seed {facts["seed"]}. The test part was not used for any choice.{study}
- Commands: `{facts["command"]}`, then `reslab ship` on its run directory.
- Versions: {", ".join(f"{name} {version}" for name, version in sorted(facts["versions"].items()))}. Other versions and machines round differently.

## What it is not for

It recognises only images like its data. It is small and was trained briefly, so its errors do not show what its architecture can reach. It exists so that analyses, such as removing a block, have a trained network to work on.

The weights have the lab's own licence (MIT).

## 한국어

{folder} 데이터로 학습한 {model}입니다. 테스트 오류율은 {test}입니다(시드 하나의 결과이며 평균이 아닙니다). 블록을 제거하거나 기울기를 경로 길이별로 나누는
분석에 쓰도록 넣어 둔 신경망이며, 이 데이터와 다른 이미지를 인식하는 용도가 아닙니다.{korean}
"""


def _trial_of(study: "Json") -> dict[str, str]:
    """Return what study a network is of, in both languages."""
    name, group, seeds = study["name"], study["group"], ", ".join(map(str, study["seeds"]))
    date = study["registered"]
    return {
        "ko": f"연구 `{name}`의 `{group}` 신경망 가운데 하나이며, 시드는 {seeds}입니다"
        + (f"({date}에 사전 등록)." if date else "."),
        "en": f"One of the networks `{group}` of the study `{name}`, seeds {seeds}"
        + (f"; registered on {date}." if date else "."),
    }
