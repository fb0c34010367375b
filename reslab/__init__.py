"""reslab: a laboratory for residual networks. Its public names are in `__init__.pyi`."""

from reslab.lazily import public

__version__ = "0.1.0"
__all__ = ["__version__"]

public(__name__)
