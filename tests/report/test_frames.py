"""Run directories become exact tables and back, and nothing damaged stops them."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.recorded_runs import (
    ATTEMPT,
    config_of,
    frame,
    record,
    record_failed,
    record_interrupted,
    row_of,
    spoil,
)

from dc_hpc.config.run_config import RunConfig, run_id
from dc_hpc.errors import InputError
from dc_hpc.report.frames.csv_files import read_cycles_csv, read_runs_csv, read_tables
from dc_hpc.report.frames.runs import cycles_csv, load, load_cycles, load_runs, no_cycles, records, runs_csv
from dc_hpc.report.frames.schema import kind_of
from dc_hpc.storage import run_directory

# One run done (seed 1), seed 2 never submitted, one failed, one interrupted, one spoiled: `tree` below.
GOLDEN = (
    "run_id,state,state_reason,dataset,net,k,seed,cycles,last_cycle,batch_norm,sobel,lr,momentum,"
    "weight_decay,batch_size,kmeans_init,resize,crop,mean,std,training_view,data_digest,train_digest,"
    "test_digest,net_digest,pca,halt_cycle,reassign,epochs_per_cycle,kmeans_iterations,draws,"
    "per_image_standardization,kmeans_n_init,halt_rule,halt_patience,halt_tolerance,soft_reset,"
    "teacher_seed,labels,resume_leak,probe,probe_flip,probe_crop,probe_average_pool,probe_epochs,"
    "probe_lr,probe_momentum,probe_weight_decay,probe_batch_size,protocol,features,ia,ia_ami,ia_chance,"
    "accuracy,accuracy_best,accuracy_batch_mean,test_images,probe_loss,clusterings,epochs,nmi_true_last,"
    "ami_true_last,nmi_prev_last,ami_prev_last,label_entropy_last,clusters_empty_last,loss_last,"
    "halting_cycle,labels_cycle_last,accuracy_conv2,trunk_sha256,cycles_done,attempts,seconds,"
    "seconds_load,seconds_clustered,seconds_trained,seconds_probe,device,host,commit,dirty,engine,"
    "threads,numerics\n"
    "fmnist-k5-seed1-60993189cfbd,done,,fmnist,lenet5,5,1,2,skip,True,off,0.1,0.1,0.001,128,k-means++,44,"
    "32,0.286,0.3205,box_per_batch,none,none,none,none,off,never,1,1,20,ours,False,1,none,3,0.0,off,none,"
    "False,never,conv2,True,False,off,20,0.01,0.9,0.0001,256,code,first_last,0.39,0.38,0.01,83.5,84.0,"
    "83.5,10000,0.7,2,2,0.391,0.381,0.58,,,,0.5,,,83.5,"
    "0000000000000000000000000000000000000000000000000000000000000000,2,1,10.0,0.5,2.5,4.0,3.0,cpu-1,"
    "node1,aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,False,torch,1,1\n"
    'fmnist-k5-seed3-e1d854829587,failed,"RuntimeError: a cluster, lost",fmnist,lenet5,5,3,2,skip,True,'
    "off,0.1,0.1,0.001,128,k-means++,44,32,0.286,0.3205,box_per_batch,none,none,none,none,off,never,1,1,"
    "20,ours,False,1,none,3,0.0,off,none,False,never,conv2,True,False,off,20,0.01,0.9,0.0001,256,code,"
    "first_last,,,,,,,,,,,,,,,,,,,,,,0,1,0.0,,,,,cpu-1,node1,aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,"
    "False,torch,1,1\n"
    "fmnist-k5-seed4-1a143a57fbbc,resumable,,fmnist,lenet5,5,4,2,skip,True,off,0.1,0.1,0.001,128,"
    "k-means++,44,32,0.286,0.3205,box_per_batch,none,none,none,none,off,never,1,1,20,ours,False,1,none,3,"
    "0.0,off,none,False,never,conv2,True,False,off,20,0.01,0.9,0.0001,256,code,first_last,,,,,,,,,,,,,,,,"
    ",,,,,,1,1,6.75,0.5,1.25,2.0,3.0,cpu-1,node1,aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,False,torch,1,"
    "1\n"
    "fmnist-k5-seed5-1e3648ecbd0e,damaged,result.json: not a result of format 1 of this run,fmnist,"
    "lenet5,5,5,2,skip,True,off,0.1,0.1,0.001,128,k-means++,44,32,0.286,0.3205,box_per_batch,none,none,"
    "none,none,off,never,1,1,20,ours,False,1,none,3,0.0,off,none,False,never,conv2,True,False,off,20,"
    "0.01,0.9,0.0001,256,code,first_last,,,,,,,,,,,,,,,,,,,,,,0,1,10.0,0.5,2.5,4.0,3.0,cpu-1,node1,"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,False,torch,1,1\n"
    "svhn-k200-ia-seed1-3cd4b3251dd5,done,,svhn,alexnet_small,200,1,0,skip,True,random,0.1,0.5,0.001,64,"
    "random,45,32,0.437 0.443 0.472,0.198 0.201 0.197,box_per_batch,none,none,none,none,256,never,1,1,20,"
    "ours,False,1,none,3,0.0,off,none,False,never,none,False,False,off,20,0.01,0.9,0.0001,256,code,"
    "first_last,0.125,0.115,0.01,,,,,,1,0,0.125,0.115,,,,,,,,,"
    "0000000000000000000000000000000000000000000000000000000000000000,0,1,4.75,0.5,1.25,,3.0,cpu-1,node1,"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,False,torch,1,1\n"
)
GOLDEN_CYCLES = (
    "run_id,dataset,net,protocol,k,seed,halt_cycle,pca,sobel,cycle,reassign,nmi_prev,nmi_true,ami_prev,"
    "ami_true,nmi_true_chance,label_entropy,clusters_empty,cluster_size_min,cluster_size_median,"
    "cluster_size_max,effective_clusters,inertia,inertia_per_point,effective_rank,spectrum_alpha,"
    "components_alive,silhouette,nmi_brightness,labels_cycle,halted,loss,seconds_clustered,"
    "seconds_trained\n"
    "fmnist-k5-seed1-60993189cfbd,fmnist,lenet5,code,5,1,never,off,off,0,True,,0.39,,0.38,0.01,1.5,0,1,"
    "2.5,9,,100.0,,,,,,,,,1.0,1.25,2.0\n"
    "fmnist-k5-seed1-60993189cfbd,fmnist,lenet5,code,5,1,never,off,off,1,True,0.58,0.391,0.5,0.381,0.01,"
    "1.5,0,1,2.5,9,,99.0,,,,,,,,,0.5,1.25,2.0\n"
    "fmnist-k5-seed4-1a143a57fbbc,fmnist,lenet5,code,5,4,never,off,off,0,True,,0.1,,0.09000000000000001,"
    "0.01,1.5,0,1,2.5,9,,100.0,,,,,,,,,1.0,1.25,2.0\n"
    "svhn-k200-ia-seed1-3cd4b3251dd5,svhn,alexnet_small,code,200,1,never,256,random,0,True,,0.125,,0.115,"
    "0.01,1.5,0,1,2.5,9,,100.0,,,,,,,,,,1.25,\n"
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    outputs = tmp_path_factory.mktemp("tree") / "outputs"
    record(outputs, config_of("fmnist", cycles=2, seed=1), ia=0.39, accuracy=83.5)
    record_failed(outputs, config_of("fmnist", cycles=2, seed=3), RuntimeError("a cluster, lost\nmore"))
    record_interrupted(outputs, config_of("fmnist", cycles=2, seed=4), cycles_done=1)
    spoil(record(outputs, config_of("fmnist", cycles=2, seed=5), accuracy=80.0), "result.json", '{"format": 9}')
    record(outputs, config_of("svhn", cycles=0, probe=(), seed=1), ia=0.125)
    return outputs


def test_a_tree_gives_the_exact_table(tree):
    assert runs_csv(load_runs(tree)) == GOLDEN


def test_a_tree_gives_the_exact_cycles(tree):
    assert cycles_csv(load_cycles(tree)) == GOLDEN_CYCLES


def test_the_table_read_back_is_the_table(tree, tmp_path):
    runs = load_runs(tree)
    (tmp_path / "runs.csv").write_text(runs_csv(runs), encoding="utf-8", newline="")
    again = read_runs_csv(tmp_path / "runs.csv")
    pd.testing.assert_frame_equal(again, runs)
    assert runs_csv(again) == GOLDEN


def test_the_cycles_read_back_are_the_cycles(tree, tmp_path):
    cycles, path = load_cycles(tree), tmp_path / "cycles.csv"
    pd.testing.assert_frame_equal(read_cycles_csv(path), no_cycles())
    path.write_text(cycles_csv(cycles), encoding="utf-8", newline="")
    again = read_cycles_csv(path)
    pd.testing.assert_frame_equal(again, cycles)
    assert cycles_csv(again) == GOLDEN_CYCLES
    path.write_text("run_id,cycle\nx,1\n")
    with pytest.raises(InputError, match="has no column reassign"):
        read_cycles_csv(path)


def test_a_frame_answers_a_notebook(tree):
    runs = load_runs(tree)
    done = runs[(runs.state == "done") & (runs.dataset == "fmnist")]
    assert done.accuracy.tolist() == [83.5]
    assert runs[runs.pca.isna()].dataset.unique().tolist() == ["fmnist"]
    assert runs[runs.probe == "conv2"].shape[0] == 4
    assert runs.batch_norm.dtype == "boolean" and runs.k.dtype == "Int64"


def test_every_setting_has_a_column_of_its_kind():
    kinds = {name: kind_of(name) for name in RunConfig.model_fields}
    assert kinds["k"] == kinds["pca"] == kinds["halt_cycle"] == "int"
    assert kinds["lr"] == kinds["weight_decay"] == "float" and kinds["batch_norm"] == "flag"
    assert kinds["features"] == kinds["probe"] == kinds["mean"] == kinds["sobel"] == "text"


@pytest.mark.parametrize(
    "outputs, words",
    [
        ("nowhere", "nowhere is not a folder; give"),
        ("empty", "no run in .*empty/runs; give"),
        ([], "no folder of runs"),
    ],
)
def test_a_folder_without_runs_is_refused_with_the_way_out(tmp_path, monkeypatch, outputs, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for read in (load_runs, load_cycles):
        with pytest.raises(InputError, match=words) as refused:
            read(outputs)
        assert "\n" not in str(refused.value)


def test_folders_are_names_or_paths_or_a_list(tree, tmp_path):
    runs = load_runs(str(tree))
    pd.testing.assert_frame_equal(runs, load_runs(tree))
    record(tmp_path, config_of("fmnist", cycles=2, seed=4), ia=0.4, accuracy=81.0)  # interrupted in the other folder
    record(tmp_path, config_of("fmnist", cycles=2, seed=1), ia=0.1, accuracy=1.0)  # done in both: the first counts
    record(tmp_path, config_of("fmnist", cycles=2, seed=9), accuracy=70.0)
    both = load_runs([str(tree), tmp_path])
    assert len(both) == len(runs) + 1 and both.run_id.is_monotonic_increasing and both.run_id.is_unique
    done = both[(both.state == "done") & (both.dataset == "fmnist")]
    assert done.set_index("seed").accuracy.to_dict() == {1: 83.5, 4: 81.0, 9: 70.0}
    assert len(load_cycles([tree, tmp_path])) == len(load_cycles(tree)) + 1 + 2


def test_never_and_off_come_back_as_words_with_pandas(tree, tmp_path):
    (tmp_path / "runs.csv").write_text(runs_csv(load_runs(tree)))
    (tmp_path / "cycles.csv").write_text(cycles_csv(load_cycles(tree)))
    runs, cycles = pd.read_csv(tmp_path / "runs.csv"), pd.read_csv(tmp_path / "cycles.csv")
    assert runs.pca.tolist() == ["off"] * 4 + ["256"] and set(runs.halt_cycle) == set(runs.resume_leak) == {"never"}
    assert runs.probe.tolist() == ["conv2"] * 4 + ["none"] and runs.labels.tolist() == [False] * 5
    assert set(cycles.halt_cycle) == {"never"} and cycles.pca.tolist() == ["off"] * 3 + ["256"]
    assert runs.groupby("halt_cycle").size().to_dict() == {"never": 5}


def test_a_table_of_an_earlier_version_with_empty_cells_is_read(tree, tmp_path):
    text = runs_csv(load_runs(tree))
    (tmp_path / "runs.csv").write_text(re.sub("(?<=,)(never|off|none)(?=,)", "", text).replace(",,0.1,", ",off,0.1,"))
    again = read_runs_csv(tmp_path / "runs.csv")
    assert again.pca.isna().tolist() == [True] * 4 + [False] and again.halt_cycle.isna().all()


@pytest.mark.parametrize(
    "name, text, reason",
    [
        ("config.json", "{", "config.json: not valid JSON"),
        ("config.json", '{"format": 1, "config": {"k": 5}}', "config.json: not a run's settings"),
        ("config.json", '{"format": 1}', "config.json: not a run's settings"),
        ("result.json", "", "result.json: not valid JSON"),
        ("result.json", "[]", "result.json: not a JSON object"),
        ("metrics.csv", "cycle,loss\n0,1\n", "metrics.csv: it is not the one"),
        ("attempts/0001.json", "[1]", None),
    ],
)
def test_a_damaged_directory_stops_nothing(tmp_path, name, text, reason):
    good = record(tmp_path, config_of("fmnist", seed=1, cycles=1), accuracy=80.0)
    bad = record(tmp_path, config_of("fmnist", seed=2, cycles=1), accuracy=81.0)
    spoil(bad, name, text)
    runs, cycles = load(tmp_path)
    rows = {row["run_id"]: row for row in records(runs)}
    assert rows[good.name]["state"] == "done" and rows[good.name]["accuracy"] == 80.0
    assert good.name in set(cycles.run_id)
    if reason is None:  # an attempt says where a run ran, not what it found
        assert rows[bad.name]["state"] == "done" and rows[bad.name]["attempts"] == 0
    else:
        assert rows[bad.name]["state"] == "damaged" and rows[bad.name]["state_reason"].startswith(reason)


@pytest.mark.parametrize("value", ['"83"', '{"a": 1}', "[1]"])
def test_a_result_that_is_no_number_is_damage(tmp_path, value):
    bad = record(tmp_path, config_of("fmnist", seed=2, cycles=1))
    spoil(bad, "result.json", f'{{"format": 1, "run_id": "{bad.name}", "accuracy": {value}}}')
    row = records(load_runs(tmp_path))[0]
    assert row["state"] == "damaged" and "accuracy" in row["state_reason"]


def test_a_metric_that_is_no_number_is_damage(tmp_path):
    bad = record(tmp_path, config_of("fmnist", seed=2, cycles=1))
    spoil(bad, "metrics.csv", (bad / "metrics.csv").read_text().replace("0.01", "nought"))
    assert records(load_runs(tmp_path))[0]["state"] == "damaged"


def test_a_stray_folder_and_a_linked_config_are_named(tmp_path):
    run = record(tmp_path, config_of("fmnist", seed=2, cycles=1))
    (run.parent / "notes").mkdir()
    other = run.parent / "linked"
    other.mkdir()
    (other / "config.json").symlink_to(run / "config.json")
    rows = {row["run_id"]: row for row in records(load_runs(tmp_path))}
    assert rows["notes"]["state_reason"] == "config.json: No such file or directory"
    assert "symbolic link" in rows["linked"]["state_reason"] and rows[run.name]["state"] == "done"


def test_a_new_result_gets_a_column_without_a_change_here(tmp_path):
    config = config_of("fmnist", seed=2, cycles=1)
    run_directory.finish(
        run_directory.create(tmp_path, config), {"accuracy": 1.5, "accuracy_pool2": 2.5, "sparsity": 3, "tag": "x"}
    )
    runs = load_runs(tmp_path)
    row = records(runs)[0]
    assert (row["accuracy"], row["accuracy_pool2"], row["sparsity"], row["tag"]) == (1.5, 2.5, 3.0, "x")
    (tmp_path / "runs.csv").write_text(runs_csv(runs))
    pd.testing.assert_frame_equal(read_runs_csv(tmp_path / "runs.csv"), runs)


def test_the_seconds_of_all_attempts_count(tmp_path):
    config = config_of("fmnist", seed=2, cycles=2)
    record_interrupted(tmp_path, config, cycles_done=1)
    record(tmp_path, config, accuracy=80.0, attempt={"commit": "b" * 40, "host": "node2"})
    row = records(load_runs(tmp_path))[0]
    assert (row["attempts"], row["commit"], row["host"]) == (2, "b" * 40, "node2")
    assert row["seconds"] == (0.5 + 1.25 + 2.0 + 3.0) + (0.5 + 2 * 1.25 + 2 * 2.0 + 3.0)
    assert row["seconds_clustered"] == 3 * 1.25 and row["seconds_trained"] == 3 * 2.0
    assert load_cycles(tmp_path).seconds_clustered.tolist() == [1.25, 1.25]


def test_a_running_run_is_running(tmp_path):
    directory = run_directory.create(tmp_path, config_of("fmnist", seed=2, cycles=2))
    run_directory.start_attempt(directory, ATTEMPT | {"cycles_done": 1})
    row = records(load_runs(tmp_path))[0]
    assert (row["state"], row["cycles_done"], row["accuracy"]) == ("running", 1, None)


def test_a_table_cannot_say_what_runs_now(tmp_path):
    """What was running when it was written is resumable, and stays so when the table is written again."""
    path = tmp_path / "runs.csv"
    directory = run_directory.create(tmp_path, config_of("fmnist", seed=2, cycles=2))
    run_directory.start_attempt(directory, ATTEMPT | {"cycles_done": 1})
    path.write_text(runs_csv(load_runs(tmp_path)))
    again, _ = read_tables([path])
    (row,) = records(again)
    assert (row["state"], row["state_reason"]) == ("resumable", "running when its table was written")
    path.write_text(runs_csv(again))
    assert runs_csv(read_tables([path])[0]) == path.read_text()


texts = st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
numbers = st.none() | st.floats(allow_nan=False)


@settings(max_examples=60, deadline=None)
@example([("a\rb", None, None, None)])
@given(st.lists(st.tuples(texts, numbers, numbers, st.none() | st.integers(0, 2**31)), min_size=1, max_size=4))
def test_any_table_survives_its_csv(tmp_path_factory, cells):
    config = config_of("fmnist", seed=1)
    rows = [
        row_of(
            config,
            state="failed",
            state_reason=reason,
            ia=None,
            accuracy_conv2=one,
            loss_last=two,
            attempts=many,
        )
        for reason, one, two, many in cells
    ]
    path = tmp_path_factory.mktemp("any") / "runs.csv"
    path.write_bytes(runs_csv(frame(rows)).encode())
    again = read_runs_csv(path)
    pd.testing.assert_frame_equal(again, frame(rows))
    assert runs_csv(again).encode() == path.read_bytes()


def test_a_table_older_than_a_setting_has_its_neutral_value(tmp_path):
    old = frame([row_of(config_of("svhn", seed=1), accuracy=40.0)]).drop(columns=["resume_leak", "probe_lr", "labels"])
    (tmp_path / "old.csv").write_text(runs_csv(old))
    row = records(read_runs_csv(tmp_path / "old.csv"))[0]
    assert (row["resume_leak"], row["probe_lr"], row["labels"]) == (None, 0.01, False)


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "has no column run_id"),
        ("a,b\n1,2\n", "has no column run_id"),
        ("run_id,state,dataset,k,seed\nx,done,svhn,5\n", ":2 has 4 cells, not 5"),
        ("run_id,state,dataset,k,seed\nx,done,svhn,five,1\n", "column k holds"),
        ("run_id,state,dataset,k,seed,k\nx,done,svhn,5,1,5\n", "names a column twice"),
        ('run_id,state,dataset,k,seed\n"x,done,svhn,5,1\n', "cannot be read"),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path, text, words):
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        read_runs_csv(tmp_path / "runs.csv")
    assert "\n" not in str(caught.value)


def test_an_absent_table_is_refused():
    with pytest.raises(InputError, match="cannot be read"):
        read_runs_csv(Path("/nonexistent/runs.csv"))


def test_run_ids_are_what_the_store_says(tree):
    assert run_id(config_of("fmnist", cycles=2, seed=1)) in set(load_runs(tree).run_id)
