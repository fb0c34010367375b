"""The public import of gates: `from reslab.residual import view`."""

from reslab.gates.gating import Block, option_a
from reslab.gates.inputs import tensors_of
from reslab.gates.making import view
from reslab.gates.planning import Live
from reslab.gates.recording import Sides
from reslab.gates.view import View
from reslab.gates.wrapped import unwrapped
from reslab.state import preserve

__all__ = ["Block", "Live", "Sides", "View", "option_a", "preserve", "tensors_of", "unwrapped", "view"]
