"""The playground, in which trained networks run in the browser with a gate on every block: a self-contained page, or a
view of the report.

Its programs are the files of `play/`; here their networks and images are embedded.
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

MODULES = (
    "words",
    "engine",
    "gradients",
    "evaluation",
    "worker",
    "link",
    "pictures",
    "pen",
    "blocks",
    "inside",
    "play",
)
"""The page's programs, in order of dependency."""

STEPS = (
    "#net={first}&image=0",
    "#net={first}&off=layer2.1",
    "#net={first}&off=layer1.0&block=layer1.0",
    "#net={deepest}&off=layer1.2,layer2.2,layer3.2",
    "#net={first}&swap=layer2.1,layer2.2",
)
"""Suggested experiments as links into the page, for the first network and the one with most blocks."""

_FONT = "/* the page's Hangul */"

LOADER = ChoiceLoader([PackageLoader("reslab.report"), PackageLoader("reslab.report", "play")])


class Images(NamedTuple):
    """Stored square grey images, `[N, 1, H, H]` with levels from 0 to `levels`; their labels `[N]`; and the mean and
    standard deviation that normalise values between 0 and 1.
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
        images: in the networks' input size.
        out: the page.
    """
    environment = Environment(loader=LOADER, autoescape=True, undefined=StrictUndefined)
    environment.filters["json"] = embedded
    page = environment.get_template("play.html.j2").render(
        play=playground(networks, images), version=__version__, font=Markup(_FONT)
    )
    write_atomically(out, page.replace(_FONT, font_face(page), 1))
    return out


def playground(networks: "Mapping[str, nn.Module]", images: Images) -> Json:
    """Return the data of these networks and images for the templates of `play/`."""
    data = _data(networks, images)
    residual = [network for network in data["networks"] if network["residual"]]
    deepest = max(residual, key=lambda network: len(network["blocks"]))["name"]
    return {
        "data": data,
        "modules": MODULES,
        "names": ", ".join(networks),
        "deepest": deepest,
        "steps": [step.format(first=residual[0]["name"], deepest=deepest) for step in STEPS],
    }


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

    Kernels are not scaled here, as the bundled float16 weights would be rounded a second time.
    """
    import torch
    from torch import nn

    halves: list[Tensor] = []
    floats: list[Tensor] = []

    def layer(convolution: "nn.Module", norm: "nn.Module") -> list[int]:
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        halves.append(convolution.weight)
        floats.extend((factor, norm.bias.double() - norm.running_mean.double() * factor))
        return [convolution.in_channels, convolution.out_channels, convolution.stride[0]]

    module = network.get_submodule
    stem = layer(module("conv1"), module("bn1"))
    depths = {name: len(list(stage.children())) for name, stage in network.named_children() if name.startswith("layer")}
    names = [f"{stage}.{number}" for stage, depth in depths.items() for number in range(depth)]
    blocks = [
        [name, *(layer(module(f"{name}.conv{place}"), module(f"{name}.bn{place}")) for place in (1, 2))]
        for name in names
    ]
    classifier = module("fc")
    assert isinstance(classifier, nn.Linear)
    halves.append(classifier.weight)
    floats.append(classifier.bias)
    return {
        "residual": hasattr(module(names[0]), "downsample"),
        "stem": stem,
        "blocks": blocks,
        "classes": classifier.out_features,
        "halves": _base64(torch.cat([each.flatten().half() for each in halves])),
        "floats": _base64(torch.cat([each.flatten().float() for each in floats])),
    }


def _base64(values: "Tensor") -> str:
    return base64.b64encode(values.detach().cpu().numpy().tobytes()).decode("ascii")
