"""Metrics for other tools, through Fabric's loggers: new lines of `metrics.jsonl` are passed on.

A log is made only from the run directory. So it does not depend on where the trial runs, it is not part of a trial's
identity, and the log of a resumed run starts with its earlier metrics.
"""

import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from reslab.errors import MissingError, UserError, in_one_line, worded
from reslab.files import Json
from reslab.runs import Run

Tool = Literal["csv", "tensorboard", "wandb", "trackio"]
SECONDS = 1.0
"""Seconds between two checks for new lines."""
NEEDED = {"csv": "", "tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio"}


@contextmanager
def logging(tool: Tool | None, runs: Sequence[Run], directory: Path) -> Iterator[None]:
    """Pass on the metrics of these runs inside the block and at its end; do nothing without a tool.

    Raises:
        UserError: if the tool is not installed.
    """
    if tool is None:
        yield
        return
    if NEEDED[tool]:
        try:
            import_module(NEEDED[tool])
        except ModuleNotFoundError as error:
            raise MissingError(*worded("log-needs", tool=tool, package=NEEDED[tool])) from error
    followed = [_Followed(run, tool, directory) for run in runs]
    stop = threading.Event()

    def follow() -> None:
        while not stop.wait(SECONDS):
            for each in followed:
                each.attempt(each.look)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for each in followed:
            each.attempt(each.look)
            each.attempt(each.finish)


class _Followed:
    """A run whose lines are passed on once each."""

    def __init__(self, run: Run, tool: Tool, directory: Path) -> None:
        self.run, self.tool, self.directory = run, tool, directory
        self.lines = 0
        self.logger: Any = None
        self.ended = False

    def attempt(self, pass_on: Callable[[], None]) -> None:
        """Pass something on. If the tool fails, as one that nobody has logged in to does, say so once and stop: the
        run goes on, and the same command makes its log anew.
        """
        if self.ended:
            return
        try:
            with redirect_stdout(sys.stderr):  # where a tool greets
                pass_on()
        except Exception as error:
            self.ended = True
            print(f"reslab: note: --log {self.tool} of {self.run.path} ended: {in_one_line(error)}", file=sys.stderr)

    def look(self) -> None:
        """Pass on new lines."""
        lines: list[Any] = []
        with suppress(OSError, UserError):  # which the run itself reports
            lines = list(self.run.metrics())[self.lines :]
        for line in lines:
            if self.logger is None:
                self.logger = _logger(self.tool, self.directory, self.run)
            values = {key: value for key, value in line.items() if isinstance(value, float | int)}
            self.logger.log_metrics(values, step=int(line["step"]))
            self.lines += 1

    def finish(self) -> None:
        if self.logger is None:
            return
        result: Json = {}
        with suppress(OSError, UserError):
            result = self.run.result() if self.run.finished else {}
        if result:
            final = {f"final/{key}": value for key, value in result.items() if isinstance(value, float | int)}
            self.logger.log_metrics(final, step=result["steps"])
        self.logger.save()
        self.logger.finalize("success")


def _logger(tool: Tool, directory: Path, run: Run) -> Any:
    """Return a logger that writes a run's log anew."""
    name = run.path.name
    place = directory / tool / name
    if tool in ("csv", "tensorboard"):
        shutil.rmtree(place, ignore_errors=True)
    if tool == "csv":
        from lightning_fabric.loggers.csv_logs import CSVLogger

        return CSVLogger(directory / tool, name=name, version="")
    if tool == "tensorboard":
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        logger = TensorBoardLogger(directory / tool, name=name, version="")
        logger.log_hyperparams(flat(run.config.model_dump(mode="json")))
        return logger
    return _tracked(tool, directory, run)


def _tracked(tool: Tool, directory: Path, run: Run) -> Any:
    """Return a logger of wandb or of trackio, which takes wandb's calls."""
    from lightning_fabric.loggers.logger import Logger

    # several runs are followed at once
    place = {"dir": str(directory), "reinit": "create_new"} if tool == "wandb" else {}
    directory.mkdir(parents=True, exist_ok=True)
    module = import_module(tool)
    config = flat(run.config.model_dump(mode="json"))
    begun = module.init(project="reslab", name=run.path.name, config=config, **place)

    class Tracked(Logger):
        """Passes metrics on."""

        @property
        def name(self) -> str:
            return tool

        @property
        def version(self) -> str:
            return str(run.path.name)

        def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
            begun.log(dict(metrics), step=step)

        def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
            """Do nothing: the run was created with them."""

        def finalize(self, status: str) -> None:
            begun.finish()

    return Tracked()


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a config with dotted keys in place of nested ones."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
