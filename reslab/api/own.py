"""A user's own network, data and loss as a trial: identified by their content, and resumed like any other."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Shaped
from pydantic import Field, ValidationError
from torch import Generator, Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
)
from torch.utils.data import Dataset as Indexed

from reslab.data.batches import pair
from reslab.errors import MismatchError, MissingError, UserError, WrongValueError, worded
from reslab.executors.trial import run_with
from reslab.experiment.identity import digest, settings
from reslab.files import Json, read_record, wrong_value
from reslab.runs import TRIAL, Run
from reslab.shapes import Outcome, Share, TrialFile
from reslab.state import all_draws_apart, copied, seed_all
from reslab.training.loop import PartName, TrialConfig, generator
from reslab.training.objective import Batch, Classes, Objective, OwnLoss
from reslab.training.recipes import Recipe

Source = DataLoader[Any] | Indexed[Any] | tuple[Shaped[Tensor, "n ..."], Shaped[Tensor, "n ..."]] | Iterable[Any]
Loaders = tuple[Source, Source] | tuple[Source, Source, Source]
"""Training and test images, or training, held-out and test images."""
BATCH = 128
"""The batch size if the source does not set one."""
LOOKED_AT = 64
"""Items whose content identifies data that may be large."""
LOOKED_AT_BLINDLY = 1000
"""The same for data that hold no labels that can be read at once."""
WHAT_IT_IS = {"network_digest", "data_digest"}
"""Fields that tell a network and data from others."""
READ_WHOLE = 2**30
"""Bytes of a tensor or array at most, beyond which it may be a file larger than the memory."""


class OwnOutcome(Outcome):
    """The result of such a trial; without classes there are no errors."""

    code: str
    steps: int = Field(ge=0)
    seconds: float = Field(ge=0, allow_inf_nan=False)
    train_error: Share | None
    heldout_error: Share | None
    test_error: Share | None


class OwnTrial(TrialConfig):
    """A trial of something without a name: digests identify what its result depends on."""

    outcome = OwnOutcome  # type: ignore[assignment]  # errors may be absent
    network_digest: str
    data_digest: str
    loss_name: str


class Items(NamedTuple):
    """Items by index, and how several are collated into a batch."""

    items: Any
    collate: Callable[[list[Any]], Any]
    batch_size: int | None = None

    @classmethod
    def of(cls, source: Source) -> "Items":
        """Return the items of a loader, a data set, a pair of tensors, or any iterable of batches, which is read into
        memory.

        Raises:
            UserError: if they have no indices, which a run needs to resume.
        """
        if isinstance(source, DataLoader):
            return cls(_of_loader(source), source.collate_fn, _batch_size(source))
        if isinstance(source, Indexed):
            return cls(_with_length(source), default_collate)
        if isinstance(source, tuple) and len(source) == 2 and all(isinstance(each, Tensor) for each in source):
            if len(source[0]) != len(source[1]):
                raise MismatchError(*worded("images-without-labels", images=len(source[0]), labels=len(source[1])))
            return cls(TensorDataset(*source), default_collate)
        batches, held = list[Batch](), 0
        for batch in map(pair, source):
            batches.append(batch)
            held += sum(each.nbytes for each in batch)
            if held > READ_WHOLE and not hasattr(source, "__len__"):
                raise WrongValueError(*worded("too-many-to-hold", size=f"{READ_WHOLE / 1e9:.1f} GB"))
        if not batches:
            raise MissingError(*worded("no-training-data"))
        images, labels = map(torch.cat, zip(*batches, strict=True))
        return cls(TensorDataset(images, labels), default_collate, len(batches[0][1]))

    def batch(self, index: Sequence[int]) -> Batch:
        """Return the images and labels at these indices.

        Raises:
            UserError: if they cannot be collated.
        """
        items = [self.items[number] for number in index]
        try:
            return pair(self.collate(items))
        except (TypeError, RuntimeError) as error:
            why = next(iter(str(error).splitlines()), type(error).__name__)
            raise WrongValueError(*worded("no-batch", reason=why)) from error

    def digest(self) -> str:
        """Return a digest of the number of items, of some of them, evenly spread, of what can be read of all without
        loading them, and of the function that collates them, which may mix those of a batch.
        """
        count, every = len(self.items), _of_all(self.items)
        last = (LOOKED_AT_BLINDLY if _is_blind(every) else LOOKED_AT) - 1
        with _seeded():  # for augmented items
            places = sorted({number * (count - 1) // last for number in range(last + 1)})
            some = [digest(self.batch([place])) for place in places]
        return digest(count, some, every, *([] if self.collate is default_collate else [self.collate]))


@contextmanager
def _seeded() -> Iterator[None]:
    """Seed all random generators that data may draw from, and restore them on exit."""
    with all_draws_apart():
        seed_all(0)
        yield


def _of_loader(loader: DataLoader[Any]) -> Any:
    """Return the data set of the images that a loader draws from.

    Raises:
        UserError: if they have no indices, or it does not draw each once an epoch, as training here does.
    """
    dataset: Any = loader.dataset
    batches = loader.batch_sampler
    _with_length(dataset)
    sampler = batches.sampler if type(batches) is BatchSampler else batches or loader.sampler
    indices = _indices(sampler)
    if indices is None or len(set(indices)) < len(indices):
        raise WrongValueError(*worded("sampler", name=type(sampler).__name__))
    return dataset if indices == range(len(dataset)) else Subset(dataset, indices)


def _with_length(dataset: Any) -> Any:
    """Return a data set that has a length and indices.

    Raises:
        UserError: if it has not.
    """
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise WrongValueError(*worded("no-indices", kind=type(dataset).__name__))
    return dataset


def _indices(sampler: Any) -> Sequence[int] | None:
    """Return the places that a sampler draws, each once an epoch; None if it draws otherwise."""
    if isinstance(sampler, SubsetRandomSampler):
        return [int(index) for index in sampler.indices]
    if type(sampler) is SequentialSampler:
        return range(len(sampler.data_source))
    if isinstance(sampler, RandomSampler) and not sampler.replacement:
        return range(len(sampler.data_source)) if sampler.num_samples == len(sampler.data_source) else None
    if isinstance(sampler, range) or (isinstance(sampler, list) and all(isinstance(each, int) for each in sampler)):
        return sampler
    return None


def _batch_size(loader: DataLoader[Any]) -> int | None:
    batches = loader.batch_sampler
    return batches.batch_size if isinstance(batches, BatchSampler) else loader.batch_size


def _of_all(items: Any) -> Any:
    """Return what identifies all items at once: tensors, the indices of a subset, and what other data sets hold, such
    as labels, arrays and tables; None if they hold nothing of the kind.
    """
    if isinstance(items, TensorDataset):
        return items.tensors
    if isinstance(items, Subset):
        return torch.tensor(items.indices), _of_all(items.dataset)
    if isinstance(items, ConcatDataset):
        return items.cumulative_sizes, [_of_all(each) for each in items.datasets]
    held = {name: value for name, value in settings(items).items() if _is_data(value)}
    return {name: _of_all(value) if isinstance(value, Indexed) else value for name, value in held.items()} or None


def _is_blind(every: Any) -> bool:
    """Return whether nothing could be read of some of the items without loading them."""
    if isinstance(every, dict):
        return all(map(_is_blind, every.values()))
    if isinstance(every, tuple | list) and not all(isinstance(each, Tensor) for each in every):
        return any(map(_is_blind, every))
    return every is None


def _is_data(value: Any) -> bool:
    """Return whether a value is one that can hold items or labels, and not how they are read."""
    if isinstance(value, list | tuple):
        return len(value) > 0 and all(map(_is_plain, value))
    if isinstance(value, dict):
        return len(value) > 0 and all(map(_is_plain, value.values()))
    if isinstance(value, Tensor | np.ndarray):
        return value.nbytes <= READ_WHOLE
    return isinstance(value, Indexed) or hasattr(value, "to_numpy")


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | np.generic | Path) or _is_data(value)


@dataclass(frozen=True)
class OwnData:
    """A user's images in the trainer's interface. Without held-out images, a tenth of the training images is held out,
    drawn alike for every seed.

    Random augmentation should draw from torch's generator, which is seeded at every step.
    """

    parts: dict[PartName, tuple[Items, Sequence[int]]]
    batch_size: int

    @classmethod
    def of(cls, loaders: Loaders) -> Self:
        """Return the parts from two or three sources.

        Raises:
            UserError: if there are not two or three, or one is empty or has no indices.
        """
        if not isinstance(loaders, tuple | list) or len(loaders) not in (2, 3):
            raise WrongValueError(*worded("not-two-or-three"))
        train, *_, test = found = [Items.of(source) for source in loaders]
        if not all(len(each.items) for each in found) or len(train.items) < 10:
            raise MissingError(*worded("too-few-of-own"))
        count = len(train.items)
        order = torch.randperm(count, generator=generator(0, "heldout", 0)).tolist()  # labels may come in any order
        apart = sorted(order[: count // 10]), sorted(order[count // 10 :])
        parts: dict[PartName, tuple[Items, Sequence[int]]] = {
            "train": (train, range(count) if len(found) == 3 else apart[1]),
            "heldout": (found[1], range(len(found[1].items))) if len(found) == 3 else (train, apart[0]),
            "test": (test, range(len(test.items))),
        }
        return cls(parts, train.batch_size or BATCH)

    @property
    def training_images(self) -> int:
        """Return the number of training images."""
        return len(self.parts["train"][1])

    @property
    def fingerprint(self) -> str:
        """Return nothing: the config has the digest."""
        return ""

    @property
    def preprocessing(self) -> Json:
        """Return nothing, as only the user knows how images are prepared."""
        return {}

    def to(self, device: torch.device) -> Self:
        """Return the same: batches go to the device one by one."""
        return self

    def training_batch(self, index: Tensor, generator: Generator | None) -> Batch:
        """Return the training images at `index`."""
        items, numbers = self.parts["train"]
        return items.batch([numbers[place] for place in index.tolist()])

    def batches(self, part: PartName) -> Iterator[Batch]:
        """Yield a part in order."""
        items, numbers = self.parts[part]
        for first in range(0, len(numbers), self.batch_size):
            yield items.batch(numbers[first : first + self.batch_size])

    def digest(self) -> str:
        """Return a digest of all parts: of each source once, and of which places of it a part has."""
        sources = {id(items): items for items, _ in self.parts.values()}
        number = {place: count for count, place in enumerate(sources)}
        places = {name: (number[id(items)], torch.tensor(at)) for name, (items, at) in self.parts.items()}
        return digest([items.digest() for items in sources.values()], places)


def name_of(loss: Callable[..., Any] | None) -> str:
    """Return the name of a loss and the digest of what it computes."""
    if loss is None:
        return "cross_entropy"
    return f"{getattr(loss, '__qualname__', type(loss).__qualname__)} {digest(loss)}"


def own_trial(
    network: nn.Module, data: OwnData, loss: Callable[..., Any] | None, recipe: Recipe, seed: int, machine: Any
) -> OwnTrial:
    """Return the config of a trial of a user's network; its recipe does not augment, as the data do that themselves.

    Raises:
        UserError: if the network or the loss cannot be trained so, or a value is not allowed.
    """
    if any(
        isinstance(each, UninitializedParameter | UninitializedBuffer)
        for each in (*network.parameters(), *network.buffers())
    ):
        raise WrongValueError(*worded("lazy-layers"))
    if extra := [name for name, value in network.state_dict().items() if not isinstance(value, Tensor)]:
        raise MismatchError(*worded("extra-state", names=", ".join(extra)))
    if isinstance(loss, nn.Module) and any(each.requires_grad for each in loss.parameters()):
        raise MismatchError(*worded("loss-with-parameters", name=type(loss).__name__))
    if loss is not None and recipe.label_smoothing:
        raise MismatchError(*worded("own-loss-smoothing"))
    try:
        return OwnTrial(
            model=f"own:{type(network).__name__}",
            data="own",
            recipe=recipe.model_copy(update={"augment": False, "cutout": 0}),
            seed=seed,
            network_digest=digest(network),
            data_digest=data.digest(),
            loss_name=name_of(loss),
            **vars(machine),
        )
    except ValidationError as error:
        raise wrong_value(error) from error


def begun_otherwise(root: Path, config: OwnTrial) -> Path | None:
    """Return the directory of a run below a root that was interrupted, and differs from a trial in nothing but initial
    weights or data; None if the trial itself has begun, or there is none.
    """
    run = Run(root, config)
    if run.finished or run.checkpoint.exists():
        return None
    mine = config.model_dump(mode="json", exclude=WHAT_IT_IS)
    for checkpoint in sorted(root.glob(f"*/{run.checkpoint.name}")):
        with suppress(UserError, OSError):  # of another kind of run, or damaged
            theirs = read_record(checkpoint.with_name(TRIAL), TrialFile)["config"]
            if {key: value for key, value in theirs.items() if key not in WHAT_IT_IS} == mine:
                return checkpoint.parent
    return None


def _apart(loss: Callable[..., Any]) -> Callable[..., Any]:
    """Return a copy of a loss that is a module, and may keep something; the loss itself where there can be none."""
    if isinstance(loss, nn.Module):
        with suppress(UserError):
            return copied(loss)
    return loss


def working(network: nn.Module, data: OwnData, loss: Callable[..., Any] | None) -> Callable[[TrialConfig, Path], Json]:
    """Return the function that runs the trial of a config below a root."""

    def make(config: TrialConfig) -> tuple[nn.Module, OwnData, Objective]:
        seed_all(config.seed)
        objective: Objective = Classes(config.recipe.label_smoothing)
        if loss is not None:
            objective = OwnLoss(_apart(loss))
        return copied(network), data, objective

    return partial(run_with, make=make)
