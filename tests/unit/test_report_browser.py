"""The HTML page in headless Chromium: no network, no errors, no sideways scrolling, readable in print."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neurodeploy.report import build_report
from tests.golden.report import sample
from tests.unit.test_report_crossbar import drawn_builds
from tests.unit.test_report_spiking import drawn_build

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip
SIDEWAYS = """[...document.querySelectorAll("body *")].filter(e => !e.closest(".wide.screen") &&
  (e.getBoundingClientRect().right > innerWidth + 1 || e.getBoundingClientRect().left < -1)).map(e => e.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not CHROMIUM:
        pytest.skip("Chromium isn't installed (Debian: apt install chromium)")
    api = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed (pip: neurodeploy[dev])")
    profile = tmp_path_factory.mktemp("profile")
    with api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(profile, executable_path=CHROMIUM, args=FLAGS)
        yield context
        context.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    builds = sample.sample_builds()
    long = "<script>throw 1</script>" + "x" * 120
    evil = builds[0].model_copy(
        update={"name": long, "model": sample.Model(name=f"<img src=http://127.0.0.1:9/x>{long}")}
    )
    many = [*builds, *(b.model_copy(update={"name": f"{b.name}-2"}) for b in builds[:3]), evil]
    bare = [build.model_copy(update={"runs": [], "accuracies": [], "figures": []}) for build in builds[:1]]
    drawn = drawn_build()
    sets = {"eight": builds, "twelve": many, "one": builds[:1], "bare": bare, "spiking": [builds[0], drawn],
            "crossbars": drawn_builds()}  # fmt: skip
    return {name: build_report(chosen).write(folder / f"{name}.html") for name, chosen in sets.items()}


def opened(browser: Any, path: Path, width: int, **emulate: str) -> tuple[Any, list[str]]:
    page = browser.new_page()
    trouble: list[str] = []
    page.on("request", lambda r: None if r.url.startswith("file:") else trouble.append(r.url))
    page.on("console", lambda m: trouble.append(m.text))
    page.on("pageerror", lambda e: trouble.append(str(e)))
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(**emulate)
    page.goto(path.as_uri())
    return page, trouble


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["eight", "twelve", "one", "bare", "spiking", "crossbars"])
def test_the_page_is_quiet_and_fits(browser: Any, pages: dict[str, Path], name: str, width: int) -> None:
    page, trouble = opened(browser, pages[name], width)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(SIDEWAYS) == []
    assert trouble == []
    page.close()


def test_all_builds_are_there_and_linked(browser: Any, pages: dict[str, Path]) -> None:
    page, _ = opened(browser, pages["eight"], 1280)
    heads = page.locator("[aria-labelledby=costs] .wide.screen thead th .build-link").all_inner_texts()
    assert [head.split("\n")[-1].lstrip("0123456789") for head in heads] == [b.name for b in sample.sample_builds()]
    page.locator("[aria-labelledby=costs] .wide.screen thead .build-link").nth(2).click()
    assert page.locator("details[open]").count() == 1
    assert page.locator("details[open]").get_attribute("id") == "build-3"
    page.close()


def test_a_tip_shows_on_focus_and_hides_on_escape(browser: Any, pages: dict[str, Path]) -> None:
    page, _ = opened(browser, pages["eight"], 390)
    page.locator(".point").first.focus()
    tip = page.locator("#tip")
    assert tip.is_visible()
    assert re.search(r"gru-m4f: 97\.57 %, 11\.5 KiB \(compiled\)", tip.inner_text())
    box = tip.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    page.close()


CONTRAST = """(() => {
  const rgb = (s) => s.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = (c) => c.map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => { for (; e; e = e.parentElement) { const b = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$|transparent/.test(b)) return rgb(b); } return [255, 255, 255]; };
  const worst = {};
  for (const e of document.querySelectorAll("p, dt, dd, th, td, h1, h2, h3, .chip, .badge, .verdict, .fine, .unit, .none")) {
    if (!e.getClientRects().length) continue;
    const a = light(rgb(getComputedStyle(e).color)), b = light(behind(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) worst[e.className || e.tagName] = ratio;
  }
  return worst;
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["eight", "crossbars"])
def test_text_stands_out_from_its_ground(browser: Any, pages: dict[str, Path], name: str, scheme: str) -> None:
    """WCAG 2.2 AA: 4.5 to 1 for text."""
    page, _ = opened(browser, pages[name], 1280, color_scheme=scheme)
    assert page.evaluate(CONTRAST) == {}
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(252, 251, 249)") is (scheme == "light")
    page.close()


def test_figures_and_tables_have_names(browser: Any, pages: dict[str, Path]) -> None:
    page, _ = opened(browser, pages["spiking"], 1280)
    assert page.locator("section[aria-labelledby=spikes] figure").count() == 11
    assert page.locator("svg:not([aria-label])").count() == 0
    page.close()
    page, _ = opened(browser, pages["crossbars"], 1280)
    section = page.locator("section[aria-labelledby=crossbars]")
    assert (section.locator("figure").count(), section.locator("img[alt]").count()) == (9, 2)
    assert page.locator("svg:not([aria-label])").count() == 0
    page.close()
    page, _ = opened(browser, pages["eight"], 1280)
    assert page.locator("svg").count() > 10
    assert page.locator("svg:not([aria-label])").count() == 0
    assert page.locator(".point:not([aria-label])").count() == 0
    assert page.locator("thead th:not([scope]), tbody th:not([scope])").count() == 0
    page.close()


def test_crossbars_fit_on_paper_as_tables(browser: Any, pages: dict[str, Path]) -> None:
    page, trouble = opened(browser, pages["crossbars"], 718, media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    assert page.locator(".beside thead").first.is_visible()
    assert page.evaluate("[...document.querySelectorAll('details.more table')].every(e => e.checkVisibility())")
    assert trouble == []
    page.close()


def test_in_print_everything_is_on_paper(browser: Any, pages: dict[str, Path], tmp_path: Path) -> None:
    page, trouble = opened(browser, pages["twelve"], 1280)
    page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    page.close()
    page, trouble = opened(browser, pages["twelve"], 718, media="print")  # A4 without its margins, at 96 dpi
    assert all(shown.is_hidden() for shown in page.locator(".wide.screen").all())
    assert page.locator("[aria-labelledby=costs] .wide.paper thead .build-link").count() == 12
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    shown = page.evaluate("[...document.querySelectorAll('details .facts')].every(e => e.checkVisibility())")
    assert shown, "details stay closed in print"
    assert trouble == []
    page.close()


def test_it_reads_without_script(browser: Any, pages: dict[str, Path]) -> None:
    plain = browser.browser or browser
    context = plain.new_context(java_script_enabled=False) if browser.browser else None
    if context is None:
        text = re.sub(r"<script>.*?</script>", "", pages["eight"].read_text(), flags=re.S)
        stripped = pages["eight"].with_name("plain.html")
        stripped.write_text(text)
        page, trouble = opened(browser, stripped, 390)
        assert trouble == []
    else:
        page = context.new_page()
        page.goto(pages["eight"].as_uri())
    page.locator("summary").first.click()
    assert page.locator("details[open]").count() == 1
    assert page.locator(".point title").count() > 10
    page.close()
