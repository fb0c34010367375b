"""The doctor: this machine is well, and one that computes otherwise is told so."""

import json

import pytest
from helpers import reslab_here

from reslab.commands import doctor


def test_this_machine_agrees_with_the_references() -> None:
    done = reslab_here("doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0 and all(findings[check]["fine"] for check in doctor.CHECKS)
    assert findings["extra lab"]["found"] == "installed"


def test_other_numbers_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.REFERENCE, "loss", doctor.REFERENCE["loss"] * (1 + 1e-8))
    done = reslab_here("doctor")
    assert done.returncode == 1 and "✗ references in float64: off by 1.0e-08" in done.stdout
