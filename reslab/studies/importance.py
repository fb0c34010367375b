"""Which blocks does a trained network need, can one tell without removing them, and are neighbouring blocks alike?

A lesion costs a pass over the images for every block. 1 − cos of a block's input and output costs one for all of them,
and ranks the layers of language models well enough to prune by (Men et al. 2024, "block influence"); −dL/dg, the first
term of the Taylor series of what removal does, is the criterion of Molchanov et al. 2017. Here both are compared with
the rise of the loss as a branch is put at zero, by Spearman's rank correlation over a network's blocks; 1 − cos has no
value for blocks that change the shape, which are left out there. A branch at its mean is the other usual lesion.

Where every block adds little to what passes by, neighbours give nearly the same: linear CKA (Kornblith et al.
2019) of what a block gives with what the next gives, beside a plain network
of the same layers, shallow enough to be trained.
"""

from collections.abc import Mapping
from statistics import fmean

from pydantic import Field

from reslab.experiment.config import CifarDepth, StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims, higher
from reslab.experiment.trials import Grid, Key, Trials, Values, label
from reslab.ledger.record import Series
from reslab.measures.importance import Importance, importance, neighbours

MEN = "Men et al. 2024 (arXiv:2403.03853): block influence, in language models"
MOLCHANOV = "Molchanov et al. 2017 (arXiv:1611.06440): the Taylor criterion"
KORNBLITH = "Kornblith et al. 2019 (arXiv:1905.00414), who look at plain networks and ResNets with CKA"

TEXT = StudyText(__name__)
CLAIMS = claims(
    TEXT,
    "Veit et al. 2016 (arXiv:1605.06431)",
    "ensemble",
    {
        "turn-ranks-as-the-lesion": higher(0.5, source=MEN),
        "turn-ranks-as-the-lesion-in-v2": higher(0.5, source=MEN),
        "first-order-ranks-as-the-lesion": higher(0.5, source=MOLCHANOV),
        "mean-and-zero-agree": higher(0.7, at="section 4.1, which knows one kind of lesion: the branch at zero"),
        "neighbours-are-more-alike-than-plain": higher(0.05, source=KORNBLITH),
        "neighbours-are-more-alike-than-plain-in-v2": higher(0.05, source=KORNBLITH),
    },
)

RESNET, PRERESNET, PLAIN = ("resnet", "deep"), ("preresnet", "deep"), ("plain",)
SHALLOW: list[Key] = [("resnet",), ("preresnet",), PLAIN]


class ImportanceConfig(StudyConfig):
    """The depths of the networks, and the images."""

    depth: CifarDepth = Field(56, ge=20)
    control: CifarDepth = 20
    images: int = Field(250, ge=4)


def grid(config: ImportanceConfig) -> Grid:
    """Return the trials: two deep residual networks, and three shallow ones, one of them plain."""
    return {
        RESNET: config.trials("cifar_resnet", depth=config.depth),
        PRERESNET: config.trials("cifar_preresnet", depth=config.depth),
        **{key: config.trials(f"cifar_{key[0]}", depth=config.control) for key in SHALLOW},
    }


def measure(config: ImportanceConfig, trials: Trials) -> Measurement:
    """Compare correlations over blocks with 0, and neighbours in residual networks with those in a plain one."""
    ranked = trials.look("lesions", importance, config.images, keys=[RESNET, PRERESNET])
    near = trials.look("alike", neighbours, config.images, keys=SHALLOW)

    def agrees(key: Key, measure: str) -> Values:
        return trials.of(key, {seed: found.agreement[measure] for seed, found in ranked[key].items()})

    v1, v2, plain = (trials.of(key, {seed: fmean(cka) for seed, cka in near[key].items()}) for key in SHALLOW)
    return Measurement(
        {
            "turn-ranks-as-the-lesion": agrees(RESNET, "turn").against(0.0),
            "turn-ranks-as-the-lesion-in-v2": agrees(PRERESNET, "turn").against(0.0),
            "first-order-ranks-as-the-lesion": agrees(RESNET, "first order").against(0.0),
            "mean-and-zero-agree": agrees(RESNET, "loss, mean").against(0.0),
            "neighbours-are-more-alike-than-plain": v1.against(plain),
            "neighbours-are-more-alike-than-plain-in-v2": v2.against(plain),
        },
        tables=[TEXT.table("agreement", _means(ranked))],
        charts=[
            TEXT.chart("turn", [series for key in ranked for series in _first(key, ranked[key])], kind="points"),
            TEXT.chart("neighbours", [_along(key, near[key]) for key in SHALLOW if near[key]]),
        ],
    )


def _means(ranked: Mapping[Key, Mapping[int, Importance]]) -> list[list[str | float | None]]:
    """Return a row per measure: its mean correlation in each network."""
    found = {key: list(by_seed.values()) for key, by_seed in ranked.items()}
    measures = next((some[0].agreement for some in found.values() if some), {})
    return [
        [measure, *(fmean(one.agreement[measure] for one in some) if some else None for some in found.values())]
        for measure in measures
    ]


def _first(key: Key, ranked: Mapping[int, Importance]) -> list[Series]:
    """Return the blocks of the first seed's network, a point each."""
    return [
        Series(name=TEXT.name(str(key[0])), x=list(one.turn.values()), y=list(one.rise.values()), text=list(one.rise))
        for one in list(ranked.values())[:1]
    ]


def _along(key: Key, near: Mapping[int, list[float]]) -> Series:
    places = [float(place) for place in range(1, len(next(iter(near.values()))) + 1)]
    return TEXT.over_seeds(label(key), places, near)


STUDY = Study(TEXT, CLAIMS, ImportanceConfig, grid=grid, measure=measure)
