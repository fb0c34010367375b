"""The playground: what is put into it, and, in a real browser, that its numbers are Python's, that it asks for nothing,
and that its link, keyboard and pen work.
"""

import base64
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import assert_refused, reslab_here, slow_unless
from helpers_browser import OVERFLOWING, TOO_FAINT, UNNAMED, Browser, afresh, needs_browser
from helpers_report import a_study
from torch import Tensor, nn

import reslab
from reslab.analysis.gradient_flow import gradient_flow
from reslab.analysis.paths import path_spectrum
from reslab.analysis.split import split
from reslab.commands.play import NETWORKS, SMALL
from reslab.commands.play import shipped as shipped_images
from reslab.data import load_data
from reslab.report import playground
from reslab.report.page import write_report
from reslab.residual import View, view
from reslab.weights.shipped import locate

TOLERANCE = 1e-3
"""By how much a logit may differ from Python's; the shipped weights are the same halves on both sides."""
SOME = 6
"""Digits that the fast tests look at; the slow one looks at all."""


def shipped(name: str) -> nn.Module:
    return reslab.build(name, weights="digits").eval()


def digits() -> tuple[Tensor, Tensor]:
    return load_data("digits").test


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as the command writes and opens it."""
    out, opened = tmp_path_factory.mktemp("놀이터") / "new" / "놀이.html", list[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("webbrowser.open", lambda address: not opened.append(address))
        done = reslab_here("play", "--out", out, "--open")
    assert (done.returncode, done.stdout, opened) == (0, f"{out}\n", [out.resolve().as_uri()])
    return out


# --- What is put in ---------------------------------------------------------------------------------------------------


def test_a_description_has_every_weight_as_it_is_and_each_normalisation_as_scale_and_shift() -> None:
    network = shipped("resnet20")
    described = playground.describe(network)
    halves = np.frombuffer(base64.b64decode(described["halves"]), np.float16)
    floats = np.frombuffer(base64.b64decode(described["floats"]), np.float32)
    kernels = [layer.weight for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert np.array_equal(halves, torch.cat([kernel.detach().flatten() for kernel in kernels]).numpy())
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    start = 0
    for norm in norms:
        scale, shift = torch.from_numpy(floats[start : start + 2 * norm.num_features].copy()).chunk(2)
        x = torch.linspace(-2, 2, norm.num_features)[None, :, None, None]
        torch.testing.assert_close(x * scale[:, None, None] + shift[:, None, None], norm(x), atol=1e-5, rtol=1e-5)
        start += 2 * norm.num_features
    assert start + 10 == len(floats)
    assert described["residual"] and not playground.describe(shipped("plain20"))["residual"]
    assert described["blocks"][3] == ["layer2.0", [16, 32, 2], [32, 32, 1]]


@pytest.mark.slow  # 3 s
def test_the_page_is_one_file_whose_steps_name_what_there_is(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    files = [locate("digits", name) for name in NETWORKS]
    weights = sum(file.stat().st_size for file in files) * 4 / 3
    assert len(text) < weights + 260_000
    assert not re.search(r"(src|href)=\"(?!#)", text)
    networks, images = shipped_images(NETWORKS)
    blocks = {
        name: [block.name for block in view(network, digits()[0][:1]).blocks] for name, network in networks.items()
    }
    shown = playground.playground(networks, images)
    assert shown["deepest"] == "resnet56"
    for step in shown["steps"]:
        said = dict(part.split("=") for part in step.removeprefix("#").split("&"))
        for key in ("off", "swap", "block"):
            assert set(said.get(key, "layer1.0").split(",")) <= set(blocks[said["net"]])


def test_a_directory_is_no_page(tmp_path: Path) -> None:
    assert_refused(reslab_here("play", "--out", tmp_path), f"--out {tmp_path / 'play.html'}")


# --- In a browser -----------------------------------------------------------------------------------------------------

COUNTED = "[...play.counts().values()].every(({ answers }) => answers)"


@pytest.fixture
def opened(chrome: Browser, page: Path) -> Browser:
    """The page as it is at first, in English, wide and light."""
    afresh(chrome, page)
    chrome.run(
        "document.querySelector('[data-language=en]').click(); localStorage.clear(); location.hash = '#net=resnet20'"
    )
    chrome.wait("location.hash === '#net=resnet20' && play.state().net === 'resnet20' && play.state().gates.size === 0")
    return chrome


def logits_in(
    chrome: Browser, name: str, images: int, gates: Sequence[float], order: Sequence[int] | None = None
) -> Tensor:
    """Return what the page's network gives for the first test images."""
    setting = json.dumps({"gates": list(gates), "order": list(order or range(len(gates)))})
    one_after_another = "(_, i) => play.pixelsOf(Math.floor(i / 64))[i % 64]"
    pixels = f"Float32Array.from({{ length: {images * 64} }}, {one_after_another})"
    found = chrome.run(f"Array.from(play.engine.run(play.network('{name}'), {pixels}, {setting}).logits)")
    return torch.tensor(found).view(images, -1)


def settings(count: int) -> list[list[float]]:
    """Return gates: all on; one off; half at values between; nearly all off."""
    one, between, few = [1.0] * count, [1.0] * count, [0.0] * count
    one[count // 2] = 0
    between[::2] = [round(0.1 + 0.8 * place / count, 3) for place in range(0, count, 2)]
    few[0] = few[-1] = 1
    return [[1.0] * count, one, between, few]


def see_that_logits_agree(chrome: Browser, name: str, images: int) -> None:
    network, x = shipped(name), digits()[0][:images]
    gated = view(network, x[:1])
    for gates in settings(len(gated.blocks)):
        with torch.no_grad():
            expected = gated(x, torch.tensor(gates))
        torch.testing.assert_close(logits_in(chrome, name, images, gates), expected, atol=TOLERANCE, rtol=0)


@needs_browser
@pytest.mark.xdist_group("browser")
@pytest.mark.parametrize("name", slow_unless(("plain20", "resnet20"), NETWORKS))
def test_logits_are_pythons_with_any_gates(opened: Browser, name: str) -> None:
    see_that_logits_agree(opened, name, SOME)


@pytest.mark.slow
@needs_browser
@pytest.mark.xdist_group("browser")
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_pythons_for_every_digit(opened: Browser, name: str) -> None:
    see_that_logits_agree(opened, name, len(digits()[1]))


@needs_browser
@pytest.mark.xdist_group("browser")
@pytest.mark.parametrize("name", ["resnet20", "plain20"])
def test_exchanged_blocks_are_exchanged_modules(opened: Browser, name: str) -> None:
    network, x = shipped(name), digits()[0][:SOME]
    stage = network.get_submodule("layer2")
    assert isinstance(stage, nn.Sequential)
    stage[1], stage[2] = stage[2], stage[1]
    with torch.no_grad():
        expected = network(x)
    found = logits_in(opened, name, SOME, [1] * 9, [0, 1, 2, 3, 5, 4, 6, 7, 8])
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


@needs_browser
@pytest.mark.xdist_group("browser")
def test_shares_are_those_of_the_exact_split_and_add_up_with_gates_too(opened: Browser) -> None:
    expected = split(shipped("resnet20"), digits()[0][3:4]).parts[:, 0]
    code = """((gates) => { const network = play.network("resnet20"), setting = { gates, order: gates.map((_, i) => i) };
      const ran = play.engine.run(network, play.pixelsOf(3), setting);
      return [play.engine.split(network, setting, ran), Array.from(ran.logits)]; })"""
    parts, logits = (torch.tensor(each) for each in opened.run(f"{code}({json.dumps([1] * 9)})"))
    torch.testing.assert_close(parts, expected.to(parts), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(parts.sum(0), logits, atol=1e-4, rtol=0)
    gates = settings(9)[2]
    parts, logits = (torch.tensor(each) for each in opened.run(f"{code}({json.dumps(gates)})"))
    torch.testing.assert_close(parts.sum(0), logits, atol=1e-4, rtol=0)


TRACE = """((name, image, label, gates) => {
  const network = play.network(name), setting = { gates, order: gates.map((_, i) => i) };
  const ran = play.engine.run(network, play.pixelsOf(image), setting);
  const at = (parts) => parts.map((part) => Array.from(part));
  return { flow: gradients.flow(network, setting, ran, label), norms: network.residual ? gradients.spectrum(network, setting, ran, label) : null,
    whole: at(gradients.back(network, setting, ran, label, false)), parts: network.residual ? at(gradients.back(network, setting, ran, label, true)) : null };
})"""
"""The page's gradients of one image: maps are [place][channel] there."""


@needs_browser
@pytest.mark.xdist_group("browser")
def test_the_path_spectrum_is_pythons(opened: Browser) -> None:
    image, label = 3, int(digits()[1][3])
    found = opened.run(f"{TRACE}('resnet20', {image}, {label}, {json.dumps([1] * 9)})")
    expected = path_spectrum(shipped("resnet20"), digits()[0][image : image + 1], torch.tensor([label]))
    parts = torch.tensor(found["parts"]).view(10, 8, 8, 16).permute(0, 3, 1, 2)
    reference = expected.gradient[:, 0].to(parts)
    torch.testing.assert_close(parts, reference, rtol=0, atol=1e-3 * float(reference.abs().max()))
    norms = torch.tensor(found["norms"])
    torch.testing.assert_close(norms / norms.sum(), expected.share.to(norms), rtol=0, atol=1e-3)


def gradients_of(gated: View, x: Tensor, label: Tensor, gates: Sequence[float]) -> list[Tensor]:
    """Return autograd's gradients of the cross-entropy at the stem's output and after each block, with these gates."""
    live = gated.stem(x)
    live = live._replace(stream=live.stream.detach().requires_grad_())
    streams = [live.stream]
    for index in range(len(gated)):
        # a copy, which in-place activations may change
        live = gated.block(index, live._replace(stream=live.stream.clone()), torch.tensor(gates))
        streams.append(live.stream)
    value = F.cross_entropy(gated.head(live._replace(stream=live.stream.clone())), label)
    return list(torch.autograd.grad(value, streams))


@needs_browser
@pytest.mark.xdist_group("browser")
@pytest.mark.parametrize("name", ["resnet20", "plain20"])
def test_the_gradients_way_back_is_autograds_with_gates_too(opened: Browser, name: str) -> None:
    x, label = digits()[0][3:4], digits()[1][3:4]
    gated = view(shipped(name), x)
    for gates in settings(9):
        found = opened.run(f"{TRACE}('{name}', 3, {int(label)}, {json.dumps(gates)})")
        expected = gradients_of(gated, x, label, gates)
        norms = torch.tensor(found["flow"])
        torch.testing.assert_close(norms, torch.stack([each.norm() for each in expected]), rtol=1e-2, atol=0)
        whole = torch.tensor(found["whole"]).view(8, 8, 16).permute(2, 0, 1)
        torch.testing.assert_close(whole, expected[0][0], rtol=0, atol=1e-2 * float(expected[0].abs().max()))
        if found["parts"]:  # which add up to the gradient, whatever the gates
            parts = torch.tensor(found["parts"]).sum(0).view(8, 8, 16).permute(2, 0, 1)
            torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5 * float(whole.abs().max()))
    flow = gradient_flow(gated, x, label).backward
    found = opened.run(f"{TRACE}('{name}', 3, {int(label)}, {json.dumps([1] * 9)})")
    torch.testing.assert_close(torch.tensor(found["flow"]), flow.detach(), rtol=1e-2, atol=0)


@needs_browser
@pytest.mark.xdist_group("browser")
def test_the_gradient_is_drawn_as_gates_move(opened: Browser) -> None:
    traced = "play.traced()"
    opened.wait(traced)
    first = opened.run("[...document.querySelectorAll('#spectrum title')].map((title) => title.textContent)")
    assert len(first) == 10 and sum(float(text.split()[1]) for text in first) == pytest.approx(100, abs=1)
    assert opened.run("document.querySelectorAll('#spectrum .beside').length") == 10
    assert opened.run("document.querySelectorAll('#flow polyline').length") == 2
    opened.run("document.querySelectorAll('.block .switch')[4].click()")
    opened.wait(traced)
    assert (
        opened.run("[...document.querySelectorAll('#spectrum title')].map((title) => title.textContent)")[9]
        == "9: 0.0 %"
    )
    opened.run("location.hash = '#net=plain20'")
    opened.wait(f"play.state().net === 'plain20' && {traced}")
    assert opened.run("document.getElementById('spectrum-mean').hidden")  # what it said was of the other network
    assert not opened.run("document.querySelector('#spectrum').checkVisibility()")


def open_counted(chrome: Browser, page: Path, fragment: str) -> None:
    """Open a page at what its address says, and wait until the errors of both networks are counted."""
    chrome.open(page, fragment=fragment)
    chrome.wait(COUNTED)


def see_that_answers_agree(chrome: Browser, name: str, off: Sequence[str]) -> float:
    """See that the worker's answers to all digits are Python's where these are clear; return the error on the page."""
    x, labels = digits()
    with torch.no_grad():
        expected = view(shipped(name), x[:1])(x, dict.fromkeys(off, 0))
    best = expected.topk(2).values
    clear = best[:, 0] - best[:, 1] > 2 * TOLERANCE
    found = chrome.run(f"play.counts().get('{name}')")
    assert torch.equal(torch.tensor(found["answers"])[clear], expected.argmax(1)[clear])
    assert found["error"] == pytest.approx((torch.tensor(found["answers"]) != labels).double().mean().item())
    return float(found["error"])


@pytest.mark.slow
@needs_browser
@pytest.mark.xdist_group("browser")
def test_a_link_restores_what_is_shown_and_the_worker_counts_errors_again(chrome: Browser, page: Path) -> None:
    open_counted(chrome, page, "#net=resnet20&off=layer2.1&image=5&block=layer1.2")
    assert chrome.run("[play.state().net, play.state().image, play.state().block, [...play.state().gates]]") == [
        "resnet20", 5, "layer1.2", [["layer2.1", 0]],
    ]  # fmt: skip
    assert chrome.run("document.querySelectorAll('.block.off').length") == 1
    assert chrome.run("document.querySelector('.look[aria-pressed=true]').ariaLabel") == "Inspect layer1.2"
    bent, broken = (see_that_answers_agree(chrome, name, ["layer2.1"]) for name in ("resnet20", "plain20"))
    assert bent < 0.15 and broken > 0.5
    assert chrome.run("document.querySelectorAll('#curve .point.now').length") == 2
    chrome.run("document.querySelectorAll('#presets button')[0].click()")
    chrome.wait(COUNTED)
    assert chrome.run("location.hash") == "#net=resnet20&image=5&block=layer1.2"
    assert see_that_answers_agree(chrome, "resnet20", []) < bent
    assert chrome.run("document.querySelectorAll('#curve .point').length") == 4
    assert [request for request in chrome.requests if not request.startswith(("data:", "blob:"))] == [
        page.resolve().as_uri()
    ]
    assert chrome.problems == []


@pytest.mark.slow
@needs_browser
@pytest.mark.xdist_group("browser")
def test_importance_is_the_rise_of_the_error_when_a_block_alone_is_off(opened: Browser) -> None:
    opened.wait("play.rises.get('resnet20').size === 9")
    x, labels = digits()
    gated = view(shipped("resnet20"), x[:1])
    with torch.no_grad():
        errors = {
            block.name: (gated(x, {block.name: 0}).argmax(1) != labels).double().mean().item() for block in gated.blocks
        }
        whole = (gated(x).argmax(1) != labels).double().mean().item()
    for name, rise in opened.run("[...play.rises.get('resnet20')]"):
        assert rise == pytest.approx(errors[name] - whole, abs=1.5 / len(labels))  # one may be a tie


@needs_browser
@pytest.mark.xdist_group("browser")
@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("#net=resnet56&off=layer3.8&gate=layer1.0:0.25", "#net=resnet56&off=layer3.8&gate=layer1.0:0.25&image=0"),
        ("#net=plain20&swap=layer2.1,layer2.2&image=326", "#net=plain20&swap=layer2.1,layer2.2&image=326"),
        (f"#net=resnet20&drawn={'0g8' * 21}0", f"#net=resnet20&drawn={'0g8' * 21}0"),
        # what is not there is as at first
        ("#net=resnet21&off=layer9.9,layer1.1&image=327&block=x", "#net=resnet20&off=layer1.1&image=0"),
        ("#net=resnet20&swap=layer2.0,layer2.1&gate=layer1.0:7,layer1.1:&drawn=z", "#net=resnet20&image=0"),
        ("#net=constructor", "#net=resnet20&image=0"),
    ],
)  # fmt: skip
def test_a_link_that_is_read_and_written(opened: Browser, said: str, kept: str) -> None:
    code = "link.write(link.read(%s, Object.fromEntries(['resnet20', 'plain20', 'resnet56', 'plain56'].map((name) => [name, play.network(name).blocks.map((block) => block.name)])), 327))"
    assert opened.run(code % json.dumps(said)) == kept


@needs_browser
@pytest.mark.xdist_group("browser")
def test_another_network_keeps_what_it_has_of_the_gates_and_the_exchanged_blocks(opened: Browser) -> None:
    def choose(name: str) -> str:
        opened.run(f"document.querySelector('#networks input[value={name}]').click()")
        found: str = opened.run("location.hash")
        return found

    choose("resnet56")
    opened.run("document.querySelectorAll('#presets button')[4].click()")  # which exchanges layer2.1 and layer2.8
    assert "swap=layer2.1,layer2.8" in opened.run("location.hash")
    assert choose("resnet20") == "#net=resnet20&image=0"
    opened.run("location.hash = '#net=resnet56&off=layer1.1,layer1.8&gate=layer2.2:0.5,layer2.7:0.5&block=layer2.2'")
    opened.wait("play.state().gates.size === 4")
    assert choose("resnet20") == "#net=resnet20&off=layer1.1&gate=layer2.2:0.5&image=0&block=layer2.2"
    opened.wait(COUNTED)
    assert opened.problems == []


@needs_browser
@pytest.mark.xdist_group("browser")
def test_gates_move_by_keyboard_and_say_their_names_and_values(opened: Browser) -> None:
    opened.run("document.querySelectorAll('.block .switch')[4].focus()")
    opened.press("Enter", 13)
    assert opened.run("location.hash") == "#net=resnet20&off=layer2.1&image=0"
    spoken = "[...document.querySelectorAll('.block')[4].querySelectorAll('.switch, input')].map((each) => [each.ariaLabel, each.ariaChecked, each.ariaValueText])"
    assert opened.run(spoken) == [["layer2.1 on", "false", None], ["Gate of layer2.1", None, "0.00"]]
    opened.run("document.querySelectorAll('.block input')[4].focus()")
    opened.press("ArrowRight", 39)
    assert opened.run("location.hash") == "#net=resnet20&gate=layer2.1:0.05&image=0"
    assert opened.run(spoken)[1][2] == "0.05"
    opened.wait(COUNTED)
    assert opened.problems == []


@needs_browser
@pytest.mark.xdist_group("browser")
def test_scores_move_as_one_draws(opened: Browser) -> None:
    opened.run("scrollTo(0, 0)")
    left, top, side = opened.run(
        "(({ left, top, width }) => [left, top, width])(document.querySelector('#paper').getBoundingClientRect())"
    )

    def mouse(kind: str, x: float, y: float) -> None:
        at = {"x": left + x * side, "y": top + y * side}
        opened.call("Input.dispatchMouseEvent", type=kind, button="left", buttons=1, clickCount=1, **at)

    seven = [(0.25, 0.12), (0.72, 0.12), (0.5, 0.5), (0.42, 0.9)]
    mouse("mousePressed", *seven[0])
    seen = []
    for x, y in seven[1:]:
        mouse("mouseMoved", x, y)
        seen.append(opened.run("[document.querySelector('#verdicts').innerText, location.hash]"))
    mouse("mouseReleased", *seven[-1])
    assert len({hash for _, hash in seen}) == 3 and re.fullmatch(r"#net=resnet20&drawn=[0-9a-g]{64}", seen[-1][1])
    assert seen[-1][0].startswith("resnet20: 7 (")
    opened.run("document.querySelector('#clear').click()")
    assert opened.run("document.querySelector('#shown').innerText") == "Nothing drawn yet"
    opened.run("document.querySelectorAll('#gallery button')[7].click()")
    assert opened.run("location.hash") == "#net=resnet20&image=7"


@pytest.mark.slow
@needs_browser
@pytest.mark.xdist_group("browser")
def test_both_languages_fit_are_named_and_can_be_read_light_and_dark(opened: Browser) -> None:
    opened.wait(COUNTED)
    for language, width, dark in (("en", 1400, False), ("ko", 390, True), ("en", 390, False), ("ko", 900, False)):
        opened.resize(width)
        opened.dark(dark)
        opened.run(f"document.querySelector('[data-language={language}]').click()")
        text = opened.run("document.body.innerText")
        assert not re.search(r"undefined|NaN|\{\d\}", text) and ("블록" in text) == (language == "ko")
        overflowing = OVERFLOWING.replace('".scroll,', '"#shares, #rises, .scroll,')
        found: list[Any] = [opened.run(check) for check in (UNNAMED, TOO_FAINT, overflowing)]
        assert found == [[], [], []], (language, width, dark)
    assert opened.problems == []


# --- In the report ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with the playground in it."""
    directory = tmp_path_factory.mktemp("report")
    return write_report(
        [a_study(directory / "study")], directory / "page.html", play=playground.playground(*shipped_images(SMALL))
    )


@pytest.mark.slow
def test_a_report_has_room_for_the_small_networks(report: Path, tmp_path: Path) -> None:
    without = write_report([a_study(tmp_path / "study")], tmp_path / "page.html")
    text, bare = report.read_text(encoding="utf-8"), without.read_text(encoding="utf-8")
    assert len(text) - len(bare) < 2_000_000
    assert '<a class="way" href="#play">' in text and "worker-src blob:" in text
    assert 'id="play"' not in bare and "worker-src" not in bare and "<code>reslab play --open</code>" in bare
    assert set(re.findall(r"#net=(\w+)", text.split('id="steps"')[1].split("</ol>")[0])) == {"resnet20"}
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    (tmp_path / "play.html").touch()
    beside = write_report([tmp_path / "study"], tmp_path / "page.html").read_text(encoding="utf-8")
    assert '<a class="way" href="play.html">' in beside


@pytest.mark.slow
@needs_browser
@pytest.mark.xdist_group("browser")
def test_the_playground_runs_in_a_report_from_its_own_link(chrome: Browser, report: Path) -> None:
    open_counted(chrome, report, "#net=resnet20&off=layer2.1")
    chrome.run("document.querySelector('[data-language=ko]').click(); scrollTo(0, 0)")
    assert chrome.run("[...document.querySelectorAll('.view:not([hidden])')].map((view) => view.id)") == ["play"]
    assert chrome.run("document.querySelector('#contents [aria-current]').hash") == "#play"
    see_that_answers_agree(chrome, "resnet20", ["layer2.1"])
    chrome.run("document.querySelectorAll('#steps a')[4].click()")
    chrome.wait("location.hash.includes('swap=') && play.state().swap !== null")
    for width in (375, 1280):
        chrome.resize(width)
        assert chrome.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert chrome.run(UNNAMED) == [] and chrome.run(TOO_FAINT) == []
    chrome.run("location.hash = '#start'")
    chrome.wait("!document.querySelector('#start').hidden")
    assert [request for request in chrome.requests if not request.startswith(("data:", "blob:"))] == [
        report.resolve().as_uri()
    ]
    assert chrome.problems == []


@pytest.mark.slow
@needs_browser
@pytest.mark.xdist_group("browser")
def test_images_are_walked_with_arrows_and_each_has_a_name(chrome: Browser, page: Path) -> None:
    open_counted(chrome, page, "#net=resnet20&image=5")
    buttons = "[...document.querySelectorAll('#gallery button')]"
    assert chrome.run(f"{buttons}.filter((each) => each.tabIndex === 0).map((each) => each.dataset.image)") == ["5"]
    assert chrome.run(f"{buttons}.every((each) => each.ariaLabel)")
    press = "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}))"
    chrome.run(f"{buttons}[5].focus(); {press}")
    assert chrome.run("[document.activeElement.dataset.image, document.activeElement.tabIndex]") == ["6", 0]
    assert chrome.run(f"{buttons}.filter((each) => each.tabIndex === 0).length") == 1


@pytest.mark.slow
@needs_browser
@pytest.mark.xdist_group("browser")
def test_paths_are_those_through_the_blocks_that_are_on_and_a_gate_between_is_no_point(
    chrome: Browser, page: Path
) -> None:
    open_counted(chrome, page, "#net=resnet20&off=layer2.1")
    chrome.wait("play.traced()")
    assert "4.0" in chrome.run("document.getElementById('spectrum-mean').textContent")  # half of eight
    chrome.run("location.hash = '#net=resnet20&gate=layer2.1:0.25'")
    chrome.wait("play.state().gates.get('layer2.1') === 0.25")
    chrome.wait(COUNTED)
    assert chrome.run("document.querySelectorAll('#curve .point.now').length") == 0


@pytest.mark.slow
@needs_browser
@pytest.mark.xdist_group("browser")
def test_the_page_goes_on_where_its_address_may_not_be_written(chrome: Browser, page: Path) -> None:
    open_counted(chrome, page, "#net=resnet20")
    chrome.run("history.replaceState = () => { throw new DOMException('too often', 'SecurityError'); }")
    chrome.run("document.querySelectorAll('#gallery button')[7].click()")
    assert chrome.run("[play.state().image, document.getElementById('shown').textContent.includes('8')]") == [7, True]
