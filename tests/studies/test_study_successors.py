"""The study of the successors: that other data turn a verdict round, and what others printed."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import pretended
from helpers import reslab as run_reslab
from torch import nn

import reslab
from reslab.analysis.feature_reuse import Connection, dense_blocks
from reslab.data import load_data
from reslab.data.dataset import Dataset, Part
from reslab.experiment.trials import Trial, Trials
from reslab.files import read_json
from reslab.ledger.record import Record, Verdict
from reslab.measures import costs, reuse
from reslab.networks import literature, zoo
from reslab.report.pictures import data_rows, pictures
from reslab.report.records import StudyRecord
from reslab.studies import designs, successors
from reslab.training.loop import TrialConfig

# --- Equal cost -------------------------------------------------------------------------------------------------------

IMAGES = {"digits": (1, 1, 8, 8), "cifar10": (1, 3, 32, 32)}


@pytest.mark.parametrize("preset", ["default", "smoke", "full"])
def test_rivals_cost_the_same_in_every_preset(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def shapes(name: str) -> SimpleNamespace:
        shape = IMAGES[name]
        seen = SimpleNamespace(sample=lambda *_: (torch.empty(shape), None))
        return SimpleNamespace(num_classes=10, in_channels=shape[1], fitted=lambda _: seen)

    monkeypatch.setattr(costs, "load_data", shapes)
    config = successors.STUDY.configure(preset, {})
    found = {key: cost_of(trials[0]) for key, trials in successors.grid(config).items()}
    assert successors.dearer(found) == []
    wide, deep = ("resnet", "wider"), ("efficientnet", "deeper")
    wider, deeper = found[wide], found[deep]
    assert successors.dearer({**found, wide: wider._replace(params=round(1.1 * wider.params))}) == [wide]
    assert successors.dearer({**found, deep: deeper._replace(params=2 * deeper.params)}) == []  # multiply-adds alone
    assert successors.dearer({**found, deep: deeper._replace(macs=round(0.9 * deeper.macs))}) == [deep]


def cost_of(trial: TrialConfig) -> costs.Cost:
    return costs.cost(trial.model, trial.options, trial.data)


# --- Feature reuse ----------------------------------------------------------------------------------------------------


class Trained:
    """As much of a trial as the measurement asks for: a DenseNet of three layers a block, whose longest connections may
    carry nothing.
    """

    def __init__(self, forgetful: bool) -> None:
        torch.manual_seed(0)
        self.dense = reslab.build("cifar_densenet", depth=13, growth_rate=4, in_channels=1).eval()
        if forgetful:
            for block in dense_blocks(self.dense):
                for reader, layer in enumerate(block.readers, start=1):
                    with torch.no_grad():
                        # nothing from more than two layers back
                        layer.weight[:, : block.starts[max(0, reader - 2)]] = 0

    def network(self) -> nn.Module:
        return self.dense

    def fresh_network(self) -> nn.Module:
        return reslab.build("cifar_densenet", depth=13, growth_rate=4, in_channels=1)

    def data(self) -> Dataset:
        whole = load_data("digits")
        return replace(
            whole, parts={name: Part(images[:100], labels[:100]) for name, (images, labels) in whole.parts.items()}
        )


@cache
def measured(forgetful: bool) -> reuse.Reuse:
    return reuse.reuse_of(Trained(forgetful))  # type: ignore[arg-type]  # it has what is asked of a trial


def test_cutting_what_is_not_used_changes_nothing_and_what_is_used_something() -> None:
    forgetful, whole = measured(True), measured(False)
    assert len(forgetful.errors) == 5  # nothing cut, and lengths 1 to 4
    assert forgetful.errors[3] == forgetful.errors[4] == forgetful.old_cut == forgetful.errors[0] != forgetful.errors[1]
    assert whole.old_cut != whole.errors[0]
    assert all(c.weight == 0 for c in forgetful.trained if c.distance > 2) and all(
        c.weight > 0 for c in forgetful.fresh
    )


def test_the_blocks_input_is_compared_with_the_blocks_own_features_from_the_second_block_on() -> None:
    """First blocks, first layers and what follows a block do not count."""
    counted = [
        Connection(2, 2, 0, 1.0, 0.5),
        Connection(2, 2, 1, 1.0, 2.0),
        Connection(3, 2, 0, 1.0, 0.7),
        Connection(3, 2, 1, 1.0, 3.0),
    ]
    others = [
        Connection(1, 2, 0, 1.0, 9.0),
        Connection(2, 1, 0, 1.0, 9.0),
        Connection(2, 4, 0, 1.0, 9.0),
        Connection(3, 4, 2, 1.0, 9.0),
    ]
    assert reuse.input_and_rest([*counted, *others]) == (pytest.approx(0.6), pytest.approx(2.5))
    later = [Connection(3, 3, 0, 1.0, 0.0), Connection(3, 3, 1, 1.0, 4.0), Connection(3, 3, 2, 1.0, 6.0)]
    # a layer counts once, however late
    assert reuse.input_and_rest([*counted, *later, *others]) == (pytest.approx(0.4), pytest.approx(10 / 3))


def test_the_table_and_the_charts_say_what_was_measured() -> None:
    seed = measured(True)
    both = {0: seed, 1: seed}
    (table,) = reuse.reuse_tables(successors.TEXT, both)
    assert len(table.rows) == 3 * 4 and table.rows[0][3:] == [None, None, None]
    assert table.rows[2][:3] == [1, 3, 0.0]  # the third layer of the first block takes nothing from the block's input
    assert table.columns[2:] == [{"ko": f"출처 {number}", "en": f"source {number}"} for number in range(4)]
    assert reuse.reuse_tables(successors.TEXT, {}) == reuse.reuse_charts(successors.TEXT, {}) == []
    weights, cut = reuse.reuse_charts(successors.TEXT, both)
    assert [len(series.x) for series in weights.series] == [4] * 6 and weights.series[0].y[2:] == [0.0, 0.0]
    assert weights.series[5].name == {"ko": "블록 3, 학습 전", "en": "block 3, untrained"}
    assert cut.series[0].y == [100 * error for error in seed.errors] and cut.series[0].spread == [0.0] * 5


def measured_whole(trial: Trial) -> reuse.Reuse:
    return measured(False)


def decided(trials: Trials) -> dict[str, Verdict]:
    """Return the verdicts on these trials of the smoke preset, by the claims' keys."""
    found = successors.STUDY.verdicts(
        successors.measure(successors.SuccessorsConfig(**successors.STUDY.presets["smoke"]), trials)
    )
    return {verdict.id.removeprefix("successors."): verdict for verdict in found}


def test_figures_of_one_network_are_paired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(successors, "reuse_of", measured_whole)
    paired = {
        key for key, verdict in decided(pretended("successors", tmp_path, lambda _: 0.0)).items() if verdict.paired
    }
    assert paired == {"dense-networks-use-old-features", "dense-layers-read-the-block-input-least"}


@pytest.mark.parametrize("untrained", ["efficientnet-deeper", "efficientnet-compound", "densenet"])
def test_a_network_that_was_not_trained_decides_nothing(
    untrained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(successors, "reuse_of", measured_whole)
    verdicts = decided(pretended("successors", tmp_path, lambda group: 0.4 if group == untrained else 0.0))
    untested = {
        key: verdict for key, verdict in verdicts.items() if verdict.reason and verdict.reason.code == "untrained"
    }
    expected = {
        "efficientnet-deeper": {"compound-scaling-beats-depth"},
        "efficientnet-compound": {"compound-scaling-beats-depth", "compound-scaling-beats-width"},
        "densenet": {"dense-networks-use-old-features", "dense-layers-read-the-block-input-least"},
    }
    assert untested.keys() == expected[untrained]
    for verdict in untested.values():
        assert verdict.verdict == "untested" and verdict.reason and verdict.reason.values["errors"] == {untrained: 0.4}


def test_networks_of_other_cost_decide_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = pretended("successors", tmp_path, lambda _: 0.9)
    monkeypatch.setattr(successors, "reuse_of", measured_whole)
    found = costs.costs(trials)
    wide = ("resnet", "wider")
    dear = {**found, wide: found[wide]._replace(params=2 * found[wide].params)}
    monkeypatch.setattr(successors, "costs", lambda _: dear)
    verdicts = decided(trials)
    untested = {key: v.reason.values for key, v in verdicts.items() if v.reason and v.reason.code == "unequal-costs"}
    assert untested == {"cardinality-beats-width": {"limit": 0.07, "networks": ["resnext", "resnet-wider"]}}
    assert verdicts["rivals-cost-the-same"].verdict == "refuted"


# --- What others printed, and the whole zoo ---------------------------------------------------------------------------


def test_printed_errors_are_of_networks_in_the_zoo_and_fall_as_regnets_grow() -> None:
    for printed in (*literature.IMAGENET, *literature.CIFAR10):
        assert printed.errors.keys() <= set(zoo.names()) and printed.source.startswith("arXiv:") and printed.how
    regnets = next(printed.errors for printed in literature.IMAGENET if printed.who == "Radosavovic et al. 2020")
    assert designs.DESIGNS.keys() <= regnets.keys()
    for kind in "xy":
        errors = [error for name, error in regnets.items() if name.startswith(f"regnet_{kind}_")]
        assert errors == sorted(errors, reverse=True)


def test_torchvisions_errors_are_its_metadata() -> None:
    errors = literature.torchvision().errors
    assert (errors["resnet50"], errors["resnext50_32x4d"], errors["efficientnet_b0"]) == (23.87, 22.382, 22.308)


def test_the_picture_holds_the_whole_zoo_and_says_which_point_is_which() -> None:
    torchvision = literature.torchvision()
    sizes, errors = costs.cost_charts(successors.TEXT, torchvision)
    points = {
        name: (x, y)
        for series in sizes.series
        for name, x, y in zip(series.text or (), series.x, series.y, strict=True)
    }
    assert points.keys() == {name for name in zoo.names() if not name.startswith("lowlevel/")}
    assert points["resnet50"] == (zoo.reference("resnet50").macs, 25_557_032) and sizes.log_x and sizes.log_y
    assert {series.name for series in errors.series} == {printed.who for printed in (*literature.IMAGENET, torchvision)}
    title = successors.TEXT.title
    (drawn,) = pictures(StudyRecord(Record(study="successors", title=title, charts=[sizes]), []))
    assert drawn.kind == "points" and [series.text for series in drawn.series] == [
        series.text for series in sizes.series
    ]
    behind = {cell for *_, cells in data_rows(drawn) for cell in cells}
    assert "25,557,032 resnet50" in behind
    rows = {row[0]: row[1:] for row in costs.cost_tables(successors.TEXT, torchvision)[0].rows}
    assert rows["regnet_y_400mf"] == [4_344_144, 401_842_848, "ImageNet", 25.9, "Radosavovic et al. 2020", 25.9, 25.954]
    assert rows["resnet56"][2:] == ["CIFAR-10", 6.97, "He et al. 2015", None, None]


# --- End to end -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("name", "open_ones"), [("successors", 6), ("designs", 1)])
def test_a_smoke_run_decides_every_claim(name: str, open_ones: int, tmp_path: Path) -> None:
    """With two seeds, and networks that may not have learned their task, nothing statistical can be concluded; what is
    counted can.
    """
    out = tmp_path / "후속 연구"
    done = run_reslab("study", name, "--preset", "smoke", "--workers", "1", "--out", out)
    assert done.returncode == 0, done.stderr
    record = read_json(out / "study.json")
    verdicts = [claim["verdict"] for claim in record["claims"]]
    undecided = verdicts.count("inconclusive") + verdicts.count("untested")
    assert undecided == open_ones and verdicts.count("supported") == len(verdicts) - open_ones
    assert (out / "report.html").stat().st_size > 1_000_000
