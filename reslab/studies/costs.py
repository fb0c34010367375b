"""What networks cost: a trial's, and the whole zoo's parameters and multiply-adds, beside the errors that others print: tables and charts."""

from typing import NamedTuple

import torch

from reslab.data import load_data
from reslab.files import Json
from reslab.ledger.claim import Text
from reslab.ledger.record import Chart, Reason, Series, Table
from reslab.networks import literature, zoo
from reslab.networks.counting import count_macs, count_params
from reslab.networks.literature import Printed
from reslab.training.loop import TrialConfig

TOLERANCE = 0.07
"""How far apart, relatively, two costs may be that are called equal."""


def unequal(network: str, rival: str) -> Reason:
    """Return why networks of other cost are not compared."""
    return Reason(code="unequal-costs", values={"limit": TOLERANCE, "networks": [network, rival]})


class Cost(NamedTuple):
    """Parameters, and multiply-adds for one image."""

    params: int
    macs: int

    def apart(self, other: "Cost") -> tuple[float, float]:
        """Return how far these costs are from the other's, relatively."""
        return self.params / other.params - 1, self.macs / other.macs - 1


def cost(trial: TrialConfig) -> Cost:
    """Return what a trial's network costs on an image of its data set."""
    data = load_data(trial.data)
    options: Json = {"num_classes": data.num_classes, "in_channels": data.in_channels, **trial.options}
    with torch.device("meta"):
        network = zoo.build(trial.model, **options)
    image, _ = data.fitted(zoo.input_shape(network)[1]).sample("test", 1)
    return Cost(count_params(network), count_macs(network, image.to("meta")))


MACS: Text = {"ko": "곱셈-누산 수(이미지 한 장)", "en": "multiply-adds for one image"}


def names() -> list[str]:
    """Return the zoo's networks, without the second builds of the same ones from raw tensors."""
    return [name for name in zoo.names() if not name.startswith("lowlevel/")]


def cost_charts() -> list[Chart]:
    """Return parameters against multiply-adds, a series a family, and the ImageNet errors that others print against multiply-adds."""
    families: dict[str, list[str]] = {}
    for name in names():
        families.setdefault(zoo.family(name), []).append(name)
    return [
        Chart(
            title={"ko": "실려 있는 모든 신경망의 매개변수와 연산량", "en": "Parameters against multiply-adds, the whole zoo"},
            caption={
                "ko": "점 하나가 신경망 하나이다. 논문의 이미지 크기에서 세었다(ImageNet은 224×224 안팎, CIFAR은 32×32). "
                "한 비용으로 다른 비용을 알 수는 없다.",
                "en": "A point a network, counted at its paper's image size (ImageNet's about 224×224, CIFAR's 32×32). Neither cost tells the other.",
            },
            x=MACS,
            y={"ko": "매개변수 수", "en": "parameters"},
            series=[
                Series(name=family, x=[zoo.reference(n).macs for n in members], y=[zoo.reference(n).params for n in members], text=members)
                for family, members in families.items()
            ],
            kind="points",
            log_x=True,
            log_y=True,
        ),
        Chart(
            title={
                "ko": "논문들이 적은 ImageNet 오류(이 실험실이 잰 것이 아님)",
                "en": "ImageNet errors as others print them (not measured by this lab)",
            },
            caption={
                "ko": "점의 모양은 누가 쟀는지를 나타낸다. 훈련법과 시험법이 저마다 다르므로, 같은 모양끼리만 바로 견줄 수 있다.",
                "en": "The mark says who measured. Each trained and tested in its own way, so only points of one mark can be compared directly.",
            },
            x=MACS,
            y={"ko": "top-1 오류 (%)", "en": "top-1 error (%)"},
            series=[
                Series(
                    name=printed.who,
                    x=[zoo.reference(name).macs for name in found],
                    y=[printed.errors[name] for name in found],
                    text=[f"{name}: {printed.errors[name]:g} %" for name in found],
                )
                for printed in (*literature.IMAGENET, literature.torchvision())
                if (found := [name for name in names() if name in printed.errors])
            ],
            kind="points",
            log_x=True,
        ),
    ]


def cost_tables() -> list[Table]:
    """Return the zoo with its costs and printed errors, and the sources of those."""
    torchvision = literature.torchvision()
    alike = next(printed for printed in literature.IMAGENET if printed.who == "Radosavovic et al. 2020")
    sources = [(data, printed) for data, part in (("ImageNet", literature.IMAGENET), ("CIFAR-10", literature.CIFAR10)) for printed in part]

    def row(name: str) -> list[str | int | float | None]:
        reference = zoo.reference(name)
        data, first = next(((data, printed) for data, printed in sources if name in printed.errors), ("", Printed("", "", "", {})))
        return [
            name,
            reference.params,
            reference.macs,
            data,
            first.errors.get(name),
            first.who,
            alike.errors.get(name),
            torchvision.errors.get(name),
        ]

    return [
        Table(
            title={"ko": "신경망의 비용과, 다른 이들이 적은 top-1 오류 (%)", "en": "Costs, and top-1 errors (%) as others print them"},
            columns=["network", "parameters", "multiply-adds", "data", "error", "printed by", f"error, {alike.who}", "error, torchvision"],
            rows=[row(name) for name in names()],
        ),
        Table(
            title={"ko": "오류의 출처와 잰 방법", "en": "Where the errors come from, and how they were measured"},
            columns=["data", "by", "source", "measured on"],
            rows=[[data, printed.who, printed.source, printed.how] for data, printed in [*sources, ("ImageNet", torchvision)]],
        ),
    ]
