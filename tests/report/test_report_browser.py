"""The page in a real browser: it asks for nothing, logs nothing, fits, speaks two languages, and its explorer counts as
`reslab models` does.
"""

import json
from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from helpers_browser import OVERFLOWING, OVERLAPPING, TOO_FAINT, UNNAMED, Browser, afresh, needs_browser
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
    """The page at its study, in English, wide and light, every picture drawn; opened only if it is not."""
    afresh(chrome, page)
    go_to(chrome, "#study")
    chrome.run("document.querySelector('[data-language=en]').click(); localStorage.clear(); charts.all()")
    return chrome


def go_to(chrome: Browser, address: str) -> None:
    """Follow a link to an address of the page, and wait until it is followed."""
    chrome.run(
        f"(() => {{ const link = Object.assign(document.createElement('a'), {{ href: '{address}' }}); "
        "document.body.append(link); link.click(); link.remove(); })()"
    )
    chrome.run("new Promise((then) => requestAnimationFrame(() => requestAnimationFrame(then)))")


def views_shown(chrome: Browser) -> list[str]:
    """Return the views that are shown."""
    return list(chrome.run("[...document.querySelectorAll('.view:not([hidden])')].map((view) => view.id)"))


SCRIPTS = 3
"""The page's own: the language, what draws the views, and plotly once it is unpacked."""
DRAWN = """charts.all().then(() => [...document.querySelectorAll("figure.picture")].map((figure) =>
  figure.querySelectorAll(".trace, .point, .hm, .contour").length > 0))"""


def test_it_asks_for_nothing_and_logs_nothing_and_draws_every_picture(chrome: Browser, page: Path) -> None:
    chrome.open(page)
    assert set(chrome.run(DRAWN)) == {True} and chrome.run('document.querySelectorAll("figure.picture").length') == 9
    assert chrome.run('document.querySelectorAll("figure.picture details table").length') == 9
    assert chrome.run("document.fonts.ready.then(() => document.fonts.check('1em \"Reslab Hangul\"', '가'))")
    go_to(chrome, "#explorer")
    chrome.wait("typeof explorer === 'object'")
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
    page = write_report([hostile_study(tmp_path / "나쁜 실험", 20)], tmp_path / "page.html")
    chrome.open(page, width=360, fragment="#script-alert-1-script")
    assert views_shown(chrome) == ["script-alert-1-script"]
    chrome.run("charts.all()")
    assert chrome.run("document.querySelectorAll('figure.picture .main-svg').length") >= 4
    assert chrome.run("document.querySelectorAll('img, script:not([id]):not(:empty)').length") == SCRIPTS + 8
    assert chrome.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert chrome.problems == []


LANDED = """((target) => {{
  const below = target.getBoundingClientRect().top - document.querySelector(".bar").getBoundingClientRect().bottom;
  const end = document.documentElement.scrollHeight - innerHeight - scrollY;
  return (below >= 0 && below <= 40) || (end < 1 && target.getBoundingClientRect().bottom <= innerHeight);
}})(document.getElementById("{}"))"""
"""Whether an element is right below the bar, or in sight at the page's end."""
BESIDE_THEIR_PICTURE = """[...document.querySelectorAll(".story .{} text")].filter((text) => text.checkVisibility()
  && text.getBoundingClientRect().right > text.ownerSVGElement.getBoundingClientRect().right + 1).map((text) => text.textContent)"""
TOPS = (
    "[...document.querySelectorAll('#study h3, #study li[id]')].map((target) => "
    "Math.round(target.getBoundingClientRect().top + scrollY))"
)


@pytest.mark.parametrize("width", [pytest.param(390, marks=pytest.mark.slow), 1280])
def test_every_view_and_claim_has_an_address_that_lands_where_it_should(
    chrome: Browser, page: Path, width: int
) -> None:
    chrome.open(page, width, fragment="#study.claim")
    assert views_shown(chrome) == ["study"] and chrome.run(LANDED.format("study.claim"))
    before = chrome.run(TOPS)
    chrome.run("charts.all()")
    assert chrome.run(TOPS) == before and len(before) > 12  # nothing moves when pictures are drawn
    for claim in ("study.open", "study.claim", "study.cited"):
        go_to(chrome, f"#{claim}")
        assert chrome.run(LANDED.format(claim)), claim
    for view in ("ledger", "explorer", "study"):
        go_to(chrome, f"#{view}")
        assert views_shown(chrome) == [view] and chrome.run("scrollY") == 0
        assert chrome.run("document.querySelector('#contents [aria-current]').hash") == f"#{view}"
        assert chrome.run("document.activeElement.tagName") == "H2"
    go_to(chrome, "#study.refuted")
    chrome.run("document.querySelector('#ledger .row a').click()")
    assert chrome.run("location.hash") == "#study.claim"
    go_to(chrome, "#nowhere%")
    assert views_shown(chrome) == ["start"]


def test_going_back_comes_to_where_one_was(opened: Browser) -> None:
    opened.run("scrollTo(0, 700)")
    go_to(opened, "#ledger")
    opened.run("history.back()")
    opened.wait("location.hash === '#study' && scrollY === 700", seconds=5)
    assert views_shown(opened) == ["study"]


def test_the_first_view_has_the_story_and_three_results(opened: Browser) -> None:
    go_to(opened, "#start")
    assert views_shown(opened) == ["start"]
    names = "[...document.querySelectorAll('.story .{} .name')].map((name) => name.textContent)"
    assert sorted(opened.run(names.format("wide"))) == ["plain-20", "plain-56", "resnet-20", "resnet-56"]
    assert opened.run("[...document.querySelectorAll('.counts strong')].map((count) => count.textContent)") == [
        "3",
        "1",
        "1",
    ]
    links = opened.run("[...document.querySelectorAll('.results a')].map((link) => link.hash)")
    assert links == ["#study.claim", "#study.refuted"]
    for width, kind in ((1400, "wide"), (375, "narrow")):
        opened.resize(width)
        assert opened.run(OVERLAPPING.format(f".story .{kind}")) == []
        assert opened.run(BESIDE_THEIR_PICTURE.format(kind)) == []
        assert opened.run("document.querySelector('.story svg.narrow').checkVisibility()") == (kind == "narrow")


def test_on_a_phone_the_contents_are_folded_and_open_by_keyboard(opened: Browser) -> None:
    opened.resize(375)
    seen = "document.getElementById('contents').checkVisibility()"
    assert not opened.run(seen)
    opened.run("document.getElementById('menu').focus()")
    opened.press("Enter", 13)
    assert opened.run(seen) and opened.run("document.getElementById('menu').ariaExpanded") == "true"
    opened.press("Escape", 27)
    assert not opened.run(seen) and opened.run("document.activeElement.id") == "menu"
    opened.press("Enter", 13)
    opened.run("document.querySelector('#contents a[href=\"#ledger\"]').click()")
    opened.wait("location.hash === '#ledger'", seconds=5)
    assert not opened.run(seen) and views_shown(opened) == ["ledger"]


def test_a_search_in_the_page_finds_what_other_views_have(opened: Browser) -> None:
    go_to(opened, "#start")
    assert opened.run("document.getElementById('study').hidden") == "until-found"
    opened.run("document.getElementById('study').dispatchEvent(new Event('beforematch'))")  # as a browser's search does
    assert opened.run("location.hash") == "#study"
    assert views_shown(opened) == ["study"]


def test_print_shows_every_view(opened: Browser) -> None:
    opened.run("dispatchEvent(new Event('beforeprint'))")
    assert len(views_shown(opened)) == opened.run("document.querySelectorAll('.view').length") >= 4
    opened.run("dispatchEvent(new Event('afterprint'))")
    assert views_shown(opened) == ["study"]


def test_a_network_has_one_colour_in_every_picture(opened: Browser) -> None:
    strokes = (
        "[...document.querySelectorAll('figure.picture')].flatMap((figure) => [...figure.querySelectorAll('.legend "
        "button')].map((button) => [button.innerText, button.querySelector('svg [stroke]')?.getAttribute('stroke')]))"
    )
    story = opened.run("getComputedStyle(document.documentElement).getPropertyValue('--series-4').trim()")
    assert dict(opened.run(strokes))["plain-20"] == story == "#BD7F00"


@pytest.mark.parametrize("width", [360, pytest.param(1400, marks=pytest.mark.slow)])
def test_nothing_overflows(opened: Browser, width: int) -> None:
    opened.resize(width)
    for language, view in product(("en", "ko"), ("#start", "#ledger", "#study", "#explorer")):
        opened.run(f"document.querySelector('[data-language={language}]').click()")
        go_to(opened, view)
        opened.wait(f"{OVERFLOWING}.length === 0", seconds=5)  # plotly follows a moment later
        assert opened.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_the_switch_changes_every_text_by_keyboard(opened: Browser) -> None:
    seen = (
        "[document.documentElement.lang, document.querySelector('#study h2').innerText, document.querySelector('.plot "
        ".xtitle').textContent]"
    )
    assert opened.run(seen) == ["en", "question", "question"]
    opened.run("document.querySelector('[data-language=en]').focus()")
    opened.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9, modifiers=8)
    opened.press("Enter", 13)
    assert opened.run(seen) == ["ko", "물음", "물음"]
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
    seen = f"[{', '.join(parts)}]"
    chrome.open(page, language="ko-KR")
    chrome.run("localStorage.clear()")
    chrome.open(page, language="ko-KR")
    chrome.run("charts.all()")
    assert chrome.run(seen) == ["ko", "none", "물음"]
    chrome.run("document.querySelector('[data-language=ko]').focus()")
    chrome.press("Tab", 9)
    chrome.press("Enter", 13)
    assert chrome.run(seen) == ["en", "inline", "question"]
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
    go_to(opened, "#ledger")
    assert opened.run(rows) == [True] * 5 and opened.run(sections) == 1
    press = "document.querySelector('.tally [data-show={}]').click()"
    opened.run(press.format("statistical-refuted"))
    left = opened.run(rows)
    assert left.count(False) == 1 and opened.run("document.querySelectorAll('.tally [aria-pressed=false]').length") == 1
    others = ("statistical-supported", "statistical-inconclusive", "exact-supported", "cited-supported")
    for name in others:
        opened.run(press.format(name))
    assert opened.run(rows) == [False] * 5 and opened.run(sections) == 0
    for name in ("statistical-refuted", *others):
        opened.run(press.format(name))
    assert opened.run(rows) == [True] * 5 and opened.run(sections) == 1
    search = "(({ value: text }, field) => (field.value = text, field.dispatchEvent(new Event('input'))))({ value: '%s' }, document.getElementById('find-claims'))"
    opened.run(search % "refuted QUESTION")
    assert opened.run(rows) == [False, True, False, False, False]
    assert opened.run("document.getElementById('claims-shown').value") == "1 / 5"
    opened.run(search % "")
    assert opened.run(rows) == [True] * 5


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


def test_tabs_move_by_keyboard_over_the_series_of_a_heat_map(opened: Browser) -> None:
    figure = "document.querySelectorAll('figure.picture')[3]"
    state = f"""(({{ data, layout }}, tab) => [data.map((trace) => trace.visible), layout.coloraxis.cmin, layout.coloraxis.cmax, tab.innerText])(
      {figure}.querySelector(".plot"), {figure}.querySelector("label:has(:checked)"))"""
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


@pytest.fixture
def explored(opened: Browser) -> Browser:
    """The page at its explorer."""
    go_to(opened, "#explorer")
    opened.wait("typeof explorer === 'object'", seconds=10)
    return opened


STANDARD = """Object.fromEntries(Object.keys(explorer.networks).map((name) => {
  const stages = explorer.measure(explorer.design(explorer.choose(name)), explorer.networks[name].image);
  const sum = (key) => stages.reduce((total, stage) => total + stage[key], 0);
  return [name, [sum("params"), sum("macs")]];
}))"""


def test_the_explorer_counts_every_network_of_the_zoo_as_its_reference(explored: Browser) -> None:
    """`reslab models` measures the reference too: tests of the zoo."""
    counted = explored.run(STANDARD)
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
def test_the_explorers_stages_are_those_of_reslab_models(explored: Browser, design: Design, size: int) -> None:
    assert shown(explored, [(design, size)]) == [counted(design.network(), size)]


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
    chrome.open(page, fragment="#explorer")
    chrome.wait("typeof explorer === 'object'")
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


def test_choices_change_the_pictures_the_tables_and_the_marks(explored: Browser) -> None:
    for index in (0, 1):
        explored.run(f"{CHOOSE}({index}, null, 'resnet50')")
    assert explored.run("document.querySelectorAll('#explorer .differs').length") == 0
    assert explored.run(
        "[...document.querySelectorAll('#explorer svg')].map((svg) => svg.querySelectorAll('rect').length)"
    ) == [19, 19]
    explored.run(f"{CHOOSE}(1, 'stride_in', '3x3')")
    assert explored.run(COMMANDS) == [
        f"reslab models resnet50 --shortcut B --stride-in {place}" for place in ("1x1", "3x3")
    ]
    marked = explored.run(
        "[...document.querySelectorAll('#explorer .network')][1].querySelectorAll('tr:has(.differs) th').length"
    )
    assert marked == 3 and explored.run(TOTALS)[1] == ["3,857,973,248", "4,089,184,256", "+231,211,008 (×1.060)"]
    explored.run(f"{CHOOSE}(1, 'version', 'v2')")
    assert explored.run(COMMANDS)[1] == "reslab models preresnet50 --shortcut B --stride-in 3x3"
    explored.run(f"{CHOOSE}(0, null, 'cifar_resnet')")
    explored.run(f"{CHOOSE}(0, 'depth', '110')")
    explored.run(f"{CHOOSE}(0, 'shortcut', 'none')")
    assert (
        explored.run(COMMANDS)[0] == "reslab models cifar_plain --depth 110"
        and explored.run(TOTALS)[0][0] == "1,727,962"
    )
    explored.run(
        "{ const size = document.querySelector('[name=size]'); size.value = 8; size.dispatchEvent(new "
        "Event('input')); }"
    )
    assert (
        explored.run(
            "document.querySelector('[name=size]').ariaInvalid ?? "
            "document.querySelector('[name=size]').getAttribute('aria-invalid')"
        )
        == "true"
    )
    explored.run(f"{CHOOSE}(1, null, 'densenet121')")  # which is drawn at the size before
    assert explored.run("document.querySelector('[data-side=\"1\"]').textContent") == "densenet121"
    assert "densenet121" in explored.run(COMMANDS)[1]
    explored.run(
        "{ const size = document.querySelector('[name=size]'); size.value = 224; size.dispatchEvent(new "
        "Event('input')); }"
    )
    assert explored.problems == []


def test_a_size_out_of_range_is_said_and_the_tables_fit_a_laptop(explored: Browser) -> None:
    explored.resize(1280)
    said = """((value) => { const size = document.querySelector('[name=size]'); size.value = value; size.dispatchEvent(new Event('input'));
      return document.querySelector('#size-range').innerText; })"""
    assert [explored.run(f"{said}({value})") for value in (-5, 31, 32, 1025, 224)] == [
        "only 32 to 1024; below is the size before"
    ] * 2 + [
        "",
        "only 32 to 1024; below is the size before",
        "",
    ]
    for name in ("resnet50", "densenet201", "efficientnet_b7", "regnet_y_32gf"):
        explored.run(f"{CHOOSE}(0, null, '{name}')")
        assert (
            explored.run(
                "(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth)(document.querySelector('#explorer "
                ".network .scroll'))"
            )
            == 0
        )


# --- Readers of all kinds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dark", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_everything_has_a_name_and_contrast(opened: Browser, dark: bool) -> None:
    opened.dark(dark)
    opened.run("document.querySelectorAll('details').forEach((details) => (details.open = true))")
    for view in ("#start", "#ledger", "#explorer", "#study"):
        go_to(opened, view)
        assert opened.run(UNNAMED) == [] and opened.run(TOO_FAINT) == [], view
    headings = opened.run("[...document.querySelectorAll('h1, h2, h3')].map((heading) => Number(heading.tagName[1]))")
    assert headings[0] == 1 and all(after - before <= 1 for before, after in pairwise(headings))
    assert opened.run(
        "[...document.querySelectorAll('table')].every((table) => table.tHead && "
        "[...table.tHead.rows[0].cells].every((cell) => cell.scope))"
    )
