"""`select` on recorded runs and, in one test, on real runs."""

import os

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.commands import GRID, run_command
from support.stub_slurm import stub_slurm

from dc_hpc.config.grid import read_grid
from dc_hpc.errors import InputError
from dc_hpc.report.selection.ia import spread_evenly
from dc_hpc.storage import run_directory

IA_GRID = """base: svhn
protocol: code
fixed: {cycles: 0, probe: off, features: none}
sweep: {seed: 1..20}
"""
K_GRID = """base: svhn
protocol: code
fixed: {cycles: 3}
sweep: {k: [10, 50, 100], seed: [7, 8]}
"""


BY_K = GRID.replace("k: 6, ", "")


def select(*arguments, cwd):
    return run_command("select", *arguments, cwd=cwd)


def record(outputs, config, **result):
    directory = run_directory.create(outputs, config)
    number = run_directory.start_attempt(directory, {})
    run_directory.update_attempt(
        directory, number, {"ended": "done", "seconds": [{"stage": "trained", "seconds": 1800.0}]}
    )
    run_directory.finish(directory, result)


def record_alignments(place, medians, overrides=None):
    """IA-only runs of five seeds for each k: AMI as given, NMI higher the larger k is, as chance is."""
    from dc_hpc.report.selection.ia import ia_runs

    grid = read_grid(place / "grid.yaml", data_root=place, overrides=overrides)
    for k, runs in ia_runs(grid, "k", 5).items():
        for config in runs:
            ami = medians[k] + (config.seed - 3) / 1000
            record(place / "outputs", config, ia=ami + k / 500, ia_ami=ami)
    return grid


def test_on_a_cluster_it_asks_and_requests_what_the_grid_says(tmp_path, digits_root, monkeypatch):
    for name, value in stub_slurm(tmp_path / "bin").items():
        monkeypatch.setenv(name, value)
    (tmp_path / "site.yaml").write_text("cpus: 1\n")
    (tmp_path / "grid.yaml").write_text(
        BY_K.replace("seed: [1, 2, 3]", "k: [2, 3, 4], seed: [1]") + "resources: {minutes: 7, runs_per_task: 6}\n"
    )
    arguments = ["--grid", "grid.yaml", "--data", digits_root, "--by", "k", "--seeds", 4]
    arguments += ["--cluster", "slurm", "--site", "site.yaml"]
    asked = select(*arguments, cwd=tmp_path)
    assert asked.returncode == 2 and "to submit, give --yes" in asked.stderr, asked.stderr
    assert "tasks: 2 of 6 runs, 1 at a time, at most 7 minutes each" in asked.stdout
    assert not (tmp_path / "outputs").exists() or not list((tmp_path / "outputs").glob("runs/*"))
    done = select(*arguments, "--yes", cwd=tmp_path)
    assert done.returncode == 0 and "run this command again when they are done" in done.stdout, done.stderr
    script = (tmp_path / "bin" / "script").read_text()
    assert "#SBATCH --time=7\n" in script and "#SBATCH --array=0-1%" in script


def test_a_grid_that_cannot_be_written_anew_is_refused_before_hours_of_runs(tmp_path, digits_root):
    (tmp_path / "grid.yaml").write_text(
        BY_K.replace("{seed: [1, 2, 3]}", "[{k: [2, 3], seed: [1]}, {k: 4, seed: [1]}]")
    )
    done = select("--grid", "grid.yaml", "--data", digits_root, "--by", "k", "--seeds", 2, cwd=tmp_path)
    assert done.returncode == 2 and "only if it sweeps k in one plain block" in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_more_seeds_than_a_grid_may_have_are_refused_before_they_are_made(tmp_path):
    from dc_hpc.report.selection.ia import ia_runs

    (tmp_path / "grid.yaml").write_text(K_GRID)
    grid = read_grid(tmp_path / "grid.yaml", data_root=tmp_path)
    with pytest.raises(InputError, match="--seeds 40000 of 3 values of k are 120000 runs; allowed: at most 100000"):
        ia_runs(grid, "k", 40_000)


def test_seeds_that_span_the_range(tmp_path):
    (tmp_path / "svhn_ia.yaml").write_text(IA_GRID)
    for point in read_grid(tmp_path / "svhn_ia.yaml", data_root=tmp_path).points:
        record(tmp_path / "outputs", point, ia=0.04 + 0.006 * point.seed, ia_ami=0.0)
    done = select("--grid", "svhn_ia.yaml", "--span", 4, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "IA: 0.0460 to 0.1600, n = 20" in done.stdout
    written = (tmp_path / "svhn_ia_span_4.yaml").read_text()
    assert yaml.safe_load(written)["sweep"] == {"seed": [1, 7, 14, 20]} and "4 runs." in written
    grid = read_grid(tmp_path / "svhn_ia_span_4.yaml", data_root=tmp_path)
    assert {point.cycles for point in grid.points} == {100} and grid.points[0].probe == ("relu5",)


def test_the_written_grid_keeps_what_set_gave(tmp_path):
    """A fixed setting, the protocol, the values of a swept one, and settings of an IA grid that it replaces."""
    (tmp_path / "grid.yaml").write_text(IA_GRID)
    given = {"pca": 64, "kmeans_iterations": 7, "seed": "1..12", "protocol": "text"}
    for point in read_grid(tmp_path / "grid.yaml", data_root=tmp_path, overrides=given).points:
        record(tmp_path / "outputs", point, ia=0.04 + 0.006 * point.seed, ia_ami=0.0)
    sets = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
    done = select("--grid", "grid.yaml", "--span", 3, *sets, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    points = read_grid(tmp_path / "grid_span_3.yaml", data_root=tmp_path).points
    found = {(one.pca, one.kmeans_iterations, one.protocol, one.cycles) for one in points}
    assert found == {(64, 7, "text", 100)} and [one.seed for one in points] == [1, 7, 12]


def test_a_swept_setting_of_set_is_written_as_a_sweep(tmp_path):
    (tmp_path / "grid.yaml").write_text(K_GRID.replace("k: [10, 50, 100], ", ""))
    read = {"k": [10, 50, 100], "lr": 0.2}
    record_alignments(tmp_path, {10: 0.02, 50: 0.09, 100: 0.05}, overrides=read)
    sets = ["--set", "k=[10, 50, 100]", "--set", "lr=0.2"]
    done = select("--grid", "grid.yaml", "--by", "k", "--keep", 2, "--seeds", 5, "--read", *sets, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    points = read_grid(tmp_path / "grid_by_ia.yaml", data_root=tmp_path).points
    assert {(one.k, one.seed, one.lr, one.cycles) for one in points} == {
        (k, seed, 0.2, 3) for k in (50, 100) for seed in (7, 8)
    }


@given(st.dictionaries(st.integers(0, 999), st.floats(0, 1), min_size=2, max_size=60), st.data())
def test_spanning_seeds_are_different_and_include_both_ends(alignments, data):
    count = data.draw(st.integers(2, len(alignments)))
    chosen = spread_evenly(alignments, count)
    found = [alignments[seed] for seed in chosen]
    assert len(set(chosen)) == count
    assert found[0] == min(alignments.values()) and found[-1] == max(alignments[seed] for seed in chosen)


def test_chosen_alignments_are_spread_evenly():
    alignments = {seed: value for seed, value in enumerate(np.random.default_rng(0).beta(2, 5, 1000))}
    found = np.array([alignments[seed] for seed in spread_evenly(alignments, 10)])
    assert np.diff(found).std() < 0.05 * np.diff(found).mean()


def test_too_few_alignments_name_the_next_step(tmp_path):
    (tmp_path / "grid.yaml").write_text(IA_GRID)
    done = select("--grid", "grid.yaml", "--span", 4, cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "0 of 20 runs of grid.yaml have an IA, 4 are needed; run: python -m dc_hpc.submit" in done.stderr
    (tmp_path / "my runs").mkdir()
    places = ("--outputs", "my runs", "--data", "images", "--set", "seed=1..3")
    done = select("--grid", "grid.yaml", "--span", 3, *places, cwd=tmp_path)
    asked = "python -m dc_hpc.submit --grid grid.yaml --outputs 'my runs' --data images --set seed=1..3"
    assert done.stderr.endswith(f"0 of 3 runs of grid.yaml have an IA, 3 are needed; run: {asked}\n")
    done = select("--grid", "grid.yaml", "--span", 4, *places, cwd=tmp_path)
    assert done.stderr == ("dc_hpc: --span 4: grid.yaml has 3 seeds; give a smaller span or a larger grid\n"), (
        "no submit would give what is missing"
    )


def test_the_name_of_the_grid_need_not_be_text(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.yaml")
    path.write_text(IA_GRID)
    for point in read_grid(path, data_root=tmp_path).points:
        record(tmp_path / "outputs", point, ia=0.04 + 0.006 * point.seed, ia_ami=0.0)
    done = select("--grid", path.name, "--span", 4, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (written,) = tmp_path.glob("*_span_4.yaml")
    assert written.read_text().startswith("# 4 seeds that span the IA of caf?.yaml (0.0460")


def test_the_grid_is_to_be_run_where_its_runs_are(tmp_path, monkeypatch):
    monkeypatch.delenv("DC_HPC_DATA", raising=False)
    (tmp_path / "grid.yaml").write_text(IA_GRID)
    for point in read_grid(tmp_path / "grid.yaml", data_root=tmp_path).points:
        record(tmp_path / "elsewhere", point, ia=0.04 + 0.006 * point.seed, ia_ami=0.0)
    done = select("--grid", "grid.yaml", "--span", 4, "--outputs", "elsewhere", cwd=tmp_path)
    assert done.stdout.endswith(
        "wrote grid_span_4.yaml; run it: python -m dc_hpc.submit --grid grid_span_4.yaml --outputs elsewhere\n"
    ), done.stderr


def test_nothing_is_chosen_while_some_runs_are_under_way(tmp_path):
    (tmp_path / "grid.yaml").write_text(K_GRID)
    record_alignments(tmp_path, {10: 0.02, 50: 0.09, 100: 0.05})
    (directory,) = (tmp_path / "outputs" / "runs").glob("svhn-k50-ia-seed5-*")
    (directory / "result.json").unlink()
    run_directory.start_attempt(directory, {})  # of this process, which lives
    arguments = ("--grid", "grid.yaml", "--by", "k", "--keep", 2, "--seeds", 5)
    done = select(*arguments, cwd=tmp_path)
    assert done.returncode == 0 and "IA runs: 14 done, 1 under way, 0 to run\n" in done.stdout, done.stderr
    assert done.stdout.endswith(
        "run this command again when those under way are done; --read chooses by what is done now\n"
    )
    assert not (tmp_path / "grid_by_ia.yaml").exists()
    assert select(*arguments, "--read", cwd=tmp_path).returncode == 0
    assert (tmp_path / "grid_by_ia.yaml").exists()


def test_values_are_ranked_above_chance_and_the_rest_is_dropped(tmp_path):
    """NMI alone would rank k 100 first; corrected for chance k 50 is."""
    (tmp_path / "grid.yaml").write_text(K_GRID)
    grid = record_alignments(tmp_path, {10: 0.02, 50: 0.09, 100: 0.05})
    done = select("--grid", "grid.yaml", "--by", "k", "--keep", 2, "--seeds", 5, "--read", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    order = [line.split()[0] for line in done.stdout.splitlines()[1:4]]
    assert order == ["50", "100", "10"] and done.stdout.count("kept") == 3 - 1 and "dropped" in done.stdout
    assert "saved: 2 of 6 runs, for 7.50 h of IA runs; hours of a full run: not measured" in done.stdout
    assert "regret of trusting IA: not measured (no accuracy yet for k" in done.stdout
    assert yaml.safe_load((tmp_path / "grid_by_ia.yaml").read_text())["sweep"] == {"k": [50, 100], "seed": [7, 8]}
    for point in grid.points:
        record(tmp_path / "outputs", point, ia=0.1, ia_ami=0.1, accuracy={10: 60.0, 50: 40.0, 100: 55.5}[point.k])
    again = select("--grid", "grid.yaml", "--by", "k", "--keep", 2, "--seeds", 5, "--read", cwd=tmp_path)
    assert "saved: 1.00 device hours (2 of 6 runs, from 6 measured), for 7.50 h of IA runs" in again.stdout
    assert "regret of trusting IA: 4.50 points of median accuracy (best k: 10; best kept: 100)" in again.stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "give either --span N"),
        (["--span", 3, "--by", "k"], "give either --span N"),
        (["--span", 3], "--span needs a grid whose runs differ in their seed only, not in k"),
        (["--by", "lr"], "--by lr: IA is measured at the first clustering, which lr cannot change"),
        (["--by", "pca"], "--by pca needs a grid whose runs differ in pca and seed only; they differ in k, seed"),
        (["--by", "k", "--keep", 3], "--keep 3 would keep all 3 values of k"),
        (["--by", "k", "--read", "--outputs", "typo"], "--outputs typo is not there"),
        (["--by", "k", "--read"], "no IA run of k 10 is done; run this command without --read"),
    ],
)
def test_what_cannot_be_chosen_is_one_line(tmp_path, arguments, message):
    (tmp_path / "grid.yaml").write_text(K_GRID)
    done = select("--grid", "grid.yaml", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid.yaml"]


def test_missing_ia_runs_are_computed(tmp_path, digits_root):
    (tmp_path / "grid.yaml").write_text(
        "base: fmnist\nprotocol: code\nfixed: {dataset: digits}\nsweep: {k: [2, 30], seed: [1]}\n"
    )
    arguments = ["--grid", "grid.yaml", "--by", "k", "--keep", 1, "--seeds", 2, "--data", digits_root]
    done = select(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "IA runs: 0 done, 4 to run" in done.stdout and "4 of 4 runs done" in done.stdout
    assert yaml.safe_load((tmp_path / "grid_by_ia.yaml").read_text())["sweep"]["k"] == [30]
    assert "IA runs: 4 done, 0 to run" in select(*arguments, cwd=tmp_path).stdout


def test_a_grid_that_is_written_again_stays_a_link_and_keeps_its_mode(tmp_path):
    (tmp_path / "svhn_ia.yaml").write_text(IA_GRID)
    for point in read_grid(tmp_path / "svhn_ia.yaml", data_root=tmp_path).points:
        record(tmp_path / "outputs", point, ia=0.04 + 0.006 * point.seed, ia_ami=0.0)
    (tmp_path / "real.yaml").write_text("old")
    (tmp_path / "real.yaml").chmod(0o644)
    (tmp_path / "mine.yaml").symlink_to("real.yaml")
    assert select("--grid", "svhn_ia.yaml", "--span", 4, "--write", "mine.yaml", cwd=tmp_path).returncode == 0
    assert (tmp_path / "mine.yaml").is_symlink() and "4 runs." in (tmp_path / "real.yaml").read_text()
    assert oct((tmp_path / "real.yaml").stat().st_mode)[-3:] == "644"
