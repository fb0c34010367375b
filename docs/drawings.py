"""The chapter's drawings: `python docs/drawings.py` writes each in both languages, with the networks' own numbers."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

import reslab
from reslab.paper.resnet_paper import IMAGENET_BLOCKS

FOLDER = Path(__file__).resolve().parents[1] / "reslab" / "report" / "drawings"
FIVE = (18, 34, 50, 101, 152)
DEEPEST_BASIC = 34
STAGES = ("layer1", "layer2", "layer3", "layer4")

HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" role="img"
aria-labelledby="t" lang="{l}">
<title id="t">{title}</title>
<style>
svg {{ color: #1c2126; background: #fdfdfb; }}
text {{ font: 14px system-ui, "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR", sans-serif; fill: currentColor; }}
text {{ text-anchor: middle; }} .h {{ font-weight: 600; }} .a {{ text-anchor: start; }} .e {{ text-anchor: end; }}
.l {{ stroke: currentColor; fill: none; stroke-width: 1.5; }}
.s {{ stroke: #0072b2; fill: none; stroke-width: 3; }} .t {{ fill: #0072b2; font-weight: 600; }}
.c {{ fill: #e69f0033; stroke: #e69f00; }} .n {{ fill: #8a93a022; stroke: #8a93a0; }}
.p {{ fill: #0072b222; stroke: #0072b2; stroke-width: 2; }}
@media (prefers-color-scheme: dark) {{
svg {{ color: #e4e7ea; background: #15181c; }} .t {{ fill: #7db8f0; }} .s, .p {{ stroke: #7db8f0; }}
}}
</style>"""


class Words(NamedTuple):
    """A text in both languages."""

    ko: str
    en: str

    def of(self, language: str) -> str:
        """Return the text in a language."""
        return self.ko if language == "ko" else self.en


def drawing(title: Words, width: int, height: int, language: str, parts: Iterator[str]) -> str:
    """Return an SVG of these parts."""
    head = HEAD.format(w=width, h=height, l=language, title=title.of(language))
    return "\n".join([head, *parts, "</svg>\n"])


def text(x: float, y: float, said: str, kind: str = "") -> str:
    """Return a text; its kind places it and gives it its colour."""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{said}</text>'


def box(x: float, y: float, width: float, height: float, kind: str, said: str = "") -> str:
    """Return a box with a text in its middle."""
    rect = f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4"/>'
    return rect + (text(x + width / 2, y + height / 2 + 5, said) if said else "")


# --- The overview -----------------------------------------------------------------------------------------------------

TWO_NETWORKS = Words(
    "일반 신경망에서는 값이 모든 층을 지나고, 잔차 신경망에서는 x가 스킵 연결로 곧장 가고 층들이 낸 차이가 더해진다",
    "In a plain network the values pass through every layer; in a residual one x goes straight on along the skip "
    "connections, and what the layers make is added to it",
)


SKIP = Words("스킵 연결", "skip connection")


def skip_connections(language: str) -> str:
    """Return the picture of a plain network beside its residual twin."""
    return drawing(TWO_NETWORKS, 640, 230, language, _two_networks(language))


def _two_networks(language: str) -> Iterator[str]:
    layers = Words("층들", "layers").of(language)
    yield text(12, 24, Words("일반 신경망", "plain network").of(language), "h a")
    yield from (box(100 + 160 * i, 44, 100, 28, "c", layers) for i in range(3))
    yield '<path class="l" d="M40 58 H100 M200 58 H260 M360 58 H420 M520 58 H600"/>'
    yield text(26, 63, "x") + text(614, 63, "y")
    yield text(12, 112, Words("잔차 신경망", "residual network").of(language), "h a")
    yield '<path class="s" d="M40 150 H600"/>'
    for i in range(3):
        start = 74 + 172 * i
        yield f'<path class="l" d="M{start} 150 V194 H{start + 14} M{start + 104} 194 H{start + 118} V162"/>'
        yield box(start + 14, 180, 90, 28, "c", f"{layers} F{'₁₂₃'[i]}")
        yield f'<circle class="p" cx="{start + 118}" cy="150" r="12"/>' + text(start + 118, 155, "+", "h")
    yield text(26, 155, "x") + text(614, 155, "y")
    yield text(320, 132, SKIP.of(language), "t")


# --- The residual block -----------------------------------------------------------------------------------------------

TWO_BLOCKS = Words(
    "잔차 블록 두 가지: v1은 덧셈 뒤에 ReLU가 있고, v2는 BN과 ReLU를 합성곱 앞에 두어 덧셈 뒤가 비어 있다",
    "Two residual blocks: v1 has a ReLU after the addition; v2 puts BN and ReLU before the convolutions and has "
    "nothing after it",
)
CONVOLUTION = Words("3×3 합성곱", "3×3 convolution")
V1 = Words("사후 활성화 (v1, 2015)", "Post-activation (v1, 2015)"), ("", "BN", "ReLU", "", "BN")
V2 = Words("사전 활성화 (v2, 2016)", "Pre-activation (v2, 2016)"), ("BN", "ReLU", "", "BN", "ReLU", "")
"""A block's name, and what its branch does, in its order; a convolution where nothing is said."""


def residual_block(language: str) -> str:
    """Return the picture of both residual blocks."""
    return drawing(TWO_BLOCKS, 690, 412, language, _two_blocks(language))


def _two_blocks(language: str) -> Iterator[str]:
    for x, title, order in ((110, *V1), (430, *V2)):
        yield text(x + 50, 24, title.of(language), "h") + text(x, 52, "x")
        y, above = 88, 58
        for said in order:
            yield f'<path class="l" d="M{x} {above} V{y}"/>'
            yield box(x - 65, y, 130, 26, "n" if said else "c", said or CONVOLUTION.of(language))
            y, above = y + 35, y + 26
        yield f'<path class="l" d="M{x} {above} V306"/><path class="s" d="M{x} 70 H{x + 105} V318 H{x + 12}"/>'
        yield text(x + 112, 196, SKIP.of(language), "t a")
        yield f'<circle class="p" cx="{x}" cy="318" r="12"/>' + text(x, 323, "+", "h")
    yield '<path class="l" d="M110 330 V340 M110 366 V382 M430 330 V382"/>' + box(45, 340, 130, 26, "n", "ReLU")
    yield text(110, 400, "y = ReLU(x + F(x))") + text(430, 400, "y = x + F(x)")


# --- The five networks ------------------------------------------------------------------------------------------------

FIVE_NETWORKS = Words(
    "다섯 신경망의 블록을 단계별로 늘어놓은 그림: 깊어질 때 늘어나는 것은 거의 셋째 단계의 블록이다",
    "The blocks of the five networks by stage: what grows with depth is almost all in the third stage",
)
CELL, LEFT, GAP = 9, 118, 10


def five_networks(language: str) -> str:
    """Return the picture of the five networks' blocks, a square for each."""
    return drawing(FIVE_NETWORKS, LEFT + 50 * CELL + 3 * GAP + 16, 176, language, _five_networks(language))


def _five_networks(language: str) -> Iterator[str]:
    for row, depth in enumerate(FIVE):
        kind, y, x = "n" if depth <= DEEPEST_BASIC else "c", 20 + 26 * row, LEFT
        yield text(LEFT - 12, y + 13, f"ResNet-{depth}", "e")
        for blocks in IMAGENET_BLOCKS[depth]:
            yield from (box(x + CELL * i, y, CELL - 1, 16, kind) for i in range(blocks))
            x += CELL * blocks + GAP
    basic, bottleneck = (
        Words("기본 블록 (두 층)", "basic block (two layers)"),
        Words("병목 블록 (세 층)", "bottleneck (three layers)"),
    )
    for x, kind, said in ((LEFT, "n", basic), (LEFT + 190, "c", bottleneck)):
        yield box(x, 150, CELL - 1, 16, kind) + text(x + 14, 163, said.of(language), "a")


# --- ResNet-50 --------------------------------------------------------------------------------------------------------

ONE_NETWORK = Words(
    "ResNet-50이 단계마다 내는 것: 가로세로는 반씩 줄고 채널은 두 배씩 는다",
    "What the stages of ResNet-50 give: height and width are halved, channels are doubled",
)
PIXEL, CHANNEL = 1.1, 0.035


def resnet50_stages(language: str) -> str:
    """Return the picture of the shapes that ResNet-50's stages give."""
    return drawing(ONE_NETWORK, 676, 226, language, _shapes(language))


def _shapes(language: str) -> Iterator[str]:
    x, base = 16.0, 160
    for name, blocks, channels, size in stages():
        width, height = 14 + CHANNEL * channels, PIXEL * size
        place = max(width, 96)
        yield box(x + (place - width) / 2, base - height, width, height, "c" if blocks else "n")
        yield text(x + place / 2, base + 20, name, "h")
        yield text(x + place / 2, base + 39, f"{channels}×{size}×{size}")
        if blocks:
            bottlenecks = Words(f"병목 블록 {blocks}개", f"{blocks} bottlenecks")
            yield text(x + place / 2, base + 58, bottlenecks.of(language))
        x += place + 14


@cache
@torch.inference_mode()
def stages() -> list[tuple[str, int, int, int]]:
    """Return each of ResNet-50's stages with its blocks, channels and side, for an image of 224×224."""
    network, signal = reslab.build("resnet50"), torch.zeros(1, 3, 224, 224)
    found = []
    for name in ("conv1", "maxpool", *STAGES):
        part = network.get_submodule(name)
        signal = part(signal)
        found.append((name, len(part) if isinstance(part, nn.Sequential) else 0, signal.shape[1], signal.shape[2]))
    return found


DRAWN: dict[str, Callable[[str], str]] = {
    "skip-connections": skip_connections,
    "residual-block": residual_block,
    "five-networks": five_networks,
    "resnet50-stages": resnet50_stages,
}
WRITTEN = {
    f"{name}.{language}.svg": partial(made, language) for name, made in DRAWN.items() for language in ("ko", "en")
}
"""Every drawing by its file."""


if __name__ == "__main__":
    for name, made in WRITTEN.items():
        (FOLDER / name).write_text(made(), encoding="utf-8", newline="\n")
