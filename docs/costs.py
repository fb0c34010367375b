"""What each analysis costs, counted: `python docs/costs.py` writes docs/analyses/costs.json anew (about ten minutes).

Multiply-adds are counted by torch and are the same on every machine; so is the memory of tensors, but for libraries'
own work space.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import reslab
from reslab.analysis import Analysis, analyses
from reslab.bench.memory import peak_of

FILE = Path(__file__).parent / "analyses" / "costs.json"
IMAGES = 32
SETTINGS: dict[str, dict[str, Any]] = {
    "alike": {"batch": IMAGES},
    "jacobian": {"blocks": ["layer1.1"]},
    "prune": {"steps": 1},
    "shapley": {"permutations": 1},
    "worth": {"permutations": 1},
}
"""Where the cost grows with a setting, one of it; the page says of what."""


class Counting(TorchDispatchMode):
    """Counts the multiply-adds of convolutions and matrix products, forward and backward, in `flops`: two for each.

    torch's own counter has hooks on modules, which do not stand a gradient with respect to gates alone.
    """

    flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, or the operations that it is made of, and count them."""
        kwargs = kwargs or {}
        count = flop_registry.get(func._overloadpacket)
        if count is None and func is not torch.ops.prim.device.default:  # it has no parts
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        self.flops += count(*args, **kwargs, out_val=out) if count else 0
        return out


def cost(analysis: Analysis) -> dict[str, float]:
    """Return an analysis' multiply-adds and memory over those of one forward pass over the same images."""
    network, (images, labels) = reslab.build("resnet20", weights="digits"), reslab.load_data("digits").heldout
    few = 2 if analysis.name in ("jacobian", "shattering") else IMAGES
    images, labels = images[:few], labels[:few]
    arguments = [network, images, *([labels] if "labels" in analysis.parameters else [])]
    function, settings = analysis.load(), SETTINGS.get(analysis.name, {})

    def forward() -> None:
        with torch.no_grad():
            network.eval()(images)

    def call() -> None:
        function(*arguments, **settings)

    counts = []
    for work in (call, forward):
        with Counting() as counter:
            work()
        there = [images, labels, *network.state_dict().values()]
        counts.append((counter.flops, peak_of(work, there)))
    (flops, memory), (flops_forward, memory_forward) = counts
    return {"passes": round(flops / flops_forward, 1), "memory": round(memory / memory_forward, 1)}


def measure() -> dict[str, dict[str, float]]:
    """Return the costs of every analysis of a network."""
    found = {}
    for analysis in sorted(dict.fromkeys(analyses().values()), key=lambda each: each.name):
        if "network" in analysis.parameters:
            torch.manual_seed(0)
            found[analysis.name] = cost(analysis)
            print(analysis.name, found[analysis.name], flush=True)
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    FILE.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8", newline="\n")
