"""The page in a real browser: silent, without requests, by keyboard, dark, narrow, on paper; axe-core finds nothing."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from browser import PROGRAM, Browser
from report_inputs import log_text, make_program, make_trace, write_folder

from galvatron import report

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium here (Debian: chromium)")
STRUCTURE = Path(__file__).with_name("report_structure.txt")
HOSTILE = "<img src=x onerror=console.log(1)></script>"


@pytest.fixture(scope="module")
def browser():
    one = Browser()
    yield one
    one.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Four stages with mixed strategies, two logs, a trace, another plan, one module with a hostile name."""
    path = tmp_path_factory.mktemp("report")
    plan, table = make_program(
        layers=6, stages=4, rename=lambda name: name + HOSTILE if name == "model.layers.1" else name
    )
    folder = write_folder(path / "plan", plan, table)
    plan, table = make_program(
        layers=6, stages=4, rename=lambda name: name + HOSTILE if name == "model.layers.1" else name
    )
    plan["units"][2]["strategy"] = {"dp": 2, "recompute": True}
    other = write_folder(path / "other", plan, table)
    (path / "log.csv").write_text(log_text(60, nan=20))
    (path / "second.csv").write_text(log_text(60, seed=3))
    (path / "trace.json").write_text(json.dumps(make_trace(table)))
    inputs = [str(path / name) for name in ("log.csv", "second.csv", "trace.json")]
    assert report.main([str(folder), *inputs, "--against", str(other), "-o", str(path / "report.html")]) == 0
    return path / "report.html"


def check_silent(browser, page):
    assert (browser.console, browser.errors, browser.requests) == ([], [], [f"file://{page}"])


def tooltip(browser):
    return browser.run(
        "document.getElementById('tooltip').hidden ? null : document.getElementById('tooltip').textContent"
    )


def test_silent_without_requests_and_of_known_structure(browser, page):
    browser.open(page)
    check_silent(browser, page)
    lines = browser.run("""[...document.querySelectorAll("main > section")].map(section => {
          const count = what => section.querySelectorAll(what).length;
          const roles = [...new Set([...section.querySelectorAll("[role]")].map(e => e.getAttribute("role")))].sort().join(" ");
          return `${section.id}: "${section.querySelector("h2").textContent}", ${count("svg")} drawings, ${count("table")} tables, `
            + `${count("[data-unit]")} units, ${count("[data-buffer]")} buffers, ${count("[data-source]")} spans, `
            + `${count("path[data-run]")} curves, ${count("[data-group]")} groups; roles: ${roles || "none"}`;
        })""")
    assert "\n".join(lines) + "\n" == STRUCTURE.read_text()


def test_boxes_lie_in_the_page_and_no_label_upon_another(browser, page):
    browser.open(page)
    out = browser.run("""[...document.querySelectorAll("svg")].flatMap(svg => {
          const own = svg.getBoundingClientRect();
          return [...svg.querySelectorAll("rect, path[data-run], text")].map(e => [e.getBoundingClientRect(), e])
            .filter(([b]) => b.width && (b.left < own.left - 3 || b.right > own.right + 3 || b.top < own.top - 3 || b.bottom > own.bottom + 3))
            .map(([b, e]) => e.outerHTML.slice(0, 100));
        })""")
    assert out == []
    upon = browser.run("""[...document.querySelectorAll("svg")].flatMap(svg => {
          const boxes = [...svg.querySelectorAll("text:not(.gap)")].map(e => [e.getBoundingClientRect(), e.textContent]);
          return boxes.flatMap(([a, one], i) => boxes.slice(i + 1).filter(([b]) =>
            Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3)
            .map(([, two]) => one + " upon " + two));
        })""")
    assert upon == []


def test_hover_fills_the_tooltip(browser, page):
    browser.open(page)
    where = browser.run(
        """(() => { const e = document.querySelector("[data-buffer]"); e.scrollIntoView({block: "center"});
          const b = e.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2, e.dataset.buffer]; })()"""
    )
    browser.move(1, 1), browser.move(where[0], where[1])
    assert where[2] in tooltip(browser) and "bytes" in tooltip(browser)
    assert browser.run("document.getElementById('tooltip').getAttribute('role')") == "tooltip"
    browser.move(1, 1)
    assert tooltip(browser) is None


def test_all_by_keyboard(browser, page):
    browser.open(page)
    focused = "document.activeElement.dataset.unit"
    for _ in range(20):
        browser.press("Tab")
        if browser.run(focused):
            break
    assert browser.run(focused) == "model.embed" and "tp=2" in tooltip(browser)
    browser.press("ArrowRight")
    assert browser.run(focused) == "model.layers.0"
    assert "rank" in browser.run("document.getElementById('ranks').textContent")
    browser.press("Enter")
    assert browser.run("document.getElementById('ranks').textContent").startswith("model.layers.0: dp=2 zero2, stage 0")
    assert browser.run("document.querySelector('#ranks [data-groups=dp]').textContent") == "dp: {0 1}"
    browser.press("Escape")
    assert tooltip(browser) is None
    browser.press("End")
    assert browser.run(focused) == "lm_head"
    browser.press("Home"), browser.press("ArrowLeft")
    assert browser.run(focused) == "model.embed"
    # Tab leaves the drawing, for the next one's first item.
    browser.press("Tab")
    assert browser.run(focused) is None


def test_zooming_adds_detail_and_a_traced_step_can_be_chosen(browser, page):
    browser.open(page)
    count = "document.querySelectorAll('#timeline [data-source]').length"
    least = "Math.min(...[...document.querySelectorAll('#timeline [data-source]')].map(e => Number(e.dataset.start)))"
    whole = browser.run(count)
    end = "Math.max(...[...document.querySelectorAll('[data-source=predicted]')].map(e => Number(e.dataset.start) + Number(e.dataset.duration)))"
    step = browser.run("JSON.parse(document.getElementById('galvatron-data').textContent).plan.predicted_step_seconds")
    assert browser.run(end) == pytest.approx(step, abs=1e-9)
    for _ in range(3):
        browser.run("document.querySelector('[data-zoom=\"0.5\"]').click()")
    assert 0 < browser.run(count) < whole and browser.run(least) > 0
    shown = "[...document.querySelectorAll('#timeline [data-source]')].map(e => e.dataset.start).join()"
    before = browser.run(shown)
    browser.run("document.querySelector('[data-pan=\"0.5\"]').click()")
    assert browser.run(shown) != before
    browser.run("document.querySelector('[data-zoom=\"0\"]').click()")
    assert browser.run(count) == whole and browser.run(end) == pytest.approx(step, abs=1e-9)
    browser.run(
        "(() => { const s = document.getElementById('traced-step'); s.value = '3'; s.dispatchEvent(new Event('change')); })()"
    )
    assert browser.run(count) == whole
    check_silent(browser, page)


def test_runs_on_and_off_tokens_and_logarithms(browser, page):
    browser.open(page)
    path = "document.querySelector('path[data-run=log][data-metric=loss]').getAttribute('d')"
    first = browser.run(path)
    browser.run("document.getElementById('training-log').click()")
    logarithmic = browser.run(path)
    assert logarithmic != first and re.fullmatch(r"([ML][0-9.]+,[0-9.]+)+", logarithmic) and logarithmic.count("M") == 2
    browser.run("document.getElementById('training-log').click()")
    assert browser.run(path) == first
    browser.run(
        "(() => { const s = document.getElementById('training-axis'); s.value = 'tokens'; s.dispatchEvent(new Event('change')); })()"
    )
    assert browser.run("document.querySelector('[data-chart=loss] .last').textContent") == str(60 * 8 * 64)
    browser.run("document.querySelector('[data-toggle=second]').click()")
    second = "getComputedStyle(document.querySelector('path[data-run=second]')).display"
    assert browser.run(second) == "none"
    browser.run("document.querySelector('[data-toggle=second]').click()")
    assert browser.run(second) != "none"


def test_light_dark_and_narrow(browser, page):
    background = "getComputedStyle(document.body).backgroundColor"
    browser.open(page)
    light = browser.run(background)
    browser.open(page, dark=True)
    assert (light, browser.run(background)) == ("rgb(255, 255, 255)", "rgb(13, 17, 23)")
    browser.open(page, width=390)
    assert browser.run("document.documentElement.scrollWidth") == 390
    check_silent(browser, page)


def test_on_paper_no_section_is_lost(browser, page):
    browser.open(page)
    pdf = browser.pdf()
    assert pdf.startswith(b"%PDF") and len(pdf) > 20_000
    browser.call("Emulation.setEmulatedMedia", media="print")
    hidden = browser.run(
        "[...document.querySelectorAll('main > section')].filter(s => !s.getClientRects().length).map(s => s.id)"
    )
    browser.call("Emulation.setEmulatedMedia", media="")
    assert hidden == []


def test_hostile_names_are_shown(browser, page):
    browser.open(page)
    assert browser.run("document.querySelectorAll('img').length") == 0
    assert HOSTILE in browser.run("document.querySelectorAll('[data-unit]')[2].dataset.unit")
    check_silent(browser, page)


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious(browser, page, dark):
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None:
        pytest.skip("no axe-core here (pip install --no-deps axe-playwright-python)")
    script = (Path(found.origin).parent / "axe.min.js").read_text()
    for width in (1280, 390):
        browser.open(page, width=width, dark=dark)
        browser.run(script + ";0")
        serious = browser.run(
            "axe.run(document).then(r => r.violations.filter(v => ['serious', 'critical'].includes(v.impact))"
            ".map(v => [v.id, v.nodes[0].html.slice(0, 200)]))"
        )
        assert serious == []


def test_a_large_page_is_usable_at_once(browser, tmp_path):
    folder = write_folder(tmp_path / "plan", *make_program(layers=124, stages=16, devices=32, batches=128))
    logs = []
    for number in range(2):
        logs.append(str(tmp_path / f"{number}.csv"))
        Path(logs[-1]).write_text(log_text(20_000, number, spike=7777))
    out = tmp_path / "report.html"
    assert report.main([str(folder), *logs, "-o", str(out)]) == 0
    assert out.stat().st_size < 6_000_000
    browser.open(out)
    assert browser.run("document.querySelectorAll('*').length") < 20_000
    before = browser.run("document.querySelectorAll('#timeline [data-source]').length")
    shortest = "Math.min(...[...document.querySelectorAll('#timeline [data-source]')].map(e => Number(e.dataset.duration)).filter(x => x))"
    coarse = browser.run(shortest)
    for _ in range(6):
        browser.run("document.querySelector('[data-zoom=\"0.5\"]').click()")
    assert before < 4000 and browser.run(shortest) <= coarse
    check_silent(browser, out)
