"""Analyses of residual networks: one question a file, each a function that returns a dataclass and leaves the network
as it found it. Its public names are in `__init__.pyi`.
"""

from reslab.lazily import public

public(__name__)
