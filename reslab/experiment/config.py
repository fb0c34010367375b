"""Settings of studies, and common types of settings."""

from typing import Annotated, Any, get_origin

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from reslab.data import canonical
from reslab.errors import WrongValueError, suggest, told, worded
from reslab.experiment.identity import digest
from reslab.networks import zoo
from reslab.networks.sources import function_of
from reslab.runs import Config
from reslab.training.devices import Device, Precision, best_device, best_precision, is_here
from reslab.training.loop import TrialConfig
from reslab.training.recipes import RECIPES, Recipe, recipe_for


class StudyConfig(Config):
    """Settings common to all studies."""

    data: str = "digits"
    seeds: int = Field(5, ge=1, le=1000)
    first_seed: int = Field(0, ge=0, lt=2**62)
    recipe: str = "fast"
    epochs: int | None = Field(None, ge=1, le=10**9)
    threads: int = Field(1, ge=1, le=1024)
    device: Device = "cpu"
    precision: Precision = "32"

    @field_validator("*", mode="before")
    @classmethod
    def _one_of_several(cls, value: Any, info: ValidationInfo) -> Any:
        """Accept `--depths 20` as a list of one, and `--variants none` as an empty one."""
        several = get_origin(cls.model_fields[info.field_name or ""].annotation) is tuple
        if not several or not isinstance(value, int | float | str):
            return value
        return () if value == "none" else (value,)

    @field_validator("data")
    @classmethod
    def _known_data(cls, name: str) -> str:
        return canonical(name)

    @field_validator("recipe")
    @classmethod
    def _known_recipe(cls, name: str) -> str:
        if name not in RECIPES:
            raise ValueError(f"no recipe {name!r}{suggest(name, RECIPES)}")
        return name

    @field_validator("device", mode="before")
    @classmethod
    def _best_device(cls, device: Any) -> Any:
        return best_device() if device == "auto" else device

    @field_validator("precision", mode="before")
    @classmethod
    def _best_precision(cls, precision: Any, info: ValidationInfo) -> Any:
        if precision != "auto" or "device" not in info.data:
            return str(precision)  # a typed-in 32 is read as a number
        device: Device = info.data["device"]
        if not is_here(device):  # it is for a cluster's
            raise WrongValueError(*worded("auto-elsewhere", device=device))
        return best_precision(device).value

    @property
    def seed_range(self) -> range:
        """Return the seeds of the repeats."""
        return range(self.first_seed, self.first_seed + self.seeds)

    def training(self) -> Recipe:
        """Return the recipe with this config's length."""
        recipe = recipe_for(self.data, self.recipe)
        return recipe.model_copy(update={"epochs": self.epochs, "iterations": None}) if self.epochs else recipe

    def trials(self, model: str, **options: int | float | str | bool) -> list[TrialConfig]:
        """Return the trials of one network, one per seed."""
        return [
            TrialConfig(
                model=model,
                options=options,
                data=self.data,
                recipe=self.training(),
                seed=seed,
                factory=code_of(model),
                threads=self.threads,
                device=self.device,
                precision=self.precision,
            )
            for seed in self.seed_range
        ]


def code_of(model: str) -> str:
    """Return the digest of the code of a user's factory, which may change under its name; empty for other networks.

    Raises:
        UserError: if there is no such factory.
    """
    if not zoo.is_factory(model):
        return ""
    with told(f"{model} could not be called"):
        return digest(function_of(model))


def longer(trial: TrialConfig, times: int) -> TrialConfig:
    """Return the trial with its recipe stretched: so many times its epochs or iterations."""
    recipe = trial.recipe
    stretched = {name: times * count for name in ("epochs", "iterations") if (count := getattr(recipe, name))}
    return trial.model_copy(update={"recipe": recipe.model_copy(update=stretched)})


def _check_cifar_depth(depth: int) -> int:
    """Return the depth if it is 6n+2.

    Raises:
        ValueError: if not.
    """
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"depth {depth} is not 6n+2 (8, 14, 20, …, as the CIFAR design needs)")
    return depth


def _check_growth(values: tuple[float, ...]) -> tuple[float, ...]:
    """Return the values if they increase.

    Raises:
        ValueError: if not.
    """
    if list(values) != sorted(set(values)):
        raise ValueError(f"must be increasing, got {', '.join(f'{value:g}' for value in values)}")
    return values


INCREASING = AfterValidator(_check_growth)
"""Refuses a setting whose values do not increase."""

CifarDepth = Annotated[int, AfterValidator(_check_cifar_depth)]
"""A depth of a CIFAR network: 6n+2."""

GrowingDepths = Annotated[tuple[int, ...], INCREASING]
"""Depths of any networks, shallowest first."""

CifarDepths = Annotated[tuple[CifarDepth, ...], INCREASING]
"""Depths of CIFAR networks: each 6n+2, shallowest first."""
