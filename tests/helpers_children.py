"""What children do that are told to end; they import nothing that takes seconds."""

import os
import signal
import time
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize

from reslab.processes import following_parent


def told_to_end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@following_parent
def told_while_it_works() -> None:
    told_to_end()


@following_parent
def slow_to_answer(connection: Connection, answer: str) -> None:
    time.sleep(0.7)
    connection.send(answer)


@following_parent
def told_while_it_ends() -> None:
    Finalize(None, told_to_end, exitpriority=0)


@following_parent
def whose_parent_does_not_listen() -> None:
    raise BrokenPipeError


@following_parent
def _failing() -> None:
    raise ValueError("what went wrong")


def told_while_it_passes_its_error_on() -> None:
    """Do as torch's spawned processes do, which hand their errors to their parent."""
    try:
        _failing()
    except ValueError:
        told_to_end()
