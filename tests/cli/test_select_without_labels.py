"""`select --by MEASURE`: seeds and values by a measure of the first clustering that needs no label."""

import pytest
import yaml
from support.commands import run_command

from dc_hpc.config.grid import read_grid
from dc_hpc.report.selection.ia import ia_runs
from dc_hpc.report.selection.label_free import runs_of_seeds
from dc_hpc.report.selection.measures import MEASURES, OF_FIRST
from dc_hpc.storage import metrics_csv, run_directory

K_GRID = """base: svhn
protocol: code
fixed: {cycles: 3}
sweep: {k: [10, 50, 100], seed: [7, 8]}
"""
SEED_GRID = """base: svhn
protocol: code
fixed: {cycles: 3, halt_rule: effective_rank}
sweep: {seed: [7, 8, 9, 10]}
"""
# What each value and seed has; IA prefers another one than every measure.
OF_K = {10: 0, 50: 2, 100: 1}
OF_SEED = {7: 1, 8: 3, 9: 0, 10: 2}


def numbers(place):
    """The measures of a run: `place` 3 is best by each of them."""
    return {
        "effective_rank": 10.0 + place, "spectrum_alpha": 1.5 - 0.1 * place, "inertia_per_point": 0.9 - 0.1 * place,
        "effective_clusters": 4.0 + place, "silhouette": 0.1 * place,
    }  # fmt: skip


def record(outputs, config, place, **result):
    directory = run_directory.create(outputs, config)
    number = run_directory.start_attempt(directory, {})
    row = {"cycle": 0, "reassign": True, "nmi_true": 0.9 - 0.1 * place} | numbers(place + 0.001 * (config.seed % 7))
    digest = metrics_csv.write_metrics(directory, [row])
    stages = [{"stage": "clustered", "seconds": 360.0}]
    run_directory.update_attempt(directory, number, {"ended": "done", "seconds": stages})
    run_directory.finish(
        directory, {"ia": row["nmi_true"], "ia_ami": row["nmi_true"], "metrics_sha256": digest} | result
    )


@pytest.fixture
def recorded(tmp_path):
    (tmp_path / "k.yaml").write_text(K_GRID)
    (tmp_path / "seeds.yaml").write_text(SEED_GRID)
    for k, runs in ia_runs(read_grid(tmp_path / "k.yaml", data_root=tmp_path), "k", 5).items():
        for config in runs:
            record(tmp_path / "outputs", config, OF_K[k])
    for seed, runs in runs_of_seeds(read_grid(tmp_path / "seeds.yaml", data_root=tmp_path)).items():
        run_directory.create(tmp_path / "outputs", runs[0])
        record(tmp_path / "outputs", runs[0], OF_SEED[seed])
    return tmp_path


def select(*arguments, cwd):
    return run_command("select", *arguments, cwd=cwd)


@pytest.mark.parametrize("measure", [name for name in OF_FIRST if not MEASURES[name].of_features])
def test_values_are_ranked_by_a_measure_and_nothing_else(recorded, measure):
    done = select("--grid", "k.yaml", "--by", measure, "--keep", 1, "--seeds", 5, "--read", cwd=recorded)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["50", "100", "10"] and done.stdout.count("dropped") == 2
    assert f"No label was read: {measure} of the first clustering decides alone" in done.stdout
    assert MEASURES[measure].prefers in done.stdout and "cost: 1.50 device hours for 15 first" in done.stdout
    written = (recorded / f"k_by_{measure}.yaml").read_text()
    assert yaml.safe_load(written)["sweep"] == {"k": [50], "seed": [7, 8]} and "chosen without a label" in written
    assert "accuracy" not in done.stdout and "IA" not in done.stdout


@pytest.mark.parametrize("measure", OF_FIRST)
def test_a_grid_of_seeds_is_ranked_by_seed(recorded, measure):
    done = select("--grid", "seeds.yaml", "--by", measure, "--read", cwd=recorded)
    assert done.returncode == 0, done.stderr
    read = read_grid(recorded / f"seeds_by_{measure}.yaml", data_root=recorded)
    assert [one.seed for one in read.points] == [8, 10]
    assert {(one.cycles, one.halt_rule) for one in read.points} == {(3, "effective_rank")}


def test_by_ia_is_the_ranking_by_ia(recorded):
    by_measure = select("--grid", "k.yaml", "--by", "ia", "--keep", 1, "--seeds", 5, "--read", cwd=recorded)
    by_setting = select("--grid", "k.yaml", "--by", "k", "--keep", 1, "--seeds", 5, "--read", cwd=recorded)
    assert by_measure.returncode == 0 and by_measure.stdout == by_setting.stdout
    assert by_measure.stdout.splitlines()[1].split()[0] == "10" and "regret of trusting IA" in by_measure.stdout


def test_a_run_of_an_earlier_version_lacks_a_measure(tmp_path):
    (tmp_path / "k.yaml").write_text(K_GRID)
    for runs in ia_runs(read_grid(tmp_path / "k.yaml", data_root=tmp_path), "k", 1).values():
        directory = run_directory.create(tmp_path / "outputs", runs[0])
        digest = metrics_csv.write_metrics(directory, [{"cycle": 0, "reassign": True, "nmi_true": 0.1}])
        run_directory.finish(directory, {"ia": 0.1, "metrics_sha256": digest})
    done = select("--grid", "k.yaml", "--by", "silhouette", "--seeds", 1, "--read", cwd=tmp_path)
    assert done.returncode == 2 and "no run of k 10 has silhouette of its first clustering" in done.stderr
    assert not (tmp_path / "k_by_silhouette.yaml").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--by", "nmi_prev"], "--by nmi_prev: the first clustering has no nmi_prev; give one of ia, effective_rank"),
        (["--by", "efective_rank"], 'neither a setting nor a measure; did you mean "effective_rank"'),
        (["--by", "effective_rank"], "features before they are clustered, which k cannot change; give ia or one of"),
        (["--by", "silhouette", "--keep", 3], "--keep 3 would keep all 3 values of k"),
        (["--by", "silhouette", "--set", "pca=[64, 128]"], "or in one setting more; they differ in k, pca"),
    ],
)  # fmt: skip
def test_what_cannot_be_chosen_is_one_line(tmp_path, arguments, message):
    (tmp_path / "grid.yaml").write_text(K_GRID)
    done = select("--grid", "grid.yaml", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "fixed, sweep, message",
    [
        ("halt_cycle: 1", "seed: [1, 2], teacher_seed: [7, 8, 9]", "the first clustering of a run is that of its"),
        ("halt_cycle: 1, teacher_seed: 7", "seed: [1, 2, 3]", "the first clustering of a run is that of its teacher"),
        ("labels: true", "seed: [1, 2, 3]", "labels on never clusters"),
    ],
)
@pytest.mark.parametrize("by", ["effective_rank", "ia"])
def test_a_grid_without_first_clusterings_of_its_own_is_refused(tmp_path, by, fixed, sweep, message):
    """A teacher would be ranked by the clusterings of other nets, the same for each teacher."""
    (tmp_path / "grid.yaml").write_text(
        f"base: fmnist\nprotocol: code\nfixed: {{cycles: 3, {fixed}}}\nsweep: {{{sweep}}}\n"
    )
    done = select("--grid", "grid.yaml", "--by", by, "--keep", 1, "--seeds", 2, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "outputs").exists()


def test_the_first_clustering_comes_before_a_leak(tmp_path):
    (tmp_path / "grid.yaml").write_text(
        "base: fmnist\nprotocol: code\nfixed: {cycles: 5, halt_cycle: 2, resume_leak: 3}\nsweep: {seed: [1, 2, 3]}\n"
    )
    for runs in runs_of_seeds(read_grid(tmp_path / "grid.yaml", data_root=tmp_path)).values():
        run_directory.read_config(run_directory.create(tmp_path / "outputs", runs[0]))


def test_missing_first_clusterings_are_computed(tmp_path, digits_root):
    (tmp_path / "grid.yaml").write_text(
        "base: fmnist\nprotocol: code\nfixed: {dataset: digits}\nsweep: {seed: [1, 2, 3]}\n"
    )
    arguments = ["--grid", "grid.yaml", "--by", "effective_rank", "--keep", 1, "--data", digits_root]
    done = select(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "IA runs: 0 done, 3 to run" in done.stdout and "3 of 3 runs done" in done.stdout
    assert len(yaml.safe_load((tmp_path / "grid_by_effective_rank.yaml").read_text())["sweep"]["seed"]) == 1
