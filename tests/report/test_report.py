"""Reports: verdicts, and the page as a browser shows it."""

import html
import json
import math
import shutil
import subprocess

import numpy as np
import pytest

from pynn.experiments import STUDIES
from pynn.report import Comparison, Contour, Panel, Report, contours, curves, images
from pynn.report.page import index

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)


@pytest.mark.parametrize(
    ("ours", "low", "high", "verdict"),
    [
        (1.0, 1.0, 2.0, "within"),
        (2.0, 1.0, 2.0, "within"),
        (2.1, 1.0, 2.0, "outside"),
        (0.0, 0.0, 1.0, "within"),
        (0, 1, math.inf, "outside"),
        (math.nan, -math.inf, math.inf, "outside"),
        (None, -math.inf, math.inf, "outside"),
    ],
)
def test_verdicts(ours, low, high, verdict):
    assert Comparison("x", 1.0, ours, low, high).verdict == verdict
    assert Comparison("x", 1.0, ours, low, high, compared=False).verdict == "not compared"
    assert Comparison("x", "diverges", "diverges", reproduced=True).verdict == "within"
    assert Comparison("x", "diverges", ours, reproduced=False).verdict == "outside"


def report():
    made = Report("example", "An <example> & more", settings={"seed": 3}, seconds=150)
    made.note("A note.")
    made.compare(
        "Compared",
        [
            Comparison("first", 0.5, 0.51, 0.4, 0.6),
            Comparison("second", 1, math.nan, 0, 2, remark="diverged"),
            Comparison("third", "> 3", 4.0, 3.0, compared=False),
        ],
    )
    rows = [[name, *np.linspace(0, 1, 12)] for name in ("a", "b")]
    made.table("Wide", ("name", *(f"column {i}" for i in range(12))), rows)
    made.figure("lines", curves([Panel({"p": ([1, 2], [3, 4])}), Panel({"q": ([1, 2], [1, 9])}, log="xy")]),
                "Lines.")  # fmt: skip
    made.figure(
        "pictures",
        images([np.ones((3, 4, 4)), -np.ones((2, 4, 4))], ("a", "b"), signed=True),
        "Images.",
    )
    grid = np.arange(4.0)
    made.figure(
        "hills",
        contours([Contour(grid, grid, np.add.outer(grid, grid), {"w": ([0, 1], [0, 2])})]),
        "Hills.",
    )
    made.result = {"best": 0.51}
    return made


def test_levels_of_a_contour_lie_closer_where_the_loss_is_low():
    grid = np.linspace(-2.0, 2.0, 9)
    bowl = np.add.outer(grid**2, grid**2)
    paths = {"first": ([1, 0], [2, 1]), "second": ([1, 1], [2, 0])}
    axes = contours([Contour(grid, grid, bowl, paths)]).axes[0]
    np.testing.assert_allclose(np.sqrt(axes.collections[0].levels), np.sqrt(8) * np.arange(21) / 20)
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["first"].get_zorder() > lines["second"].get_zorder() > 2
    assert lines["second"].get_xydata().tolist() == [[1, 2], [1, 0]]
    flat = contours([Contour(grid, grid, np.ones((9, 9)), {})])
    assert flat.axes[0].collections[0].levels[0] == 1


def test_files_and_what_is_in_them(tmp_path):
    report().write(tmp_path / "new")
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {
        "report.html", "report.md", "result.json", "lines.png", "pictures.png", "hills.png",
    }  # fmt: skip
    result = json.loads((tmp_path / "new" / "result.json").read_text())
    assert result["best"] == 0.51
    assert [each["verdict"] for each in result["comparisons"]] == [
        "within",
        "outside",
        "not compared",
    ]
    assert result["comparisons"][1]["ours"] == "nan"
    markdown = (tmp_path / "new" / "report.md").read_text()
    assert "1 of 2 published values within their tolerance; 2.5 min." in markdown
    assert "| first | 0.5000 | 0.5100 | 0.4000 to 0.6000 | within |  |" in markdown
    page = (tmp_path / "new" / "report.html").read_text()
    assert "An &lt;example&gt; &amp; more" in page
    assert page.count("data:image/png;base64,") == 3
    assert "http" not in page.replace("http-equiv", "")


def test_json_has_no_nan(tmp_path):
    made = report()
    made.result = {"best": math.inf, "accuracy": {"4/1": math.nan, "4/2": [0.9, -math.inf]}}
    made.write(tmp_path)
    text = (tmp_path / "result.json").read_text()
    result = json.loads(text, parse_constant=pytest.fail)
    assert result["best"] == "inf"
    assert result["accuracy"] == {"4/1": "nan", "4/2": [0.9, "-inf"]}


def test_results_do_not_take_the_names_of_the_report(tmp_path):
    made = report()
    made.result = {"best": 0.5, "tables": 3, "seconds": 1.5}
    with pytest.raises(ValueError, match="results cannot be called seconds, tables"):
        made.write(tmp_path)


def test_what_the_study_does_not_say_is_told_apart(tmp_path):
    made = report()
    assert "Ours" not in made.as_markdown()
    made.ours = {"batch size": 50}
    assert "\n\nOurs, not published with the study: batch size: 50.\n" in made.as_markdown()
    made.write(tmp_path)
    assert "<h2>Ours, not published with the study</h2>" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "result.json").read_text())["ours"] == {"batch size": 50}


SCRIPT = """
<script>
window.onerror = (message) => { document.title = 'error: ' + message; };
window.onload = () => {
  const pictures = [...document.images];
  const shown = pictures.every((image) => image.complete && image.naturalWidth > 100);
  const cells = [...document.querySelectorAll('td')];
  const filled = cells.filter((cell) => cell.textContent.trim()).length;
  const width = document.documentElement.scrollWidth <= window.innerWidth;
  document.body.innerHTML = `images ${pictures.length} ${shown} cells ${filled} fits ${width} ` +
    `wide ${window.innerWidth}`;
};
</script>
"""


def browse(path, width=1200):
    """What the browser has made of a page; nothing may be said on its console."""
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900",
         "--virtual-time-budget=5000", "--enable-logging=stderr", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    return done.stdout


needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium: the page is not opened in a browser"
)


@needs_chromium
@pytest.mark.parametrize("width", [500, 1200])
def test_a_browser_shows_the_page(width, tmp_path):
    report().write(tmp_path)
    path = tmp_path / "report.html"
    path.write_text(path.read_text().replace("</body>", SCRIPT + "</body>"))
    shown = browse(path, width)
    assert "images 3 true" in shown
    assert "cells 44 fits true" in shown
    assert "<title>error: " not in shown


# A window of a browser cannot be made as narrow as a phone's, a frame can. Wide tables scroll in
# boxes of their own, which have to fit; the first script of the page gathers what goes wrong.
PHONE = """<!DOCTYPE html>
<html><head><link rel="icon" href="data:,"></head><body>
<iframe style="width: 360px; height: 800px; border: 0" srcdoc="{page}"></iframe>
<script>
window.onload = () => {{
  const inner = document.querySelector('iframe').contentWindow;
  const page = inner.document;
  const name = (each) => each.tagName + '.' + each.className;
  const wide = [...page.body.querySelectorAll('*')].filter((each) =>
    !each.closest('table') && each.getBoundingClientRect().right > page.documentElement.clientWidth);
  const scrolls = [...page.querySelectorAll('.table')].some((box) =>
    box.scrollWidth > box.clientWidth);
  const told = {{
    width: inner.innerWidth,
    fits: page.documentElement.scrollWidth <= page.documentElement.clientWidth,
    elements: page.body.querySelectorAll('*').length, wide: wide.map(name), scrolls: scrolls,
    images: [...page.images].filter((each) => each.complete && each.naturalWidth > 100).length,
    links: page.links.length, problems: inner.problems,
  }};
  document.body.innerHTML = '<pre></pre>';
  document.querySelector('pre').textContent = JSON.stringify(told);
}};
</script>
</body></html>
"""
GATHER = """<head>
<script>
window.problems = [];
window.addEventListener('error', (event) => problems.push(event.message || 'not loaded'), true);
window.addEventListener('unhandledrejection', (event) => problems.push(String(event.reason)));
</script>"""


def on_a_phone(text, folder):
    """What a frame of 360 pixels shows of a page."""
    page = text.replace("<head>", GATHER, 1)
    (folder / "phone.html").write_text(PHONE.format(page=html.escape(page)), encoding="utf-8")
    shown = browse(folder / "phone.html")
    return json.loads(html.unescape(shown.partition("<pre>")[2].partition("</pre>")[0]))


@needs_chromium
def test_a_phone_shows_the_page(tmp_path):
    made = report()
    made.note("A long word: " + "x" * 200)
    made.settings["folder"] = "/a/path/without/any/space" * 8
    made.write(tmp_path)
    shown = on_a_phone((tmp_path / "report.html").read_text(encoding="utf-8"), tmp_path)
    assert (shown["width"], shown["fits"], shown["wide"]) == (360, True, [])
    assert shown["problems"] == []
    assert shown["images"] == 3
    assert shown["scrolls"]  # the wide table, in its box
    assert shown["elements"] > 100


@needs_chromium
def test_a_phone_shows_the_index_of_all_studies(tmp_path):
    reports = [Report(name, title, seconds=4000.0) for name, title in STUDIES.items()]
    shown = on_a_phone(index(reports), tmp_path)
    assert (shown["width"], shown["fits"], shown["wide"]) == (360, True, [])
    assert shown["problems"] == []
    assert shown["links"] == len(STUDIES)


@needs_chromium
def test_a_page_that_is_too_wide_or_broken_would_be_noticed(tmp_path):
    bad = '<div style="width: 400px; height: 9px"></div><img src="data:image/png;base64,AAAA">'
    shown = on_a_phone(index([Report("a", "A")]).replace("<h1>", bad + "<h1>", 1), tmp_path)
    assert not shown["fits"]
    assert shown["wide"] == ["DIV."]
    assert shown["problems"] == ["not loaded"]
