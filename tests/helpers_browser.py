"""A real browser for tests: headless Chromium, spoken to over its DevTools pipe, with nothing but the
standard library.
"""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MISSING = (
    "no Chromium here; install one to run the browser tests: apt install chromium (Debian), brew install --cask "
    "chromium (macOS)"
)

# what is wrong with a page: expressions that list the elements
OVERFLOWING = """[...document.querySelectorAll("body *")].filter((element) => !element.closest(".scroll, pre, svg, .skip")
  && element.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map((element) => element.outerHTML.slice(0, 100))"""
UNNAMED = """[...document.querySelectorAll("button, select, input, summary, a, [role=img], [role=region], [role=group]")].filter((element) =>
  !(element.innerText?.trim() || element.ariaLabel || element.getAttribute("aria-label") || element.closest("label")?.innerText.trim()))
  .filter((element) => element.checkVisibility() && !element.closest(".plot *")).map((element) => element.outerHTML.slice(0, 100))"""
OVERLAPPING = """(() => {{
  const boxes = [...document.querySelectorAll("{0} text")].filter((text) => text.checkVisibility()).map((text) => [text.textContent, text.getBoundingClientRect()]);
  return boxes.flatMap(([one, a], at) => boxes.slice(at + 1).filter(([, b]) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)
    .map(([other]) => `${{one}} / ${{other}}`));
}})()"""
TOO_FAINT = """(() => {
  const parse = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const under = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, [r, g, b, a = 1]) => [r, g, b].map((c, i) => c * a + below[i] * (1 - a)), [255, 255, 255]);
  };
  const texts = [...document.querySelectorAll("body *")].filter((element) => !element.closest("svg, script, option")
    && element.checkVisibility() && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  return texts.map((element) => {
    const [one, two] = [light(parse(getComputedStyle(element).color)), light(under(element))].sort((a, b) => b - a);
    return [(one + 0.05) / (two + 0.05), element.outerHTML.slice(0, 100)];
  }).filter(([contrast]) => contrast < 4.5);
})()"""


def chromium() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


needs_browser = pytest.mark.skipif(chromium() is None or os.name != "posix", reason=MISSING)


class Browser:
    """One page of a browser. `problems` are its errors, `requests` the addresses that it asked for."""

    def __init__(self, process: "subprocess.Popen[bytes]", read: int, write: int) -> None:
        self._process, self._read, self._write = process, read, write
        self._numbers = itertools.count(1)
        self._buffer = b""
        self.problems: list[str] = []
        self.requests: list[str] = []
        target = self._call("Target.createTarget", {"url": "about:blank"}, None)["targetId"]
        self._session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True}, None)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol on the page."""
        return self._call(method, parameters, self._session)

    def open(
        self, page: Path, width: int = 1400, *, fragment: str = "", language: str = "en-US", dark: bool = False
    ) -> Self:
        """Load a file in a window of this width, at a fragment of its address, for a reader of this language."""
        self.call("Network.setUserAgentOverride", userAgent="test", acceptLanguage=language)
        self.dark(dark)
        self.resize(width)
        self.problems.clear()
        self.requests.clear()
        self.call("Page.navigate", url="about:blank")  # or another fragment would load nothing
        self.call("Page.navigate", url=page.resolve().as_uri() + fragment)
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")
        return self

    def dark(self, dark: bool) -> None:
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )

    def resize(self, width: int, height: int = 900) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )

    def run(self, code: str) -> Any:
        """Return the value of an expression, waiting for it if it is a promise."""
        answer = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not self.run(condition):
            assert time.monotonic() < deadline, f"waited {seconds} s for {condition}"
            time.sleep(0.02)

    def press(self, key: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def screenshot(self, out: Path) -> None:
        out.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=False)["data"]))

    def _call(self, method: str, parameters: dict[str, Any], session: str | None) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            self._note(answer.get("method", ""), answer.get("params", {}))

    def _note(self, event: str, what: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            details = what["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Runtime.consoleAPICalled" and what["type"] in ("error", "assert", "warning"):
            self.problems.append(
                " ".join(str(argument.get("value", argument.get("description"))) for argument in what["args"])
            )
        elif event == "Log.entryAdded" and what["entry"]["level"] in ("error", "warning"):
            self.problems.append(what["entry"]["text"])
        elif event == "Page.javascriptDialogOpening":
            self.problems.append(f"dialog: {what['message']}")
            self.call("Page.handleJavaScriptDialog", accept=True)
        elif event == "Network.requestWillBeSent":
            self.requests.append(what["request"]["url"][:200])

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], 60)
            assert ready, "the browser does not answer"
            part = os.read(self._read, 1 << 20)
            assert part, "the browser has gone"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start a browser with an empty profile, and end it."""
    import fcntl  # which Windows has not

    program = chromium()
    assert program is not None
    their_in, our_out = os.pipe()
    our_in, their_out = os.pipe()
    flags = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
    )
    command = [
        program,
        *flags,
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--remote-debugging-pipe",
        f"--user-data-dir={profile}",
        "about:blank",
    ]

    def wire() -> None:  # Chromium reads from descriptor 3 and writes to 4
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (their_in, their_out)]
        for number, end in zip((3, 4), ends, strict=True):
            os.dup2(end, number)

    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, preexec_fn=wire, pass_fds=(3, 4), stdin=quiet, stdout=quiet, stderr=quiet)
    os.close(their_in)
    os.close(their_out)
    try:
        yield Browser(process, our_in, our_out)
    finally:
        os.close(our_out)
        process.terminate()
        process.wait(20)
        os.close(our_in)


def afresh(chrome: Browser, page: Path) -> None:
    """Open a page if it is not the one that is open, wide and light."""
    if chrome.run("location.href.split('#')[0]") != page.resolve().as_uri():
        chrome.open(page)
    chrome.resize(1400)
    chrome.dark(False)
