"""The page in a real browser: it asks for nothing, logs nothing, fits, speaks two languages, and its explorer counts as
`reslab models` does.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from helpers_browser import OVERFLOWING, TOO_FAINT, UNNAMED, Browser, afresh, needs_browser
from helpers_report import TEXT, a_chart, a_claim, a_grid, a_lesion, a_spectrum, a_study, a_trial, hostile_study
from torch import nn

from reslab.networks import anatomy, zoo
from reslab.report import explorer
from reslab.report.page import write_report

pytestmark = [needs_browser, pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with every kind of picture, and with long words."""
    directory = tmp_path_factory.mktemp("쪽")
    study = directory / "study"
    long = "a_network_with_a_very_long_name_of_seventy_characters_and_without_any_space"
    trials = [a_trial(study, number, group) for number, group in enumerate((long, long, "plain-20"))]
    bars = [{"name": TEXT, "x": ["plain", "residual"], "y": [1.0, None], "spread": None, "text": None}]
    two = [
        {"name": name, "x": [1, 10], "y": [1.0, 20.0], "spread": None, "text": ["<b>", "y"]} for name in (TEXT, long)
    ]
    tables = [{"title": TEXT, "columns": [long, long, long], "rows": [[long, 1, 2.5]]}]
    claims = [
        a_claim(source=long),
        a_claim(id="study.refuted", verdict="refuted"),
        a_claim(id="study.open", verdict="inconclusive", interval=None),
    ]
    claims += [a_claim(id=f"study.{kind}", kind=kind, interval=None) for kind in ("exact", "cited")]
    charts = [a_chart(), a_chart("bars", series=bars), a_chart("points", series=two, log_x=True, log_y=True)]
    charts += [a_grid("heatmap", [TEXT, long]), a_grid("contours"), a_lesion(), a_spectrum()]
    a_study(study, claims=claims, charts=charts, tables=tables, trials=trials)
    return write_report([study], directory / "쪽.html")


@pytest.fixture
def opened(chrome: Browser, page: Path) -> Browser:
    """The page, in English, wide and light, every picture drawn; opened only if it is not."""
    afresh(chrome, page)
    chrome.run("charts.all(); document.querySelector('[data-language=en]').click(); localStorage.clear()")
    return chrome


SCRIPTS = 4
"""The page's own: the language, plotly, the pictures, the explorer."""
DRAWN = """charts.all() ?? [...document.querySelectorAll("figure.picture")].map((figure) =>
  figure.querySelectorAll(".trace, .point, .hm, .contour").length > 0)"""


def test_it_asks_for_nothing_and_logs_nothing_and_draws_every_picture(chrome: Browser, page: Path) -> None:
    chrome.open(page)
    assert set(chrome.run(DRAWN)) == {True} and chrome.run('document.querySelectorAll("figure.picture").length') == 9
    assert chrome.run('document.querySelectorAll("figure.picture details table").length') == 9
    assert chrome.run("document.fonts.ready.then(() => document.fonts.check('1em \"Reslab Hangul\"', '가'))")
    assert [request for request in chrome.requests if not request.startswith(("data:", "blob:"))] == [
        page.resolve().as_uri()
    ]
    assert chrome.problems == []


def test_it_would_be_seen_if_it_did(chrome: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<!doctype html><img src="http://127.0.0.1:9/x.png"><script>console.error("no")</script><p '
        'style="width:5000px">x',
        encoding="utf-8",
    )
    chrome.open(bad)
    assert len(chrome.requests) == 2 and "no" in chrome.problems and chrome.run(OVERFLOWING)


@pytest.mark.slow
def test_a_hostile_study_runs_nothing_and_breaks_nothing(chrome: Browser, tmp_path: Path) -> None:
    chrome.open(write_report([hostile_study(tmp_path / "나쁜 실험", 20)], tmp_path / "page.html"), width=360)
    chrome.run("charts.all()")
    assert chrome.run("document.querySelectorAll('figure.picture .main-svg').length") >= 4
    assert chrome.run("document.querySelectorAll('img, script:not([id]):not(:empty)').length") == SCRIPTS + 8
    assert chrome.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert chrome.problems == []


TOPS = (
    "[...document.querySelectorAll('section[id], li[id]')].map((target) => "
    "Math.round(target.getBoundingClientRect().top + scrollY))"
)


@pytest.mark.parametrize("width", [390, 1280])
def test_links_land_where_they_point_and_nothing_moves_when_pictures_are_drawn(
    chrome: Browser, page: Path, width: int
) -> None:
    def top(fragment: str) -> float:
        return float(chrome.run(f"document.getElementById('{fragment}').getBoundingClientRect().top"))

    chrome.open(page, width, fragment="#1-study-study.open")
    assert abs(top("1-study-study.open")) <= 40
    before = chrome.run(TOPS)
    chrome.run("document.querySelector('nav a[href=\"#explorer\"]').click()")
    chrome.run("charts.all(); new Promise((then) => requestAnimationFrame(() => requestAnimationFrame(then)))")
    assert abs(top("explorer")) <= 40
    assert chrome.run(TOPS) == before


@pytest.mark.parametrize("width", [360, 1400])
def test_nothing_overflows(opened: Browser, width: int) -> None:
    opened.resize(width)
    for language in ("en", "ko"):
        opened.run(f"document.querySelector('[data-language={language}]').click()")
        opened.wait(f"{OVERFLOWING}.length === 0", seconds=5)  # plotly follows a moment later
        assert opened.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_the_switch_changes_every_text_by_keyboard(opened: Browser) -> None:
    shown = (
        "[document.documentElement.lang, document.querySelector('h2').innerText, document.querySelector('.plot "
        ".xtitle').textContent]"
    )
    assert opened.run(shown) == ["en", "The ledger of claims", "question"]
    opened.run("document.querySelector('.skip').focus()")
    opened.press("Tab", 9)
    opened.press("Enter", 13)
    assert opened.run(shown) == ["ko", "주장의 장부", "물음"]
    assert opened.run("[...document.querySelectorAll('[data-language]')].map((button) => button.ariaPressed)") == [
        "true",
        "false",
    ]


@pytest.mark.slow
def test_the_language_follows_the_browser_then_the_readers_choice_by_keyboard(chrome: Browser, page: Path) -> None:
    parts = (
        "document.documentElement.lang",
        "getComputedStyle(document.querySelector('h2 .en')).display",
        "document.querySelector('.xtitle').textContent",
    )
    shown = f"[{', '.join(parts)}]"
    chrome.open(page, language="ko-KR")
    chrome.run("localStorage.clear()")
    chrome.open(page, language="ko-KR")
    chrome.run("charts.all()")
    assert chrome.run(shown) == ["ko", "none", "물음"]
    chrome.run("document.querySelector('[data-language=ko]').focus()")
    chrome.press("Tab", 9)
    chrome.press("Enter", 13)
    assert chrome.run(shown) == ["en", "inline", "question"]
    assert chrome.run("[...document.querySelectorAll('[data-language]')].map((button) => button.ariaPressed)") == [
        "false",
        "true",
    ]
    chrome.open(page, language="ko-KR")
    assert chrome.run("document.documentElement.lang") == "en"
    chrome.run("localStorage.clear()")
    chrome.open(page, language="fr-FR")
    assert chrome.run("document.documentElement.lang") == "en"


def test_verdicts_are_shown_and_hidden_by_their_buttons(opened: Browser) -> None:
    rows = "[...document.querySelectorAll('.ledger .row')].map((row) => row.offsetParent !== null)"
    sections = "[...document.querySelectorAll('.ledger tbody')].filter((body) => body.offsetParent !== null).length"
    assert opened.run(rows) == [True] * 5 and opened.run(sections) == 1
    press = "document.querySelector('.tally [data-show={}]').click()"
    opened.run(press.format("statistical-refuted"))
    shown = opened.run(rows)
    assert (
        shown.count(False) == 1 and opened.run("document.querySelectorAll('.tally [aria-pressed=false]').length") == 1
    )
    others = ("statistical-supported", "statistical-inconclusive", "exact-supported", "cited-supported")
    for name in others:
        opened.run(press.format(name))
    assert opened.run(rows) == [False] * 5 and opened.run(sections) == 0
    for name in ("statistical-refuted", *others):
        opened.run(press.format(name))
    assert opened.run(rows) == [True] * 5 and opened.run(sections) == 1


def test_a_pictures_legend_hides_a_series(opened: Browser) -> None:
    count, press = (
        f"document.querySelectorAll('figure.picture')[2].querySelector{what}"
        for what in ("All('.trace').length", "('.legend button').click()")
    )
    before = opened.run(count)
    opened.run(press)
    hidden = opened.run(count)
    opened.run(press)
    assert (before, hidden, opened.run(count)) == (2, 1, 2)


def test_a_slider_moves_by_keyboard_over_the_series_of_a_heat_map(opened: Browser) -> None:
    figure = "document.querySelectorAll('figure.picture')[3]"
    state = f"""(({{ data, layout }}, input) => [data.map((trace) => trace.visible), layout.coloraxis.cmin, layout.coloraxis.cmax, input.ariaValueText
      ?? input.getAttribute("aria-valuetext")])({figure}.querySelector(".plot"), {figure}.querySelector("input"))"""
    assert opened.run(state) == [[True, False], 0, 3.2, "question"]
    opened.run(f"{figure}.querySelector('input').focus()")
    opened.press("ArrowRight", 39)
    visible, low, high, name = opened.run(state)
    assert (visible, low, high) == ([False, True], 0, 3.2) and name.startswith("a_network")
    opened.press("ArrowLeft", 37)
    opened.run("document.querySelector('[data-language=ko]').click()")
    assert opened.run(state) == [[True, False], 0, 3.2, "물음"]


def test_panels_share_their_axes_and_go_under_one_another_where_it_is_narrow(opened: Browser) -> None:
    def places(figure: int, axis: str) -> Any:
        plot = f"document.querySelectorAll('figure.picture')[{figure}].querySelector('.plot')._fullLayout"
        return opened.run(
            f"Object.keys({plot}).filter((key) => key.match(/^{axis}axis\\d*$/)).map((key) => "
            f"{plot}[key].domain[0].toFixed(1))"
        )

    assert places(4, "x") == ["0.0", "0.5"] and places(4, "y") == ["0.0", "0.0"]
    assert places(5, "x") == ["0.0"] * 3 and places(5, "y") == ["0.7", "0.4", "0.0"]
    opened.resize(390)
    opened.wait(
        "document.querySelectorAll('figure.picture')[4].querySelector('.plot')._fullLayout.height > 500", seconds=5
    )
    assert places(4, "x") == ["0.0", "0.0"] and places(4, "y") == ["0.6", "0.0"]
    words = (
        "[...document.querySelectorAll('figure.picture')[5].querySelectorAll('.annotation-text')].map((text) => "
        "text.textContent)"
    )
    assert opened.run(words) == ["stage 1", "stage 2", "▼", "▼", "▼", "v1", "v2", "plain", "question"]


# --- The explorer -----------------------------------------------------------------------------------------------------

STANDARD = """Object.fromEntries(Object.keys(explorer.networks).map((name) => {
  const stages = explorer.measure(explorer.design(explorer.choose(name)), explorer.networks[name].image);
  const sum = (key) => stages.reduce((total, stage) => total + stage[key], 0);
  return [name, [sum("params"), sum("macs")]];
}))"""


def test_the_explorer_counts_every_network_of_the_zoo_as_its_reference(opened: Browser) -> None:
    """`reslab models` measures the reference too: tests of the zoo."""
    counted = opened.run(STANDARD)
    names = [name for name in zoo.names() if not name.startswith("lowlevel/")]
    assert {name: counted[name] for name in names} == {
        name: [zoo.reference(name).params, zoo.reference(name).macs] for name in names
    }


class Design(NamedTuple):
    """A network with its options; of a family, how deep."""

    name: str
    options: dict[str, str]
    n: int = 1

    def network(self) -> nn.Module:
        depth = (
            {"depth": explorer.LAYERS_A_BLOCK[self.options.get("block", "basic")] * self.n + 2}
            if self.name in explorer.FAMILIES
            else {}
        )
        with torch.device("meta"):
            return zoo.build(self.name, **self.options, **depth)


def shown(chrome: Browser, asked: list[tuple[Design, int]]) -> list[list[dict[str, Any]]]:
    """Return the stages that the page shows of these designs at these image sizes, in one call."""
    choices = json.dumps([({"name": name, "n": n, **options}, size) for (name, options, n), size in asked])
    keys = "({ name, words, output, params, macs, field }) => ({ name, words, output, params, macs, field })"
    stages: list[list[dict[str, Any]]] = chrome.run(
        f"{choices}.map(([choice, size]) => explorer.measure(explorer.design(choice), size, choice.n).map({keys}))"
    )
    return stages


def counted(network: nn.Module, size: int) -> list[dict[str, Any]]:
    return [
        {
            "name": stage.name,
            "words": stage.blocks,
            "output": list(stage.output),
            "params": stage.params,
            "macs": stage.macs,
            "field": stage.receptive_field,
        }
        for stage in anatomy.stages(network, (3, size, size))
    ]


@pytest.mark.parametrize(
    ("design", "size"),
    [
        (Design("resnet18", {"shortcut": "A", "stride_in": "1x1"}), 225),
        (Design("cifar_preresnet", {"block": "bottleneck", "shortcut": "C", "stride_in": "3x3"}, 2), 45),
        (Design("regnet_y_200mf", {}), 97),
        (Design("densenet_bc100_12", {}), 50),
    ],
)
def test_the_explorers_stages_are_those_of_reslab_models(opened: Browser, design: Design, size: int) -> None:
    assert shown(opened, [(design, size)]) == [counted(design.network(), size)]


def designs(name: str) -> list[Design]:
    """Return a network with whatever options the explorer offers for it; families at two depths."""
    network = explorer.catalogue()["networks"][name]
    options = [dict(zip(network["options"], chosen.split(), strict=False)) for chosen in network["designs"]]
    return [Design(name, chosen, n) for chosen in options for n in ((1, 4) if name in explorer.FAMILIES else (1,))]


def odd_sizes(name: str) -> tuple[int, int]:
    return 37, explorer.catalogue()["networks"][name]["image"] + 1


@pytest.fixture(scope="module")
def all_shown(chrome: Browser, page: Path) -> dict[str, list[list[dict[str, Any]]]]:
    """The stages that the page shows of every design at its sizes, by network."""
    chrome.open(page)
    asked = [(design, size) for name in explorer.offered() for design in designs(name) for size in odd_sizes(name)]
    found: dict[str, list[list[dict[str, Any]]]] = {}
    for (design, _), stages in zip(asked, shown(chrome, asked), strict=True):
        found.setdefault(design.name, []).append(stages)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", explorer.offered())
def test_every_design_at_odd_sizes(all_shown: dict[str, list[list[dict[str, Any]]]], name: str) -> None:
    networks = (design.network() for design in designs(name))
    assert all_shown[name] == [counted(network, size) for network in networks for size in odd_sizes(name)]


CHOOSE = """((index, option, value) => {
  const select = document.querySelectorAll("#explorer .network")[index].querySelector(option ? `[data-option=${option}] select` : "[data-is=name]");
  select.value = value;
  select.dispatchEvent(new Event("change"));
})"""
COMMANDS = "[...document.querySelectorAll('#explorer [data-is=command]')].map((code) => code.textContent)"
TOTALS = (
    "[...document.querySelectorAll('#explorer [data-is=totals] tr')].map((row) => [...row.cells].slice(1).map((cell) "
    "=> cell.textContent))"
)


def test_choices_change_the_pictures_the_tables_and_the_marks(opened: Browser) -> None:
    for index in (0, 1):
        opened.run(f"{CHOOSE}({index}, null, 'resnet50')")
    assert opened.run("document.querySelectorAll('#explorer .differs').length") == 0
    assert opened.run(
        "[...document.querySelectorAll('#explorer svg')].map((svg) => svg.querySelectorAll('rect').length)"
    ) == [19, 19]
    opened.run(f"{CHOOSE}(1, 'stride_in', '3x3')")
    assert opened.run(COMMANDS) == [
        f"reslab models resnet50 --shortcut B --stride-in {place}" for place in ("1x1", "3x3")
    ]
    marked = opened.run(
        "[...document.querySelectorAll('#explorer .network')][1].querySelectorAll('tr:has(.differs) th').length"
    )
    assert marked == 5 and opened.run(TOTALS)[1] == ["3,857,973,248", "4,089,184,256", "+231,211,008 (×1.060)"]
    opened.run(f"{CHOOSE}(1, 'version', 'v2')")
    assert opened.run(COMMANDS)[1] == "reslab models preresnet50 --shortcut B --stride-in 3x3"
    opened.run(f"{CHOOSE}(0, null, 'cifar_resnet')")
    opened.run(f"{CHOOSE}(0, 'depth', '110')")
    opened.run(f"{CHOOSE}(0, 'shortcut', 'none')")
    assert (
        opened.run(COMMANDS)[0] == "reslab models cifar_plain --depth 110" and opened.run(TOTALS)[0][0] == "1,727,962"
    )
    opened.run(
        "{ const size = document.querySelector('[name=size]'); size.value = 8; size.dispatchEvent(new "
        "Event('input')); }"
    )
    assert (
        opened.run(
            "document.querySelector('[name=size]').ariaInvalid ?? "
            "document.querySelector('[name=size]').getAttribute('aria-invalid')"
        )
        == "true"
    )
    opened.run(
        "{ const size = document.querySelector('[name=size]'); size.value = 224; size.dispatchEvent(new "
        "Event('input')); }"
    )
    assert opened.problems == []


def test_a_size_out_of_range_is_said_and_the_tables_fit_a_laptop(opened: Browser) -> None:
    opened.resize(1280)
    said = """((value) => { const size = document.querySelector('[name=size]'); size.value = value; size.dispatchEvent(new Event('input'));
      return document.querySelector('#size-range').innerText; })"""
    assert [opened.run(f"{said}({value})") for value in (-5, 31, 32, 1025, 224)] == [
        "only 32 to 1024; below is the size before"
    ] * 2 + [
        "",
        "only 32 to 1024; below is the size before",
        "",
    ]
    for name in ("resnet50", "densenet201", "efficientnet_b7", "regnet_y_32gf"):
        opened.run(f"{CHOOSE}(0, null, '{name}')")
        assert (
            opened.run(
                "(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth)(document.querySelector('#explorer "
                ".network .scroll'))"
            )
            == 0
        )


# --- Readers of all kinds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dark", [False, True])
def test_everything_has_a_name_and_contrast(opened: Browser, dark: bool) -> None:
    opened.dark(dark)
    opened.run("document.querySelectorAll('details').forEach((details) => (details.open = true))")
    assert opened.run(UNNAMED) == [] and opened.run(TOO_FAINT) == []
    headings = opened.run("[...document.querySelectorAll('h1, h2, h3')].map((heading) => Number(heading.tagName[1]))")
    assert headings[0] == 1 and all(after - before <= 1 for before, after in pairwise(headings))
    assert opened.run(
        "[...document.querySelectorAll('table')].every((table) => table.tHead && "
        "[...table.tHead.rows[0].cells].every((cell) => cell.scope))"
    )
