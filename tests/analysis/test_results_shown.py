"""What an analysis returns, and a view, is a frame, a picture, itself in a notebook, and the same out of a pickle."""

import pickle
import re
from typing import Any

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from test_analysis_subject import X, Y
from test_outputs import SETTINGS, One
from torch import Tensor, nn

from reslab.analysis import analyses
from reslab.gates.making import view
from reslab.gates.view import View
from reslab.networks import zoo

EVERY = {each.name: each for each in analyses().values()}
QUICK = ("importance", "jacobian", "responses", "removal")  # a picture takes a moment to write


def result(name: str) -> Any:
    """Return what an analysis gives for a small network."""
    given = {"network": One(), "images": X[:2] if name == "shattering" else X, "labels": Y}
    taken = {key: given[key] for key in EVERY[name].parameters if key in given}
    return EVERY[name].load()(**taken, **SETTINGS.get(name, {}))


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in EVERY])
def test_a_result_shows_itself_and_pickles(name: str) -> None:
    found = result(name)
    again = pickle.loads(pickle.dumps(found))
    assert type(again) is type(found)
    pd.testing.assert_frame_equal(again.to_frame(), found.to_frame())
    assert len(found.to_frame())
    assert isinstance(again.figure(), Figure) and again.figure().axes
    html = again._repr_html_()
    assert "<table" in html and "<svg" in html and html.count("<tr") > len(found.to_frame())


class Evil(nn.Module):
    """A network whose parts have names that are no names."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module("<script>", nn.Linear(4, 4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.get_submodule("<script>")(x).relu())  # type: ignore[no-any-return]  # modules return Any


def words(html: str) -> list[list[str]]:
    """Return the cells of an HTML table."""
    rows = re.findall("<tr>(.*?)</tr>", html)
    return [re.findall("<t[dh]>(.*?)</t[dh]>", row) for row in rows]


def test_a_view_is_a_frame_a_picture_and_a_table() -> None:
    network = zoo.build("cifar_preresnet", depth=8)
    seen = view(network, torch.zeros(2, 3, 32, 32))
    for made in (seen, pickle.loads(pickle.dumps(seen))):
        frame = made.to_frame()
        assert list(frame.index) == ["stem", "layer1.0", "layer2.0", "layer3.0", "head"]
        assert list(frame["gives"]) == ["16×32×32", "16×32×32", "32×16×16", "64×8×8", "10"]
        assert list(frame["shortcut"]) == ["", "identity", "changes", "changes", ""]
        assert frame["parameters"].sum() == sum(parameter.numel() for parameter in network.parameters())
        labels = [label.get_text() for label in made.figure().axes[0].get_xticklabels()]
        assert labels == list(frame.index)
    assert network.training, "it is left as it was"
    html = seen._repr_html_()
    assert [row[0] for row in words(html)] == ["part", *frame.index] and "<svg" in html


class Dense(nn.Module):
    """Two dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(4, 3), nn.Linear(7, 3), nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x, self.one(x).relu()], 1)
        return self.head(torch.cat([x, self.two(x).relu()], 1))  # type: ignore[no-any-return]  # modules return Any


def test_a_view_of_dense_layers_or_plain_units_shows_itself() -> None:
    frame = view(Dense(), torch.zeros(2, 4)).to_frame()
    assert list(frame["kind"]) == ["", "concat", "concat", ""]
    assert list(frame["parameters"]) == [0, 15, 24, 22]
    frame = view(zoo.build("cifar_plain", depth=8), torch.zeros(2, 3, 32, 32)).to_frame()
    assert list(frame["kind"]) == ["", "unit", "unit", "unit", ""]


def test_a_view_shows_itself_where_its_network_has_gone_since() -> None:
    network = nn.Sequential(One())
    seen = view(network, X)
    network.double()
    assert seen.to_frame()["gives"].iloc[-1] == "10"


def test_names_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = view(Evil(), torch.zeros(2, 4))
    assert "&lt;script&gt;" in seen._repr_html_() and "<script>" not in seen._repr_html_()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "<svg" not in seen._repr_html_() and isinstance(seen, View)
