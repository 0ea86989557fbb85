"""The page is one file, well formed and escaped, and its scripts work in a browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer
from PIL import Image
from support.recorded_runs import HOSTILE, JOBS, config_of, findings_of, frame, record_figure_4, row_of

from dc_hpc import aggregate as command
from dc_hpc.report.page import page

NOWHERE = Path("/nonexistent")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Tags(HTMLParser):
    """Every tag with its attributes; opening and closing ones must match."""

    EMPTY = {"meta", "img", "br", "input", "link"}

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    tree = tmp_path_factory.mktemp("page") / "outputs"
    record_figure_4(tree)
    with pytest.raises(typer.Exit):
        command.aggregate(outputs=tree, jobs=JOBS, data=NOWHERE, runs=None, document=None, only=None, verbose=False)
    return tree / "report.html"


def test_the_page_is_whole_and_names_nothing_outside(report):
    text = report.read_text()
    tags = Tags(text)
    assert tags.open == []
    assert all(
        value.startswith(("data:image/png", "#"))
        for _, attrs in tags.found
        for name, value in attrs.items()
        if name in ("src", "href")
    )
    text = re.sub(r"data:image/png;base64,[^\"]*", "", text)
    assert not re.search(r"(https?:)?//[a-z]", text) and "@import" not in text and "url(" not in text
    assert [attrs["content"] for tag, attrs in tags.found if attrs.get("name") == "viewport"]
    ids = [attrs["id"] for _, attrs in tags.found if "id" in attrs]
    assert len(set(ids)) == len(ids)
    links = {attrs["href"][1:] for tag, attrs in tags.found if tag == "a"}
    assert links <= set(ids) and {"claims", "fig_4", "runs", "provenance"} <= links


def test_the_page_shows_the_paper_beside_what_was_found(report):
    text = report.read_text()
    card = text[text.index('id="fig_4a"') :]
    card = card[: card.index("</article>")]
    assert "Accuracy falls with k." in card and "seed 5" in card and "<img" in card
    assert "189 missing" in card and "python -m dc_hpc.submit --grid" in card
    assert 'class="badge undecided"' in text and "n = 1" in text
    assert "cycles 3 (the paper: 50)" in text


def test_what_the_page_quotes_is_escaped(report):
    text = report.read_text()
    assert HOSTILE not in text and "&lt;script&gt;document.title" in text
    hostile = frame(
        [
            row_of(config_of("fmnist", seed=1), state="failed", state_reason=HOSTILE, device=HOSTILE),
            row_of(config_of("fmnist", seed=2), accuracy=80.0, device=HOSTILE, commit=HOSTILE, seconds=9.0),
        ]
    )
    made = page(findings_of(hostile), outputs=Path(HOSTILE))
    assert HOSTILE not in made and Tags(made).open == []


def test_mixed_commits_are_flagged_on_the_page():
    runs = frame(
        [
            row_of(config_of("fmnist", seed=seed), accuracy=80.0, commit=commit * 40, dirty=seed == 2)
            for seed, commit in ((1, "a"), (2, "b"))
        ]
    )
    made = page(findings_of(runs, "fig_4"), outputs=Path("outputs"))
    assert "runs of 2 commits (aaaaaaaaaaaa, bbbbbbbbbbbb)" in made
    assert "The done runs are of 2 commits." in made and "Code changed since its commit made 1 run." in made


@pytest.fixture(scope="module")
def browser() -> str:
    """A browser; where there is none, a failure in CI and a skipped test elsewhere."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        missing = f"none of {', '.join(BROWSERS)} is installed; apt-get install chromium"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    return found


def browse(browser: str, folder: Path, page: Path, *more: str) -> subprocess.CompletedProcess:
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={folder / 'profile'}",
        "--enable-logging=stderr",
        "--virtual-time-budget=3000",
        *more,
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


SCRIPT = """
<script>
var heads = Array.from(document.querySelectorAll("#fig_4a th button"));
var head = heads.find(one => one.textContent.startsWith("accuracy"));
function column() {
  var at = head.parentNode.cellIndex;
  return Array.from(head.closest("table").tBodies[0].rows).map(row => row.cells[at].textContent).join(" ");
}
var found = [column()];
head.click(); found.push(column());
head.click(); found.push(column());
document.getElementById("theme").click();
found.push(document.documentElement.getAttribute("data-theme"));
found.push(document.documentElement.scrollWidth <= window.innerWidth ? "fits" : "too wide");
document.body.textContent = found.join("|");
</script>
"""


def test_a_browser_opens_the_page_and_a_click_sorts(browser, report, tmp_path):
    changed = tmp_path / "clicked.html"
    changed.write_text(report.read_text().replace("</body>", SCRIPT + "</body>"))
    ended = browse(browser, tmp_path, changed, "--dump-dom", "--window-size=390,800")
    body = re.search(r"<body>(.*?)</body>", ended.stdout, re.S)[1]
    before, up, down, theme, width = body.strip().split("|")
    assert before.split() == ["83.50", "80.50", "9.50"]  # by number: as text, 9.50 would be the largest
    assert up.split() == ["9.50", "80.50", "83.50"] and down.split() == ["83.50", "80.50", "9.50"]
    assert theme in ("dark", "light") and width == "fits"
    assert "CONSOLE" not in ended.stderr


def test_the_page_paints_in_light_and_dark(browser, report, tmp_path):
    for name, shade in (("light", 250), ("dark", 30)):
        themed = tmp_path / f"{name}.html"
        themed.write_text(report.read_text().replace("<html ", f'<html data-theme="{name}" '))
        browse(browser, tmp_path / name, themed, f"--screenshot={tmp_path / name}.png", "--window-size=900,1200")
        with Image.open(tmp_path / f"{name}.png") as image:
            corner = image.convert("L").getpixel((3, 3))
        assert abs(corner - shade) < 20
