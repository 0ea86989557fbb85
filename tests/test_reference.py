"""docs/REFERENCE.md is what its generator writes, and describes every setting, key, column, number and variable."""

import ast
import csv
import importlib.util
import json
import re
from fnmatch import fnmatch

import pytest
from support.commands import REPOSITORY, run_command
from support.package import MODULES
from support.recorded_runs import config_of, findings_of, frame, grid_rows, row_of

from dc_hpc.config.grid import SETTINGS, Resources
from dc_hpc.report.columns import describe_column
from dc_hpc.report.output_files import write_tables
from dc_hpc.scheduler.site import Site
from dc_hpc.storage.metrics import RESULT_RECORD, RESULTS

PAGE = REPOSITORY / "docs" / "REFERENCE.md"
# Grids of every kind of panel, with few runs.
GRIDS = (
    "fmnist_halt", "fmnist_ia_accuracy", "fmnist_bounds", "svhn_halt_leak", "svhn_k_ia", "svhn_sobel", "mnist_fig_2",
    "svhn_table_1_stage_1",
)  # fmt: skip


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("reference", REPOSITORY / "docs" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_its_generator_writes(reference):
    assert PAGE.read_text() == reference.text(), "write it again: make reference"


def test_every_setting_and_every_key_is_described():
    described = re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(), re.M)
    assert set(SETTINGS) | set(Resources.model_fields) | set(Site.model_fields) <= set(described)
    assert all(line.split(" | ")[1].strip() for line in PAGE.read_text().splitlines() if line.startswith("| `"))


def test_the_default_site_profile_shows_every_key():
    keys = re.findall(r"^(?:# )?(\w+):", (REPOSITORY / "slurm" / "default.yaml").read_text(), re.M)
    assert set(Site.model_fields) <= set(keys)


def test_every_grid_is_named_beside_its_figure():
    """In the table of docs/GRIDS.md, where `_2` is the end of a name that differs from the one before there only."""
    page = (REPOSITORY / "docs" / "GRIDS.md").read_text()
    named = re.findall("`([^`]+)`", page.partition("belongs to which figure\n")[2].partition("\n## ")[0])
    grids = [path.stem for path in sorted((REPOSITORY / "jobs").glob("*.yaml"))]
    patterns = [f"*{one}" if one.startswith("_") else one for one in named]
    assert [one for one in grids if not any(fnmatch(one, pattern) for pattern in patterns)] == ["fmnist_demo"]


def test_every_column_that_aggregate_writes_is_described(tmp_path):
    rows = grid_rows(*GRIDS)
    rows += [row_of(config_of("fmnist", k=7, seed=seed, lr=0.05), ia=0.3, accuracy=80.0 + seed) for seed in range(6)]
    write_tables(findings_of(frame(rows)), tmp_path)
    unknown, kinds = [], set()
    for path in sorted((tmp_path / "tables").glob("*.csv")):
        with path.open(newline="") as file:
            header = next(csv.reader(file), [])
        kinds.add(path.stem.partition("_")[0])
        unknown += [(path.stem, name) for name in header if describe_column(path.stem, name) is None]
    assert not unknown, "describe them in dc_hpc/report/columns.py"
    assert {"runs", "cycles", "claims", "settings", "fig", "table", "probe", "leak", "nmi", "sobel"} <= kinds


def test_the_verdicts_on_questions_are_described_as_they_are_written():
    written = (REPOSITORY / "docs" / "results" / "tables" / "questions.csv").read_text().splitlines()[0]
    section = PAGE.read_text().partition("### questions.csv\n")[2].partition("\n### ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.M) == written.split(",")
    assert "| `value` | number | Value of the statistic. |" in section, "as of a claim, and not of a search"


def test_every_number_of_a_result_is_described(tmp_path, digits_root):
    (tmp_path / "grid.yaml").write_text(
        "base: fmnist\nprotocol: code\n"
        "fixed: {dataset: digits, k: 3, cycles: 2, probe_epochs: 1, probe: [conv2, fc1]}\n"
        "sweep: {seed: [1]}\n"
    )
    run_command("submit", "--grid", "grid.yaml", "--data", digits_root, cwd=tmp_path, check=0)
    (path,) = (tmp_path / "outputs" / "runs").glob("*/result.json")
    expected = {one.name for one in (*RESULTS, *RESULT_RECORD)} | {"accuracy_conv2", "accuracy_fc1"}
    expected -= {"probe_diverged", "halting_cycle", "labels_cycle_last"}  # of runs that diverged, and of halting rules
    assert set(json.loads(path.read_text())) == expected


def test_every_environment_variable_of_the_code_is_described(reference):
    """A name in capitals that is looked up in the environment, or in a tuple of such names."""
    found = {
        node.value
        for path in MODULES.values()
        if "environ" in path.read_text() or "envvar" in path.read_text()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]*)+", node.value)
    }
    assert {"DC_HPC_DATA", "SLURM_JOB_ID", "CUDA_VISIBLE_DEVICES"} <= found
    states_of_slurm = {"OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL"}
    assert {name for name in found if not _listed(name, reference.VARIABLES)} == states_of_slurm


def test_a_column_without_a_description_is_refused(reference):
    with pytest.raises(ValueError, match="column luck of runs.csv has no description; add it to dc_hpc/report/columns"):
        reference._columns("runs", ["k", "luck"])
    assert describe_column("fig_4a", "accuracy_median").meaning == "median over the seeds, of accuracy"
    assert describe_column("fig_4a", "luck_median") is None and describe_column("claims", "k") is None
    assert describe_column("cycles", "reassign").dtype == "flag" and describe_column("runs", "reassign").dtype == "int"


def _listed(name, variables):
    return any(fnmatch(name, one) or (one.endswith("*") and name == one[:-1]) for one in variables)
