"""The chapter's checklist: the skills of a learner, and the tasks and claims behind them."""

from dataclasses import dataclass

from reslab.errors import Language
from reslab.ledger.claim import Section


@dataclass(frozen=True)
class Item:
    """One of the checklist's items: the section of the chapter it belongs to, which is also its claims',
    and its tasks.
    """

    section: Section
    text: dict[Language, str]
    tasks: tuple[str, ...]


CHECKLIST = (
    Item(
        "degradation",
        {
            "ko": "성능 저하 문제를 설명하고, 과적합이나 기울기 소실과 구별할 수 있다",
            "en": "I can explain the degradation problem, and tell it from overfitting and from vanishing gradients",
        },
        ("2.1", "2.4", "2.6", "2.7"),
    ),
    Item(
        "residual-learning",
        {
            "ko": "잔차 학습의 수식을 유도할 수 있다",
            "en": "I can derive residual learning",
        },
        ("1.1", "1.2"),
    ),
    Item(
        "gradient",
        {
            "ko": "스킵 연결이 기울기에 주는 이점과 그 한계를 안다",
            "en": "I know what skips do for the gradient, and what they do not",
        },
        ("1.1", "1.5", "1.6", "1.9"),
    ),
    Item(
        "blocks",
        {
            "ko": "기본 블록과 병목 블록의 차이를 곱셈-누산으로 셀 수 있다",
            "en": "I can count basic block and bottleneck in multiply-adds",
        },
        ("2.3",),
    ),
    Item(
        "resnet-50",
        {
            "ko": "ResNet-50의 구조를 외워 쓸 수 있다",
            "en": "I can write ResNet-50 down by heart",
        },
        ("2.8", "2.11"),
    ),
    Item(
        "shortcuts",
        {
            "ko": "투영 지름길을 구현하고, A, B, C안을 골라 쓸 수 있다",
            "en": "I can build the projection shortcut, and choose between options A, B and C",
        },
        ("1.4", "2.2", "2.10"),
    ),
    Item(
        "identity",
        {
            "ko": "사전·사후 활성화의 차이와 v2의 세 규칙을 안다",
            "en": "I know pre- from post-activation, and the three rules of v2",
        },
        ("1.3", "1.7"),
    ),
    Item(
        "ensemble",
        {
            "ko": "앙상블 관점과 그에 맞서는 해석을 안다",
            "en": "I know the ensemble view, and the reading against it",
        },
        ("1.8", "1.10", "2.5", "2.9"),
    ),
)
"""The eight items, in the chapter's order and words; every task belongs to one at least."""
