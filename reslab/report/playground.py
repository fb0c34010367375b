"""The playground: one self-contained page in which trained networks run, with a gate on every block.

The page's programs are the files of `play/`, one job each; here their networks and images are put into it.
"""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reslab import __version__
from reslab.files import Json, write_atomically
from reslab.report.hangul import font_face
from reslab.report.pictures import embedded

if TYPE_CHECKING:
    from torch import Tensor, nn

MODULES = ("words", "engine", "evaluation", "worker", "link", "pictures", "pen", "blocks", "inside", "play")
"""The page's programs, each after those that it calls."""

STEPS = (
    "#net=resnet20&image=0",
    "#net=resnet20&off=layer2.1",
    "#net=resnet20&off=layer1.0&block=layer1.0",
    "#net=resnet56&off=layer1.3,layer2.3,layer3.3",
    "#net=resnet20&swap=layer2.1,layer2.2",
)
"""What there is to try, as links into the page."""

_FONT = "/* the page's Hangul */"


class Images(NamedTuple):
    """Square grey images as they are stored, `[N, 1, H, H]` with levels from 0 to `levels`; their labels `[N]`; and the
    mean and deviation that standardise what lies between 0 and 1.
    """

    stored: "Tensor"
    labels: "Tensor"
    levels: int
    mean: float
    deviation: float


def write_playground(networks: "Mapping[str, nn.Module]", images: Images, out: Path) -> Path:
    """Write the page for these networks and test images to `out`, and return its path.

    Args:
        networks: by name, in pairs of a residual and a plain one whose blocks have the same names: CIFAR's networks of
            basic blocks, option A, one image channel, in the zoo's layout.
        images: at the size that the networks see.
        out: the page.
    """
    loader = ChoiceLoader([PackageLoader("reslab.report", "play"), PackageLoader("reslab.report")])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.filters["json"] = embedded
    page = environment.get_template("play.html.j2").render(
        data=_data(networks, images), modules=MODULES, steps=STEPS, version=__version__, font=Markup(_FONT)
    )
    write_atomically(out, page.replace(_FONT, font_face(page), 1))
    return out


def _data(networks: "Mapping[str, nn.Module]", images: Images) -> Json:
    size = images.stored.shape[-1]
    seen = {"size": size, "mean": images.mean, "deviation": images.deviation}
    described = [{"name": name, **seen, **describe(network)} for name, network in networks.items()]
    return {
        "networks": described,
        "twins": _twins(described),
        "images": _base64(images.stored.byte()),
        "labels": "".join(map(str, images.labels.tolist())),
        "levels": images.levels,
        "size": size,
    }


def _twins(described: list[Json]) -> dict[str, str]:
    """Return for each network the name of the other whose blocks have the same names."""
    by_blocks: dict[tuple[str, ...], list[str]] = {}
    for network in described:
        by_blocks.setdefault(tuple(name for name, *_ in network["blocks"]), []).append(network["name"])
    pairs = by_blocks.values()
    return {name: other for one, another in pairs for name, other in ((one, another), (another, one))}


def describe(network: "nn.Module") -> Json:
    """Return a network as `play/engine.js` reads it: its layers as `[inputs, outputs, stride]`, kernels and the
    classifier as float16, and what normalises each channel as a scale and a shift in float32.

    Kernels are not scaled here: a network's weights come as float16, and would be rounded a second time.
    """
    import torch

    halves: list[Tensor] = []
    floats: list[Tensor] = []

    def layer(convolution: "nn.Module", norm: "nn.Module") -> list[int]:
        weight, scale, shift, mean, variance = (
            tensor.detach().cpu()
            for tensor in (convolution.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
        )
        factor = scale.double() / (variance.double() + norm.eps).sqrt()
        halves.append(weight)
        floats.extend((factor, shift.double() - mean.double() * factor))
        return [weight.shape[1], weight.shape[0], convolution.stride[0]]

    stem = layer(network.conv1, network.bn1)
    stages = {name: stage for name, stage in network.named_children() if name.startswith("layer")}
    named = [(f"{stage}.{number}", block) for stage, blocks in stages.items() for number, block in blocks.named_children()]
    blocks = [[name, layer(block.conv1, block.bn1), layer(block.conv2, block.bn2)] for name, block in named]
    halves.append(network.fc.weight.detach().cpu())
    floats.append(network.fc.bias.detach().cpu())
    return {
        "residual": hasattr(named[0][1], "downsample"),
        "stem": stem,
        "blocks": blocks,
        "classes": len(floats[-1]),
        "halves": _base64(torch.cat([each.flatten().half() for each in halves])),
        "floats": _base64(torch.cat([each.flatten().float() for each in floats])),
    }


def _base64(values: "Tensor") -> str:
    return base64.b64encode(values.contiguous().numpy().tobytes()).decode("ascii")
