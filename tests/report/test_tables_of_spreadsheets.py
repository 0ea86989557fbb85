"""A runs.csv that a spreadsheet has saved is read as it was, or refused in one line that says why."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from support.recorded_runs import config_of, frame, row_of

from dc_hpc.errors import InputError
from dc_hpc.report.frames.csv_files import read_runs_csv, read_tables
from dc_hpc.report.frames.runs import runs_csv

ROWS = [
    row_of(
        config_of("svhn", seed=seed),
        ia=0.25,
        accuracy=62.5,
        test_images=26_032,
        state_reason="as is, with a comma" if seed == 2 else None,
    )
    for seed in (1, 2)
]
TEXT = runs_csv(frame(ROWS))

READ = {
    "byte order mark": lambda text: ("\ufeff" + text).encode(),
    "flags in capitals": lambda text: text.replace(",True,", ",TRUE,").replace(",False,", ",FALSE,").encode(),
    "line ends of Windows": lambda text: text.replace("\n", "\r\n").encode(),
    "quotes around everything": lambda text: _quoted(text).encode(),
    "empty lines": lambda text: (text + "\n" + "," * text.splitlines()[0].count(",") + "\n").encode(),
    "empty columns": lambda text: text.replace("\n", ",,\n").encode(),
    "all of it": lambda text: ("\ufeff" + text.replace(",True,", ",TRUE,").replace("\n", ",\r\n") + ",,\r\n").encode(),
}


def _quoted(text: str) -> str:
    frame_of_texts = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    return frame_of_texts.to_csv(index=False, quoting=1)


@pytest.mark.parametrize("case", [case for case in READ if case != "all of it"])
def test_it_is_read_as_it_was(tmp_path: Path, case: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(READ[case](TEXT))
    assert path.read_bytes() != TEXT.encode()
    pd.testing.assert_frame_equal(read_runs_csv(path), frame(ROWS))


REFUSED = {
    "semicolons": (TEXT.replace(",", ";"), "is separated by ;, not ,; save it with commas and decimal points"),
    "semicolons and decimal commas": (
        TEXT.replace(",", ";").replace("0.25", "0,25"),
        "is separated by ;, not ,; save it with commas",
    ),
    "its hint": ("sep=;\n" + TEXT.replace(",", ";"), "is separated by ;, not ,"),
    "tabs": (TEXT.replace(",", "\t"), "is separated by tabs, not ,"),
    "decimal commas": (
        TEXT.replace("0.25", '"0,25"'),
        r"column ia holds .*0,25.*, which is no float .decimals have a point.; write the file again",
    ),
    "dropped quotes": (TEXT.replace('"', ""), r":3 has \d+ cells, not \d+; write the file again"),
    "flags of another language": (TEXT.replace(",True,", ",WAHR,"), "holds 'WAHR', which is no flag"),
    "a table without a run": (TEXT.splitlines()[0] + "\n", "holds no run; give the table of a folder with runs, or"),
    "lines that are empty": (TEXT.splitlines()[0] + "\n,,\n\n", "holds no run"),
    "another encoding": (TEXT.replace("as is", "so läßt").encode("cp1252"), "cannot be read"),
    "UTF-16": (TEXT.encode("utf-16"), "cannot be read"),
    "nothing": ("", "has no column run_id"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    content, words = REFUSED[case]
    path = tmp_path / "runs.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=f"^--runs {path}.*{words}") as refused:
        read_tables([path])
    assert "\n" not in str(refused.value)


def _without(name: str, *, at: int | None) -> str:
    """The table with an empty cell in one of its lines, or without a column."""
    table = pd.read_csv(io.StringIO(TEXT), dtype=str, keep_default_na=False)
    if at is None:
        return str(table.drop(columns=[name]).to_csv(index=False))
    table.loc[at, name] = ""
    return str(table.to_csv(index=False))


@pytest.mark.parametrize("name", ["seed", "k", "cycles", "net", "protocol", "dataset"])
def test_a_run_without_a_setting_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(_without(name, at=1))
    with pytest.raises(InputError, match=f"^--runs {path}: run .* has no {name}; write the file again"):
        read_tables([path])


def test_a_table_without_the_column_of_a_setting_is_refused(tmp_path: Path) -> None:
    """Without their number of cycles, trained runs would be random floors."""
    path = tmp_path / "runs.csv"
    path.write_text(_without("cycles", at=None))
    with pytest.raises(InputError, match="has no cycles"):
        read_tables([path])


@pytest.mark.parametrize(("state", "words"), [("", "has no state"), ("finished", "is in the state 'finished'")])
def test_a_state_that_is_none_is_refused(tmp_path: Path, state: str, words: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(TEXT.replace(",done,", f",{state},", 1))
    with pytest.raises(InputError, match=f"{words}; allowed: done, running, resumable, failed, new, damaged"):
        read_tables([path])


def test_a_table_without_a_run_beside_one_that_has_some_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text(TEXT.splitlines()[0] + "\n")
    (tmp_path / "runs.csv").write_text(TEXT)
    runs, _ = read_tables([tmp_path / "empty.csv", tmp_path / "runs.csv"])
    assert len(runs) == 2
