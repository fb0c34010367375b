"""The story of Level 3 at the terminal: the family, its tables, and how to run the comparison of shortcuts."""

import torch
from torch import nn

from reslab.paper import resnet_paper as paper


def main() -> None:
    """Print the story."""
    print("The networks of He et al. 2015 and 2016, counted on the meta device.\n")
    print(f"{'network':14} {'blocks per stage':>16} {'parameters':>12} {'G MACs':>8}   source")
    for name, (_, macs, source) in paper.REFERENCE.items():
        with torch.device("meta"):
            network = paper.MODELS[name]()
        print(
            f"{name:14} {_blocks(name, network):>16} {_parameters(network):12,} {macs / 1e9:8.3f}   "
            f"{source.split(';')[0].split('(')[0].strip(' ,')}"
        )
    print(
        "\nWhat a shortcut costs (2015, section 4.1): A pads with zeros, B projects where the shape changes, C "
        "projects everywhere"
    )
    print(f"{'network':14} {'A':>12} {'B':>12} {'C':>12} parameters")
    for name in ("resnet18", "resnet34", "resnet20", "resnet56", "resnet110"):
        counts = []
        for option in "ABC":
            with torch.device("meta"):
                counts.append(_parameters(paper.MODELS[name](shortcut=option)))
        print(f"{name:14} " + " ".join(f"{count:12,}" for count in counts))
    print("\nTo compare none, A, B and C on real digits, with repeats and verdicts (some three minutes on two cores):")
    print("    reslab study shortcuts")
    print("To see one network stage by stage, and where it differs from torchvision's:")
    print("    reslab models resnet50 --diff torchvision/resnet50")


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _blocks(name: str, network: nn.Module) -> str:
    depth = int("".join(filter(str.isdigit, name)))
    if depth in paper.IMAGENET_BLOCKS:
        return ", ".join(map(str, paper.IMAGENET_BLOCKS[depth]))
    return ", ".join(str(len(stage)) for stage in network.children() if isinstance(stage, nn.Sequential))
