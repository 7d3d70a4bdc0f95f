"""The page as a person sees it: in headless Chromium, through its debugging protocol on two pipes."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from itertools import count
from pathlib import Path

import pytest

from detr_conformance.report import Diagnosis, Divergence, KnownMistake

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-pipe"),
)
WIDTHS = (400, 768, 1024, 1400)
THEMES = ("light", "dark")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium"),
]

SCREENSHOTS = os.environ.get("SCREENSHOTS")
"""Folder to keep pictures of the pages in, to be looked at."""


class Browser:
    """Speaks the DevTools protocol: JSON that ends with a zero byte, commands on one pipe, answers on another."""

    def __init__(self, profile: Path) -> None:
        command_end, self.commands = os.pipe()
        self.answers, answer_end = os.pipe()
        program = ["bash", "-c", f'exec "$@" 3<&{command_end} 4>&{answer_end}', "chromium", str(CHROMIUM), *FLAGS]
        self.process = subprocess.Popen(
            [*program, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(command_end, answer_end),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_end)
        os.close(answer_end)
        self.numbers, self.events, self.unread, self.session = count(1), [], b"", None

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.commands)
        os.close(self.answers)

    def send(self, method: str, **parameters):
        """The result of a command; what happens meanwhile is kept in `events`."""
        number = next(self.numbers)
        session = {"sessionId": self.session} if self.session else {}
        message = {"id": number, "method": method, "params": parameters, **session}
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _receive(self) -> dict:
        while b"\0" not in self.unread:
            received = os.read(self.answers, 1 << 20)
            assert received, "Chromium has ended"
            self.unread += received
        message, _, self.unread = self.unread.partition(b"\0")
        return json.loads(message)

    def value(self, expression: str):
        """What a JavaScript expression is on the page; runs beside the page's own policy."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def open(self, path: Path, width: int = 1024, theme: str = "light") -> None:
        """A fresh tab with the page; `events` holds what happened while it loaded."""
        self.session = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.events.clear()
        self.send("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def happened(self, method: str) -> list[dict]:
        """The parameters of each event of this kind."""
        return [event["params"] for event in self.events if event.get("method") == method]

    def screenshot(self, path: Path) -> None:
        taken = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    running = Browser(tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


PICTURE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 120" width="400" height="240">
<rect x="20" y="20" width="80" height="60" fill="none" stroke="#06c"/><text x="20" y="15" font-size="9">query 0</text>
<rect x="60" y="40" width="90" height="60" fill="none" stroke="#c60"/></svg>"""
MISTAKE = KnownMistake(id="focal-alpha-swapped", story="Alpha weighs the background.", link="https://example.org/")
DIAGNOSIS = Diagnosis(message="One known mistake explains every failure.", profile="rtdetr", deviations=[MISTAKE])


@pytest.fixture
def pages(make_report, hostile_report, small_case, tmp_path):
    """Pages to look at, by name: nothing broken, everything that there is to show, and a hostile one."""
    from detr_conformance.properties.case_json import to_document
    from detr_conformance.reports.page import page

    where = Divergence(
        step="class cost",
        what="costs",
        where=[0, 0, 1],
        expected="0.25",
        got="0.5",
        message="the class cost differs",
    )
    failed = {
        "verdict": "fail",
        "message": "loss_class: expected 1, the port returned 2",
        "share": 7.0,
        "divergence": where,
    }
    failed |= {"case": to_document(small_case), "picture": PICTURE}
    said = {"BOX-01": failed, "MATCH-01": failed | {"blocked_by": "BOX-01"}, "REG-01": "error", "BOX-02": "xfail"}
    said |= {"CLASS-01": "stale", "CLASS-02": "unsupported", "NUM-05": "fail"}
    rich = make_report(said, judged="BOX|REG|CLASS|MATCH|NUM", diagnosis=DIAGNOSIS)
    reports = {"plain": make_report(), "rich": rich, "hostile": hostile_report}
    for name, report in reports.items():
        (tmp_path / f"{name}.html").write_text(page(report))
    return {name: tmp_path / f"{name}.html" for name in reports}


@pytest.mark.parametrize("name", ["plain", "rich", "hostile"])
def test_nothing_is_wider_than_the_screen(name, browser, pages):
    for width in WIDTHS:
        for theme in THEMES:
            browser.open(pages[name], width, theme)
            browser.value("document.querySelectorAll('details').forEach(each => each.open = true)")
            assert browser.value("document.documentElement.scrollWidth <= innerWidth"), (width, theme)
            if SCREENSHOTS:
                browser.screenshot(Path(SCREENSHOTS) / f"{name}-{width}-{theme}.png")


CUT_OR_COVERED = """(() => {
  const box = each => each.getBoundingClientRect();
  const cut = [...document.querySelectorAll('body *')].filter(each => each.scrollWidth > each.clientWidth + 1
    && getComputedStyle(each).display !== 'inline' && each.clientWidth > 0).map(each => each.outerHTML.slice(0, 200));
  const before = (a, b) => a.right <= b.left + 1 || a.bottom <= b.top + 1;
  const apart = (a, b) => before(a, b) || before(b, a);
  const cells = [...document.querySelectorAll('tr.row')].flatMap(row => [...row.children].flatMap((one, i) =>
    [...row.children].slice(i + 1).filter(other => !apart(box(one), box(other))).map(() => row.textContent)));
  return [...cut, ...cells];
})()"""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["plain", "rich", "hostile"])
def test_no_text_is_cut_off_and_no_cell_covers_another(name, width, browser, pages):
    browser.open(pages[name], width)
    browser.value("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.value(CUT_OR_COVERED) == []


CONTRASTS = """(() => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = rgb => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => sum + weight * linear(rgb[i] / 255), 0);
  const ground = node => {
    for (let at = node; at; at = at.parentElement) {
      const rgb = numbers(getComputedStyle(at).backgroundColor);
      if (rgb.length === 3 || rgb[3] === 1) return rgb;
    }
    throw new Error('no ground');
  };
  const words = [...document.querySelectorAll('body *')].filter(each =>
    [...each.childNodes].some(child => child.nodeType === 3 && child.textContent.trim()) && each.checkVisibility());
  return words.map(each => {
    const [a, b] = [light(numbers(getComputedStyle(each).color)), light(ground(each))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), each.className, each.textContent.slice(0, 40)];
  }).filter(([contrast]) => contrast < 4.5);
})()"""


@pytest.mark.parametrize("theme", THEMES)
def test_every_word_stands_out_from_its_ground(theme, browser, pages):
    browser.open(pages["rich"], theme=theme)
    browser.value("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.value(CONTRASTS) == []
    assert (
        browser.value("getComputedStyle(document.body).backgroundColor")
        == {
            "light": "rgb(255, 255, 255)",
            "dark": "rgb(13, 17, 23)",
        }[theme]
    )


@pytest.mark.parametrize("name", ["rich", "hostile"])
def test_nothing_runs_and_nothing_is_loaded_from_elsewhere(name, browser, pages):
    browser.open(pages[name])
    title = browser.value("document.title")
    browser.value("document.querySelectorAll('details').forEach(each => each.open = true)")
    browser.value("new Promise(resolve => setTimeout(resolve, 300))")
    requests = [event["request"]["url"] for event in browser.happened("Network.requestWillBeSent")]
    assert {url for url in requests if not url.startswith("data:image/")} == {pages[name].as_uri()}
    assert browser.happened("Page.javascriptDialogOpening") == []
    assert browser.happened("Log.entryAdded") == [], "something was tried, and the page's policy stopped it"
    assert browser.value("document.title") == title != "owned"
    assert browser.value("document.scripts.length") == 0


def test_the_case_of_a_failure_is_downloaded_as_it_is(browser, pages, small_case, tmp_path):
    from detr_conformance.properties.case_json import from_json

    browser.open(pages["rich"])
    browser.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.value("document.querySelector('a.download').click()")
    path, patience = tmp_path / "BOX-01.json", time.monotonic() + 20
    while not path.exists() and time.monotonic() < patience:
        time.sleep(0.05)
    assert from_json(path.read_text()) == small_case


def test_the_first_failures_are_open_and_a_link_leads_to_each(browser, pages):
    browser.open(pages["rich"])
    assert browser.value("[...document.querySelectorAll('details')].map(each => each.open)") == [
        True,
        True,
        True,
        False,
        False,
    ]
    links = browser.value("[...document.querySelectorAll('td a, th a')].map(each => each.hash.slice(1))")
    assert links
    assert browser.value(f"{links}.every(id => document.getElementById(id).matches('details'))")


def test_the_picture_is_drawn(browser, pages):
    browser.open(pages["rich"])
    assert browser.value("document.querySelector('details img').naturalWidth") == 400
