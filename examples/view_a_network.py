"""Which blocks has a network of timm's (or torchvision's, or your own), and which one can it not do without?

It needs the extra `zoo`. The network is untrained here, so that the figures show chance: give `pretrained=True`, and
images with labels of your own.
"""

import timm
import torch

import reslab


def main() -> None:
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", pretrained=False, num_classes=4).eval()
    images, labels = torch.randn(8, 3, 64, 64), torch.arange(8) % 4
    gated = reslab.view(network, images)
    print(gated)
    print("without its second block:", gated(images, gated.gates(off=[gated.blocks[1].name]))[0].tolist())
    print(reslab.remove_each(network, images, labels).to_frame())


if __name__ == "__main__":
    main()
