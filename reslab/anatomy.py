"""Where `reslab.networks.anatomy` was in version 0.1: its names, for programs written then."""

from reslab.networks.anatomy import *  # noqa: F403  # every name of then
