"""Through how many blocks does the gradient of a trained network go? `python examples/paths_of_a_checkpoint.py [FILE]`

FILE is a weights file of a resnet20 on the digits; without it, the bundled weights are taken.
"""

import sys

import reslab


def main(weights: str = "digits") -> None:
    network = reslab.build("resnet20", weights=weights).eval()
    images, labels = reslab.load_data("digits").heldout
    spectrum = reslab.path_spectrum(network, images[:32], labels[:32])
    print(spectrum.to_frame())
    print(f"mean length: {spectrum.mean_length:.2f} of {len(spectrum.gradient) - 1} blocks")


if __name__ == "__main__":
    main(*sys.argv[1:])
