"""What aggregate prints: one screen, every row of it told apart, as wide as the terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.recorded_runs import JOBS, config_of, findings_of, frame, record, row_of

from dc_hpc.report.claims.table import which_runs
from dc_hpc.report.findings import Findings, collect, panels_of, read
from dc_hpc.report.screen import everything, one_screen
from dc_hpc.report.tables.text_tables import Table

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "docs" / "results" / "tables" / "runs.csv"
OUTPUTS = Path("outputs")


@pytest.fixture(scope="module")
def committed() -> Findings:
    """The findings of the committed runs."""
    return collect(*read(OUTPUTS, [COMMITTED]), panels_of([]), jobs=JOBS, data=ROOT / "nowhere")


def cells_run(k=(5, 10), seeds=(1, 2), **more):
    return [
        row_of(config_of("fmnist", dataset="cells", data_digest="d" * 64, k=value, seed=seed, cycles=4, **more), ia=0.3,
               accuracy=50.0 + seed)
        for value in k for seed in seeds
    ]  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
def test_the_committed_runs_fit_one_screen(committed, width):
    lines = one_screen(committed, OUTPUTS, width=width).splitlines()
    assert len(lines) <= 44 and max(map(len, lines)) <= width
    text = "\n".join(lines)
    verdicts = len(re.findall("(?m)^  (?:supported|contradicted|undecided) ", text))
    assert verdicts >= (12 if width == 120 else 8) and re.search("claims? more: --verbose", text)
    text = re.sub(r"\s+", " ", text)
    assert text.startswith(f"runs: {len(committed.runs)} done (done: ") and "32 random floor" in text
    assert re.search(r"at the paper's settings \d+ contradicted, \d+ undecided; at other settings", text)
    assert re.search(r"missing of the grids in jobs/: \d+ runs of \d+ begun grids, \d+ grids not begun", text)
    assert len(re.findall("python -m dc_hpc.submit", text)) == 1


def test_verbose_is_the_rest(committed):
    text = everything(committed, OUTPUTS, width=120)
    assert len(text.splitlines()) > 300 and max(map(len, text.splitlines())) <= 120
    for words in ("Figure 4a: number of clusters", "runs of 3 commits", "9 of 10 missing", "not begun, with their"):
        assert words in text


def test_every_printed_claim_can_be_told_from_the_others(committed):
    judged = committed.verdicts
    rows = list(zip(judged["claim"], judged["figure"], which_runs(judged)))
    assert len(set(rows)) == len(rows)
    text = everything(committed, OUTPUTS, width=1000)
    printed = re.findall("(?m)^  (?:supported|contradicted|undecided)(?: [(].*? seeds[)])? +(.*?): .*?, n = ", text)
    words = re.findall("(?m)^  (?:supported|contradicted|undecided)(?: [(].*? seeds[)])? +(.*?: .*?): ", text)
    assert len(printed) > 40 and len(set(words)) == len(words)


def test_claims_of_other_cycles_name_their_cycles():
    rows = [
        row_of(config_of("fmnist", k=k, seed=seed, cycles=cycles), ia=0.3, accuracy=80.0 - k)
        for k in (5, 20) for seed in (1, 2, 3) for cycles in (3, 4)
    ]  # fmt: skip
    verdicts = findings_of(frame(rows), "fig_4a").verdicts
    which = [one for one, figure in zip(which_runs(verdicts), verdicts["figure"]) if figure == "fig_4a"]
    assert which == ["fmnist, code, sobel off, 3 cycles", "fmnist, code, sobel off, 4 cycles"]


def told_apart(table: Table) -> bool:
    settings = [i for i, role in enumerate(table.roles) if role == "setting"]
    lines = [tuple(line[i] for i in settings) for line in table.lines]
    return len(set(lines)) == len(lines)


def test_every_line_of_every_table_can_be_told_from_the_others(committed):
    tables = [table for found in committed.shown for table in found.tables if not table.name.endswith("_points")]
    assert (
        len(tables) > 25
        and [table.name for table in tables if "setting" in table.roles and not told_apart(table)] == []
    )


def test_two_settings_that_round_to_the_same_are_told_apart():
    rows = [row for lr in (0.1, 0.10000001) for row in cells_run(lr=lr)]
    (found,) = findings_of(frame(rows)).sweeps
    assert told_apart(found.tables[0]) and "0.10000001" in str(found.tables[0].lines)


def test_ones_own_data_prints_nothing_of_the_paper():
    findings = findings_of(frame(cells_run()), jobs=JOBS)
    for text in (one_screen(findings, OUTPUTS, width=120), everything(findings, OUTPUTS, width=120)):
        assert "cells, swept: k." in text and not re.search("paper|claim|not run|not begun|fig_|jobs/", text)


def test_random_floors_are_named():
    rows = cells_run() + [
        row_of(config_of("fmnist", dataset="cells", data_digest="d" * 64, seed=3, cycles=0), ia=0.3, accuracy=40.0)
    ]
    text = one_screen(findings_of(frame(rows)), OUTPUTS, width=120)
    assert "runs: 5 done (done: 4 clustered, 1 random floor)" in text and "| random floor |" in text


def test_many_troubled_runs_and_sweeps_stay_one_screen():
    rows = [row for dataset in "abcde" for row in cells_run(k=range(2, 40), seeds=(1, 2))]
    rows = [row | {"dataset": f"d{i % 5}", "run_id": f"{row['run_id']}-{i}"} for i, row in enumerate(rows)]
    rows += [row_of(config_of("fmnist", seed=i), state="failed", state_reason="lost") for i in range(50)]
    text = one_screen(findings_of(frame(rows)), OUTPUTS, width=120)
    assert len(text.splitlines()) <= 56 and "and 47 more failed, all in runs.csv" in text
    assert "and 3 sweeps more: --verbose" in text


def test_only_prints_the_claims_of_what_is_asked_for(committed):
    shown = committed.of_panels(panels_of(["fig_5"]))
    assert set(shown.verdicts["figure"]) == {"fig_5a", "fig_5b", "fig_5c"}
    text = one_screen(shown, OUTPUTS, width=120, only=True)
    assert "continuous clustering improved the accuracy" in text and "IA lies between" not in text


def on_a_terminal(columns: int, *command: str) -> str:
    """What a command prints on a terminal of so many columns."""
    import fcntl
    import struct
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    ended = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, stdout=follower, stderr=follower)
    os.close(follower)
    said = b""
    try:
        while part := os.read(leader, 65536):
            said += part
    except OSError:
        pass  # Linux says EIO when the last writer has gone
    os.close(leader)
    assert ended.wait(timeout=120) == 0, said.decode()
    return said.decode().replace("\r\n", "\n")


def test_the_width_is_the_terminals_and_a_pipes_is_always_120(tmp_path):
    outputs = tmp_path / "o"
    for k in (5, 10):
        record(outputs, config_of("fmnist", k=k, seed=1, lr=0.3, cycles=2), ia=0.39, accuracy=83.0)
    command = ("dc_hpc.aggregate", "--outputs", str(outputs), "--jobs", str(JOBS))
    texts = {columns: on_a_terminal(columns, *command) for columns in (80, 150)}
    piped = [
        subprocess.run(
            [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, env=os.environ | more
        )
        for more in ({"COLUMNS": "60"}, {})
    ]
    assert piped[0].stdout == piped[1].stdout
    widest = {name: max(len(line) for line in text.splitlines() if str(outputs) not in line)
              for name, text in {**texts, "piped": piped[0].stdout}.items()}  # fmt: skip
    assert widest[80] <= 80 < widest[150] <= 150 and 80 < widest["piped"] <= 120
