"""The story of Level 2: shapes through a block, the two gradient terms, agreement with torch."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from reslab.errors import Language
from reslab.pytorch_lowlevel import resnet_lowlevel as lowlevel
from reslab.stories.speaking import padded, words


def main(*, spoken: Language = "en") -> None:
    """Print shapes through the blocks, the two terms of the gradient, and the agreement with torch."""
    say = words("lowlevel", spoken)
    generator = torch.Generator().manual_seed(0)
    params, stats = lowlevel.initialise(18, generator=generator, num_classes=10)
    images = torch.randn(4, 3, 64, 64, generator=generator)
    labels = torch.randint(10, (4,), generator=generator)
    print(say["title"] + "\n")
    _shapes(say, params, stats)
    _gradient_terms(say, params, stats, generator)
    _agreement(say, params, stats, images, labels)


def _shapes(say: Mapping[str, str], params: lowlevel.Tensors, stats: lowlevel.Tensors) -> None:
    print(say["shapes"])
    x = torch.zeros(4, 64, 16, 16)
    run = lowlevel.Pass(params, stats, training=True, keep=False)
    for block in lowlevel.blocks(18, "3x3"):
        y = lowlevel.residual_block(run, block, x)
        path = say["projection" if block.projection else "identity"]
        print(
            f"   {block.name}: {'×'.join(map(str, x.shape[1:])):>9} -> {'×'.join(map(str, y.shape[1:])):<9}  "
            f"{say['shortcut'].format(path=path)}"
        )
        x = y


def _gradient_terms(
    say: Mapping[str, str], params: lowlevel.Tensors, stats: lowlevel.Tensors, generator: torch.Generator
) -> None:
    print("\n" + say["terms"])
    block = next(lowlevel.blocks(18, "3x3"))
    run = lowlevel.Pass(params, stats, training=True, keep=True)
    y = lowlevel.residual_block(run, block, torch.randn(4, 64, 16, 16, generator=generator).relu())
    g = lowlevel.relu_backward(torch.randn(y.shape, generator=generator), y)
    through_the_branch, through_the_skip = (
        lowlevel.branch_backward(run, block, g),
        lowlevel.shortcut_backward(run, block, g),
    )
    for name, term in (
        ("branch", through_the_branch),
        ("skip", through_the_skip),
        ("sum", through_the_branch + through_the_skip),
    ):
        print(f"   {padded(say[name], 26)}: {say['norm']} {term.norm():8.3f}")


def _agreement(
    say: Mapping[str, str],
    params: lowlevel.Tensors,
    stats: lowlevel.Tensors,
    images: torch.Tensor,
    labels: torch.Tensor,
) -> None:
    print("\n" + say["agreement"])
    params, stats = (
        {name: t.double() if t.is_floating_point() else t for name, t in tensors.items()} for tensors in (params, stats)
    )
    from torchvision.models import (
        resnet18,
    )  # imported here, as the catalogue of networks imports every file of that package

    network = resnet18(num_classes=10).double()
    network.load_state_dict(params | stats)
    loss = F.cross_entropy(network(images.double()), labels)
    loss.backward()
    step = lowlevel.loss_and_gradients(params, stats, images.double(), labels)
    print(f"   {'':24} {padded(say['by hand'], 20, right=True)} {'torch':>20}")
    print(f"   {padded(say['loss'], 24)} {step.loss.item():20.16f} {loss.item():20.16f}")
    for name in ("conv1.weight", "layer2.0.conv1.weight", "layer4.1.bn2.bias", "fc.weight"):
        theirs = network.get_parameter(name).grad
        assert theirs is not None
        print(f"   {'|g| ' + name:24} {step.gradients[name].norm().item():20.16f} {theirs.norm().item():20.16f}")
