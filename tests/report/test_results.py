"""The results that come with the lab: they are the ledger's, and the READMEs quote them rightly."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from reslab import studies
from reslab.bench import history
from reslab.commands.printing import figure
from reslab.commands.study import percent
from reslab.files import Json, read_json
from reslab.ledger.again import agreement
from reslab.ledger.claim import Words
from reslab.ledger.record import Record
from reslab.ledger.registration import Registration, exploratory, ran
from reslab.ledger.wording import reason
from reslab.networks import zoo
from reslab.report.records import read_study, summary_rows
from reslab.speedrun import race

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "results" / "studies").glob("*/study.json"))
OTHER_SEEDS = sorted((ROOT / "results" / "seeds").glob("*/*/study.json"))
REGISTERED = sorted((ROOT / "results" / "registered").rglob("study.json"))
LOG = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "log").glob("2*.md")))
RACES = sorted((ROOT / "results" / "speedrun").glob("*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_a_result_decides_claims_that_the_study_has_as_they_were_revised_last_or_before(path: Path) -> None:
    """No claim that was decided is dropped, and none is worded or measured otherwise without being revised; that is
    said of the English, of which the Korean is a translation, whose terms may become better.
    """
    record = read_study(path.parent)
    study = studies.find(path.parent.name)
    assert record.study == path.parent.name and not record.failures
    decided = {claim.id: claim for claim in record.claims}
    now = {claim.id: claim for claim in study.claims}
    assert decided.keys() <= now.keys()
    for id, claim in decided.items():
        assert claim.revision <= now[id].revision
        if claim.revision == now[id].revision:
            assert (claim.statement["en"], claim.margin) == (now[id].statement["en"], now[id].margin), id
    config = study.configure("default", {}).model_dump(mode="json")
    assert {key: value for key, value in record.config.items() if value != config[key]} == {}


@pytest.mark.parametrize("path", OTHER_SEEDS, ids=lambda path: f"{path.parent.name}-{path.parent.parent.name}")
def test_a_result_for_other_seeds_is_the_default_study_with_those(path: Path) -> None:
    record, default = read_study(path.parent), read_study(ROOT / "results" / "studies" / path.parent.name)
    assert {key: value for key, value in record.config.items() if value != default.config[key]} == {
        "first_seed": int(path.parent.parent.name)
    }
    assert [(claim.id, claim.margin) for claim in record.claims] == [
        (claim.id, claim.margin) for claim in default.claims
    ]


@pytest.mark.parametrize("path", REGISTERED, ids=lambda path: path.parent.name)
def test_a_registered_result_is_that_of_a_registration_which_is_there(path: Path) -> None:
    record = read_study(path.parent)
    files = [file.read_bytes() for file in (ROOT / "results" / "registrations").glob(f"{record.study}-*.json")]
    assert record.registered in {hashlib.sha256(file).hexdigest() for file in files}
    known = [ran(read_study(path.parent)) for path in (*RESULTS, *OTHER_SEEDS, *REGISTERED)]
    why = {claim.id: exploratory(record, claim, known) for claim in record.claims if claim.kind == "statistical"}
    assert why and not any(why.values())


@pytest.mark.parametrize(
    "path", sorted((ROOT / "results" / "cifar10-jpeg").glob("*/study.json")), ids=lambda path: path.parent.name
)
def test_the_log_quotes_the_errors_on_cifar(path: Path) -> None:
    record = read_study(path.parent)
    for trial in record.trials:
        result = trial.result.model_dump()
        errors = " | ".join(f"{100 * result[f'{part}_error']:.2f}" for part in ("train", "heldout", "test"))
        assert f"| {trial.group} | {errors} |" in LOG
    verdicts = {claim.verdict for claim in record.claims if claim.kind == "statistical"}
    assert verdicts <= {"inconclusive", "untested"}  # one seed


def test_no_verdict_is_turned_round_by_other_seeds() -> None:
    agreed = agreement([claim for path in (*RESULTS, *OTHER_SEEDS) for claim in read_study(path.parent).claims])
    assert len(agreed.alike) > len(agreed.in_part) and agreed.both_ways == []


def test_the_log_lists_the_verdicts_that_depend_on_the_seeds() -> None:
    verdicts: dict[str, list[tuple[str, float]]] = {}
    for path in (*RESULTS, *OTHER_SEEDS):  # seeds 0, 100, 200
        for claim in read_study(path.parent).claims:
            if claim.kind == "statistical":
                assert claim.verdict is not None and claim.effect is not None
                verdicts.setdefault(claim.id, []).append((claim.verdict, claim.effect))
    assert {len(decided) for decided in verdicts.values()} == {3}
    differ = {id: decided for id, decided in verdicts.items() if len({verdict for verdict, _ in decided}) > 1}
    rows = [
        f"| `{id}` | {', '.join(verdict for verdict, _ in decided)} | "
        f"{', '.join(f'{effect:+.3f}'.replace('-', '−') for _, effect in decided)} "
        ""
        "|"
        for id, decided in sorted(differ.items())
    ]
    assert (
        f"Each of the {len(verdicts)} statistical claims" in LOG
        and f"**{len(verdicts) - len(differ)} alike each time" in LOG
    )
    assert "\n".join(rows) in LOG


ENGLISH = re.compile(r"\b[a-z]{4,}\b(?!-\d)")
"""A word that is no name: names have digits or capitals, and those of networks are a few."""
NETWORKS = {*map(zoo.family, zoo.names()), "residual", "basic", "bottleneck", "pre-activation", "torchvision"}


def in_english_alone(texts: Iterable[Words]) -> set[str]:
    """Return the texts with English words that have no Korean."""
    found = {text for text in texts if isinstance(text, str)}
    return {text for text in found if ENGLISH.search(text.partition(",")[0]) and text.partition(",")[0] not in NETWORKS}


def test_the_korean_page_has_korean_for_every_unit() -> None:
    units = [claim.unit for name in studies.names() for claim in studies.find(name).claims]
    assert (
        len({unit if isinstance(unit, str) else unit["en"] for unit in units}) > 30 and in_english_alone(units) == set()
    )


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_the_korean_page_has_korean_for_a_result(path: Path) -> None:
    record = read_study(path.parent)
    columns = [column for table in record.tables for column in table.columns]
    series = [series.name for chart in record.charts for series in chart.series]
    assert in_english_alone([*columns, *series]) == set()
    assert [claim.id for claim in record.claims if isinstance(reason(claim), str)] == []


@pytest.fixture(scope="module")
def degradation() -> Record:
    return read_study(ROOT / "results" / "studies" / "degradation")


@pytest.mark.parametrize("name", ["README.md", "README.ko.md"])
def test_the_readmes_quote_the_degradation_study(name: str, degradation: Record) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for row in summary_rows(degradation):
        assert f"| {row['group']} | {percent(row, 'train_error')} | {percent(row, 'test_error')} |" in text
    claims = {claim.id.partition(".")[2]: claim for claim in degradation.claims}
    for claim, digits in (
        ("plain-deeper-trains-worse", 3),
        ("not-overfitting", 3),
        ("residual-does-not-degrade", 4),
        ("residual-trains-better", 3),
    ):
        effect, interval = claims[claim].effect, claims[claim].interval
        assert interval is not None
        quoted = f"{effect:+.{digits}f} [{interval[0]:+.{digits}f}, {interval[1]:+.{digits}f}]".replace("-", "−")
        assert quoted in text, quoted


@pytest.mark.parametrize("name", ["README.md", "README.ko.md"])
def test_the_pictures_of_the_readmes_are_there(name: str) -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    assert pictures and all((ROOT / picture).is_file() for picture in pictures)


def registered_seeds(race: Json) -> list[int]:
    """Return the seeds of a race's registration, after checking that it is a file here, and of these claims."""
    registration = Registration.model_validate(race["registration"])
    files = [file.read_bytes() for file in (ROOT / "results" / "registrations").glob("speedrun-*.json")]
    assert registration.text().encode() in files and registration.sha256() == race["registered"]
    assert [(claim.id, claim.margin) for claim in registration.claims] == [
        (claim["id"], claim["margin"]) for claim in race["compared"]["claims"]
    ]
    return registration.seeds


@pytest.mark.parametrize("path", RACES, ids=lambda path: path.stem)
def test_a_race_says_what_its_runs_say_and_the_log_has_every_run(path: Path) -> None:
    record, runs = a_race(path)
    seeds = registered_seeds(record) if "registered" in record else [0, 1, 2]
    ours, theirs = runs
    assert ours == "speedrun" and theirs in race.CONTENDERS and all(sorted(each) == seeds for each in runs.values())
    compared = race.compared(runs, record["compared"]["claims"][1].get("grain", 0.0))
    for now, then in zip(compared["claims"], record["compared"]["claims"], strict=True):
        assert (now["id"], now["verdict"], now["interval"]) == (
            then["id"],
            then["verdict"],
            pytest.approx(then["interval"]),
        )
    times = {"training": "training_seconds", "whole process": "process_seconds", "processor time": "processor_seconds"}
    for name, results in runs.items():
        summary = race.summary(results)
        spreads = [f"{mean:,.0f} ± {spread:,.0f}" for mean, spread in map(summary.__getitem__, times.values())]
        mean, spread = summary["accuracy"]
        assert (
            f"| *mean ± standard deviation* | | {100 * mean:.2f} ± {100 * spread:.2f} | {' | '.join(spreads)} |" in LOG
        )
        for seed, result in results.items():
            seconds = [f"{result[key]:,.0f}" for key in times.values()]
            assert f"| {name} | {seed} | {100 * result['accuracy']:.2f} | {' | '.join(seconds)} |" in LOG
    for name, key in times.items():
        assert list(compared[key]) == record["compared"][key]
        assert f"| {name} | {' | '.join(f'{ratio:.2f}' for ratio in compared[key])} |" in LOG
    assert unsaid(runs, LOG) == []


def test_the_page_on_the_race_quotes_it_rightly() -> None:
    _, runs = a_race(ROOT / "results" / "speedrun" / "race.json")
    page = ROOT / "docs" / "how-to" / "speedrun.md"
    assert unsaid(runs, page.read_text(encoding="utf-8")) == []


def a_race(path: Path) -> tuple[Json, dict[str, dict[int, Json]]]:
    record = read_json(path)
    return record, {
        name: {int(seed): result for seed, result in results.items()} for name, results in record["runs"].items()
    }


def unsaid(runs: dict[str, dict[int, Json]], text: str) -> list[float]:
    """Return what a text should say of a race and does not: the ratios of training, and how the accuracies compare."""
    compared = race.compared(runs)
    _, as_accurate = compared["claims"]
    _, theirs = runs.values()
    points = [
        100 * value for value in (as_accurate["effect"], *as_accurate["interval"], race.summary(theirs)["accuracy"][0])
    ]
    return [
        number for number in (*compared["training_seconds"], *points) if f"{number:.2f}" not in text.replace("−", "-")
    ]


QUOTED = {
    "train": ("training step, times faster", "whole epoch, times faster"),
    "executors": ("executors, times faster",),
    "lesion": (
        "removal of each block, 32, times faster",
        "removal of each block, bf16, times faster",
        "path spectrum, backward passes",
    ),
    "lowlevel": ("training step, ratio",),
}


@pytest.mark.parametrize("page", ["scaling.md", "scaling.ko.md"])
def test_the_pages_quote_the_last_run_of_each_benchmark(page: str) -> None:
    text = (ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8")
    records = sorted(history.read(ROOT / "results" / "bench"), key=lambda now: now.date)
    last = {(now.bench, now.figures["machine"]["capability"]): now for now in records}
    for name, figures in QUOTED.items():
        rows = [line for line in text.splitlines() if line.startswith(f"| `reslab bench {name}`")]
        found = [[cell.strip() for cell in row.split("|")[3:5]] for row in rows]
        expected = [[quoted(last.get((name, machine)), what) for machine in ("AVX2", "AVX512")] for what in figures]
        to = "~" if page.endswith(".ko.md") else " to "
        assert found == [[each.replace(" to ", to) for each in row] for row in expected]


def quoted(run: history.Measured | None, what: str) -> str:
    """Return how a page quotes a figure of a benchmark's run."""
    part, _, name = what.rpartition(", ")
    found = run and (run.ratios().get(what) or run.figures.get(part, {}).get(name))
    return "–" if found is None else figure(tuple(found) if isinstance(found, list | tuple) else found)
