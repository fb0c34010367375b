"""Train two small networks for two epochs, and compare them. Run again, it only reads the results."""

import sys
from pathlib import Path

from reslab.executors.trial import run_trial
from reslab.training.loop import TrialConfig
from reslab.training.recipes import recipe_for


def main(place: str = "runs/example") -> None:
    recipe = recipe_for("digits", "fast").model_copy(update={"epochs": 2})
    for model in ("cifar_plain", "cifar_resnet"):
        config = TrialConfig(model=model, options={"depth": 20}, data="digits", recipe=recipe, seed=0)
        result = run_trial(config, Path(place))
        print(f"{model}: {100 * result['test_error']:.1f} % of the test images wrong")


if __name__ == "__main__":
    main(*sys.argv[1:])
