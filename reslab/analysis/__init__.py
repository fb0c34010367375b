"""Analyses of residual networks, one question per file. Each is a function that returns a dataclass and leaves the
network unchanged. Its public names are in `__init__.pyi`.
"""

from reslab.lazily import public

public(__name__)
