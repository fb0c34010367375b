"""Where `reslab.weights` was in version 0.1: its names, for programs written then."""

from reslab.weights.files import *  # noqa: F403
from reslab.weights.fitting import *  # noqa: F403
from reslab.weights.onnx import *  # noqa: F403
from reslab.weights.shipped import *  # noqa: F403
from reslab.weights.untold import *  # noqa: F403
