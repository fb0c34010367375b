"""Claims: an assertion, and the smallest effect that matters, fixed before anything runs."""

import math
from dataclasses import dataclass
from typing import Literal

from typing_extensions import (
    TypedDict,
)  # part of pydantic's requirements; pydantic needs this version below Python 3.12


class Text(TypedDict):
    """A text in both languages."""

    ko: str
    en: str


Words = str | Text
"""A text in both languages, or a name that is the same in both."""

Kind = Literal["exact", "statistical", "cited"]

Direction = Literal["higher", "lower", "not higher"]
Decision = Literal["supported", "refuted", "inconclusive", "untested"]

Section = Literal[
    "overview",
    "degradation",
    "residual-learning",
    "gradient",
    "shortcuts",
    "blocks",
    "variants",
    "resnet-50",
    "identity",
    "ensemble",
    "batchnorm",
    "successors",
]

SECTIONS: dict[Section, Text] = {
    "overview": {"ko": "개요", "en": "Overview"},
    "degradation": {"ko": "성능 저하(degradation) 문제", "en": "The degradation problem"},
    "residual-learning": {"ko": "잔차 학습", "en": "Residual learning"},
    "gradient": {"ko": "지름길의 기울기", "en": "The gradient of the shortcut"},
    "shortcuts": {"ko": "차원 맞추기와 투영", "en": "Matching dimensions: projections"},
    "blocks": {"ko": "기본 블록과 병목 블록", "en": "Basic block and bottleneck"},
    "variants": {"ko": "ResNet 변형 비교", "en": "The five networks"},
    "resnet-50": {"ko": "ResNet-50 상세 구조", "en": "ResNet-50 in detail"},
    "identity": {"ko": "항등 사상이 중요한 이유", "en": "Why identity mappings matter"},
    "ensemble": {"ko": "앙상블 관점", "en": "The ensemble view"},
    "batchnorm": {"ko": "배치 정규화의 역할", "en": "The role of BatchNorm"},
    "successors": {"ko": "ResNet 이후", "en": "After ResNet"},
}
"""The sections of the chapter, in its order, and their titles."""
BEYOND: Text = {"ko": "이 장 밖의 주장", "en": "Beyond the chapter"}
"""The heading of claims without a section."""


@dataclass(frozen=True)
class Claim:
    """An assertion that a measurement or a source can support or refute; `section` is the section of the chapter, if
    any.

    Statistical claims have a direction and a margin. "higher": the effect is above `margin`. "lower": it is below
    `-margin`. "not higher": non-inferiority, it is below `margin`. `rate` is true if the unit is an error rate.
    `corrects` is the chapter's own sentence, if the claim corrects it. A cited claim has its source's decision and
    finding.

    `revision` is raised when the comparison changes, so that earlier records no longer count. `margin_why` is the
    reason for the margin; `published` is the paper's own effect, in the claim's unit. `same_as` is the id of a claim
    decided by the same numbers: of the two, only that one is counted.
    """

    id: str
    kind: Kind
    section: Section | None
    statement: Text
    source: str
    direction: Direction | None = None
    margin: float | None = None
    unit: Words = ""
    rate: bool = False
    corrects: Text | None = None
    decision: Decision | None = None
    finding: Words | None = None
    revision: int = 1
    margin_why: Text | None = None
    published: float | None = None
    same_as: str | None = None

    def __post_init__(self) -> None:
        statistical, compared = self.kind == "statistical", (self.direction, self.margin)
        if None in compared if statistical else compared != (None, None):
            raise ValueError(f"claim {self.id!r}: a statistical claim has a direction and a margin, and no other has")
        if (self.kind == "cited") != (self.decision is not None and self.finding is not None):
            raise ValueError(
                f"claim {self.id!r}: a cited claim has its source's decision and finding, and no other has"
            )
        if self.margin is not None and not 0 <= self.margin < math.inf:
            raise ValueError(f"claim {self.id!r}: the margin must be a finite number of at least 0, got {self.margin}")
        if self.published is not None and not math.isfinite(self.published):
            raise ValueError(f"claim {self.id!r}: a published effect must be a finite number, got {self.published}")
        if self.revision < 1:
            raise ValueError(f"claim {self.id!r}: revisions are counted from 1, got {self.revision}")
        if self.same_as == self.id:
            raise ValueError(f"claim {self.id!r}: a claim cannot be an alias of itself")
