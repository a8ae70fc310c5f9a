"""The page in a real browser, where there is one."""

import json

import chromium
import pytest
from folders import make_run

from sslzoo.report import page

pytestmark = [
    pytest.mark.skipif(chromium.path() is None, reason="no Chromium on the path"),
    pytest.mark.timeout(120),
]


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """A comparison of three entries with two seeds each."""
    folder, runs = tmp_path_factory.mktemp("runs"), []
    scores = {"low": (0.40, 0.30, 0.2), "high": (0.90, 0.50, 0.2), "<mid>": (0.60, 0.20, 0.2)}
    for entry, (own, *rest) in scores.items():
        for seed in range(2):
            runs.append(make_run(folder / f"{entry}-s{seed}", seed, {"digit": (own + seed / 50, *rest)}))
            lines = (f"{n},{5 - n / 9},{0.1 + n / 90},0.1" for n in range(30))
            runs[-1].metrics.write_text("step,loss,accuracy,chance\n" + "\n".join(lines) + "\n")
    results = {
        "name": "three",
        "config_hash": "abc",
        "entries": {entry: {"tasks": ["digit"]} for entry in scores},
        "runs": [{"run": run.name, "entry": run.name[:-3]} for run in runs],
    }
    page.write(runs, folder / "page.html", results)
    return folder / "page.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    started = chromium.Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1100])
def test_it_opens_without_an_error_or_a_request_and_is_no_wider_than_the_window(browser, html, width, dark):
    browser.open(html, width, dark)
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [f"file://{html}"]
    assert browser.js("document.documentElement.scrollWidth") <= width
    assert browser.js("!!document.querySelector('.tip')")  # the policy lets the page's own script run


CONTRAST = """(() => {
  const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = c => { const v = parse(c).slice(0, 3).map(x => x / 255)
    .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4); return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
  const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor, v = parse(c);
    if (v.length === 3 || v[3] > 0) return c; } return "rgb(255, 255, 255)"; };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), low = [];
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement, style = getComputedStyle(e);
    if (!walk.currentNode.data.trim() || ["SCRIPT", "STYLE"].includes(e.tagName) || style.visibility === "hidden") continue;
    const ink = e instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(ink), light(ground(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) low.push(`${walk.currentNode.data} ${ink} on ${ground(e)}`);
  }
  return low;
})()"""


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_can_be_read(browser, html, dark):
    browser.open(html, dark=dark)
    assert browser.js(CONTRAST) == []


def test_a_pointer_over_a_curve_shows_the_values(browser, html):
    browser.open(html)
    browser.point(".overlay svg.curve")
    told = browser.js("document.querySelector('.tip').innerText")
    assert not browser.js("document.querySelector('.tip').hidden")
    assert told.startswith("step 1") and "<mid>-s0" in told and "mean" in told
    browser.point("h1")
    assert browser.js("document.querySelector('.tip').hidden")


def test_the_arrow_keys_walk_along_a_curve(browser, html):
    browser.open(html)
    browser.js("document.querySelector('section svg.curve').focus()")
    for _ in range(3):
        browser.key("ArrowRight")
    assert browser.js("document.querySelector('.tip').innerText").startswith("step 2\n")


def test_a_pointer_over_a_point_and_a_cell_says_what_they_are(browser, html):
    browser.open(html)
    browser.point("svg.plane", x=0.03, y=0.03)
    assert browser.js("document.querySelector('.tip').innerText") == "a"
    browser.point("svg.plane", x=0.97, y=0.97)
    assert browser.js("document.querySelector('.tip').innerText") == "b\ntaken for a"
    browser.point("svg.confusion rect.miss")
    assert browser.js("document.querySelector('.tip').innerText").startswith("a taken for b: 10 of 150")


ORDER = "[...document.querySelectorAll('table.sortable tbody tr:not(.knn) td:nth-child(2)')].map(c => c.innerText)"
FOLLOWED = "[...document.querySelectorAll('table.sortable tbody tr')].map(r => r.classList.contains('knn'))"


def test_a_table_sorts_by_pointer_and_by_key(browser, html):
    browser.open(html)
    assert browser.js(ORDER) == ["high", "<mid>", "low"]
    browser.point("table.sortable th:nth-child(4) button", press=True)  # untrained
    assert browser.js(ORDER) == ["high", "low", "<mid>"]
    assert browser.js(FOLLOWED) == [False, True] * 3
    browser.js("document.querySelector('table.sortable th:nth-child(4) button').focus()")
    browser.key("Enter")
    assert browser.js(ORDER) == ["<mid>", "low", "high"]
    assert browser.js("document.querySelector('th[aria-sort=ascending]').innerText").startswith("untrained")
    browser.key("Enter")
    assert browser.js(ORDER) == ["high", "<mid>", "low"]


def test_one_run_of_a_legend_stands_out(browser, html):
    browser.open(html)
    browser.point(".legend button.c1", press=True)
    shown = {
        c: browser.js(f"getComputedStyle(document.querySelector('.overlay g.series.c{c}')).opacity") for c in (0, 1)
    }
    assert float(shown[0]) < 0.2 and float(shown[1]) == 1
    assert browser.js("document.querySelector('.legend button.c1').getAttribute('aria-pressed')") == "true"


def test_a_hostile_run_runs_nothing(browser, tmp_path):
    run = make_run(tmp_path / "x", probes={"<script>window.hit = 1<": (0.9, 0.5, 0.3)})
    name = '"><img src=x onerror="window.hit=1"><script>window.hit = 1</script>'
    run.config.write_text(json.dumps({"seed": name, "objective": {"_target_": name}}))
    run.events.write_text(json.dumps({"step": 1, "kind": name, "message": name}) + "\n")
    page.write([run], tmp_path / "page.html")
    browser.open(tmp_path / "page.html")
    assert browser.js("window.hit === undefined") and browser.errors == []
