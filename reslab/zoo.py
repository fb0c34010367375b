"""Where `reslab.networks` was in version 0.1: its names, for programs written then."""

from reslab.networks.counting import *  # noqa: F403
from reslab.networks.sources import *  # noqa: F403
from reslab.networks.zoo import *  # noqa: F403
