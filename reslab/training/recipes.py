"""Recipes: how a network is trained, as frozen configs. The learning rate is a function of the step alone."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from reslab.runs import Config

WARMUP_PART = 10
"""A warm-up takes at most one in so many iterations of the run, so that it also ends in a short run. The papers' 400 of
64,000 iterations are far below it.
"""


class Steps(Config):
    """The base rate divided by 10 at each milestone, after an optional constant warm-up that ends (He et al. 2015,
    section 4.2).
    """

    kind: Literal["steps"] = "steps"
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        description="where the rate is divided by 10, as fractions of the iterations"
    )
    warmup_iterations: int = Field(
        0, ge=0, description="iterations at the warm-up rate, a tenth of the run at most; then the base rate holds"
    )
    warmup_rate: float = Field(0.01, gt=0, description="learning rate of the warm-up")

    def rate(self, base: float, step: int, total: int) -> float:
        """Return the learning rate of iteration `step` (from 0) of `total`."""
        if step < min(self.warmup_iterations, total // WARMUP_PART):
            return self.warmup_rate
        return float(base / 10 ** sum(step >= milestone * total for milestone in self.milestones))


class OneCycle(Config):
    """A straight line up from 0 to the base rate and a straight line down to 0 (after Smith & Topin 2018,
    arXiv:1708.07120).
    """

    kind: Literal["one-cycle"] = "one-cycle"
    peak: float = Field(0.3, gt=0, lt=1, description="where the top is, as a fraction of the iterations")

    def rate(self, base: float, step: int, total: int) -> float:
        """Return the learning rate of iteration `step` (from 0) of `total`; neither end is 0, so that every step
        counts.
        """
        x = (step + 0.5) / total
        return base * min(x / self.peak, (1 - x) / (1 - self.peak))


class Cosine(Config):
    """Half a wave of the cosine from the base rate down to 0, after a straight line up (Loshchilov & Hutter 2017,
    arXiv:1608.03983, eq. 5, without restarts).
    """

    kind: Literal["cosine"] = "cosine"
    warmup: float = Field(0.0, ge=0, lt=1, description="where the line up ends, as a fraction of the iterations")

    def rate(self, base: float, step: int, total: int) -> float:
        """Return the learning rate of iteration `step` (from 0) of `total`; neither end is 0, so that every step
        counts.
        """
        x = (step + 0.5) / total
        if x < self.warmup:
            return base * x / self.warmup
        return base * (1 + math.cos(math.pi * (x - self.warmup) / (1 - self.warmup))) / 2


class ScaleCrop(Config):
    """Augmentation for images of any size (He et al. 2015, section 3.4): resize, crop, mirror, shift the colour."""

    shorter: tuple[int, int] = Field((256, 480), description="pixels: the shorter side is uniform between these two")
    crop: int = Field(224, ge=1, description="pixels: side of the square that the network sees")
    colour: float = Field(
        0.1,
        ge=0,
        description="standard deviation of the multiples of the principal components (Krizhevsky et al. 2012)",
    )

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        low, high = self.shorter
        if not self.crop <= low <= high:
            raise ValueError(f"crop and sides must satisfy crop <= low <= high; got {self.crop}, {low}, {high}")
        return self


class Recipe(Config):
    """SGD with momentum and weight decay, its length and its learning-rate schedule; and optional additions, which are
    part of a recipe's identity only if set.
    """

    later = (
        "label_smoothing",
        "ema",
        "no_vector_decay",
        "mixup",
        "cutmix",
        "accumulate",
        "clip_norm",
        "optimizer",
    )
    name: str
    learning_rate: float = Field(gt=0, description="base rate")
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(1e-4, ge=0, description="L2 penalty on every parameter, as in the paper")
    batch_size: int = Field(
        128, ge=1, description="images per iteration; the last, smaller batch of an epoch is dropped"
    )
    iterations: int | None = Field(None, ge=1, description="length in iterations; give this or epochs")
    epochs: int | None = Field(None, ge=1, description="length in epochs; give this or iterations")
    schedule: Annotated[Steps | OneCycle | Cosine, Field(discriminator="kind")]
    augment: bool | ScaleCrop = Field(True, description="shift and mirror as the data set allows, or scale and crop")
    cutout: int = Field(
        0,
        ge=0,
        description="pixels: side of a square blanked in every training image (DeVries & Taylor 2017), none if 0",
    )

    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the target that all classes have alike (Szegedy et al. 2016, section 7)"
    )
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay of a moving average of the weights, which is evaluated beside them; 0.999"
    )
    no_vector_decay: bool = Field(
        False, description="no weight decay on vectors, which are the weights of norms, and biases"
    )
    mixup: float = Field(0.0, ge=0, description="α of mixup: pairs of images are added in shares of Beta(α, α)")
    cutmix: float = Field(0.0, ge=0, description="α of cutmix: a part of another image is set into each")
    accumulate: int = Field(
        0, ge=0, description="parts that a batch is computed in, each normalised by itself, for less memory"
    )
    clip_norm: float = Field(0.0, ge=0, description="the largest norm of the gradient; a larger one is scaled to it")
    optimizer: Literal["adamw", "muon"] | None = Field(
        None,
        description="in place of SGD: adamw, with the momentum as its first beta, or muon for the filters of "
        "convolutions (whose weight decay it takes the place of) with SGD for the rest",
    )

    @field_validator("schedule", mode="before")
    @classmethod
    def _named_schedule(cls, schedule: Any) -> Any:
        """Accept `--set schedule=cosine` as a cosine with its default settings."""
        return {"kind": schedule} if isinstance(schedule, str) else schedule

    @field_validator("optimizer", mode="before")
    @classmethod
    def _usual_optimizer(cls, optimizer: Any) -> Any:
        return None if optimizer == "sgd" else optimizer

    @model_validator(mode="after")
    def _cutout_augments(self) -> Self:
        if self.cutout and self.augment is not True:
            raise ValueError("cutout needs augment=true, which shifts and mirrors")
        return self

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.iterations is None) == (self.epochs is None):
            raise ValueError("give exactly one of iterations and epochs")
        return self

    def total_iterations(self, iterations_per_epoch: int) -> int:
        """Return the length in iterations."""
        return self.iterations if self.iterations is not None else (self.epochs or 0) * iterations_per_epoch

    def rate(self, step: int, total: int) -> float:
        """Return the learning rate of iteration `step` (from 0) of `total`."""
        return self.schedule.rate(self.learning_rate, step, total)


PAPER_CIFAR = Recipe(
    name="paper-cifar",
    learning_rate=0.1,
    iterations=64_000,
    schedule=Steps(milestones=(0.5, 0.75)),  # 32k and 48k
)
"""He et al. 2015, section 4.2: batch 128, rate 0.1, divided by 10 at 32k and 48k iterations, stop at 64k."""

PAPER_CIFAR_WARMUP = PAPER_CIFAR.model_copy(
    update={"name": "paper-cifar-warmup", "schedule": Steps(milestones=(0.5, 0.75), warmup_iterations=400)}
)
"""The same with 400 iterations at 0.01 first: the 110-layer network of 2015, and every CIFAR run of 2016
(arXiv:1603.05027).
"""

PAPER_IMAGENET = Recipe(
    name="paper-imagenet",
    learning_rate=0.1,
    batch_size=256,
    iterations=600_000,
    schedule=Steps(milestones=(0.25, 0.5)),  # 150k and 300k
    augment=ScaleCrop(),
)
"""He et al. 2015, section 3.4: batch 256, rate 0.1, at most 60×10⁴ iterations, divided by 10 "when the error plateaus".

A plateau cannot be detected from the step alone, so the milestones are those of He et al. 2016 (arXiv:1603.05027,
appendix), epochs 30 and 60 of ImageNet's 1.28 million images at batch 256: 5,005 iterations per epoch, rounded.
"""

FAST = Recipe(
    name="fast",
    learning_rate=0.05,
    nesterov=True,
    batch_size=64,
    epochs=7,
    schedule=OneCycle(),
)
"""A short one-cycle run: seconds on the digits, on whose held-out images the rate was chosen."""

FAST_CIFAR = FAST.model_copy(update={"learning_rate": 0.1, "weight_decay": 5e-4, "epochs": 16})
"""The same for tens of thousands of images, chosen on held-out images of CIFAR-10: there the warm-up has enough steps
for twice the rate.
"""

RECIPES = {recipe.name: recipe for recipe in (FAST, PAPER_CIFAR, PAPER_CIFAR_WARMUP, PAPER_IMAGENET)}


def recipe_for(data: str, name: str) -> Recipe:
    """Return the named recipe for a data set; `fast` differs between the digits and larger data."""
    return FAST_CIFAR if name == FAST.name and data != "digits" else RECIPES[name]
