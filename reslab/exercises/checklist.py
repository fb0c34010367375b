"""The chapter's checklist: the skills of a learner, and the tasks and claims behind them."""

from dataclasses import dataclass

from reslab.exercises.sheets import Language
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
        {"ko": "성능 저하 문제를 안다", "en": "Know the degradation problem"},
        ("2.1", "2.4", "2.6", "2.7"),
    ),
    Item("residual-learning", {"ko": "잔차 학습의 식을 유도한다", "en": "Derive residual learning"}, ("1.1", "1.2")),
    Item(
        "gradient",
        {"ko": "지름길이 기울기에 주는 이점을 안다", "en": "Know what shortcuts do for gradients"},
        ("1.1", "1.5", "1.6", "1.9"),
    ),
    Item("blocks", {"ko": "BasicBlock과 Bottleneck을 구별한다", "en": "Tell BasicBlock from Bottleneck"}, ("2.3",)),
    Item("resnet-50", {"ko": "ResNet-50의 구조를 외운다", "en": "Know ResNet-50 by heart"}, ("2.8", "2.11")),
    Item("shortcuts", {"ko": "투영 지름길을 구현한다", "en": "Implement projection shortcuts"}, ("1.4", "2.2", "2.10")),
    Item(
        "identity",
        {"ko": "사전 활성화와 사후 활성화를 구별한다", "en": "Tell pre- from post-activation"},
        ("1.3", "1.7"),
    ),
    Item(
        "ensemble",
        {"ko": "ResNet을 앙상블로 보는 관점을 안다", "en": "Know the ensemble view of ResNets"},
        ("1.8", "1.10", "2.5", "2.9"),
    ),
)
"""The eight items, in the chapter's order; every task belongs to one at least."""
