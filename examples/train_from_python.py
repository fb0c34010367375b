"""Train two small networks for two epochs, and compare them. Run again, it only reads the results."""

import sys

import reslab


def main(place: str = "runs/example") -> None:
    for model in ("plain20", "resnet20"):
        run = reslab.train(model, data="digits", epochs=2, seed=0, out=place)
        print(f"{model}: {100 * run.result['test_error']:.1f} % of the test images wrong")


if __name__ == "__main__":
    main(*sys.argv[1:])
