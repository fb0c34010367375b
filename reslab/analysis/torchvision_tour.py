"""A guided reading of the installed torchvision's ResNet: each idea of the paper beside the lines that implement it,
with the numbers.
"""

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torchvision
from torch import nn
from torchvision.models import resnet, resnet18, resnet50

from reslab.analysis.result import Result, new_figure
from reslab.analysis.subject import analysis
from reslab.state import draws_apart

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Stop:
    """One idea: where it is in the source, what it means, and what it measures."""

    idea: dict[str, str]  # language -> sentence
    place: str  # such as "Bottleneck.forward"
    lines: Sequence[tuple[int, str]]  # (line number in torchvision/models/resnet.py, source)
    numbers: dict[str, float]


@dataclass(frozen=True)
class Tour(Result):
    """The stops in reading order, for the torchvision that is installed."""

    version: str
    stops: Sequence[Stop]

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per stop."""
        import pandas as pd

        rows = [
            {
                "place": stop.place,
                "lines": ", ".join(str(number) for number, _ in stop.lines),
                "idea": stop.idea["en"],
                "numbers": ", ".join(f"{name}: {value:g}" for name, value in stop.numbers.items()),
            }
            for stop in self.stops
        ]
        return pd.DataFrame(rows).set_index("place")

    def figure(self) -> "Figure":
        """Plot where the stops are in the file."""
        figure = new_figure()
        axes = figure.subplots()
        for row, stop in enumerate(self.stops):
            axes.plot([number for number, _ in stop.lines], [row] * len(stop.lines), "s")
        axes.set_yticks(range(len(self.stops)), [stop.place for stop in self.stops])
        axes.invert_yaxis()
        axes.set(xlabel=f"line of torchvision/models/resnet.py ({self.version})")
        return figure

    def text(self, language: str = "en") -> str:
        """Return the tour to read at a terminal, in "en" or "ko"."""
        parts = [f"torchvision {self.version}, torchvision/models/resnet.py"]
        for stop in self.stops:
            numbers = "".join(f"\n    = {name}: {value:,g}" for name, value in stop.numbers.items())
            parts.append(
                f"{stop.place}: {stop.idea[language]}\n"
                + "\n".join(f"  {number:4} {line}" for number, line in stop.lines)
                + numbers
            )
        return "\n\n".join(parts)


@analysis("tour", "a guided reading of the installed torchvision's ResNet; takes no MODEL")
def torchvision_tour() -> Tour:
    """Return a reading of the installed torchvision's ResNet: each idea of the paper beside the lines that carry it
    out. The lines are found by their content, so that they match any version.

    Examples:
        >>> import reslab
        >>> tour = reslab.torchvision_tour()
        >>> [stop.place for stop in tour.stops][:2]
        ['BasicBlock.forward', 'Bottleneck.__init__']
    """
    with draws_apart():
        torch.manual_seed(0)
        basic, deep, zero = resnet18(), resnet50(), resnet18(zero_init_residual=True)
    convolutions = [module for module in deep.modules() if isinstance(module, nn.Conv2d)]
    middle = next(block for block in deep.layer2 if block.downsample is not None)
    relus = [module for _, module in deep.named_modules(remove_duplicate=False) if isinstance(module, nn.ReLU)]
    stops = [
        Stop(
            {
                "en": (
                    "The residual addition y = F(x) + x (2015, Eq. 1), in place, with the last ReLU after it: this is "
                    "v1."
                ),
                "ko": "잔차 덧셈 y = F(x) + x (2015, 식 1). 제자리 연산이고 마지막 ReLU가 덧셈 뒤에 온다. 곧 v1이다.",
            },
            "BasicBlock.forward",
            _lines(
                resnet.BasicBlock.forward,
                r"identity = x|identity = self\.downsample|out \+= identity|return out|out = self\.relu\(out\)",
            ),
            {"blocks of resnet18": float(sum(isinstance(module, resnet.BasicBlock) for module in basic.modules()))},
        ),
        Stop(
            {
                "en": (
                    "1×1, 3×3, 1×1: down, across, up. The stride is in the 3×3 (v1.5); the paper's is in the first "
                    "1×1, skipping 3 of 4 pixels."
                ),
                "ko": (
                    "1×1로 줄이고 3×3을 거쳐 1×1로 늘린다. stride는 3×3에 있다(v1.5). 논문은 첫 1×1에 두어, 픽셀 넷 "
                    "가운데 셋을 건너뛴다."
                ),
            },
            "Bottleneck.__init__",
            _lines(resnet.Bottleneck.__init__, r"self\.conv\d = "),
            {"stride of conv1": float(middle.conv1.stride[0]), "stride of conv2": float(middle.conv2.stride[0])},
        ),
        Stop(
            {
                "en": (
                    "Where the shape changes, a 1×1 projection and its BatchNorm replace the identity (option B): in a "
                    "stage's first block only."
                ),
                "ko": (
                    "모양이 바뀌는 곳에서는 1×1 투영과 그 BatchNorm이 항등 경로를 대신한다(옵션 B). 스테이지의 첫 "
                    "블록뿐이다."
                ),
            },
            "ResNet._make_layer",
            _lines(resnet.ResNet._make_layer, r"if stride != 1|conv1x1\(|norm_layer\(planes"),
            {
                "projections in resnet50": float(
                    sum(isinstance(m, resnet.Bottleneck) and m.downsample is not None for m in deep.modules())
                ),
                "blocks in resnet50": float(sum(isinstance(m, resnet.Bottleneck) for m in deep.modules())),
            },
        ),
        Stop(
            {
                "en": (
                    "He's initialisation, by fan-out: N(0, 2 / fan_out) keeps the gradient's variance, not the "
                    "signal's, from layer to layer."
                ),
                "ko": "He 초기화, fan_out 기준: N(0, 2 / fan_out)은 층을 지날 때 신호가 아니라 기울기의 분산을 지킨다.",
            },
            "ResNet.__init__",
            _lines(resnet.ResNet.__init__, r"kaiming_normal_"),
            {"std of conv1": deep.conv1.weight.std().item(), "sqrt(2 / fan_out)": (2 / (64 * 7 * 7)) ** 0.5},
        ),
        Stop(
            {
                "en": (
                    "Optionally every branch's last BatchNorm starts at gamma = 0, and so every block as the identity. "
                    "By default it does not."
                ),
                "ko": (
                    "원하면 각 가지의 마지막 BatchNorm을 gamma = 0에서 시작해 모든 블록이 항등으로 출발한다. 기본값은 "
                    "끔이다."
                ),
            },
            "ResNet.__init__ (zero_init_residual)",
            _lines(resnet.ResNet.__init__, r"zero_init_residual|bn\d\.weight, 0"),
            {
                "branches at zero by default": float(_zero_branches(basic)),
                "with zero_init_residual": float(_zero_branches(zero)),
            },
        ),
        Stop(
            {
                "en": (
                    "One ReLU module serves a whole block, in place: a hook on it fires three times, and what it was "
                    "given is gone."
                ),
                "ko": (
                    "ReLU 모듈 하나가 블록 전체에서 제자리로 쓰인다. 여기에 건 훅은 세 번 불리고, 들어온 값은 남지 "
                    "않는다."
                ),
            },
            "Bottleneck.__init__ (relu)",
            _lines(resnet.Bottleneck.__init__, r"nn\.ReLU"),
            {
                "ReLU modules": float(len(set(relus))),
                "ReLU calls in a forward pass": float(1 + 3 * 16),
                "convolutions": float(len(convolutions)),
            },
        ),
        Stop(
            {
                "en": (
                    "Average pooling to 1×1, whatever the image size, and one linear layer: no hidden fully connected "
                    "layers."
                ),
                "ko": "이미지 크기와 상관없이 1×1로 평균 풀링하고 선형층 하나만 둔다. 은닉 완전연결층은 없다.",
            },
            "ResNet._forward_impl",
            _lines(resnet.ResNet._forward_impl, r"avgpool|flatten|self\.fc"),
            {"share of parameters in fc (resnet50)": _share(deep.fc, deep)},
        ),
    ]
    return Tour(str(torchvision.__version__), stops)


def _lines(function: object, pattern: str) -> list[tuple[int, str]]:
    """Return the numbered source lines of a function that match."""
    source, start = inspect.getsourcelines(function)  # type: ignore[arg-type]  # torchvision is untyped
    return [(start + index, line.rstrip()) for index, line in enumerate(source) if re.search(pattern, line)]


def _zero_branches(network: nn.Module) -> int:
    return sum(
        isinstance(module, resnet.BasicBlock) and not torch.any(module.bn2.weight) for module in network.modules()
    )


def _share(part: nn.Module, whole: nn.Module) -> float:
    count = [sum(parameter.numel() for parameter in module.parameters()) for module in (part, whole)]
    return count[0] / count[1]
