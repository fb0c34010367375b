"""A study's directory, and the checks that keep one record from overwriting another."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from reslab.errors import DamagedError, MismatchError, UnusableError, worded
from reslab.experiment.config import StudyConfig
from reslab.files import read_json
from reslab.ledger.registration import Begun

if TYPE_CHECKING:
    from reslab.experiment.study import Study


class Directory(NamedTuple):
    """A study's directory: `trials/`, `study.json` and `report.html`."""

    path: Path

    @property
    def trials(self) -> Path:
        """Return the path of the run directories."""
        return self.path / "trials"

    @property
    def record(self) -> Path:
        """Return the path of `study.json`."""
        return self.path / "study.json"

    def prepare(self, study: "Study", config: StudyConfig | None = None) -> Self:
        """Make the directory and check that it is writable, does not belong to another study, and has no record with
        settings other than `config`.

        Without a `config`, any record of the study may be replaced. Trials are kept in either case.

        Raises:
            UserError: if it cannot be used.
        """
        if self.record.exists():
            if (other := self._recorded("study")) != study.name:
                raise MismatchError(*worded("directory-of-another-study", path=self.path, other=other, name=study.name))
            if config is not None and (changes := _changes(self._recorded("config"), config)):
                raise MismatchError(*worded("study-with-other-settings", path=self.path, changes=changes))
            if config is not None and self._is_registered():
                raise MismatchError(*worded("record-is-registered", path=self.path))
            if config is not None and study.is_own and self._claims().isdisjoint(claim.id for claim in study.claims):
                raise MismatchError(*worded("record-of-other-claims", path=self.path, name=study.name))
        try:
            self.trials.mkdir(parents=True, exist_ok=True)
            probe = self.trials / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UnusableError(*worded("unwritable", path=self.path, reason=error.strerror, option="--out")) from error
        return self

    def begun(self, shown: Begun) -> Path:
        """Return the path of the record of a study that has begun, of its own for other data or seeds."""
        told = hashlib.sha256(json.dumps([shown.data, shown.seeds]).encode()).hexdigest()[:8]
        return self.path / f"begun-{told}.json"

    def _is_registered(self) -> bool:
        """Return whether the existing record is of a registration; those of earlier versions do not say."""
        return isinstance(record := read_json(self.record), dict) and record.get("registered") is not None

    def _claims(self) -> set[str]:
        """Return the claims of the existing record."""
        return {str(claim["id"]) for claim in self._recorded("claims")}

    def _recorded(self, key: str) -> Any:
        """Return a part of the existing record."""
        try:
            return read_json(self.record)[key]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise DamagedError(*worded("study-damaged", record=self.record)) from error


def _changes(recorded: Any, config: StudyConfig) -> str:
    """Return in words the settings in which a recorded config differs from another; settings missing from the record
    have their defaults.
    """
    before = {key: field.default for key, field in type(config).model_fields.items()} | (
        recorded if isinstance(recorded, dict) else {}
    )
    now = config.model_dump(mode="json")
    return ", ".join(
        f"{key} {_plain(before.get(key))}, not {_plain(value)}"
        for key, value in now.items()
        if _plain(before.get(key)) != _plain(value)
    )


def _plain(value: Any) -> str:
    """Return a setting's value as on the command line."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
