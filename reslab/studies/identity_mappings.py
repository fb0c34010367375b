"""What may a residual unit do to its shortcut, and in what order should it activate? (He et al. 2016, Tables 1 and 2)

The paper's variants of one network, each in all its units. Table 1 is about optimisation (section 3), so training
errors are compared; in Table 2 full pre-activation's advantage is partly BatchNorm's regularisation (section 4.2), so
test errors are. And how often does the last ReLU of a v1 unit change the sum at all?
"""

from collections.abc import Collection, Mapping
from statistics import fmean
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from reslab.errors import suggest
from reslab.experiment.config import CifarDepths, StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import Spec, StudyText, cited, claims, exact, higher, lower, not_higher
from reslab.experiment.trials import Exactly, Grid, Key, Trials, Values
from reslab.ledger.comparison import untrained
from reslab.ledger.record import Chart
from reslab.measures.negative_sums import negative
from reslab.measures.units import snippet
from reslab.training.loop import TrialConfig

TEXT = StudyText(__name__)

SHORTCUTS: dict[str, dict[str, float | str]] = {
    "scaled-0.5-0.5": {"kind": "scaling", "shortcut_scale": 0.5, "branch_scale": 0.5},
    "exclusive-gate": {"kind": "exclusive-gating"},
    "shortcut-gate": {"kind": "shortcut-gating", "gate_bias": 0.0},
    "convolution": {"kind": "convolution"},
    "dropout": {"kind": "dropout"},
}
"""Table 1: the networks' options."""

ORDERS = {
    "bn-after-addition": "is-worse",
    "relu-before-addition": "is-worse",
    "relu-only-pre-activation": "is-not-worse",
    "full-pre-activation": "is-not-worse",
}
"""Table 2: what is claimed of each order."""


def _worse(found: str) -> Spec:
    return higher(
        0.01, at=f"Table 1: {found} % test error against 6.61 with the identity, ResNet-110 on CIFAR-10; section 3"
    )


def _in_table_2(found: str) -> dict[str, Any]:
    at = f"Table 2: {found} % against 6.61 for the original, ResNet-110 on CIFAR-10"
    return {"at": at, "rate": True, "published": round(float(found) / 100 - 0.0661, 4)}


CLAIMS = claims(
    TEXT,
    "He et al. 2016 (arXiv:1603.05027)",
    "identity",
    {
        "scaled-0.5-0.5-trains-worse": _worse("12.35"),
        "exclusive-gate-trains-worse": _worse("8.70"),
        "shortcut-gate-trains-worse": _worse("12.86"),
        "convolution-trains-worse": _worse("12.22"),
        "dropout-trains-worse": _worse("over 20"),
        "bn-after-addition-is-worse": higher(0.01, **_in_table_2("8.17")),
        "relu-before-addition-is-worse": higher(0.01, **_in_table_2("7.84")),
        "relu-only-pre-activation-is-not-worse": not_higher(0.01, **_in_table_2("6.71")),
        "full-pre-activation-is-not-worse": not_higher(0.01, **_in_table_2("6.37")),
        "the-last-relu-rarely-changes-the-sum": not_higher(
            0.1, source="the chapter; He et al. 2016, section 4.2, has “more frequently” above zero, and no number"
        ),
        "training-makes-the-change-rarer": lower(
            0.02, at="section 4.2: after some training the sum is “more frequently above zero” (164 layers)"
        ),
        "the-last-relu-truncates-more-at-1001-layers": cited(at="section 4.2", revision=2),
        "v2-needs-more-than-the-snippet": exact(at="section 4.1, Fig. 5, and appendix; the authors' released code"),
    },
)

ORIGINAL = ("original",)


VARIANTS = (*SHORTCUTS, *ORDERS)


def _check_variant(name: str) -> str:
    """Return the name if it is that of a variant.

    Raises:
        ValueError: if not.
    """
    if name not in VARIANTS:
        raise ValueError(f"no variant {name!r}{suggest(name, VARIANTS)}")
    return name


class IdentityMappingsConfig(StudyConfig):
    """Depth of all networks, and the variants beside the original; without any, only its last ReLUs are looked at."""

    depths: CifarDepths = Field((44,), min_length=1, max_length=1)
    variants: tuple[Annotated[str, AfterValidator(_check_variant)], ...] = VARIANTS


def grid(config: IdentityMappingsConfig) -> Grid:
    """Return the trials: the original, and the variants of both tables."""
    (depth,) = config.depths
    found: dict[Key, list[TrialConfig]] = {ORIGINAL: config.trials("cifar_resnet", depth=depth)}
    for name in config.variants:
        model, options = (
            ("cifar_shortcut_ablation", SHORTCUTS[name])
            if name in SHORTCUTS
            else ("cifar_activation_order", {"order": name})
        )
        found[name,] = config.trials(model, depth=depth, **options)
    return found


def measure(config: IdentityMappingsConfig, trials: Trials) -> Measurement:
    """Compare both tables' variants with the original, and its negative sums before and after training.

    That a variant of Table 1 hardly trains is the claim, so there the original alone has to have learned its task.
    """
    train, test = trials.errors("train"), trials.errors("test")
    absent = Values({})
    untested = untrained(train[ORIGINAL].trained)
    sums = trials.look("negative sums", negative, keys=[ORIGINAL])[ORIGINAL]
    share_before, share_after = (
        trials.of(ORIGINAL, {seed: fmean(found[when]) for seed, found in sums.items()}) for when in (0, 1)
    )
    return Measurement(
        {
            **{
                f"{name}-trains-worse": train.get((name,), absent).against(
                    train[ORIGINAL], guard=False, untested=untested
                )
                for name in SHORTCUTS
            },
            **{f"{name}-{claim}": test.get((name,), absent).against(test[ORIGINAL]) for name, claim in ORDERS.items()},
            "the-last-relu-rarely-changes-the-sum": share_after.against(0.0),
            "training-makes-the-change-rarer": share_after.against(share_before, paired=True),
            "v2-needs-more-than-the-snippet": Exactly(snippet(), NEEDED),
        },
        charts=[
            *_bars("shortcuts", SHORTCUTS, train),
            *_bars("orders", ORDERS, test),
            TEXT.before_and_after("relu", sums),
        ],
    )


def _bars(chart: str, variants: Collection[str], errors: Mapping[Key, Values]) -> list[Chart]:
    """Return a chart of the original and the variants of a table that there are; none without any."""
    names = [name for name in variants if (name,) in errors]
    series = TEXT.averaged("error", ["original", *names], [errors[name,].values() for name in ("original", *names)])
    return [TEXT.chart(chart, [series], kind="bars", rate=True)] if names else []


NEEDED = {
    "shared activation": ["layer2.0", "layer3.0"],
    "first unit": "3×3 BN ReLU 3×3 +",
    "after the last addition": "BN ReLU",
}


STUDY = Study(TEXT, CLAIMS, IdentityMappingsConfig, grid=grid, measure=measure)
