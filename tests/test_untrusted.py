"""Files of strangers run nothing, write nowhere else, and say nothing in another's name. What others show already is in
their own tests:
weights files in test_weightfiles, the page in test_report and test_report_browser, learners' code in
test_exercises_running."""

import io
import json
import os
import pickle
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import assert_refused, refused, reslab_here, sum_up, tiny_trial
from helpers_fuzz import watchdog
from helpers_images import image_folder
from helpers_report import EVIL, a_study, a_trial, without_scripts
from PIL import EpsImagePlugin, Image

from reslab.commands import printing
from reslab.data import cache, load_data
from reslab.errors import DamagedError, FailedError
from reslab.executors import fresh_network, local, run_trials
from reslab.executors.attempts import attempt
from reslab.files import sealed, sha256
from reslab.report.page import write_report
from reslab.report.records import read_directory
from reslab.runs import Run


class Bomb:
    """What makes a directory where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return (os.mkdir, (self.mark,))


def test_the_bomb_goes_off(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "mark")))
    assert (tmp_path / "mark").is_dir()


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    config = tiny_trial()
    run = Run(tmp_path, config)
    run.create()
    buffer = io.BytesIO()
    torch.save({"network": Bomb(tmp_path / "mark")}, buffer)
    run.write_checkpoint(buffer.getvalue())  # sealed as our own are
    (failure,) = run_trials([config], tmp_path, local(1), lambda *_: None)
    assert "UnpicklingError" in failure.reason and not run.finished
    assert not (tmp_path / "mark").exists()


def test_code_in_a_cache_of_decoded_images_does_not_run(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "images")
    load_data(f"folder:{root}")
    (index,) = (root / cache.DIRECTORY).glob("*/index.pt")
    torch.save({"shapes": Bomb(tmp_path / "mark")}, index)
    with refused(DamagedError, index.parent):
        load_data(f"folder:{root}")
    assert not (tmp_path / "mark").exists()


def endless(part: torch.Tensor) -> torch.Tensor:
    """Return a tensor of a million million zeros, which takes eight bytes."""
    return torch.zeros(1, dtype=torch.long).expand(10**6).expand(10**6, -1)


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("shapes", lambda given: -given),
        ("shapes", lambda given: given * 2**40),
        ("shapes", lambda given: given.float()),
        ("shapes", endless),
        ("labels", lambda given: given + 100),
        ("labels", lambda given: given - 1),
        ("labels", lambda given: given.tolist()),
        ("counts", lambda given: [len(given), -1, 10**30]),
        ("counts", lambda given: given[:2]),
        ("statistics", lambda given: given[0]),
        ("statistics", lambda given: ((float("nan"),) * 3, *given[1:])),
        ("statistics", lambda given: (given[0], (0.0,) * 3, given[2])),
        ("classes", lambda given: 7),
        ("skipped", lambda given: [7]),
        ("fingerprint", lambda given: None),
        ("fingerprint", None),
    ],
)
def test_an_index_that_is_whole_and_wrong_inside_is_told(
    tmp_path: Path, key: str, wrong: Callable[[object], object] | None
) -> None:
    root = image_folder(tmp_path / "images")
    load_data(f"folder:{root}")
    (path,) = (root / cache.DIRECTORY).glob("*/index.pt")
    index = torch.load(path, weights_only=True)
    given = index.pop(key)
    torch.save(index if wrong is None else {**index, key: wrong(given)}, path)
    with refused(DamagedError, path.parent) as told:
        load_data(f"folder:{root}")
    assert "\n" not in str(told.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
@pytest.mark.parametrize("name", ["index.pt", "pixels.bin"])
def test_a_cache_of_fifos_is_not_waited_for(tmp_path: Path, name: str) -> None:
    root = image_folder(tmp_path / "images")
    load_data(f"folder:{root}")
    (path,) = (root / cache.DIRECTORY).glob(f"*/{name}")
    path.unlink()
    os.mkfifo(path)
    with watchdog(), refused(DamagedError, path.parent):
        load_data(f"folder:{root}")


@pytest.mark.skipif(os.name == "nt", reason="Windows lets few users make links")
def test_only_caches_are_removed_where_caches_are(tmp_path: Path) -> None:
    """A folder of a stranger's may have its cache's name for a link to something that is dear to somebody."""
    root = image_folder(tmp_path / "images")
    dear = tmp_path / "home"
    (dear / "work").mkdir(parents=True)
    (dear / "work" / "thesis.txt").write_text("years", encoding="utf-8")
    (dear / "fedcba9876543210").mkdir()  # a cache of an earlier state
    (root / cache.DIRECTORY).symlink_to(dear, target_is_directory=True)
    load_data(f"folder:{root}")
    assert (dear / "work" / "thesis.txt").exists() and not (dear / "fedcba9876543210").exists()


def test_a_cache_whose_pixels_are_cut_off_is_told(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "images")
    load_data(f"folder:{root}")
    (pixels,) = (root / cache.DIRECTORY).glob("*/pixels.bin")
    pixels.write_bytes(pixels.read_bytes()[:-1])
    with refused(DamagedError, pixels.parent):
        load_data(f"folder:{root}")


def test_pickles_and_archives_are_only_those_that_were_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their checksums are torchvision's; without them CIFAR's pickles would run what they hold, and tar archives write
    where they like.
    """
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (
        "data_batch_1",
        "data_batch_2",
        "data_batch_3",
        "data_batch_4",
        "data_batch_5",
        "test_batch",
        "batches.meta",
    ):
        (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))
    with refused(DamagedError, "cifar10", tmp_path, "data_batch_1, data_batch_2"):
        load_data(f"cifar10:{tmp_path}")

    def deliver(url: str, file: str, *_: object) -> None:
        with tarfile.open(file, "w:gz") as archive:
            member = tarfile.TarInfo("../outside")
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", deliver)
    with refused(FailedError, "cifar10", tmp_path):
        load_data(f"cifar10:{tmp_path}", download=True)
    assert (
        list(tmp_path.rglob("*.tar.gz"))
        and not list(tmp_path.parent.glob("outside"))
        and not (tmp_path / "mark").exists()
    )


def test_postscript_under_another_name_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = image_folder(tmp_path)
    Image.new("RGB", (8, 8)).save(root / "train" / "가" / "00.png", format="EPS")
    run: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *words: run.append(words))
    with refused(DamagedError, "train/가/00.png"):
        load_data(f"folder:{root}")
    assert not run


def test_a_run_directory_cannot_have_a_function_called(tmp_path: Path) -> None:
    """A network may be named package.module:factory where a user types it, and not where a file says so."""
    config = tiny_trial().model_copy(update={"model": "os:mkdir", "options": {"path": str(tmp_path / "mark")}})
    run = Run(tmp_path, config)
    run.create()
    run.finish(
        {"status": "finished", "steps": 1, "seconds": 1.0, "train_error": 0.5, "heldout_error": 0.5, "test_error": 0.5}
    )
    done = reslab_here("ship", run.path, "--out", tmp_path / "out")
    assert_refused(done, "os:mkdir")
    assert not (tmp_path / "mark").exists()


# --- Records that are whole by their seals and wrong inside -----------------------------------------------------------

GOOD = {
    "status": "finished",
    "steps": 1,
    "seconds": 1.0,
    "train_error": 0.5,
    "heldout_error": 0.5,
    "test_error": 0.5,
    "code": "0" * 16,
}


def finished_run(root: Path, seed: int = 0) -> Run:
    run = Run(root, tiny_trial(seed))
    run.create()
    run.append_metrics({"step": 1, "epoch": 1.0, "loss": 0.5, "train_error": 0.5, "heldout_error": 0.5})
    run.finish({key: value for key, value in GOOD.items() if key != "code"})
    return run


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "null",
        "{}",
        '{"status": "finished"}',
        *(
            json.dumps({**GOOD, **change})
            for change in (
                {"status": "ended"},
                {"train_error": "0.5"},
                {"test_error": 1.5},
                {"steps": None},
                {"code": 7},
            )
        ),
        *(json.dumps(GOOD).replace("0.5", number, 1) for number in ("NaN", "1e999", "9" * 4000, "9" * 5000)),
        json.dumps(GOOD).replace("finished", "\\ud800"),
        "[" * 900 + "]" * 900,
        "\xff",
    ],
    ids=lambda content: content[:30],
)
def test_a_result_that_is_none_is_named(content: str, tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    assert run.result() == GOOD | {"code": run.config.code_digest()}
    (run.path / "result.json").write_bytes(content.encode("latin-1"))
    sum_up(run.path)
    with refused(DamagedError, run.path / "result.json"):
        run.result()
    done = reslab_here("ship", run.path, "--out", tmp_path / "out")
    assert_refused(done, "result.json")


@pytest.mark.parametrize(
    "line", ["[]", "null", "{}", '{"loss": "a"}', '{"loss": 1.0, "epoch": []}', '{"loss": NaN}', "{"]
)
def test_a_line_of_metrics_that_is_none_is_named(line: str, tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    with (run.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    sum_up(run.path)
    with refused(DamagedError, run.path / "metrics.jsonl", 2):
        list(run.metrics())
    assert run.latest_metrics() == {}


def test_sums_that_are_whole_and_name_nothing_prove_nothing(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    for content, name in ((b"", "trial.json"), (b"\xff", "SHA256SUMS")):
        (run.path / "SHA256SUMS").write_bytes(sealed(content))
        with refused(DamagedError, run.path / name):
            run.result()


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "null",
        '{"test": 3}',
        '{"test": {}}',
        '{"test": {"images": 3, "bits": ""}}',
        '{"test": {"images": 3, "bits": "0g"}}',
        '{"test": {"images": 3, "bits": "E0"}}',
        '{"test": {"images": 3, "bits": "e00"}}',
        '{"test": {"images": 9, "bits": "e0"}}',
        '{"test": {"images": -1, "bits": ""}}',
        '{"test": {"images": 1.5, "bits": "e0"}}',
        '{"test": {"images": 99999999999999999999, "bits": "e0"}}',
        "{",
    ],
)
def test_wrong_answers_that_are_none_are_named(content: str, tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    (run.path / "wrong.json").write_text(content, encoding="utf-8")
    sum_up(run.path)
    with pytest.raises(DamagedError, match=r"wrong\.json"):
        run.wrong()


@pytest.mark.parametrize(
    "change",
    [{}, {"network": {}}, {"network": [1]}, {"step": 10**6}, {"step": -1}, {"optimizer": {}}, {"metrics": "x"}],
)
def test_a_checkpoint_that_is_none_is_named_and_nothing_is_built_on_it(
    change: dict[str, object], tmp_path: Path
) -> None:
    config = tiny_trial(epochs=1)
    run = Run(tmp_path, config)
    run.create()
    network = fresh_network(config, load_data("digits"))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    state = {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "precision": {},
        "step": 0,
        "seconds": 0.0,
        "sums": torch.zeros(2),
    }
    state |= {
        "trial": config.digest(),
        "images": load_data("digits").fingerprint,
        "metrics": tuple(run.mark_metrics()),
    } | change
    buffer = io.BytesIO()
    torch.save(state if change else [1], buffer)
    run.write_checkpoint(buffer.getvalue())
    failures = run_trials([config], tmp_path, local(1), lambda *_: None)
    if change == {"step": 10**6}:  # of another length: it is set aside, as one that is damaged
        assert not failures and (run.path / "checkpoint.pt.damaged").exists()
    else:
        assert "checkpoint.pt is intact, but not a checkpoint" in failures[0].reason and not run.finished


# --- What is no file --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="makes pipes and links to devices")
@pytest.mark.parametrize(
    "name",
    [
        "trial.json",
        "metrics.jsonl",
        "checkpoint.pt",
        "weights.safetensors",
        "wrong.json",
        "result.json",
        "SHA256SUMS",
        ".lock",
    ],
)
def test_pipes_and_devices_in_the_place_of_a_runs_files_are_not_waited_for(name: str, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "study" / "trials")
    for put in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        (run.path / name).unlink(missing_ok=True)
        put(run.path / name)
        (failure,) = [failure for failure in [attempt(run.config, run.path.parent)] if failure]
        assert f"{name} is not a regular file" in failure.reason
        assert run.latest_metrics() in ({}, next(run.metrics(), {}) if name != "metrics.jsonl" else {})
        assert reslab_here("ship", run.path, "--out", tmp_path / "out").returncode == 2
        assert read_directory(tmp_path / "study").notes


@pytest.mark.skipif(os.name != "posix", reason="makes pipes and links to devices")
def test_pipes_and_devices_in_the_place_of_a_record_are_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "study.json"
    for put in (os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir):
        put(path)
        for words in (
            ("claims", tmp_path),
            ("report", tmp_path, "--out", tmp_path / "page.html"),
            ("study", "shortcuts", "--out", tmp_path),
        ):
            done = reslab_here(*words)
            assert_refused(done, "study.json")
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_file_of_more_bytes_than_any_of_its_kind_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "study.json"
    with path.open("wb") as file:
        file.truncate(2**40)  # which takes no room
    done = reslab_here("claims", tmp_path)
    assert_refused(done, path, "1,099,511,627,776 bytes")
    with refused(DamagedError, path, "1,099,511,627,776 bytes"):
        sha256(path)


def test_metrics_and_environments_cannot_inject_into_the_page(tmp_path: Path) -> None:
    study = tmp_path / "study"
    entry = a_trial(study, 1, "group")
    path = study / entry["directory"]
    (path / "metrics.jsonl").write_text(
        json.dumps({"epoch": EVIL, "train_error": f"</script>{EVIL}"}) + "\n", encoding="utf-8"
    )
    trial = {"config": {"recipe": {"name": EVIL}}, "environment": {EVIL: EVIL}, "code": EVIL}
    (path / "trial.json").write_text(json.dumps(trial), encoding="utf-8")
    a_study(study, trials=[entry])
    page = write_report([study], tmp_path / "page.html").read_text(encoding="utf-8")
    assert EVIL not in page and f"</script>{EVIL}" not in page and "&lt;script&gt;alert(1)" in without_scripts(page)
    assert len(re.findall("<script", page)) == len(re.findall("</script>", page))


def test_names_in_a_table_are_not_read_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    printing.print_table(("student",), [("[red]x[/] [/nothing]",)])
    assert "[red]x[/] [/nothing]" in capsys.readouterr().out


def test_the_help_says_how_far_learners_code_is_confined() -> None:
    for command, word in (("check", "trust"), ("grade", "container")):
        assert word in reslab_here("exercise", command, "--help").stdout
