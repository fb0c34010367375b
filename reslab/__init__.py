"""reslab: a laboratory for residual networks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reslab.data import load_data
    from reslab.networks.zoo import build
    from reslab.residual import view
    from reslab.trained import evaluate, predict

__version__ = "0.1.0"
__all__ = ["__version__", "build", "evaluate", "load_data", "predict", "view"]

_HOME = {
    "build": "reslab.networks.zoo",
    "evaluate": "reslab.trained",
    "load_data": "reslab.data",
    "predict": "reslab.trained",
    "view": "reslab.residual",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first used, so that `import reslab` loads no torch."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'reslab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
