"""The benchmark: its work is torch's count, its peers compute what we compute, and what it writes holds together."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from dc_hpc.algorithm.agreement import agreement
from dc_hpc.algorithm.clustering import kmeans, reduce_features
from dc_hpc.algorithm.deepcluster import init_state
from dc_hpc.algorithm.kmeans import int8
from dc_hpc.algorithm.nets import NET_BUILDERS
from dc_hpc.algorithm.views import ImageViews, Views
from dc_hpc.bench import impossible
from dc_hpc.benchmark import authors, authors_driver, scaling, startup
from dc_hpc.benchmark.constants import NETWORKS, STAGES
from dc_hpc.benchmark.plain_nets import plain_net
from dc_hpc.benchmark.stages import clustering, flop_counts, peers
from dc_hpc.benchmark.stages.sizes import setting
from dc_hpc.benchmark.suite import run_stages
from dc_hpc.benchmark.timing import KEYS, Invalid, Peer, Row, Stage, alternate, measure
from dc_hpc.config.run_config import NET_SPECS

REPOSITORY = Path(__file__).parents[2]


def bench(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "dc_hpc.bench", *map(str, words)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        **options,
    )


# --- the work ---


@pytest.mark.parametrize("network", NETWORKS)
def test_the_work_of_a_net_is_what_torch_counts(network):
    facts, k, images = NET_SPECS[network], 7, 2
    net, head = plain_net(network), torch.nn.Linear(facts.features, k)
    batch = torch.rand(images, facts.channels, facts.size, facts.size)
    layers = flop_counts.layers(net, facts.channels, facts.size)
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        net.eval()(batch)
    assert flop_counts.forward_flop(images, layers) == counted.get_total_flops()
    with FlopCounterMode(display=False) as counted:
        cross_entropy(head(net.train()(batch)), torch.zeros(images, dtype=torch.int64)).backward()
    assert flop_counts.training_flop(images, layers, features=facts.features, k=k) == counted.get_total_flops()


def test_the_work_of_a_clustering_is_what_torch_counts():
    """GEMMs only, which is nearly all of it; the update's additions are counted by us alone."""
    points = torch.rand(512, 16)
    with FlopCounterMode(display=False) as counted:
        done = kmeans(points, k=8, seed=1, iterations=3, centroids=points[:8]).iterations
    assert flop_counts.kmeans_flop(512, 16, 8, done) - done * 512 * 16 == counted.get_total_flops()


@pytest.mark.parametrize("network", ["lenet5", "alexnet_small"])
@pytest.mark.parametrize("build", [clustering.kmeans_init, clustering.kmeans_torch])
def test_the_clustering_that_is_timed_does_the_work_that_is_counted(network, build, monkeypatch):
    """The very calls of the benchmark, at its default size: data that settle early would do less.

    Without the short cut through int8, whose products are exact replacements that torch does not count.
    """
    monkeypatch.setattr(int8, "rounded", lambda points: None)
    stage = build(setting(network, "default"), "cpu")
    with FlopCounterMode(display=False) as counted:
        stage.ours()
    assert counted.get_total_flops() == pytest.approx(stage.work, rel=0.1)


def test_points_that_settle_early_are_refused():
    points = torch.randn(200, 64, generator=torch.Generator().manual_seed(1))
    with pytest.raises(Invalid, match="settles within 5 iterations"):
        clustering.check_still_moving(points, points[:100], 5)


def test_a_share_above_one_is_called_impossible():
    rows = [{"name": "pca", "network": "lenet5", "share": share} for share in (None, 0.4, 1.05, 1.29, 1.29)]
    assert impossible(rows) == ["pca of lenet5"] and impossible(rows[:3]) == []


def test_the_work_of_a_probe_by_hand():
    layers = flop_counts.layers(plain_net("lenet5"), 1, 32, until="conv2")
    assert [layer.name for layer in layers] == ["conv1", "conv2"]
    trunk = 28 * 28 * 6 * 25 + 10 * 10 * 16 * 6 * 25
    found = flop_counts.probe_flop(layers, train=3, test=2, values=1600, classes=10, epochs=4)
    assert found == 2 * 5 * trunk + 4 * 1600 * 10 * (3 * 4 + 2 * 2)


# --- the peers compute what we compute ---


@pytest.mark.parametrize("network", NETWORKS)
def test_the_plain_net_is_our_net(network):
    facts = NET_SPECS[network]
    trunk = NET_BUILDERS[network](batch_norm=True)
    init_state(trunk, seed=3, lr=0.1, momentum=0.1, weight_decay=0.0)
    plain = plain_net(network)
    plain.load_state_dict(trunk.state_dict())
    assert [type(layer).__module__.split(".")[0] for layer in plain.modules()] == ["torch"] * len([*plain.modules()])
    batch = torch.rand(2, facts.channels, facts.size, facts.size)
    with torch.no_grad():
        torch.testing.assert_close(plain.eval()(batch), trunk.eval()(batch), rtol=1e-3, atol=1e-5)


def test_pil_shows_what_our_views_show():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (20, 3, 32, 32), dtype=np.uint8))
    views = Views(45, 32, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    theirs = torch.stack([peers.pil_images(images, views, mirror=False)[index] for index in range(20)])
    torch.testing.assert_close(ImageViews(images, views).clustering(slice(None)), theirs)


@pytest.mark.parametrize("peer", [peers.sklearn_pca, peers.faiss_pca])
def test_the_pcas_are_ours_up_to_signs(peer):
    features = clustering._features(2_000, 24)
    ours = reduce_features(torch.from_numpy(features), pca=6).numpy()
    np.testing.assert_allclose(np.abs(peer(features, 6)), np.abs(ours), atol=2e-3)


@pytest.mark.parametrize("peer", [peers.sklearn_kmeans, peers.faiss_kmeans])
def test_the_kmeans_give_our_labels(peer):
    points = clustering._unit_points(2_000, 8)
    ours = kmeans(torch.from_numpy(points), k=12, seed=1, iterations=4, centroids=torch.from_numpy(points[:12]))
    assert ours.iterations == 4  # not converged: the same number of steps was done
    np.testing.assert_array_equal(peer(points, points[:12], 4), ours.labels.numpy())


def test_the_first_centroids_are_scikit_learns():
    points = clustering._unit_points(2_000, 8)
    ours = kmeans(torch.from_numpy(points), k=12, seed=5, iterations=0).centroids.numpy()
    np.testing.assert_allclose(peers.sklearn_plusplus(points, 12, 5), ours, atol=1e-5)


def test_the_agreements_are_scikit_learns():
    a, b = clustering.labellings(3_000, 40)
    ours = agreement(a, b)
    assert peers.sklearn_agreement(a, b) == pytest.approx((ours.nmi, ours.ami), abs=1e-9)


def test_a_peer_that_computes_something_else_is_not_timed():
    stage = Stage(
        "pca",
        "lenet5",
        "1",
        1.0,
        "FLOP",
        ours=lambda: 1.0,
        peers=(Peer("liar", lambda: 1.1),),
        difference=lambda a, b: abs(a - b),
        tolerance=0.01,
    )
    with pytest.raises(Invalid, match="liar gives another result than ours"):
        measure(stage, budget=0)
    not_a_number = replace(stage, difference=lambda a, b: float("nan"))
    with pytest.raises(Invalid):
        measure(not_a_number, budget=0)


# --- the timing ---


def test_ours_and_the_peers_are_called_in_turn():
    calls = []
    seconds = alternate(
        [lambda: calls.append("ours"), lambda: calls.append("peer")],
        budget=0,
        fewest=3,
        before=lambda: calls.append("before"),
    )
    assert calls == ["before", "ours", "before", "peer"] * 3
    assert [len(times) for times in seconds] == [3, 3]


def test_what_is_not_installed_is_not_measured(monkeypatch):
    monkeypatch.setattr(peers, "installed", lambda package: False)
    rows, _ = run_stages(["lenet5"], ["pca", "kmeans_faiss"], size="quick", device="cpu", report=lambda text: None)
    by_peer = {(row.name, row.peer): row for row in rows}
    missing = by_peer["pca", "faiss PCAMatrix"]
    assert missing.peer_seconds is None and missing.ratio is None and missing.seconds > 0
    assert by_peer["pca", "scikit-learn PCA"].ratio > 0
    absent = by_peer["kmeans_faiss", "faiss Kmeans"]
    assert absent == Row("kmeans_faiss", "lenet5", absent.size, *[None] * 4, "faiss Kmeans", None, None)


# --- from end to end ---


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """One quick benchmark of everything: (rows, facts, what it printed, figure)."""
    folder = tmp_path_factory.mktemp("bench")
    done = bench("--quick", "--json", folder / "new/b.json", "--figure", folder / "new/b.png")
    assert done.returncode == 0, done.stderr
    rows = json.loads((folder / "new/b.json").read_text())
    facts = json.loads((folder / "new/b.environment.json").read_text())
    return rows, facts, done.stdout, (folder / "new/b.png").read_bytes()


def test_every_stage_of_every_network_has_exactly_its_keys(quick):
    rows = quick[0]
    assert all(tuple(sorted(row)) == tuple(sorted(KEYS)) for row in rows)
    assert sorted(KEYS) == [
        "achieved",
        "limit",
        "name",
        "network",
        "peer",
        "peer_seconds",
        "ratio",
        "seconds",
        "share",
        "size",
    ]
    found = {(row["network"], row["name"]) for row in rows}
    assert found == {(network, stage) for network in NETWORKS for stage in STAGES}


def test_the_numbers_of_a_row_hold_together(quick):
    for row in quick[0]:
        assert row["seconds"] > 0 and row["peer_seconds"] > 0
        assert row["ratio"] == pytest.approx(row["peer_seconds"] / row["seconds"])
        assert row["share"] == pytest.approx(row["achieved"] / row["limit"])
        assert 0 < row["share"] <= 1.1, row


def test_the_environment_names_the_machine(quick):
    facts, printed = quick[1], quick[2]
    assert facts["cpu"] and facts["threads"] == 1 and facts["device"] == "cpu" and facts["size"] == "quick"
    assert any("openblas" in kernel or "mkl" in kernel.lower() for kernel in facts["blas"])
    assert {"torch", "numpy", "scikit-learn"} <= set(facts["versions"])
    assert facts["load_start"] >= 0 and facts["load_end"] >= 0
    assert all(rate > 0 for rate in facts["limits"].values()) and len(facts["limits"]) == 3
    assert facts["cpu"].split()[0] in printed and "load average" in printed


def test_the_table_and_the_figure_are_there(quick):
    assert all(stage in quick[2] for stage in STAGES)
    assert quick[3].startswith(b"\x89PNG") and len(quick[3]) > 10_000


@pytest.mark.parametrize(
    "words, said",
    [
        (["--size", "huge"], "--size 'huge' is not allowed"),
        (["--networks", "vgg"], "--networks 'vgg' is not allowed; allowed: lenet5"),
        (["--stages", "views,vews"], "--stages 'vews' is not allowed"),
        (["--stages", ""], "--stages names nothing"),
        (["--figure", "a.gif"], "allowed: .png, .svg, .pdf"),
        (["--threads", "0"], "--threads"),
        (["--json", "/proc/nowhere/a.json"], "--json /proc/nowhere/a.json cannot be written"),
        (["--growth", "--peer", "."], "benchmarks of their own"),
        (["--start", "--growth"], "benchmarks of their own"),
        (
            ["--start", "--data", "/nowhere"],
            "/nowhere/FashionMNIST/raw/train-images-idx3-ubyte is missing; run: python",
        ),
        (["--peer", "."], "is no checkout of the authors' code"),
    ],
)
def test_bad_options_are_one_line(words, said):
    done = bench(*words)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


# --- growth ---


@given(st.floats(0.2, 2.5), st.floats(1e-6, 10))
@settings(max_examples=30, deadline=None)
def test_the_exponent_of_a_power_law_is_found(power, factor):
    values = [10, 100, 1000]
    assert scaling.exponent(values, [factor * value**power for value in values]) == pytest.approx(power)


def test_growth_beyond_the_work_is_named():
    values = (100, 1000, 10_000)
    points = {
        name: [{"seconds": 1e-6 * value**power, "memory": None, "work": 5.0 * value} for value in values]
        for name, power in (("linear", 1.05), ("square", 2.0), ("flat", 0.1))
    }
    rows = [row for name, found in points.items() for row in scaling.with_exponents(name, "n", values, found)]
    assert [row["name"] for row in scaling.too_fast(rows)] == ["square"]
    assert {row["memory_exponent"] for row in rows} == {None}
    assert scaling.exponent([5], [1.0]) is None


def test_a_busy_moment_is_measured_once_more():
    busy = [{"seconds": seconds, "memory": 1.0, "work": cost} for seconds, cost in ((1.0, 1.0), (40.0, 10.0))]
    quiet = [{"seconds": seconds, "memory": 1.0, "work": cost} for seconds, cost in ((1.5, 1.0), (10.0, 10.0))]
    notes, turns = [], iter([busy, quiet, None])

    def measured(note):
        notes.append(note)
        return next(turns)

    rows = scaling.once_more_if_too_fast("pca", "n", (10, 100), measured)
    assert [row["seconds"] for row in rows] == [1.0, 10.0] and rows[0]["exponent"] == pytest.approx(1)
    assert notes == ["", ", once more"]


def test_a_point_of_growth_measures_in_its_own_process(monkeypatch):
    found = scaling._child("kmeans_torch", "n", 4_000, quick=True, threads=1, device="cpu")
    assert found["seconds"] > 0 and found["work"] == flop_counts.kmeans_flop(4_000, 84, 5, 3)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="pca with n 4,000 did not end: exit code 1"):
        scaling._child("pca", "n", 4_000, quick=True, threads=1, device="cpu")


# --- the authors' code, of which a stand-in is written here ---

FAKE = {
    "utils.py": "def set_seed(seed): pass\n",
    "deep_clustering_models.py": """
import time, torch
class LeNet(torch.nn.Module):
    def __init__(self, batch_normalization, device):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))
    def full_feed_forward(self): time.sleep(0.02)
    def deep_cluster_train(self): time.sleep(0.03)
""",
    "deep_clustering_dataset.py": """
class DeepClusteringDataset:
    def __init__(self, images): self.images = images
    def set_transform(self, transform): pass
""",
    "deep_clustering.py": """
import time
from torch.utils.tensorboard import SummaryWriter
def sklearn_kmeans(verbose): time.sleep(0.01)
def deep_cluster(model, n_cycles, verbose, writer, **rest):
    for cycle in range(n_cycles - 1):
        print("to the screen")
        model.full_feed_forward()
        sklearn_kmeans(verbose - 1)
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
    for name, text in FAKE.items():
        path = tmp_path / "theirs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "theirs"


def test_a_start_is_timed_from_a_process_of_its_own(fmnist_root, tmp_path):
    """The run is Fashion-MNIST's own, up to its first step; the user's first start compiles what the next one loads."""
    for number in range(3):  # other work may reverse one measurement
        file = tmp_path / f"{number}.json"
        done = bench("--start", "--quick", "--data", str(fmnist_root), "--json", str(file))
        rows = json.loads(file.read_text())
        assert [row["name"] for row in rows] == ["first_start", "start"], done.stderr
        first, later, torch_alone = *(row["seconds"] for row in rows), rows[0]["peer_seconds"]
        if first > later > torch_alone:
            break
    # a start imports torch, sees 60,000 images and compiles or not: orders, not speeds
    assert first > later > torch_alone > 0 and set(rows[0]) == set(KEYS)
    assert "start" in done.stdout and "import torch" in done.stdout


def test_a_run_that_does_not_come_to_its_first_step_has_no_time(tmp_path):
    with pytest.raises(RuntimeError, match="did not come to its first step: .* is missing"):
        startup._start(tmp_path / "outputs", tmp_path / "no_data", {})


def test_a_checkout_is_driven_and_its_parts_are_timed(checkout, fmnist_root):
    authors.check_checkout(checkout)
    found = authors.time_theirs(checkout, fmnist_root, authors.Sitting(cycles=3, epochs=2, turns=1), seed=0)
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
    "change, said",
    [
        ("import not_there_at_all\n", "needs the package not_there_at_all, which is not installed"),
        ("raise RuntimeError('wrong branch')\n", "ended with an error: RuntimeError: wrong branch"),
    ],
)
def test_a_checkout_that_does_not_run_is_one_line(checkout, fmnist_root, change, said):
    (checkout / "utils.py").write_text(change)
    with pytest.raises(authors.InputError, match=said) as caught:
        authors.time_theirs(checkout, fmnist_root, authors.SITTINGS["quick"], seed=0)
    assert len(str(caught.value).splitlines()) == 1


def test_a_whole_run_is_extrapolated_from_what_was_measured():
    ours = {"start": 2.0, "cycle": 3.0, "grouping": 1.0, "training": 2.0, "probe": 4.0}
    theirs = {
        "start": 5.0,
        "cycle": 10.0,
        "features": 4.0,
        "clustering": 1.0,
        "training": 5.0,
        "probe_epoch": 7.0,
        "threads": 2,
    }
    rows = {row.name: row for row in authors._rows(ours, theirs, authors.Sitting(2, 1, 2), slots=4)}
    assert (rows["run"].seconds, rows["run"].peer_seconds) == (2 + 50 + 98 + 4, 5 + 490 + 140)
    assert rows["cycle"].ratio == 10 / 3 and rows["cycle_grouping"].ratio == 5 and rows["probe_epoch"].ratio == 35
    assert rows["cycle_features"].seconds is None and rows["cycle_features"].ratio is None
    facts = authors._facts(ours, theirs, 4)
    assert facts["runs_per_hour"] == 4 * 3600 / 154 and facts["peer_runs_per_hour"] == 3600 / 635


def test_the_first_cycle_counts_as_a_start():
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
    found = authors._ours_by_name([record, record], wall=25.0)
    assert found == {
        "cycle": [3.0, 4.0] * 2,
        "grouping": [1.0, 1.5] * 2,
        "training": [2.0, 2.5] * 2,
        "probe": [4.0] * 2,
        "start": [25.0 - 21.0 + 6.5],
    }
    assert authors._ours_by_name([record[:3] + record[-1:]], wall=15.0)["start"] == [1.0]


def test_the_writer_takes_what_a_tensorboard_writer_takes():
    silent = authors_driver.Silent()
    silent.add_scalar("probe_valid/loss", 1.0, global_step=0)
    silent.add_histogram("x", [1], 2)
    silent.close()
    assert len(silent.epochs) == 1
