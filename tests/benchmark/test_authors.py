"""bench --compare-with: a stub of the authors' code is called, timed and compared."""

import numpy as np
import pytest

from dc_hpc.benchmark import authors, authors_driver

STUB = {
    "utils.py": "def set_seed(seed): pass\n",
    "deep_clustering_models.py": """
import time, torch
class LeNet(torch.nn.Module):
    def __init__(self, batch_normalization, device):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))
    def full_feed_forward(self): time.sleep(0.02)
    def deep_cluster_train(self): time.sleep(0.03)
class AlexNet_Micro(LeNet):
    def __init__(self, sobel, batch_normalization, device): super().__init__(batch_normalization, device)
""",
    "clustering.py": "import types\nfaiss = types.SimpleNamespace(IndexFlatL2=lambda width: f'index of {width}')\n",
    "deep_clustering_dataset.py": """
class DeepClusteringDataset:
    def __init__(self, images): self.images = images
    def set_transform(self, transform): pass
""",
    "deep_clustering.py": """
import time
from torch.utils.tensorboard import SummaryWriter
from clustering import faiss
def sklearn_kmeans(verbose): time.sleep(0.01)
def faiss_kmeans(verbose):
    assert faiss.GpuIndexFlatL2(faiss.StandardGpuResources(), 7, faiss.GpuIndexFlatConfig()) == "index of 7"
    time.sleep(0.01)
def sklearn_pca_whitening(components):
    assert components == 256
    time.sleep(0.02)
def deep_cluster(model, n_cycles, verbose, writer, pca_components, use_faiss, **rest):
    for cycle in range(n_cycles - 1):
        print("to the screen")
        model.full_feed_forward()
        if pca_components:
            sklearn_pca_whitening(pca_components)
        (faiss_kmeans if use_faiss else sklearn_kmeans)(verbose - 1)
        writer.add_histogram("entropies", [1.0], cycle)
        model.deep_cluster_train()
""",
    "evaluation/linear_probe.py": """
import time
def eval_linear(n_epochs, writer, **rest):
    for epoch in range(n_epochs):
        time.sleep(0.04)
        for name in ("loss", "acc1"):
            writer.add_scalar("linear_probe_train/x/" + name, 1.0, global_step=epoch)
            writer.add_scalar("linear_probe_valid/x/" + name, 1.0, global_step=epoch)
""",
}


@pytest.fixture
def checkout(tmp_path):
    for name, text in STUB.items():
        path = tmp_path / "theirs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "theirs"


def test_a_checkout_is_called_and_its_parts_are_timed(checkout, fmnist_root):
    authors.check_checkout(checkout)
    found = authors.time_theirs(checkout, fmnist_root, authors.Workload(cycles=3, epochs=2, rounds=1), "fmnist", seed=0)
    assert {name: len(found[name]) for name in ("cycle", "features", "clustering", "training", "probe_epoch")} == {
        "cycle": 2,
        "features": 2,
        "clustering": 2,
        "training": 2,
        "probe_epoch": 2,
    }
    assert min(found["features"]) >= 0.02 and min(found["training"]) >= 0.03 and min(found["probe_epoch"]) >= 0.04
    assert min(found["cycle"]) >= 0.06 and found["start"][0] > 0 and found["threads"][0] >= 1
    assert not list(checkout.rglob("__pycache__"))


@pytest.mark.parametrize(
    "change, message",
    [
        ("import not_there_at_all\n", "needs the package not_there_at_all, which is not installed"),
        ("raise RuntimeError('wrong branch')\n", "failed: RuntimeError: wrong branch"),
    ],
)
def test_a_checkout_that_does_not_run_is_one_line(checkout, fmnist_root, change, message):
    (checkout / "utils.py").write_text(change)
    with pytest.raises(authors.InputError, match=message) as caught:
        authors.time_theirs(checkout, fmnist_root, authors.WORKLOADS["quick"], "fmnist", seed=0)
    assert len(str(caught.value).splitlines()) == 1


def test_their_job_of_svhn_runs_several_at_a_time_on_one_thread_each(checkout, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    arrays = {f"{part}_images": rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8) for part in ("train", "test")}
    arrays |= {f"{part}_labels": np.arange(20) % 10 for part in ("train", "test")}
    np.savez(tmp_path / "svhn-derived.npz", **arrays)
    assert authors.present_dataset("alexnet_small", tmp_path) == "svhn-derived"
    with monkeypatch.context() as official:
        official.setattr(authors, "verify", lambda name, root: (3, 73_257))
        assert authors.present_dataset("alexnet_small", tmp_path) == "svhn", "the first that is there"
    workload = authors.Workload(cycles=2, epochs=1, rounds=1)
    found = authors.time_theirs(checkout, tmp_path, workload, "svhn-derived", slots=2, threads=1, seed=0)
    assert {name: len(found[name]) for name in ("cycle", "clustering", "probe_epoch", "start")} == {
        "cycle": 2,
        "clustering": 2,
        "probe_epoch": 2,
        "start": 2,
    }
    assert found["threads"] == [1, 1]
    assert min(found["clustering"]) >= 0.03  # PCA and k-means


def test_a_network_whose_data_are_missing_is_one_line(checkout, tmp_path):
    with pytest.raises(authors.InputError, match="svhn") as caught:
        authors.compare(checkout, tmp_path, ["alexnet_small"], size="quick", slots=2, report=print)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("asked, expected", [(None, authors.WORKLOADS["full"].rounds), (1, 1)])
def test_each_side_runs_as_often_as_the_size_or_the_person_says(checkout, tmp_path, monkeypatch, asked, expected):
    calls = []
    seconds = {
        name: [1.0] for name in (*authors.PARTS, "cycle", "grouping", "probe", "probe_epoch", "start", "threads")
    }
    for side in ("time_ours", "time_theirs"):
        monkeypatch.setattr(authors, side, lambda *args, side=side, **more: calls.append(side) or seconds)
    monkeypatch.setattr(authors, "present_dataset", lambda network, data: "fmnist")
    authors.compare(checkout, tmp_path, ["lenet5"], size="full", slots=2, rounds=asked, report=lambda line: None)
    assert calls == ["time_theirs", "time_theirs", "time_ours"] * expected


def test_a_whole_run_is_extrapolated_from_what_was_measured():
    ours = {"start": 2.0, "cycle": 3.0, "grouping": 1.0, "training": 2.0, "probe": 4.0}
    alone = {
        "start": 5.0,
        "cycle": 10.0,
        "features": 4.0,
        "clustering": 1.0,
        "training": 5.0,
        "probe_epoch": 7.0,
        "threads": 2,
    }
    together = {name: 1.5 * number for name, number in alone.items()}
    found = authors._rows("lenet5", "fmnist", ours, alone, together, authors.Workload(2, 1, 2), 4)
    rows = {row.name: row for row in found if row.peer == "the authors' code, alone"}
    assert (rows["run"].seconds, rows["run"].peer_seconds) == (2 + 50 + 98 + 4, 5 + 490 + 140)
    assert rows["cycle"].ratio == 10 / 3 and rows["cycle_grouping"].ratio == 5 and rows["probe_epoch"].ratio == 35
    assert rows["cycle_features"].seconds is None and rows["cycle_features"].ratio is None
    both = [row.peer_seconds for row in found if row.name == "run"]
    assert both == [635, 1.5 * 635]
    throughput = authors._throughput("fmnist", ours, alone, together, 4)
    assert throughput["ours"] == 4 * 3600 / 154 and throughput["theirs_alone"] == 3600 / 635
    assert throughput["theirs_together"] == 4 * 3600 / (1.5 * 635)


def test_the_extra_time_of_the_first_cycle_counts_as_startup():
    record = [
        {"stage": stage, "seconds": seconds}
        for stage, seconds in [
            ("load", 1.0),
            ("clustered", 4.0),
            ("trained", 6.0),
            ("clustered", 1.0),
            ("trained", 2.0),
            ("clustered", 1.5),
            ("trained", 2.5),
            ("probe", 4.0),
        ]
    ]
    found = authors._by_name([record, record], wall=25.0)
    assert found == {
        "cycle": [3.0, 4.0] * 2,
        "grouping": [1.0, 1.5] * 2,
        "training": [2.0, 2.5] * 2,
        "probe": [4.0] * 2,
        "start": [25.0 - 21.0 + 6.5],
    }
    assert authors._by_name([record[:3] + record[-1:]], wall=15.0)["start"] == [1.0]


def test_the_epoch_timer_accepts_the_calls_of_a_tensorboard_writer():
    timer = authors_driver.EpochTimer()
    timer.add_scalar("probe_valid/loss", 1.0, global_step=0)
    timer.add_histogram("x", [1], 2)
    timer.close()
