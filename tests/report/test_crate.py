"""The RO-Crate of a report: valid by the validator of its profile, and complete."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
from support.crate_validator import issues
from support.recorded_runs import config_of, findings_of, frame, row_of

from dc_hpc.errors import InputError
from dc_hpc.report.crate import PROFILE, RELATIONS, check, write_crate
from dc_hpc.report.findings import collect, panels_of, read
from dc_hpc.report.frames.runs import records
from dc_hpc.report.output_files import write_tables

rocrate = pytest.importorskip("rocrate")
ROOT = Path(__file__).parents[2]
METADATA = "ro-crate-metadata.json"


@pytest.fixture(scope="module")
def findings():
    rows = [
        row_of(config_of("fmnist", k=k, seed=seed), ia=0.4, accuracy=80.0 - k, trunk_sha256="0" * 64)
        for k in (5, 20, 200)
        for seed in (2, 5, 22)
    ]
    rows += [row_of(config_of("fmnist", k=7, seed=2), state="failed", state_reason="out of memory")]
    rows += [row_of(config_of("fmnist", k=7, seed=5), state="new")]
    return findings_of(frame(rows))


@pytest.fixture(scope="module")
def crate(findings, tmp_path_factory) -> Path:
    outputs = tmp_path_factory.mktemp("crate")
    tables = write_tables(findings, outputs)
    for old in ("tables/sweep_of_other_runs.csv", "figures/fig_4b.png"):
        (outputs / old).parent.mkdir(exist_ok=True)
        (outputs / old).write_text("of an earlier call")
    (outputs / "figures/fig_4a.png").write_text("of this call")
    size = write_crate(findings, outputs, outputs / "crate", tables=tables, date="2026-11-29")
    assert size == sum(path.stat().st_size for path in (outputs / "crate").rglob("*") if path.is_file())
    return outputs / "crate"


def entities(crate: Path) -> dict[str, dict]:
    return {one["@id"]: one for one in json.loads((crate / METADATA).read_text("utf-8"))["@graph"]}


@pytest.mark.filterwarnings("ignore")
def test_the_validator_finds_nothing(crate):
    pytest.importorskip("rocrate_validator")
    assert issues(crate) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_validator_finds_nothing_in_the_crate_of_the_committed_runs(tmp_path):
    """What `make crate` writes, whole: every run, every claim, every table. The validator takes five minutes."""
    pytest.importorskip("rocrate_validator")
    results = ROOT / "docs" / "results"
    runs, cycles = read(results, [results / "tables" / "runs.csv"])
    found = collect(runs, cycles, panels_of(()), jobs=ROOT / "jobs", data=ROOT / "data")
    tables = [path.stem for path in (results / "tables").glob("*.csv")]
    write_crate(found, results, tmp_path / "crate", tables=tables, date="2026-11-29")
    assert issues(tmp_path / "crate") == []


@pytest.mark.filterwarnings("ignore")
def test_the_validator_finds_what_is_wrong(crate, tmp_path):
    pytest.importorskip("rocrate_validator")
    broken = shutil.copytree(crate, tmp_path / "broken")
    graph = json.loads((broken / METADATA).read_text("utf-8"))
    for one in graph["@graph"]:
        one.pop("license", None)
        if one["@type"] == "CreateAction":
            one.pop("instrument")
    (broken / METADATA).write_text(json.dumps(graph), "utf-8")
    found = " ".join(issues(broken))
    assert "license" in found and "instrument" in found


def test_each_run_is_an_action(crate, findings):
    graph = entities(crate)
    actions = {name: one for name, one in graph.items() if one["@type"] == "CreateAction"}
    ended = [row for row in findings.rows if row["state"] in ("done", "failed")]
    assert {name.lstrip("#") for name in actions} == {row["run_id"] for row in ended} and len(ended) == 10
    for row in ended:
        action = actions[f"#{row['run_id']}"]
        settings = json.loads(graph[action["object"]["@id"]]["value"])
        result = json.loads(graph[action["result"]["@id"]]["value"])
        assert (settings["k"], settings["seed"]) == (row["k"], row["seed"])
        assert result.get("accuracy") == row["accuracy"] and result.get("trunk_sha256") == row["trunk_sha256"]
        assert graph[action["instrument"]["@id"]]["softwareVersion"] == row["commit"]
        assert action["instrument"]["@id"].startswith("https://")
        status = {"done": "Completed", "failed": "Failed"}[row["state"]]
        assert action["actionStatus"] == f"http://schema.org/{status}ActionStatus"


def test_each_claim_is_an_outcome(crate, findings):
    graph = entities(crate)
    outcomes = {name: one for name, one in graph.items() if one["@type"] == "Claim"}
    claims = records(findings.verdicts)
    assert len(outcomes) == len(claims)
    by_text = [(one["name"].partition(":")[0], one) for one in outcomes.values()]
    for claim in claims:
        name = f"{claim['figure']}.{claim['claim']}"
        found = [one for named, one in by_text if named == name]
        assert any(f"cito:{RELATIONS[claim['verdict']]}" in one for one in found)
    one = graph["#outcome-fig_4a.k_accuracy-1"]
    parts = {graph[part["@id"]]["propertyID"]: graph[part["@id"]] for part in one["additionalProperty"]}
    assert parts["n"]["value"] == 3 and parts["planned n"]["value"] == 10 and parts["statistic"]["value"] == -1.0
    assert "code_2021" in parts["deviations from the paper"]["value"]


def test_the_crate_holds_the_tables_the_licence_and_the_citation(crate):
    graph = entities(crate)
    for name in ("LICENSE", "CITATION.cff", "tables/claims.csv", "tables/runs.csv", "tables/fig_4a.md"):
        assert (crate / name).is_file() and graph[name]["@type"] == "File"
    assert graph["./"]["conformsTo"] == {"@id": PROFILE} and graph["./"]["license"] == {"@id": "LICENSE"}


def test_the_crate_holds_nothing_of_an_earlier_call(crate):
    assert not (crate / "tables/sweep_of_other_runs.csv").exists()
    assert [path.name for path in (crate / "figures").iterdir()] == ["fig_4a.png"]


def test_a_crate_that_cannot_be_written_is_named(findings, crate, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="--crate .*/file/crate cannot be written .Not a directory."):
        write_crate(findings, crate.parent, tmp_path / "file/crate", tables=["runs"], date="2026-11-29")


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    check(tmp_path / "new")
    (tmp_path / "file").write_text("mine")
    for directory in (tmp_path, tmp_path / "file"):
        with pytest.raises(InputError, match="exists and is not empty"):
            check(directory)


def test_without_the_library_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rocrate", None)
    with pytest.raises(InputError, match="pip install 'dc-hpc\\[crate]'"):
        check(tmp_path / "new")


def test_zenodo_has_the_version_of_the_package():
    root = Path(__file__).parents[2]
    zenodo = json.loads((root / ".zenodo.json").read_text("utf-8"))
    package = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    assert zenodo["version"] == package["version"] and zenodo["license"] == "BSD-3-Clause"
