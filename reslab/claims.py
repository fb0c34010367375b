"""Where `reslab.ledger` was in version 0.1: its names, for programs written then."""

from reslab.ledger.again import *  # noqa: F403
from reslab.ledger.claim import *  # noqa: F403
from reslab.ledger.comparison import *  # noqa: F403
from reslab.ledger.verdict import *  # noqa: F403
