"""The door from run directories to tables, figures and the page; and the page itself, opened in a browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer
from recorded_runs import config_of, frame, record, record_failed, row_of, spoil

from dc_hpc import aggregate as door
from dc_hpc.experiment.errors import InputError
from dc_hpc.report.claims import claims
from dc_hpc.report.findings import find, panels_of
from dc_hpc.report.page import page
from dc_hpc.report.tables import records, runs_csv

ROOT = Path(__file__).parents[1]
JOBS = ROOT / "jobs"
NOWHERE = Path("/nonexistent")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HOSTILE = '<script>document.title="taken"</script>&"\''


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Figure 4a for two seeds, one of them with a failed run, and a damaged run."""
    outputs = tmp_path_factory.mktemp("door") / "outputs"
    for k, accuracy in ((5, 83.0), (20, 80.0), (200, 9.5)):
        record(outputs, config_of("fmnist", k=k, seed=2, cycles=3), ia=0.39, accuracy=accuracy)
        if k < 200:
            record(outputs, config_of("fmnist", k=k, seed=5, cycles=3), ia=0.40, accuracy=accuracy + 1)
    record_failed(outputs, config_of("fmnist", k=200, seed=5, cycles=3), RuntimeError(HOSTILE))
    spoil(record(outputs, config_of("fmnist", k=7, seed=2, cycles=3), accuracy=81.0), "result.json")
    return outputs


def collect(outputs: Path, **options) -> int:
    """The exit code of the door."""
    with pytest.raises(typer.Exit) as ended:
        door.aggregate(**({"outputs": outputs, "jobs": JOBS, "data": NOWHERE, "runs": None, "only": None} | options))
    return ended.value.exit_code


def test_the_door_writes_tables_figures_and_a_page(tree, capsys):
    assert collect(tree) == 0
    said = capsys.readouterr().out
    tables = {path.name for path in (tree / "tables").iterdir()}
    assert {"runs.csv", "cycles.csv", "claims.csv", "claims.md", "settings.csv", "fig_4a.csv", "fig_4a.md",
            "fig_4a.tex"} <= tables  # fmt: skip
    assert {"fig_4a.png", "fig_4a.pdf", "nmi_fmnist.png"} <= {path.name for path in (tree / "figures").iterdir()}
    assert (tree / "report.html").stat().st_size > 20_000
    assert "5 done, 1 failed, 1 damaged" in said
    assert "failed: fmnist-k200-seed5-" in said and "damaged: fmnist-k7-seed2-" in said
    assert "python -m dc_hpc.submit --grid" in said and str(tree / "report.html") in said
    assert max(map(len, said.replace(str(tree), "outputs").replace(str(JOBS), "jobs").splitlines())) <= 110


def test_a_second_time_gives_the_same_bytes(tree):
    def everything():
        parts = (tree / "tables", tree / "figures", tree / "report.html")
        return {path: path.read_bytes() for part in parts for path in ([part] if part.is_file() else part.iterdir())}

    collect(tree)
    before = everything()
    collect(tree)
    assert everything() == before


def test_a_committed_table_gives_the_committed_tables(tree, tmp_path, monkeypatch):
    collect(tree)
    monkeypatch.setattr(door, "_draw", lambda *arguments, **more: 0)
    assert collect(tmp_path / "again", runs=tree / "tables" / "runs.csv") == 0
    made = {path.name: path.read_bytes() for path in (tmp_path / "again" / "tables").iterdir()}
    kept = {path.name: path.read_bytes() for path in (tree / "tables").iterdir() if path.name != "cycles.csv"}
    assert made == kept


def test_only_draws_what_is_named_and_leaves_the_page(tree, tmp_path):
    outputs = tmp_path / "outputs"
    shutil.copytree(tree / "runs", outputs / "runs")
    assert collect(outputs, only=["fig_4"]) == 0
    assert [path.name for path in sorted((outputs / "figures").iterdir())] == ["fig_4a.pdf", "fig_4a.png"]
    assert not (outputs / "report.html").exists()


def test_a_failing_figure_loses_no_table_and_no_page(tree, tmp_path, monkeypatch, capsys):
    import dc_hpc.report.figures as figures

    def broken(panel, *arguments, **more):
        if panel.name == "fig_4a":
            raise ZeroDivisionError("no ink\nleft")

    monkeypatch.setattr(figures, "figure_of", broken)
    outputs = tmp_path / "outputs"
    shutil.copytree(tree / "runs", outputs / "runs")
    assert collect(outputs) == 1
    assert "figure fig_4a failed: ZeroDivisionError: no ink left" in capsys.readouterr().out
    assert (outputs / "tables" / "fig_4a.csv").exists()
    assert "no ink left" in (outputs / "report.html").read_text()


@pytest.mark.parametrize(
    "make, options, words",
    [
        (lambda path: None, {}, "is not there"),
        (lambda path: (path / "runs").mkdir(parents=True), {}, "submit some first"),
        (lambda path: path.mkdir(), {"only": ["fig_44"]}, "did you mean|allowed: table_1"),
        (lambda path: path.mkdir(), {"runs": Path("/nonexistent/runs.csv")}, "cannot be read"),
    ],
)
def test_bad_input_is_one_line(tmp_path, make, options, words):
    outputs = tmp_path / "outputs"
    make(outputs)
    with pytest.raises(InputError, match=words):
        door.aggregate(**({"outputs": outputs, "jobs": JOBS, "data": NOWHERE, "runs": None, "only": None} | options))


def test_a_folder_that_cannot_be_written_is_bad_input(tree, tmp_path):
    outputs = tmp_path / "outputs"
    shutil.copytree(tree / "runs", outputs / "runs")
    (outputs / "tables").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        door.aggregate(outputs=outputs, jobs=JOBS, data=NOWHERE, runs=None, only=None)


def test_nothing_is_written_through_a_link(tree, tmp_path):
    outputs = tmp_path / "outputs"
    shutil.copytree(tree / "runs", outputs / "runs")
    (tmp_path / "elsewhere").mkdir()
    (outputs / "tables").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="symbolic link"):
        door.aggregate(outputs=outputs, jobs=JOBS, data=NOWHERE, runs=None, only=None)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_command_ends_with_two_for_bad_input(tmp_path):
    command = [sys.executable, "-m", "dc_hpc.aggregate", "--outputs", str(tmp_path / "none")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stderr.startswith("dc_hpc: --outputs") and ended.stderr.count("\n") == 1


def modules_after(code: str) -> set[str]:
    ended = subprocess.run([sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], cwd=ROOT,
                           capture_output=True, text=True, check=True)  # fmt: skip
    return set(ended.stdout.split())


def test_help_waits_for_nothing_and_the_report_needs_no_torch():
    assert not modules_after("import dc_hpc.aggregate") & {"torch", "pandas", "numpy", "matplotlib", "sklearn", "pydantic"}
    rooms = "\n".join(f"import dc_hpc.report.{path.stem}" for path in (ROOT / "dc_hpc" / "report").glob("[a-z]*.py"))
    assert not modules_after(rooms) & {"torch", "matplotlib", "sklearn", "faiss"}


# The page.


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
def report(tree) -> Path:
    collect(tree)
    return tree / "report.html"


def test_the_page_is_whole_and_names_nothing_outside(report):
    text = report.read_text()
    tags = Tags(text)
    assert tags.open == []
    assert all(value.startswith(("data:image/png", "#")) for _, attrs in tags.found
               for name, value in attrs.items() if name in ("src", "href"))  # fmt: skip
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
    hostile = frame([row_of(config_of("fmnist", seed=1), state="failed", state_reason=HOSTILE, device=HOSTILE),
                     row_of(config_of("fmnist", seed=2), accuracy=80.0, device=HOSTILE, commit=HOSTILE, seconds=9.0)])
    rows = records(hostile)
    made = page(rows, find(panels_of([]), rows, jobs=NOWHERE, data=NOWHERE), claims(hostile), outputs=Path(HOSTILE))
    assert HOSTILE not in made and Tags(made).open == []


def test_mixed_commits_are_flagged_on_the_page():
    runs = frame([row_of(config_of("fmnist", seed=seed), accuracy=80.0, commit=commit * 40, dirty=seed == 2)
                  for seed, commit in ((1, "a"), (2, "b"))])  # fmt: skip
    rows = records(runs)
    made = page(rows, find(panels_of(["fig_4"]), rows, jobs=NOWHERE, data=NOWHERE), claims(runs), outputs=Path("outputs"))
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
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
               "--disable-background-networking", "--disable-component-update", "--disable-sync",
               f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--virtual-time-budget=3000",
               *more, page.as_uri()]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


SCRIPT = """
<script>
var head = Array.from(document.querySelectorAll("#fig_4a th button")).find(b => b.textContent.startsWith("accuracy"));
function column() {
  var at = head.parentNode.cellIndex;
  return Array.from(head.closest("table").tBodies[0].rows).map(row => row.cells[at].textContent).join(" ");
}
var seen = [column()];
head.click(); seen.push(column());
head.click(); seen.push(column());
document.getElementById("theme").click();
seen.push(document.documentElement.getAttribute("data-theme"));
seen.push(document.documentElement.scrollWidth <= window.innerWidth ? "fits" : "too wide");
document.body.textContent = seen.join("|");
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
        from PIL import Image

        with Image.open(tmp_path / f"{name}.png") as image:
            corner = image.convert("L").getpixel((3, 3))
        assert abs(corner - shade) < 20
