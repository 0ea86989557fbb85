"""Any input is parsed, or refused with one line that says what is wrong: never a traceback, never a hang.

10,000 grids and site profiles each time, 100,000 with `make fuzz`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.hostile_text import PIECES, VALUES, damaged, fuzz, lines_of, promptly

from dc_hpc.config import grid
from dc_hpc.config.grid import SETTINGS, Resources, parse_override, read_grid
from dc_hpc.config.run_config import RunConfig, make_config, run_id
from dc_hpc.errors import InputError
from dc_hpc.report.frames.csv_files import read_runs_csv
from dc_hpc.report.frames.runs import records
from dc_hpc.scheduler import estimates, run_status, slurm, submissions
from dc_hpc.scheduler.launch import sbatch_text
from dc_hpc.scheduler.site import Site, read_site
from dc_hpc.scheduler.submissions import Submission
from dc_hpc.storage import atomic_files

KEYS = [*SETTINGS, "zip", "protocol", "'k'", '"k"', "<<", "1", "~", "on", "$(touch canary)", "K", "? [a]\n", "x" * 300]
SITE_KEYS = [*Site.model_fields, "partion", "<<", "1", "extra"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder of the module's own: a canary in it would be a command that ran."""
    folder, before = tmp_path_factory.mktemp("fuzz"), os.getcwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(autouse=True)
def small_grids(monkeypatch):
    """The code treats a hundred thousand points like 300, but the test would take a thousand times as long."""
    monkeypatch.setattr(grid, "LARGEST_GRID", 300)


def one_line(error: InputError) -> str:
    """The message of an error, after a look at it: one line, printable, short."""
    message = str(error)
    assert message and message.isprintable() and len(message) < 1000, message[:2000]
    return message


# ---- grids

SWEEPS = st.one_of(
    lines_of(KEYS, indent="  ").map(lambda text: f"sweep:\n  seed: [1, 2]\n{text}"),
    lines_of(KEYS, indent="  ").map(lambda text: f"sweep:\n{text}"),
    st.lists(lines_of(KEYS, indent="    ", most=2), max_size=3).map(
        lambda blocks: "sweep:\n" + "".join(f"  - seed: 1..{i + 1}\n{block}" for i, block in enumerate(blocks))
    ),
    VALUES.map("sweep: {}\n".format),
)
GRIDS = st.tuples(
    st.sampled_from(
        ["base: fmnist\n"] * 3 + ["base: svhn\n", "base: cifar10\n", "base: cifar10_alexnet\n", "base: x\n"]
    ),
    st.sampled_from(["protocol: code\n"] * 3 + ["protocol: text\n", "protocol: [code]\n", ""]),
    st.just("") | lines_of(KEYS, indent="  ", most=3).map("fixed:\n{}".format),
    SWEEPS,
    st.just("") | lines_of([*Resources.model_fields, "x"], indent="  ", most=2).map("resources:\n{}".format),
).map("".join)


def check_grid(place: Path, content: bytes) -> None:
    path = place / "grid.yaml"
    path.write_bytes(content)
    with promptly():
        try:
            found = read_grid(path, data_root=place)
        except InputError as error:
            message = one_line(error)
            assert message.startswith(str(path)), message
            check_has_a_line(message, content)
        else:
            assert 1 <= len(found.points) <= grid.LARGEST_GRID
            for point in found.points:
                check_config(point)
    assert os.listdir(place) == ["grid.yaml"]


# Problems that belong to no line of the file: something is missing, or does not fit between the points.
NO_LINE = re.compile(
    r"is missing|is there twice|points; a grid has at most|larger than|does not fit|is smaller|needs|"
    r"leave halt_cycle out|not in|not \d"
)


def check_has_a_line(message: str, content: bytes) -> None:
    match = re.match(r"[^:]*grid\.yaml:(\d+): ", message)
    if match:
        assert 1 <= int(match[1]) <= len(re.split(rb"\r\n|[\r\n]|\xc2\x85|\xe2\x80[\xa8\xa9]", content)) + 1, message
    else:
        assert NO_LINE.search(message), message


def check_config(config: RunConfig) -> None:
    """The config is finite and valid, and reads back equal from JSON, as in config.json."""
    settings = json.loads(json.dumps(config.model_dump(mode="json"), allow_nan=False))
    assert make_config({name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}) == config
    assert all(math.isfinite(value) for value in settings.values() if isinstance(value, float))
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}", run_id(config))


@fuzz(6000)
@given(damaged(GRIDS))
@example(b"base: fmnist\nprotocol: code\nsweep: {seed: [1], k: [" + b"5..9, " * 80 + b"]}\n")
def test_any_grid_is_runs_or_one_line(place, content):
    check_grid(place, content)


@pytest.mark.fuzz
@fuzz(70_000)
@given(damaged(GRIDS))
def test_seventy_thousand_grids(place, content):
    check_grid(place, content)


@fuzz(1000)
@given(
    st.sampled_from([*SETTINGS, "protocol", "x", ""]),
    VALUES,
    st.sampled_from(["=", "", "==", ": "]),
    PIECES | st.just(""),
)
def test_any_set_is_a_value_or_one_line(key, value, equals, piece):
    text = f"{key}{equals}{value}{piece}"
    with promptly():
        try:
            name, _ = parse_override(text)
        except InputError as error:
            assert one_line(error).startswith("--set ")
        else:
            assert name in (*SETTINGS, "protocol")


@fuzz(500)
@given(st.dictionaries(st.sampled_from(SETTINGS), VALUES, min_size=1, max_size=2))
def test_any_set_upon_a_grid_is_runs_or_one_line(place, given_):
    path = place / "grid.yaml"
    path.write_text("base: fmnist\nprotocol: code\nfixed: {cycles: 2}\nsweep: {seed: 1..3, k: [5, 6]}\n")
    with promptly():
        try:
            settings = dict(parse_override(f"{key}={value}") for key, value in given_.items())
            points = read_grid(path, data_root=place, overrides=settings).points
        except InputError as error:
            one_line(error)
        else:
            for point in points:
                check_config(point)


# ---- the true limits, once


@pytest.mark.parametrize(
    "sweep",
    [
        "{seed: 0..99999, k: 1..50000, cycles: 1..100000}",
        "{seed: [" + "0..99999, " * 5000 + "]}",
        "\n" + "  - {seed: 0..99999}\n" * 5000,
        "\n" + "  - {seed: [1], zip: {k: 1..99999, cycles: 1..99999}}\n" * 5000,
        "{seed: 1..999999999}",
    ],
    ids=["product", "ranges in a list", "union", "union of zips", "range"],
)
def test_millions_of_points_are_refused_before_they_are_made(place, monkeypatch, sweep):
    monkeypatch.undo()
    started = time.process_time()
    with promptly(60), pytest.raises(InputError, match="at most 100000"):
        (place / "grid.yaml").write_text(f"base: fmnist\nprotocol: code\nsweep: {sweep}\n")
        read_grid(place / "grid.yaml", data_root=place)
    assert time.process_time() - started < 20


def test_a_list_for_set_multiplies_no_union_beyond_the_limit(place):
    (place / "grid.yaml").write_text("base: fmnist\nprotocol: code\nsweep:\n" + "  - {seed: 1..100}\n" * 2)
    with pytest.raises(InputError, match="points; a grid has at most 300"):
        read_grid(place / "grid.yaml", data_root=place, overrides={"k": [5, 6]})


# ---- site profiles

SITES = st.one_of(
    lines_of(SITE_KEYS, most=5),
    st.tuples(
        lines_of(SITE_KEYS, most=2),
        lines_of([*KEYS, "constraint", "wrap", "export", "a b", "'a\nb'"], indent="  ", most=3),
    ).map(lambda pair: f"{pair[0]}extra:\n{pair[1]}"),
    VALUES.map("setup:\n- {}\n".format),
)


def check_site(place: Path, content: bytes) -> None:
    path = place / "site.yaml"
    path.write_bytes(content)
    with promptly():
        try:
            site = read_site(path)
        except InputError as error:
            assert re.match(r".*site\.yaml:(\d+: | larger)", one_line(error)), error
        else:
            check_script(sbatch_text(site, Resources(), name="grid", outputs=place, tasks=3), site)
    assert sorted(os.listdir(place)) in (["grid.yaml", "site.yaml"], ["site.yaml"])


OUR_VARIABLE = re.compile(r"export DC_HPC_[A-Z_]+=[0-9A-Za-z_./]+")  # by which a task knows what the profile says


def check_script(script: str, site: Site) -> None:
    """Every line is one that sbatch reads, the profile's own shell, or ours; nothing ended a line early."""
    flags = [line for line in script.splitlines() if line.startswith("#SBATCH ")]
    assert all(
        re.fullmatch(r"#SBATCH --[A-Za-z0-9_][A-Za-z0-9._:/=,@+-]*(=(\S+|'[^'\n]*'))?", line) for line in flags
    ), flags
    exported = (f"SRUN_CPUS_PER_TASK={site.cores(1)}", "SUBMITIT_EXECUTOR=slurm", "SLURM_EXPORT_ENV=ALL")
    mask = "umask 027" if site.group_readable else "umask 077"
    own = {mask, *(f"export {one}" for one in exported), *site.setup}
    for line in script.splitlines():
        assert line in own or not line or line.startswith(("#", "srun ")) or OUR_VARIABLE.fullmatch(line), line


@fuzz(2500)
@example(b"group_readable: on\n")
@given(damaged(SITES))
def test_any_site_is_a_profile_or_one_line(place, content):
    check_site(place, content)


@pytest.mark.fuzz
@fuzz(30_000)
@given(damaged(SITES))
def test_thirty_thousand_sites(place, content):
    check_site(place, content)


# ---- answers of SLURM

WORDS = st.sampled_from(
    ["", " ", "1", "12", "12_3", "12_[3-5]", "12_[1-99999999999]", "12_[5-3]", "12_[-]", "12_[3-4-5]", "12_[,]", "-1"]
    + [
        "9" * 5000,
        "\u00b2",
        "\u0661",
        "RUNNING",
        "CANCELLED by 1000",
        "COMPLETED",
        "None",
        "n1",
        "grid-0123abcd",
        "a|b",
    ]
    + [
        "0001-01-01T00:00:00",
        "9999-12-31T23:59:59",
        "2026-01-01T00:00:00",
        "Unknown",
        "N/A",
        "\x1b[2J",
        "$(touch canary)",
    ]
)
LINES = st.lists(WORDS, max_size=10).map("|".join)
ANSWERS = st.lists(LINES | st.text(max_size=20), max_size=6).map("\n".join)
FIELDS = st.lists(
    st.tuples(st.sampled_from(["PreemptTime", "JobState", "EndTime", "MaxArraySize", "x"]), WORDS).map("=".join),
    max_size=6,
).map(" ".join)


@fuzz(2000)
@given(ANSWERS, FIELDS)
@example("12_[0-99999999999]|grid|PENDING|None", "PreemptTime=0001-01-01T00:00:00")
@example("|".join(["1", "\u00b2", *"abcdefg"]), "EndTime=0001-01-01T00:00:00 JobState=RUNNING")
def test_any_answer_of_slurm_is_parsed_to_tasks(answer, fields):
    with promptly():
        for task in [*slurm.parse_squeue(answer), *slurm.parse_sacct(answer)]:
            assert re.fullmatch(r"[0-9]+(_[0-9]+)?", task.id) and 0 <= task.index < 10**7
        slurm.parse_cause(fields, now=1e9, signal_delay=90)


@fuzz(200)
@given(st.sampled_from(["MaxArraySize", "MaxArraySize  "]), WORDS)
def test_any_limit_of_slurm_is_a_number(name, value):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slurm, "ask", lambda command: f"x = 1\n{name} = {value}\n")
        assert 1 <= slurm.max_array_size() <= 10**7


# ---- submissions/*.json

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["../../x", "/etc", "grid-0123abcd", "1", "12_3", "a\nb"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
GOOD = asdict(Submission("grid-0123abcd", "/nowhere/slurm/grid", (("a", "b"), ("c",)), 30, submitted=1.0, job="7"))


@fuzz(1500)
@given(
    st.dictionaries(st.sampled_from([*GOOD, "more"]), JSON, max_size=3),
    st.sets(st.sampled_from([*GOOD]), max_size=1),
    st.integers(0, 400),
    st.sampled_from(["", "{", "\0", "\ud800", "[" * 5000]),
)
def test_any_submission_is_whole_or_left_out(tmp_path_factory, changes, lost, place, piece):
    outputs = tmp_path_factory.getbasetemp() / "damaged"
    folder = submissions.folder_of(outputs)
    folder.mkdir(parents=True, exist_ok=True)
    record = {name: value for name, value in (GOOD | changes).items() if name not in lost}
    with contextlib.suppress(ValueError):  # NaN and infinities have no digest
        record["sha256"] = atomic_files._content_digest(record)  # so that its values are looked at
    text = json.dumps(record)
    text = text[:place] + piece + text[place:] if piece else text
    (folder / "grid-0123abcd.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    atomic_files.write_checksummed(folder / "sound-0123abcd.json", GOOD | {"name": "sound-0123abcd"})
    with promptly(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(slurm, "accounted", lambda names: [])
        known = submissions.read_all(outputs)
        assert "sound-0123abcd" in [one.name for one in known]
        seen = run_status.collect(outputs, ["a", "b", "c"], tasks=[], known=known)
        estimates.measure(outputs, seen, {})
        assert all(isinstance(line, str) for line in seen.describe_unanswered())
        for one in known:
            assert one.folder.startswith("/") and all(
                "/" not in run and run not in ("", ".", "..") for pack in one.runs for run in pack
            )


# ---- a table of runs

CELLS = st.sampled_from(
    [
        "",
        "1",
        "0.5",
        "nan",
        "inf",
        "-1",
        "9" * 30,
        "9" * 5000,
        "1e999",
        "True",
        "x",
        "<script>",
        "=cmd()",
        '"',
        "a\nb",
        "\0",
        "\\input{/etc/passwd}",
        "done",
        "damaged",
        "fmnist",
        "lenet5",
        "code",
        "\ud800",
        "1_0",
        "\u0661",
        " 1",
    ]
)
COLUMNS = [
    "run_id",
    "state",
    "dataset",
    "k",
    "seed",
    "ia",
    "accuracy",
    "cycles",
    "halt_cycle",
    "batch_norm",
    "pca",
    "cycles_done",
    "dirty",
    "accuracy_x",
    "other",
    "",
    "protocol",
]


@fuzz(600)
@given(
    st.lists(st.sampled_from(COLUMNS), max_size=6).map(lambda more: [*dict.fromkeys([*COLUMNS[:5], *more])]),
    st.data(),
    st.booleans(),
)
def test_any_table_of_runs_is_read_or_refused_in_one_line(tmp_path_factory, header, data, quoted):
    rows = data.draw(st.lists(st.lists(CELLS, min_size=len(header), max_size=len(header)), max_size=3))
    text = "\n".join(",".join(f'"{cell}"' if quoted else cell for cell in row) for row in [header, *rows])
    path = tmp_path_factory.getbasetemp() / "runs.csv"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with promptly():
        try:
            frame = read_runs_csv(path)
        except InputError as error:
            assert one_line(error).startswith("--runs ")
        else:
            assert len(records(frame)) == len(frame)


def test_a_table_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "runs.csv")
    with promptly(), pytest.raises(InputError, match="--runs "):
        read_runs_csv(tmp_path / "runs.csv")
