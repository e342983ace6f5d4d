"""The live page in a real browser: the picture moves, texts and graph are right, outages are told, nothing is fetched elsewhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from watched import ToldSource, add, fed, watching

from edgedistill.runtime.serve import ServeOptions, serve
from edgedistill.runtime.serve import server as server_module

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")]

#: Pixels of the picture, and how many of the graph are drawn, as text to compare.
PIXELS = """(id) => {
  const shown = document.getElementById(id), copy = document.createElement("canvas");
  copy.width = 32; copy.height = 24;
  const pen = copy.getContext("2d");
  pen.drawImage(shown, 0, 0, 32, 24);
  return Array.from(pen.getImageData(0, 0, 32, 24).data).join();
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextmanager
def opened(browser: Any, address: str, *, width: int = 1280, quiet: bool = True) -> Iterator[Any]:
    """Open the page; afterwards, see that nothing was fetched elsewhere and, if it is to be quiet, that the console is empty."""
    with browser.new_context(viewport={"width": width, "height": 844}) as context:
        page = context.new_page()
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address, wait_until="domcontentloaded")
        yield page
        origin = address.partition("?")[0]
        assert [url for url in asked if not url.startswith((origin, "data:"))] == []
        if quiet:
            assert said == []


def see(page: Any, selector: str, text: str) -> None:
    playwright.expect(page.locator(selector)).to_contain_text(text, timeout=15_000)


def until(page: Any, expression: str, argument: object = None) -> None:
    """Wait until something is true in the page; asked from outside, since the page's policy forbids to evaluate texts inside."""
    end_s = time.monotonic() + 15
    while not page.evaluate(expression, argument):
        assert time.monotonic() < end_s, f"{expression} never came true"
        page.wait_for_timeout(50)


def picture_changes(page: Any) -> None:
    until(page, "document.getElementById('picture').naturalWidth > 0")
    until(page, f"(first) => ({PIXELS})('picture') !== first", page.evaluate(PIXELS, "picture"))


@pytest.mark.parametrize("width", [1280, 390])
def test_what_the_page_shows(browser: Any, width: int) -> None:
    monitor = watching(ToldSource(0, name="door", dropped={"newer frame": 431}, captured=10_413))
    with fed(monitor), serve(monitor, ServeOptions(port=0)) as where, opened(browser, where, width=width) as page:
        see(page, "#bundle", "tiny")
        see(page, "#facts", "tiny.tflite · fake · 2 threads")
        see(page, "#quality", "excellent")
        see(page, "#answers .best", "T-shirt")
        see(page, "#answers .best", "87.4 %")
        see(page, "#figures", "431")
        see(page, "#sources", "newer frame")
        see(page, "#outputs", "text")
        see(page, "#machine", "62 °C")
        picture_changes(page)
        see(page, "#stages [data-stage=preprocess]", "0.40")
        page.evaluate("() => { const c = document.createElement('canvas'); c.id = 'blank'; c.width = 9; document.body.append(c); }")
        drawn = page.evaluate(PIXELS, "graph")
        assert drawn != page.evaluate(PIXELS, "blank")
        until(page, f"(drawn) => ({PIXELS})('graph') !== drawn", drawn)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.locator("#veil").is_hidden()
        assert page.locator("#notice").is_hidden()
        assert page.title() == "tiny · edgedistill"


def test_sources_of_one_name_and_long_addresses(browser: Any) -> None:
    address = "http://camera.at-the-garden-gate.example.net:8080/axis-cgi/mjpg/video.cgi?…"
    monitor = watching(*(ToldSource(number, name=name) for number, name in enumerate([address, address, "yard"])))
    with fed(monitor), serve(monitor, ServeOptions(port=0)) as where, opened(browser, where, width=390) as page:
        see(page, "#choice button:nth-child(2)", f"{address} #1")
        see(page, "#choice button:nth-child(3)", "yard")
        assert page.evaluate(
            "Array.from(document.querySelectorAll('#choice button')).every((b) => b.getBoundingClientRect().right <= innerWidth)"
        )
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        see(page, "#sources .source:nth-child(1) h3", f"{address} #0")


def test_an_ended_source_is_no_trouble(browser: Any) -> None:
    source = ToldSource(0, name="clip.mp4")
    source.set(state="ended")
    monitor = watching(source)
    with fed(monitor), serve(monitor, ServeOptions(port=0)) as where, opened(browser, where) as page:
        see(page, "#sources h3", "ended")
        assert page.locator("#sources [data-word]").count() == 0
        see(page, "#veil", "clip.mp4 has ended")


def test_a_result_that_changes_is_shown(browser: Any) -> None:
    monitor = watching()
    add(monitor, 1, label="red apple")
    with serve(monitor, ServeOptions(port=0)) as where, opened(browser, where) as page:
        see(page, "#answers .best", "red apple")
        add(monitor, 2, label="<b>tea</b> & <script>alert(1)</script>")
        see(page, "#answers .best", "<b>tea</b> & <script>alert(1)</script>")


def test_a_source_that_is_away_is_told(browser: Any) -> None:
    source = ToldSource(0, name="door")
    monitor = watching(source)
    with fed(monitor) as away, serve(monitor, ServeOptions(port=0)) as where, opened(browser, where) as page:
        picture_changes(page)
        away.set()
        source.set(state="reconnecting", quality="poor", age_s=12.3)
        see(page, "#veil", "door is away, reconnecting")
        see(page, "#veil", "Last frame 12 s ago")
        see(page, "#quality", "poor")
        see(page, "#notice", "Not ready: no result for")
        away.clear()
        source.set(state="running", quality="fair", age_s=0.1)
        playwright.expect(page.locator("#veil")).to_be_hidden(timeout=15_000)
        playwright.expect(page.locator("#notice")).to_be_hidden(timeout=15_000)
        picture_changes(page)


def test_a_connection_that_is_lost_is_told_and_comes_back(browser: Any) -> None:
    monitor = watching()
    with fed(monitor):
        with serve(monitor, ServeOptions(port=0)) as where:
            port = int(where.rstrip("/").rpartition(":")[2])
            context = browser.new_context()
            page = context.new_page()
            page.goto(where, wait_until="domcontentloaded")
            picture_changes(page)
        see(page, "#notice", "Connection lost")
        see(page, "#quality", "no connection")
        with serve(monitor, ServeOptions(port=port)):
            see(page, "#quality", "excellent")
            playwright.expect(page.locator("#notice")).to_be_hidden(timeout=15_000)
            picture_changes(page)
            context.close()


def test_several_sources_can_be_chosen(browser: Any) -> None:
    monitor = watching(ToldSource(0, name="door"), ToldSource(1, name="yard"))
    with fed(monitor, sources=2), serve(monitor, ServeOptions(port=0)) as where, opened(browser, where) as page:
        picture_changes(page)
        first = page.evaluate(PIXELS, "picture")
        page.get_by_role("button", name="yard").click()
        until(page, "document.getElementById('picture').src.includes('source=1')")
        picture_changes(page)
        assert page.evaluate(PIXELS, "picture") != first
        see(page, "#answers", "yard")


def test_where_streams_are_full_the_page_takes_single_pictures(browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MOST_STREAMS", 0)
    monitor = watching()
    with fed(monitor), serve(monitor, ServeOptions(port=0)) as where, opened(browser, where, quiet=False) as page:
        until(page, "document.getElementById('picture').src.includes('/snapshot.jpg')")
        picture_changes(page)


def test_without_preview_there_is_no_empty_box(browser: Any) -> None:
    monitor = watching()
    with fed(monitor), serve(monitor, ServeOptions(port=0, preview=False)) as where, opened(browser, where) as page:
        see(page, "#answers .best", "T-shirt")
        assert page.locator("#view").is_hidden()


def test_the_token_is_asked_for_and_leaves_the_address(browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "WRONG_TOKEN_S", 0.01)
    monitor = watching()
    options = ServeOptions(host="127.0.0.1", port=0, token="a-good-long-token")
    with fed(monitor), serve(monitor, options) as where, opened(browser, where, quiet=False) as page:
        page.get_by_label("Token").fill("wrong-wrong")
        page.get_by_role("button").click()
        see(page, ".wrong", "the token is wrong")
        page.get_by_label("Token").fill("a-good-long-token")
        page.get_by_role("button").click()
        see(page, "#answers .best", "T-shirt")
        assert page.url == where
        picture_changes(page)
        assert page.evaluate("document.cookie") == ""


def test_a_page_that_is_not_looked_at_costs_no_pictures(browser: Any) -> None:
    monitor = watching()
    with fed(monitor), serve(monitor, ServeOptions(port=0)) as where, opened(browser, where) as page:
        picture_changes(page)
        page.evaluate(
            "Object.defineProperty(document, 'hidden', { get: () => true }); document.dispatchEvent(new Event('visibilitychange'));"
        )
        assert page.evaluate("document.getElementById('picture').hasAttribute('src')") is False
