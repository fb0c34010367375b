"""A claim of your own, decided: does the first block matter more than the last? The margin first, then the numbers."""

import torch

import reslab
from reslab.ledger.claim import Claim
from reslab.ledger.comparison import Comparison
from reslab.ledger.verdict import decide

CLAIM = Claim(
    "mine.first-block-matters-most",
    "statistical",
    None,
    {
        "en": "Without its first block the network errs more than without its last.",
        "ko": "첫 블록을 빼면 마지막 블록을 뺄 때보다 더 많이 틀린다.",
    },
    source="this file",
    direction="higher",
    margin=0.05,  # five points: what would change how I prune
)


def error(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, off: str) -> float:
    gated = reslab.view(network, images[:2])
    return (gated(images, gated.gates(off=[off])).argmax(1) != labels).float().mean().item()


def main() -> None:
    network = reslab.build("resnet20", weights="digits").eval()
    images, labels = reslab.load_data("digits").heldout
    parts = list(zip(images.chunk(5), labels.chunk(5), strict=True))  # in place of five seeds
    first = {seed: error(network, *part, "layer1.0") for seed, part in enumerate(parts)}
    last = {seed: error(network, *part, "layer3.2") for seed, part in enumerate(parts)}
    (found,) = decide([Comparison(CLAIM, first, last, paired=True)])
    print(found.verdict, found.effect, found.interval)


if __name__ == "__main__":
    main()
