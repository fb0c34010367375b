"""Where `reslab.ledger` was in version 0.1: its names, for programs written then."""

from reslab.ledger.again import *  # noqa: F403  # every name of then
from reslab.ledger.claim import *  # noqa: F403  # every name of then
from reslab.ledger.comparison import *  # noqa: F403  # every name of then
from reslab.ledger.verdict import *  # noqa: F403  # every name of then
