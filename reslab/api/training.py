"""`reslab.train`: `reslab train` from Python, also with a user's own network, data and loss."""

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from reslab import runs
from reslab.analysis.result import Result, new_figure
from reslab.api import own
from reslab.api.planning import Machine, checked_data, recipe_of, start_from, trial
from reslab.data import load_data
from reslab.errors import MismatchError, MissingError, WrongValueError, worded
from reslab.executors import Executor, build_network, here, loaded, run_trials
from reslab.files import Json
from reslab.progress import Progress, shown
from reslab.state import copied
from reslab.training import beside
from reslab.training.loop import PARTS, TrialConfig
from reslab.weights.files import read_weights
from reslab.weights.untold import ZeroPadSide

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Run(Result):
    """A finished run of `reslab.train`, in its directory: `config`, `result`, `metrics`, `weights`, `network()`.

    Examples:
        >>> import reslab
        >>> run = reslab.train("cifar_resnet", depth=8, epochs=1, settings={"batch_size": 256})
        >>> run.weights.name, run.metrics["epoch"].tolist()
        ('weights.safetensors', [1.0])
        >>> run.errors_by_class().columns.tolist()
        ['images', 'error']
    """

    directory: Path
    config: TrialConfig
    result: Json
    own: nn.Module | None = field(default=None, repr=False)  # a user's network, untrained

    def __repr__(self) -> str:
        errors = ", ".join(
            f"{part} error {100 * error:.2f} %" for part in PARTS if (error := self.result[f"{part}_error"]) is not None
        )
        status = f"{self.result['status']} after {self.result['steps']} iterations"
        return f"Run of {self.config.model}, {status}{': ' if errors else ''}{errors} ({self.directory})"

    @property
    def files(self) -> runs.Run:
        """Return the run's directory as a `Run`."""
        return runs.Run(self.directory.parent, self.config)

    @property
    def weights(self) -> Path:
        """Return the file of the trained weights, safetensors."""
        return self.files.weights

    @property
    def metrics(self) -> "pd.DataFrame":
        """Return a row per epoch: step, learning rate, loss (nats, or the unit of a user's loss), errors (fractions),
        seconds.
        """
        import pandas as pd

        return pd.DataFrame(list(self.files.metrics()))

    def to_frame(self) -> "pd.DataFrame":
        """Return the metrics, a row per epoch."""
        return self.metrics

    def network(self, *, ema: bool = False) -> nn.Module:
        """Return the trained network in evaluation mode; with `ema`, with the moving average of its weights.

        Raises:
            UserError: if a file is damaged or gone, or the recipe kept no average.
        """
        file = self.files.ema if ema else self.weights
        if not ema and not file.is_file():
            raise MissingError(*worded("weights-gone", path=file))
        if not file.is_file():
            raise MismatchError(*worded("no-average-kept", directory=self.directory))
        if self.own is None:
            return build_network(self.config, load_data(self.config.data), weights=file).eval()
        network = copied(self.own)
        network.load_state_dict(read_weights(file).sets[""])
        if (further := self.files.beside).is_file():
            runs.check_files(self.directory, further.name)
            beside.put_back(network, beside.read(further, "ema" if ema else "weights"))
        return network.eval()

    def confusion(self, part: Literal["heldout", "test"] = "test") -> "pd.DataFrame":
        """Return the confusion matrix: true classes in rows, predictions in columns, and a last column for scores that
        are not finite.

        Raises:
            UserError: if there is none, as where outputs are not classes.
        """
        import pandas as pd

        counts = self.files.confusion().get(part)
        if counts is None:
            raise MissingError(*worded("no-confusion", path=self.directory))
        names = self._classes(len(counts))
        return pd.DataFrame(counts, index=pd.Index(names, name="class"), columns=[*names, "none"])

    def errors_by_class(self, part: Literal["heldout", "test"] = "test") -> "pd.DataFrame":
        """Return a row per class: its number of images, and the fraction classified wrongly."""
        counts = self.confusion(part)
        images = counts.sum(axis=1)
        right = [counts.iloc[place, place] for place in range(len(counts))]
        return images.to_frame("images").assign(error=1 - right / images)

    def _classes(self, count: int) -> list[str]:
        kept = read_weights(self.weights).metadata.get("preprocessing", {}).get("classes") or []
        return [*kept, *map(str, range(len(kept), count))]  # a network may have more classes than its data

    def figure(self) -> "Figure":
        """Plot loss and errors over the epochs."""
        figure = new_figure()
        left, right = figure.subplots(1, 2)
        metrics = self.metrics
        left.plot(metrics["epoch"], metrics["loss"])
        left.set(xlabel="epoch", ylabel="training loss")
        for column in ("train_error", "heldout_error"):
            right.plot(metrics["epoch"], 100 * metrics[column].astype(float), label=column.replace("_", " "))
        right.set(xlabel="epoch", ylabel="error (%)")
        right.legend(frameon=False)
        return figure


def train(
    network: str | nn.Module,
    data: str | own.Loaders = "digits",
    *,
    loss: Callable[[Any, Any], Float[Tensor, ""]] | None = None,
    recipe: str = "fast",
    epochs: int | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    start: str | PathLike[str] | None = None,
    zero_pad: ZeroPadSide | None = None,
    threads: int = 1,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "32", "bf16", "16"] = "auto",
    out: str | PathLike[str] = "runs/train",
    download: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Run:
    """Train a network, bit for bit as `reslab train` does, and return its run. The same call resumes an interrupted
    run, and returns a finished one; of your own network, if it has the same initial weights (`torch.manual_seed`).

    Args:
        network: a name from `list_models`, or any network; a copy of it is trained.
        data: the name of a data set, as for `load_data`; for your own network, `(train_loader, test_loader)`: loaders,
            data sets or pairs of tensors, whose batches are pairs, triples or dicts of images and labels.
        loss: of outputs and labels, for your own network, of which a copy is used if it is a module; the mean
            cross-entropy by default.
        recipe: "fast", "paper-cifar", "paper-cifar-warmup" or "paper-imagenet".
        epochs: length in epochs, in place of the recipe's.
        settings: other settings of the recipe, such as `{"learning_rate": 0.03, "ema": 0.999}`.
        seed: of the initial weights (of a named network) and the order of the images.
        start: weights to fine-tune with a new classifier, for a named network: a file or a name, as for `evaluate`.
        zero_pad: where that file's option A puts its zeros.
        threads: CPU threads; part of the run's identity, as they change the order of sums.
        device: where to train; "auto" is the fastest available.
        precision: of convolutions and matrix products; "auto" is the fastest that the device supports natively.
        out: the directory of run directories, one per configuration.
        download: download the data set if it is missing.
        progress: notified of the steps done; by default bars in a notebook or a terminal, and nothing elsewhere.
        options: of the named network, such as `depth=26`.

    Examples:
        >>> import reslab
        >>> run = reslab.train("cifar_resnet", depth=8, epochs=1, settings={"batch_size": 256})
        >>> list(run.metrics["epoch"]), run.result["status"]
        ([1.0], 'finished')
        >>> run.network().training
        False

    Raises:
        UserError: if there is no such network, data or recipe, they do not fit together, or training failed.
    """
    if zero_pad is not None and start is None:
        raise MissingError(*worded("zero-pad-of-nothing"))
    machine = Machine.of(device, precision, threads=threads)
    if isinstance(network, nn.Module):
        if isinstance(data, str) or options or start is not None:
            raise WrongValueError(*worded("own-network-own-data"))
        if ignored := [name for name in ("augment", "cutout") if (settings or {}).get(name)]:
            raise WrongValueError(*worded("own-augmentation", names=", ".join(ignored)))
        images = own.OwnData.of(data)
        with_batch = {"batch_size": min(images.batch_size, images.training_images), **(settings or {})}
        mine = own.own_trial(network, images, loss, recipe_of(recipe, "own", epochs, with_batch), seed, machine)
        if (other := own.begun_otherwise(Path(out), mine)) is not None:
            warnings.warn(worded("begun-otherwise", path=other).english, stacklevel=2)
        done = finished(mine, Path(out), here(own.working(network, images, loss)), progress, network)
        _warn_of_old(done, "your data", {})
        return done
    if not isinstance(data, str) or loss is not None:
        raise WrongValueError(*worded("own-data-own-network"))
    dataset = checked_data(network, data, options, download)
    chosen = recipe_of(recipe, data, epochs, settings or {})
    begun = None if start is None else start_from(os.fspath(start), network, zero_pad, options)
    config = trial(network, data, chosen, seed, machine, options, begun)
    found = finished(config, Path(out), loaded(dataset), progress)
    _warn_of_old(found, dataset.name, dataset.identity)
    return found


def _warn_of_old(found: Run, data: str, now: Json) -> None:
    """Warn if a run was made with different code, or from other images than its data set has now."""
    for said in runs.out_of_date([found.result], found.config.code_digest(), data, now):
        warnings.warn(said.english, stacklevel=3)


def finished(
    config: TrialConfig, root: Path, executor: Executor, progress: Progress | None, network: nn.Module | None = None
) -> Run:
    """Return the run of a trial, after running it if necessary.

    Raises:
        UserError: if it fails.
    """
    with shown(progress) as tell:
        failures = run_trials([config], root, executor, tell)
    if failures:
        raise failures[0].error()
    files = runs.Run(root, config)
    return Run(files.path, config, files.result(), None if network is None else copied(network))
