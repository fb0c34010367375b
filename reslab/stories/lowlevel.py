"""The story of Level 2 at the terminal: shapes through a block, the two gradient terms, agreement with torch."""

import torch
import torch.nn.functional as F

from reslab.pytorch_lowlevel import resnet_lowlevel as lowlevel


def main() -> None:
    """Print the story."""
    generator = torch.Generator().manual_seed(0)
    params, stats = lowlevel.initialise(18, generator=generator, num_classes=10)
    images = torch.randn(4, 3, 64, 64, generator=generator)
    labels = torch.randint(10, (4,), generator=generator)
    print("A ResNet-18 from raw tensors: 4 images of 3×64×64, no modules, no autograd.\n")
    _shapes(params, stats)
    _gradient_terms(params, stats, generator)
    _agreement(params, stats, images, labels)


def _shapes(params: lowlevel.Tensors, stats: lowlevel.Tensors) -> None:
    print("1. Through the blocks (each: y = relu(shortcut(x) + F(x)))")
    x = torch.zeros(4, 64, 16, 16)
    run = lowlevel.Pass(params, stats, training=True, keep=False)
    for block in lowlevel.blocks(18, "3x3"):
        y = lowlevel.residual_block(run, block, x)
        path = "projection W_s" if block.projection else "identity"
        print(
            f"   {block.name}: {'×'.join(map(str, x.shape[1:])):>9} -> {'×'.join(map(str, y.shape[1:])):<9}  "
            f"shortcut: {path}"
        )
        x = y


def _gradient_terms(params: lowlevel.Tensors, stats: lowlevel.Tensors, generator: torch.Generator) -> None:
    print("\n2. Back through layer1.0: two terms, one through the branch, one straight through the skip")
    block = next(lowlevel.blocks(18, "3x3"))
    run = lowlevel.Pass(params, stats, training=True, keep=True)
    y = lowlevel.residual_block(run, block, torch.randn(4, 64, 16, 16, generator=generator).relu())
    g = lowlevel.relu_backward(torch.randn(y.shape, generator=generator), y)
    through_the_branch, through_the_skip = (
        lowlevel.branch_backward(run, block, g),
        lowlevel.shortcut_backward(run, block, g),
    )
    for name, term in (
        ("through the branch, J_Fᵀ·g", through_the_branch),
        ("through the skip, g itself", through_the_skip),
        ("their sum, what x receives", through_the_branch + through_the_skip),
    ):
        print(f"   {name}: norm {term.norm():8.3f}")


def _agreement(params: lowlevel.Tensors, stats: lowlevel.Tensors, images: torch.Tensor, labels: torch.Tensor) -> None:
    print("\n3. Beside torchvision's ResNet-18 and torch's autograd, same weights (float64)")
    params, stats = (
        {name: t.double() if t.is_floating_point() else t for name, t in tensors.items()} for tensors in (params, stats)
    )
    from torchvision.models import resnet18  # here, as the catalogue of networks imports every file of this package

    network = resnet18(num_classes=10).double()
    network.load_state_dict(params | stats)
    loss = F.cross_entropy(network(images.double()), labels)
    loss.backward()
    step = lowlevel.loss_and_gradients(params, stats, images.double(), labels)
    print(f"   {'':24} {'by hand':>20} {'torch':>20}")
    print(f"   {'loss':24} {step.loss.item():20.16f} {loss.item():20.16f}")
    for name in ("conv1.weight", "layer2.0.conv1.weight", "layer4.1.bn2.bias", "fc.weight"):
        theirs = network.get_parameter(name).grad
        assert theirs is not None
        print(f"   {'|g| ' + name:24} {step.gradients[name].norm().item():20.16f} {theirs.norm().item():20.16f}")
