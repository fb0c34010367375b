"""Where `reslab analyze` was in version 0.1: its names, for programs written then."""

from reslab.commands.analyze import *  # noqa: F403  # every name of then
