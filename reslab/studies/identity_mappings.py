"""What may a residual unit do to its shortcut, and in what order should it activate? (He et al. 2016, arXiv:1603.05027, Tables 1 and 2)

The paper's variants of one network, each in all its units. Table 1 is about optimisation (section 3), so training errors are compared; in Table 2
full pre-activation's advantage is partly BatchNorm's regularisation (section 4.2), so test errors are. And how often does the last ReLU of a v1
unit change the sum at all?
"""

from statistics import fmean
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from reslab.analysis.subject import evaluating
from reslab.ledger.claim import Claim, Direction, Text
from reslab.ledger.record import Chart
from reslab.ledger.verdict import Check, Citation, Comparison
from reslab.networks import zoo
from reslab.networks.anatomy import Operations
from reslab.studies.study import CifarDepths, Groups, Measurement, Progress, Study, StudyConfig, averaged, by_seed, not_trained, over_seeds, sound
from reslab.training.loop import TrialConfig

PAPER = "He et al. 2016 (arXiv:1603.05027)"

SHORTCUTS: dict[str, tuple[dict[str, float | str], str, str, str]] = {
    "scaled-0.5-0.5": (
        {"kind": "scaling", "shortcut_scale": 0.5, "branch_scale": 0.5},
        "지름길과 가지에 모두 0.5를 곱하면",
        "Scaling both shortcut and branch by 0.5",
        "12.35",
    ),
    "exclusive-gate": (
        {"kind": "exclusive-gating"},
        "지름길에 1 − g, 가지에 g를 곱하면(처음 b_g = −6)",
        "Gating the shortcut by 1 − g and the branch by g (b_g starts at −6)",
        "8.70",
    ),
    "shortcut-gate": (
        {"kind": "shortcut-gating", "gate_bias": 0.0},
        "지름길에만 1 − g를 곱하면(처음 b_g = 0)",
        "Gating the shortcut alone by 1 − g (b_g starts at 0)",
        "12.86",
    ),
    "convolution": ({"kind": "convolution"}, "지름길마다 1×1 합성곱을 넣으면", "A 1×1 convolution on every shortcut", "12.22"),
    "dropout": ({"kind": "dropout"}, "지름길에 드롭아웃(0.5)을 넣으면", "Dropout (0.5) on the shortcut", "over 20"),
}
"""Table 1: the network's options, what it does in Korean and English, and the paper's test error at 110 layers in %."""


def _shortcut_claim(name: str) -> Claim:
    _, ko, en, found = SHORTCUTS[name]
    return Claim(
        id=f"identity_mappings.{name}-trains-worse",
        kind="statistical",
        section="identity",
        statement={"ko": f"{ko} 훈련 오류가 항등 지름길보다 뚜렷이 커진다.", "en": f"{en} gives a notably higher training error than the identity."},
        source=f"{PAPER}, Table 1: {found} % test error against 6.61 with the identity, ResNet-110 on CIFAR-10; section 3",
        direction="higher",
        margin=0.01,
        unit="training error",
        rate=True,
    )


SHORTCUT_CLAIMS = {name: _shortcut_claim(name) for name in SHORTCUTS}


def _order_claim(name: str, what: str, ko: str, en: str, found: str, direction: Direction, corrects: Text | None = None) -> Claim:
    return Claim(
        id=f"identity_mappings.{name}",
        kind="statistical",
        section="identity",
        statement={"ko": ko, "en": en},
        source=f"{PAPER}, Table 2: {found} % against 6.61 for the original, ResNet-110 on CIFAR-10",
        direction=direction,
        margin=0.01,
        unit=f"test error, {what} − original",
        rate=True,
        corrects=corrects,
    )


ORDER_CLAIMS = {
    "bn-after-addition": _order_claim(
        "bn-after-addition-is-worse",
        "BN after addition",
        "덧셈 뒤에 BN을 두면 시험 오류가 원래 순서보다 뚜렷이 커진다.",
        "BN after the addition gives a notably higher test error than the original order.",
        "8.17",
        "higher",
    ),
    "relu-before-addition": _order_claim(
        "relu-before-addition-is-worse",
        "ReLU before addition",
        "덧셈 앞에 ReLU를 두면 시험 오류가 원래 순서보다 뚜렷이 커진다.",
        "ReLU before the addition gives a notably higher test error than the original order.",
        "7.84",
        "higher",
    ),
    "relu-only-pre-activation": _order_claim(
        "relu-only-pre-activation-is-not-worse",
        "ReLU-only pre-activation",
        "ReLU만 앞으로 옮긴 사전 활성화의 시험 오류는 원래 순서보다 뚜렷이 크지 않다.",
        "Pre-activation by ReLU alone does not have a notably higher test error than the original order.",
        "6.71",
        "not higher",
    ),
    "full-pre-activation": _order_claim(
        "full-pre-activation-is-not-worse",
        "full pre-activation",
        "BN과 ReLU를 모두 앞으로 옮긴 완전 사전 활성화(v2)의 시험 오류는 원래 순서보다 뚜렷이 크지 않다.",
        "Full pre-activation (v2) does not have a notably higher test error than the original order.",
        "6.37",
        "not higher",
    ),
}

DISTORTS: Text = {"ko": "v1의 마지막 ReLU가 identity를 변형한다", "en": "v1's last ReLU distorts the identity"}
RARELY_CHANGES = Claim(
    id="identity_mappings.the-last-relu-rarely-changes-the-sum",
    kind="statistical",
    section="identity",
    statement={
        "ko": "학습된 v1 신경망에서 마지막 ReLU가 바꾸는 값(x + F < 0인 자리)은 열에 하나가 되지 않는다. x ≥ 0이므로 다른 자리는 그대로이다.",
        "en": "In trained v1 networks the last ReLU changes fewer than one value in ten: only those where x + F < 0, as x ≥ 0 already.",
    },
    source=f"{PAPER}, section 4.2: after some training the truncation is rare at 164 layers, and more frequent at 1001",
    direction="not higher",
    margin=0.1,
    unit="share of x + F < 0",
    corrects=DISTORTS,
)
LESS_AFTER_TRAINING = Claim(
    id="identity_mappings.training-makes-the-change-rarer",
    kind="statistical",
    section="identity",
    statement={
        "ko": "학습하고 나면 v1의 마지막 ReLU가 바꾸는 값이 처음보다 줄어든다.",
        "en": "After training v1's last ReLU changes fewer values than before.",
    },
    source=f"{PAPER}, section 4.2",
    direction="lower",
    margin=0.02,
    unit="share of x + F < 0, after − before",
    corrects=DISTORTS,
)
MORE_AT_1001 = Claim(
    id="identity_mappings.the-last-relu-truncates-more-at-1001-layers",
    kind="cited",
    section="identity",
    statement={
        "ko": "v1의 마지막 ReLU가 합을 잘라 내는 일은 164층에서는 학습이 조금 지나면 드물어지지만, 1001층에서는 더 잦다.",
        "en": "v1's last ReLU cuts sums off rarely at 164 layers, once training has gone on for a while, and more often at 1001.",
    },
    source=f"{PAPER}, section 4.2",
    corrects=DISTORTS,
)
SNIPPET = Claim(
    id="identity_mappings.v2-needs-more-than-the-snippet",
    kind="exact",
    section="identity",
    statement={
        "ko": "56층 v2 신경망에서 모양이 바뀌는 두 유닛은 지름길도 활성화된 입력을 받고, 첫 유닛에는 자기만의 활성화가 따로 없으며, "
        "마지막 덧셈 뒤에 BN과 ReLU가 한 번 더 있다.",
        "en": "In a v2 network of 56 layers the two units that change the shape give the shortcut the activated input too, the first unit has no "
        "activation of its own, and one more BN and ReLU follow the last addition.",
    },
    source=f"{PAPER}, section 3.2 and appendix; the authors' released code",
    corrects={
        "ko": "v2 블록은 모두 BN-ReLU로 시작하고 입력을 그대로 더한다(return out + identity)",
        "en": "Every v2 block begins with BN and ReLU and adds its bare input (return out + identity)",
    },
)


class IdentityMappingsConfig(StudyConfig):
    """Depth of all networks."""

    depths: CifarDepths = Field((44,), min_length=1, max_length=1, description="depth, 6n+2; the paper's are 110 and 164")


def grid(config: IdentityMappingsConfig) -> dict[str, list[TrialConfig]]:
    """Return the trials: the original, and every variant of both tables."""
    (depth,) = config.depths
    return {
        "original": config.trials("cifar_activation_order", depth=depth),
        **{name: config.trials("cifar_shortcut_ablation", depth=depth, **options) for name, (options, *_) in SHORTCUTS.items()},
        **{name: config.trials("cifar_activation_order", depth=depth, order=name) for name in ORDER_CLAIMS},
    }


@torch.no_grad()
def negative_sums(network: nn.Module, images: Tensor) -> list[float]:
    """Return, for each unit of an original network, the share of sums x + F that its last ReLU sets to 0, under the images' own statistics."""
    shares: list[float] = []
    units: Any = network.get_submodule("units")
    with evaluating(network, images):
        handles = [unit.after.register_forward_pre_hook(lambda _, given: shares.append(float((given[0] < 0).double().mean()))) for unit in units]
        try:
            network(images)
        finally:
            for handle in handles:
                handle.remove()
    return shares


def snippet() -> dict[str, Any]:
    """Return what the v2 network of 56 layers has that the chapter's snippet has not, as it runs."""
    with torch.device("meta"):
        network: Any = zoo.build("preresnet56").eval()
    blocks = [(f"layer{stage}.{index}", block) for stage in (1, 2, 3) for index, block in enumerate(network.get_submodule(f"layer{stage}"))]
    first = blocks[0][1]
    with Operations() as in_first, torch.no_grad():
        first(torch.empty(1, 16, 32, 32, device="meta"))
    with Operations() as in_all, torch.no_grad():
        network(torch.empty(1, 3, 32, 32, device="meta"))
    last_addition = len(in_all.words) - 1 - in_all.words[::-1].index("+")
    return {
        "shared activation": [name for name, block in blocks if block.shares_activation],
        "first unit": " ".join(in_first.words),
        "after the last addition": " ".join(in_all.words[last_addition + 1 :]),
    }


NEEDED = {"shared activation": ["layer2.0", "layer3.0"], "first unit": "3×3 BN ReLU 3×3 +", "after the last addition": "BN ReLU"}


def measure(config: IdentityMappingsConfig, groups: Groups, progress: Progress) -> Measurement:
    """Return the comparisons of both tables, the share of negative sums before and after training, and v2's special units."""
    train, test = ({group: by_seed(trials, f"{part}_error") for group, trials in groups.items()} for part in ("train", "test"))
    images = groups["original"][0].data().sample("train", 256)[0]
    before, after = {}, {}
    trials = sound(groups["original"])
    for done, trial in enumerate(trials):
        progress("negative sums", done, len(trials))
        before[trial.config.seed] = negative_sums(trial.fresh_network(), images)
        after[trial.config.seed] = negative_sums(trial.network(), images)
    progress("negative sums", len(trials), len(trials))
    share_before, share_after = ({seed: fmean(shares) for seed, shares in found.items()} for found in (before, after))
    untested = not_trained(groups, "original")
    comparisons = [
        *(Comparison(claim, train[name], train["original"], untested=untested) for name, claim in SHORTCUT_CLAIMS.items()),
        *(Comparison(claim, test[name], test["original"], untested=untested) for name, claim in ORDER_CLAIMS.items()),
        Comparison(RARELY_CHANGES, share_after, dict.fromkeys(share_after, 0.0), untested=untested),
        Comparison(LESS_AFTER_TRAINING, share_after, share_before, untested=untested),
    ]
    places = [float(i) for i in range(1, len(next(iter(after.values()), [])) + 1)]
    relu = Chart(
        title={"ko": "마지막 ReLU가 0으로 만드는 합의 비율", "en": "Share of sums that the last ReLU sets to 0"},
        caption={
            "ko": "원래 순서(v1)의 유닛마다 x + F < 0인 자리의 비율. 여기서만 ReLU가 항등 경로를 바꾼다. 학습이 그 비율을 줄이는지 볼 것.",
            "en": "For each unit in the original order (v1), where x + F < 0: only there does the ReLU change the identity path. "
            "See whether training makes it rarer.",
        },
        x={"ko": "유닛", "en": "unit"},
        y={"ko": "x + F < 0인 비율", "en": "share of x + F < 0"},
        series=[over_seeds("before training", places, before), over_seeds("after training", places, after)],
    )
    tables = [
        _bars({"ko": "표 1: 지름길의 종류와 훈련 오류", "en": "Table 1: kinds of shortcut, training error"}, ["original", *SHORTCUTS], train),
        _bars({"ko": "표 2: 활성화 순서와 시험 오류", "en": "Table 2: orders of activation, test error"}, ["original", *ORDER_CLAIMS], test),
    ]
    deeper = Citation(MORE_AT_1001, "supported", "there v1 reaches 7.61 % on CIFAR-10 and v2, which has no such ReLU, 4.92 % (Table 3)")
    return Measurement(comparisons, [Check(SNIPPET, snippet(), NEEDED)], [deeper], charts=[*tables, relu])


def _bars(title: Text, names: list[str], errors: dict[str, dict[int, float]]) -> Chart:
    return Chart(
        title=title,
        caption={
            "ko": "막대는 시드 평균, 수염은 표준편차 한 배. 왼쪽 끝이 원래 신경망이다. 어느 막대가 수염보다 크게 그 위에 있는지 볼 것.",
            "en": "Bars are means over seeds, whiskers one standard deviation; the leftmost is the original. "
            "See which bars stand above it by more than the whiskers.",
        },
        x={"ko": "변형", "en": "variant"},
        y={"ko": "오류", "en": "error"},
        series=[averaged("error", names, [errors[name].values() for name in names])],
        kind="bars",
        rate=True,
    )


STUDY = Study(
    name="identity_mappings",
    title={"ko": "항등 사상의 변형들", "en": "Variants of the identity mapping"},
    question={
        "ko": "지름길에 무엇을 해도 되는가? 활성화는 어떤 순서로 놓아야 하는가?",
        "en": "What may a unit do to its shortcut, and in what order should it activate?",
    },
    claims=(*SHORTCUT_CLAIMS.values(), *ORDER_CLAIMS.values(), RARELY_CHANGES, LESS_AFTER_TRAINING, MORE_AT_1001, SNIPPET),
    config=IdentityMappingsConfig,
    presets={
        "default": {},
        "smoke": {"depths": (8,), "seeds": 3, "epochs": 1},
        "full": {"data": "cifar10", "epochs": 16, "depths": (110,)},
    },
    grid=grid,
    measure=measure,
)
