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


ROWS = [
    {"name": name, "network": network, "size": "n 10", "seconds": 2.0, "achieved": 30.0, "limit": 100.0,
     "share": share, "peer": peer, "peer_seconds": 2.0 * ratio, "ratio": ratio}
    for name, network, share, peer, ratio in (
        ("views", "lenet5", 0.054, "PIL", 13.04), ("pca", "lenet5", 0.2, "sklearn", 1.02),
        ("pca", "lenet5", 0.2, "faiss", 0.6149), ("views", "alexnet_small", 0.3, "PIL", 413.2),
        ("pca", "alexnet_small", 1.44, "sklearn", 5.2),
    )
]  # fmt: skip
ENVIRONMENT = {
    "cpu": "a CPU", "cores": 2, "device": "cpu", "threads": 1, "load_start": 0.1, "load_end": 0.2, "blas": ["MKL"],
    "python": "3.11", "versions": {"torch": "2"}, "limits": {"gemm_torch_cpu_gflops": 177.0},
}  # fmt: skip


@pytest.fixture
def measured(tmp_path):
    """A file that `bench --json` wrote."""
    (tmp_path / "speed.json").write_text(json.dumps(ROWS))
    (tmp_path / "speed.environment.json").write_text(json.dumps(ENVIRONMENT))
    return tmp_path / "speed.json"


def test_table_and_figure_are_made_of_one_file_again(measured, tmp_path):
    done = run_command(
        "bench", "--from", measured, "--table", "--figure", tmp_path / "again.png", cwd=REPOSITORY, check=0
    )
    lines = done.stdout.splitlines()
    assert lines[:4] == [
        "| stage | lenet5 | share | alexnet_small | share | peer |",
        "|---|--:|--:|--:|--:|---|",
        "| views | 13x | 5 % | 413x | 30 % | PIL |",
        "| pca | 1.0x, 0.61x | 20 % | 5.2x, - | 144 % | sklearn, faiss |",
    ]
    assert "a CPU, 2 cores; 1 threads" in done.stdout and "wrote" in lines[-1]
    first = (tmp_path / "again.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    run_command("bench", "--from", measured, "--figure", tmp_path / "again.png", cwd=REPOSITORY, check=0)
    assert (tmp_path / "again.png").read_bytes() == first


def test_the_figure_draws_the_numbers_of_the_table(measured):
    from dc_hpc.report.figures.speed import speed
    from dc_hpc.report.figures.style import style

    with style():
        ratios, shares = speed(ROWS, ["a CPU"]).axes
    drawn = sorted(float(x) for line in ratios.lines[:2] for x in line.get_xdata())
    assert drawn == sorted(row["ratio"] for row in ROWS)
    assert sorted(float(x) for line in shares.lines for x in line.get_xdata()) == pytest.approx([5.4, 20, 30, 144])
    assert shares.get_xlim()[1] > 144, "a dot outside of the axes is not seen"


def test_what_was_measured_now_is_read_back(quick, tmp_path):
    rows, environment, _, _ = quick
    (tmp_path / "b.json").write_text(json.dumps(rows))
    (tmp_path / "b.environment.json").write_text(json.dumps(environment))
    done = run_command("bench", "--from", tmp_path / "b.json", "--table", cwd=REPOSITORY, check=0)
    assert done.stdout.count("\n| ") == len(STAGES) and "lenet5" in done.stdout


@pytest.mark.parametrize(
    "spoil, words, message",
    [
        (lambda path: path.unlink(), [], "speed.json cannot be read (No such file"),
        (lambda path: path.write_text("{"), [], "not valid JSON"),
        (lambda path: path.write_text('[{"name": 1}]'), [], "holds no benchmark; give a file that"),
        (lambda path: path.write_text('[{"variable": "n", "seconds": 1}]'), [], "holds no benchmark; give a file that"),
        (lambda path: path.with_name("speed.environment.json").unlink(), [], "speed.environment.json cannot be read"),
        (
            lambda path: path.with_name("speed.environment.json").write_text('{"cpu": "x", "versions": {}}'),
            [],
            "speed.environment.json beside it describes no machine",
        ),
        (lambda path: None, ["--startup"], "--from measures nothing"),
        (lambda path: None, ["--json", "x.json"], "--from measures nothing"),
    ],
)
def test_a_file_that_is_no_benchmark_is_one_line(measured, tmp_path, spoil, words, message):
    spoil(measured)
    done = run_command("bench", "--from", measured, "--figure", tmp_path / "a.png", *words, cwd=REPOSITORY)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "a.png").exists()
