"""Shortcut options: none, A, B and C compared (He et al. 2015, sections 3.3 and 4.1, Table 3).

The chapter sets zero padding against projection. Four networks of each depth, trained alike; B and C cost parameters that A does not.
"""

from pydantic import Field

from reslab.ledger.claim import Claim
from reslab.ledger.verdict import Comparison
from reslab.studies.study import CifarDepths, Groups, Measurement, Progress, Study, StudyConfig, by_seed, not_trained
from reslab.training.loop import TrialConfig

PAPER = "He et al. 2015 (arXiv:1512.03385), section 4.1, Table 3"

ANY_HELPS = Claim(
    id="shortcuts.identity-beats-none",
    kind="statistical",
    section="shortcuts",
    statement={
        "ko": "매개변수가 없는 지름길(A)만 더해도, 가장 깊은 신경망의 훈련 오류가 지름길이 없을 때보다 작다.",
        "en": "A parameter-free shortcut (A) alone gives the deepest network a lower training error than no shortcut.",
    },
    source=PAPER,
    direction="lower",
    margin=0.01,
    unit="training error",
    rate=True,
)
PROJECTION_NOT_NEEDED = Claim(
    id="shortcuts.zero-padding-is-not-worse-than-projection",
    kind="statistical",
    section="shortcuts",
    statement={
        "ko": "제로 패딩(A)의 시험 오류는 모양이 바뀌는 곳에만 투영을 쓰는 것(B)보다 뚜렷이 크지 않다.",
        "en": "Zero padding (A) does not have a notably higher test error than projection where the shape changes (B).",
    },
    source=f"{PAPER}: 25.03, 24.52 and 24.19 % top-1 for A, B and C: “projection shortcuts are not essential”",
    direction="not higher",
    margin=0.01,
    unit="test error",
    rate=True,
)
ALL_PROJECTIONS = Claim(
    id="shortcuts.projecting-everywhere-is-not-better",
    kind="statistical",
    section="shortcuts",
    statement={
        "ko": "모양이 바뀌는 곳에만 투영을 쓰는 것(B)의 시험 오류는 모든 지름길을 투영으로 바꾼 것(C)보다 뚜렷이 크지 않다.",
        "en": "Projection only where the shape changes (B) does not have a notably higher test error than projection in every block (C).",
    },
    source=PAPER,
    direction="not higher",
    margin=0.01,
    unit="test error",
    rate=True,
)


class ShortcutsConfig(StudyConfig):
    """Depths of the networks; the claims compare at the deepest."""

    depths: CifarDepths = Field((20, 56), min_length=1, description="depths, each 6n+2")


def grid(config: ShortcutsConfig) -> dict[str, list[TrialConfig]]:
    """Return the trials: a group for each depth and option."""
    groups = {}
    for depth in config.depths:
        groups[f"none-{depth}"] = config.trials("cifar_plain", depth=depth)
        for option in "ABC":
            groups[f"{option}-{depth}"] = config.trials("cifar_resnet", depth=depth, shortcut=option)
    return groups


def measure(config: ShortcutsConfig, groups: Groups, progress: Progress) -> Measurement:
    """Return the three comparisons at the deepest networks."""
    deep = config.depths[-1]

    def error(option: str, part: str) -> dict[int, float]:
        return by_seed(groups[f"{option}-{deep}"], f"{part}_error")

    return Measurement(
        [
            Comparison(ANY_HELPS, error("A", "train"), error("none", "train"), room=True),
            Comparison(PROJECTION_NOT_NEEDED, error("A", "test"), error("B", "test"), untested=not_trained(groups, f"B-{deep}")),
            Comparison(ALL_PROJECTIONS, error("B", "test"), error("C", "test"), untested=not_trained(groups, f"C-{deep}")),
        ]
    )


STUDY = Study(
    name="shortcuts",
    title={"ko": "지름길의 종류", "en": "Kinds of shortcut"},
    question={
        "ko": "모양이 바뀌는 곳의 지름길은 제로 패딩으로 충분한가, 투영이 필요한가?",
        "en": "Where the shape changes, is zero padding enough, or is a projection needed?",
    },
    claims=(ANY_HELPS, PROJECTION_NOT_NEEDED, ALL_PROJECTIONS),
    config=ShortcutsConfig,
    presets={"default": {}, "smoke": {"depths": (8,), "seeds": 3, "epochs": 1}},
    grid=grid,
    measure=measure,
)
