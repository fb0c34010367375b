"""The story of Level 3: the family, its tables, and how to compare shortcuts."""

from torch import nn

from reslab.errors import Language
from reslab.networks.meta import shapes_only
from reslab.paper import resnet_paper as paper
from reslab.stories.speaking import padded, words


def main(*, spoken: Language = "en") -> None:
    """Print the networks of the papers, and what their shortcuts cost."""
    say = words("paper", spoken)
    print(say["title"] + "\n")
    counted = " ".join(padded(say[name], width, right=True) for name, width in (("blocks", 16), ("parameters", 12)))
    print(f"{padded(say['network'], 14)} {counted} {'G MACs':>8}   {say['source']}")
    for name, (_, macs, source) in paper.REFERENCE.items():
        with shapes_only():
            network = paper.MODELS[name]()
        print(
            f"{name:14} {_blocks(name, network):>16} {_parameters(network):12,} {macs / 1e9:8.3f}   "
            f"{source.split(';')[0].split('(')[0].strip(' ,')}"
        )
    print("\n" + say["shortcuts"])
    print(f"{padded(say['network'], 14)} {'A':>12} {'B':>12} {'C':>12} {say['parameters']}")
    for name in ("resnet18", "resnet34", "resnet20", "resnet56", "resnet110"):
        counts = []
        for option in "ABC":
            with shapes_only():
                counts.append(_parameters(paper.MODELS[name](shortcut=option)))
        print(f"{name:14} " + " ".join(f"{count:12,}" for count in counts))
    print("\n" + say["compare"])
    print("    reslab study shortcuts")
    print(say["look"])
    print("    reslab models resnet50 --diff torchvision/resnet50")


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _blocks(name: str, network: nn.Module) -> str:
    depth = int("".join(filter(str.isdigit, name)))
    if depth in paper.IMAGENET_BLOCKS:
        return ", ".join(map(str, paper.IMAGENET_BLOCKS[depth]))
    return ", ".join(str(len(stage)) for stage in network.children() if isinstance(stage, nn.Sequential))
