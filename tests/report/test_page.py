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
from support.recorded_runs import HOSTILE, JOBS, config_of, findings_of, frame, grid_rows, record_figure_4, row_of

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


def test_no_name_on_the_committed_page_is_given_twice():
    """An entry of one panel has its name: a link would not know which of the two it means."""
    page = (Path(__file__).parents[2] / "docs" / "results" / "report.html").read_text("utf-8")
    names = re.findall(r'\sid="([^"]+)"', page)
    assert len(names) > 50 and sorted(names) == sorted(set(names))


def test_the_page_shows_the_paper_beside_what_was_found(report):
    text = report.read_text()
    card = text[text.index('id="fig_4a"') :]
    card = card[: card.index("</article>")]
    assert "Accuracy falls with k." in card and "seed 5" in card and "<img" in card
    assert "189 missing" in card and "python -m dc_hpc.submit --grid" in card
    assert 'class="badge undecided"' in text and "n = 1" in text
    assert "cycles 3 (the paper: 50)" in text


def head_of(text: str) -> str:
    """The page above its first section."""
    return text[text.index("<header") : text.index("<section")]


def test_the_head_has_date_data_host_and_four_counts(report, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    rows = [
        row_of(config_of("fmnist", seed=1), accuracy=80.0, host="node1", device="NVIDIA H200", seconds=90.0),
        row_of(config_of("fmnist", seed=2), state="running"),
        row_of(config_of("fmnist", seed=3), state="new"),
        row_of(config_of("fmnist", seed=4), state="failed"),
        row_of(config_of("mnist", seed=4), state="resumable"),
    ]
    head = head_of(page(findings_of(frame(rows)), outputs=NOWHERE))
    assert "2023-11-14 22:13 UTC" in head and "Fashion-MNIST (4 runs), MNIST (1 run)" in head
    assert "node1 (NVIDIA H200), 1.5 minutes computed" in head
    counts = re.findall(r"<b>(\d+)</b>([a-z ]+)<", head)
    assert counts == [
        ("1", "done"), ("3", "running or waiting"), ("1", "failed or damaged"), ("0", "missing of begun grids"),
    ]  # fmt: skip


def test_runs_of_begun_grids_that_have_no_directory_count_as_missing():
    rows = grid_rows("svhn_k")
    begun = findings_of(frame(rows[:3]), "fig_4", jobs=JOBS)
    (missing,) = re.findall(r"<b>(\d+)</b>missing", page(begun, outputs=NOWHERE))
    assert int(missing) == len(rows) - 3 > 0  # and none of the grids of Figures 4a and 4c, which nobody began


def test_equal_runs_give_an_equal_page_but_for_its_date(monkeypatch):
    findings = findings_of(frame([row_of(config_of("fmnist", seed=1), accuracy=80.0)]))
    made = []
    for seconds in ("1700000000", "1700000000", "1800000000"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", seconds)
        made.append(page(findings, outputs=NOWHERE))
    assert made[0] == made[1] != made[2]
    assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", made[0]) == re.sub(
        r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", made[2]
    )


def test_verdicts_at_the_papers_settings_come_first_with_links_to_their_figures():
    rows = [row_of(config_of("fmnist", seed=seed), ia=0.39, accuracy=80.0 + seed) for seed in range(6)]
    rows += [row_of(config_of("fmnist", seed=seed, cycles=2), ia=0.39, accuracy=80.0 + seed) for seed in range(6)]
    text = page(findings_of(frame(rows)), outputs=NOWHERE)
    shown = text[text.index('id="claims"') : text.index("<details")]
    assert text.index('id="claims"') < text.index('id="fig_3"')
    lines = re.findall(r"<tr>.*?</tr>", shown[shown.index("<tbody>") :])
    assert lines and all('<a href="#fig_3a">Figure 3a</a>' in line for line in lines)
    assert "cycles" not in shown[shown.index("<tbody>") :]  # those of 2 cycles are folded
    assert "(the paper: 50)" in text


def test_a_share_of_seeds_has_its_unit():
    """`0.64` beside `IA lies between .37 and .41` reads as an IA."""
    rows = [row_of(config_of("fmnist", seed=seed), ia=0.39 if seed < 7 else 0.2) for seed in range(1, 11)]
    text = page(findings_of(frame(rows)), outputs=NOWHERE)
    assert "60 % of seeds (31 to 83 %)" in text and "above 75 % of seeds" in text
    assert "0.600" not in text and "above 0.75" not in text


def test_no_section_is_empty():
    for rows in (
        [row_of(config_of("fmnist", seed=1), state="running")],
        [row_of(config_of("fmnist", seed=1), accuracy=80.0)],
        [row_of(config_of("fmnist", seed=1), state="failed", state_reason="out of memory")],
    ):
        text = page(findings_of(frame(rows)), outputs=NOWHERE)
        for section in re.findall(r"<section.*?</section>", text, re.DOTALL):
            rest = re.sub(r"<h2>.*?</h2>|<[^>]+>", "", section).strip()
            assert rest, section


def test_tables_and_what_is_missing_are_folded(report):
    text = report.read_text()
    card = text[text.index('id="fig_4a"') :]
    card = card[: card.index("</article>")]
    unfolded = re.sub(r"<details>.*?</details>", "", card, flags=re.DOTALL)
    assert "<img" in unfolded and "<table" not in unfolded and "--grid" not in unfolded
    assert "189 runs of its grids missing" in card


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
document.querySelectorAll("details").forEach(one => { one.open = true; });
found.push(document.documentElement.scrollWidth <= window.innerWidth ? "fits" : "too wide");
document.body.textContent = found.join("|");
</script>
"""


def test_a_browser_opens_the_page_and_a_click_sorts(browser, report, tmp_path):
    changed = tmp_path / "clicked.html"
    changed.write_text(report.read_text().replace("</body>", SCRIPT + "</body>"))
    ended = browse(browser, tmp_path, changed, "--dump-dom", "--window-size=390,800")
    body = re.search(r"<body>(.*?)</body>", ended.stdout, re.S)[1]
    before, up, down, theme, width, unfolded_width = body.strip().split("|")
    assert before.split() == ["83.50", "80.50", "9.50"]  # by number: as text, 9.50 would be the largest
    assert up.split() == ["9.50", "80.50", "83.50"] and down.split() == ["83.50", "80.50", "9.50"]
    assert theme in ("dark", "light") and width == unfolded_width == "fits"
    assert "CONSOLE" not in ended.stderr


def test_the_page_paints_in_light_and_dark(browser, report, tmp_path):
    for name, shade in (("light", 250), ("dark", 30)):
        themed = tmp_path / f"{name}.html"
        themed.write_text(report.read_text().replace("<html ", f'<html data-theme="{name}" '))
        browse(browser, tmp_path / name, themed, f"--screenshot={tmp_path / name}.png", "--window-size=900,1200")
        with Image.open(tmp_path / f"{name}.png") as image:
            corner = image.convert("L").getpixel((3, 3))
        assert abs(corner - shade) < 20
