"""The bench command: its rows, its environment file, its table and figure, and its one-line errors."""

import json

import pytest
from support.commands import REPOSITORY, run_command

from dc_hpc.benchmark.constants import NETWORKS, STAGES
from dc_hpc.benchmark.timing import KEYS


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """One quick benchmark of everything: (rows, environment, printed text, bytes of the figure)."""
    folder = tmp_path_factory.mktemp("bench")
    done = run_command(
        "bench", "--quick", "--json", folder / "new/b.json", "--figure", folder / "new/b.png", cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((folder / "new/b.json").read_text())
    environment = json.loads((folder / "new/b.environment.json").read_text())
    return rows, environment, done.stdout, (folder / "new/b.png").read_bytes()


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


def test_the_numbers_of_a_row_are_consistent(quick):
    for row in quick[0]:
        assert row["seconds"] > 0 and row["peer_seconds"] > 0
        assert row["ratio"] == pytest.approx(row["peer_seconds"] / row["seconds"])
        assert row["share"] == pytest.approx(row["achieved"] / row["limit"])
        assert 0 < row["share"] <= 1.1, row


def test_the_environment_names_the_machine(quick):
    _, environment, printed, _ = quick
    assert (
        environment["cpu"]
        and environment["threads"] == 1
        and environment["device"] == "cpu"
        and environment["size"] == "quick"
    )
    assert any("openblas" in kernel or "mkl" in kernel.lower() for kernel in environment["blas"])
    assert {"torch", "numpy", "scikit-learn"} <= set(environment["versions"])
    assert environment["load_start"] >= 0 and environment["load_end"] >= 0
    assert all(rate > 0 for rate in environment["limits"].values()) and len(environment["limits"]) == 3
    assert environment["cpu"].split()[0] in printed and "load average" in printed


def test_the_table_and_the_figure_are_there(quick):
    assert all(stage in quick[2] for stage in STAGES)
    assert quick[3].startswith(b"\x89PNG") and len(quick[3]) > 10_000


@pytest.mark.parametrize(
    "words, message",
    [
        (["--size", "huge"], "--size 'huge' is not allowed"),
        (["--networks", "vgg"], "--networks 'vgg' is not allowed; allowed: lenet5"),
        (["--stages", "views,vews"], "--stages 'vews' is not allowed"),
        (["--stages", ""], "--stages names nothing"),
        (["--figure", "a.gif"], "allowed: .png, .svg, .pdf"),
        (["--threads", "0"], "--threads"),
        (["--json", "/proc/nowhere/a.json"], "--json /proc/nowhere/a.json cannot be written"),
        (["--scaling", "--compare-with", "."], "separate benchmarks"),
        (["--startup", "--scaling"], "separate benchmarks"),
        (["--start", "--growth"], "separate benchmarks"),
        (
            ["--startup", "--data", "/nowhere"],
            "/nowhere/FashionMNIST/raw/train-images-idx3-ubyte is missing; run: python",
        ),
        (["--compare-with", "."], "--compare-with . is no checkout of the authors' code"),
        (["--peer", "."], "--compare-with . is no checkout of the authors' code"),
    ],
)
def test_bad_options_are_one_line(words, message):
    done = run_command("bench", *words, cwd=REPOSITORY)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_help_hides_the_former_option_names():
    text = run_command("bench", "--help", cwd=REPOSITORY, check=0).stdout
    assert all(option in text for option in ("--scaling", "--compare-with", "--startup"))
    assert not any(f"{option} " in text for option in ("--growth", "--peer", "--start"))
