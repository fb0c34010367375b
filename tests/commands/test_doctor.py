"""The doctor: this machine is well, and one that computes otherwise is told so."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from helpers import refused, reslab_here

from reslab.commands import doctor
from reslab.errors import DamagedError, MissingError
from reslab.networks import support

ROOT = Path(__file__).parents[2]
MATRIX = ROOT / "docs" / "support-matrix.md"


def test_this_machine_agrees_with_the_references() -> None:
    done = reslab_here("doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0 and all(findings[check.english]["fine"] for check in doctor.CHECKS)
    assert findings["extra lab"]["found"] == "installed"
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = pyproject["project"]["optional-dependencies"].keys() - doctor.FOR_DEVELOPERS
    assert extras == {what.removeprefix("extra ") for what in findings if what.startswith("extra ")}


def test_every_package_of_an_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_is_installed", lambda package: package not in ("matplotlib", "submitit"))
    found = {finding.what.english: finding.found.english for finding in doctor.examine()}
    assert found["extra lab"] == "missing: matplotlib; pip install 'reslab[lab]'"
    assert found["extra cluster"] == "missing: submitit; pip install 'reslab[cluster]'"
    assert found["extra track"] == "installed"


@pytest.mark.parametrize(
    ("system", "told"),
    [
        ("C.UTF-8", ["✗ references in float64: off by 1.0e-08", "✓ a bundled network on the digits: "]),
        ("ko_KR.UTF-8", ["✗ float64 기준값: 상대 오차 최대 1.0e-08", "✓ 들어 있는 신경망으로 숫자 분류: "]),
    ],
)
def test_other_numbers_are_told(system: str, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", system)
    monkeypatch.setitem(doctor.REFERENCE, "loss", doctor.REFERENCE["loss"] * (1 + 1e-8))
    done = reslab_here("doctor")
    assert done.returncode == 1 and all(line in done.stdout for line in told)


@pytest.mark.usefixtures("_forked_workers")
def test_the_networks_of_others_are_looked_at_in_processes_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names, out = ["timm/test_convnext", "timm/test_vit"], tmp_path / "docs" / "matrix.md"
    monkeypatch.setattr(support, "names", lambda kept: names)
    done = reslab_here("doctor", "--networks", "--out", str(out), "--json")
    rows = [support.Row(**row) for row in json.loads(done.stdout)]
    assert done.returncode == 0 and [row.name for row in rows] == names
    assert all(row.blocks and not row.refusal for row in rows) and rows[1].chain
    page = out.read_text(encoding="utf-8")
    assert all(support.line(row) in page.splitlines() for row in rows) and page == support.markdown(rows)
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.usefixtures("_forked_workers")
def test_what_takes_too_much_of_the_processors_time_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "SECONDS", 1)
    (row,) = support.rows(["torchvision/efficientnet_v2_l"])
    assert not row.blocks and not row.traceback and row.refusal == "not seen in 1 seconds"


def test_a_network_of_a_family_that_was_looked_at_is_not_sought_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("timm.list_modules", lambda: ["convnext", "resnet"])
    monkeypatch.setattr(support, "hugging", list)
    monkeypatch.setattr(support, "_smallest", lambda candidates: next(name for name in candidates if "18" in name))
    (tmp_path / "a.jsonl").write_text('{"name": "timm/any", "family": "timm convnext"}\n', encoding="utf-8")
    found = support.names(tmp_path / "a.jsonl")
    assert found[0] == "timm/any" and found[1].startswith("timm/") and "18" in found[1]
    assert found[2].startswith("torchvision/")


def test_a_run_that_was_stopped_names_what_is_left_and_resumes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = tmp_path / "matrix.md"
    monkeypatch.setattr(support, "names", lambda kept: ["a/first", "a/second"])

    def look(worker: object, name: str) -> support.Row:
        if name == "a/second":
            raise KeyboardInterrupt
        return support.Row(name, "a", 3, "add 3", chain=True)

    monkeypatch.setattr(support._Worker, "look", look)
    assert reslab_here("doctor", "--networks", "--out", str(out)).returncode == 130
    page = out.read_text(encoding="utf-8")
    assert "| a/first | 3 | add 3 | yes |  |" in page and "a/second" in page
    monkeypatch.setattr(support._Worker, "look", lambda worker, name: support.Row(name, "a", refusal="no"))
    assert reslab_here("doctor", "--networks", "--out", str(out)).returncode == 0
    assert {"| a/first | 3 | add 3 | yes |  |", "| a/second | no |"} <= set(out.read_text("utf-8").splitlines())


def test_a_file_of_something_else_is_not_taken_for_networks(tmp_path: Path) -> None:
    for text in ('{"epoch": 1}\n', '{"name": "a'):
        (tmp_path / "metrics.jsonl").write_text(text, encoding="utf-8")
        with refused(DamagedError, "metrics.jsonl"):
            support.read(tmp_path / "metrics.jsonl")


ROW = re.compile(r"\| (timm/|torchvision/|hf:)")
LINES = [line for line in MATRIX.read_text(encoding="utf-8").splitlines() if ROW.match(line)]


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES[::8], ids=lambda line: line.split()[1])
def test_the_page_is_what_is_seen(line: str) -> None:
    assert support.line(support.look(line.split()[1])) == line


def test_at_least_97_in_100_are_viewed_and_none_ends_in_an_error() -> None:
    text = MATRIX.read_text(encoding="utf-8")
    looked, viewed, errors = (int(re.findall(rf"{what}: (\d+)", text)[0]) for what in ("Looked at", "Viewed", "Errors"))
    assert len(LINES) == looked and viewed >= 0.97 * looked and errors == 0


def test_a_user_without_a_home_is_told_and_everything_else_is_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise MissingError("no home")

    monkeypatch.setattr("reslab.cache.user_cache", nowhere)
    monkeypatch.setattr(doctor, "CHECKS", {})
    (found,) = (finding for finding in doctor.examine() if finding.what.english == "cache")
    assert found.found.english == "no home" and found.fine is False
