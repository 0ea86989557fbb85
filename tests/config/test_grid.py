import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dc_hpc.config.grid import parse_override, parse_overrides, read_grid, with_overrides
from dc_hpc.config.run_config import run_id
from dc_hpc.errors import InputError
from dc_hpc.experiment.reuse import copied_cycles, ordered
from dc_hpc.scheduler.cost import split_into_tasks

JOBS = sorted((Path(__file__).parents[2] / "jobs").glob("*.yaml"))
HEAD = "base: fmnist\nprotocol: code\n"


def expand(tmp_path, text, **overrides):
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    return read_grid(path, data_root=tmp_path, overrides=overrides)


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_every_grid_has_the_number_of_runs_that_its_comment_says(path, tmp_path):
    comment = path.read_text().split("base:")[0]
    grid = read_grid(path, data_root=tmp_path)
    points = re.search(r"(\d+) points, (\d+) runs", comment)
    expected = points.groups() if points else re.search(r"(\d+) runs?[.,]", comment).groups() * 2
    assert (len(grid.points), len(grid.runs)) == tuple(map(int, expected))


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_a_task_holds_what_the_comment_on_its_resources_says(path, tmp_path):
    """Where the runs that halt and their donor are said to be in one task, no cycle of the grid is computed twice."""
    if "in one task, where" not in path.read_text():
        return
    grid = read_grid(path, data_root=tmp_path)
    runs = [grid.runs[name] for name in ordered(grid.runs)]
    assert copied_cycles(split_into_tasks(runs, grid.resources)) == copied_cycles([runs])


def test_the_grids_hold_the_runs_of_the_paper(tmp_path):
    """The numbers of runs that the paper's experiments have, figure by figure."""
    points = {path.stem: len(read_grid(path, data_root=tmp_path).points) for path in JOBS}
    assert points["fmnist_table_1"] == 2592
    assert sum(points[f"{name}_ia_accuracy"] for name in ("fmnist", "svhn", "cifar10")) == 31
    assert sum(points[f"{name}_ia"] for name in ("fmnist", "svhn", "cifar10")) == 300
    assert sum(points[f"{name}_k"] for name in ("fmnist", "svhn", "cifar10")) == 229
    assert sum(points[f"{name}_halt"] for name in ("fmnist", "svhn", "cifar10")) == 15
    assert points["svhn_k_ia"] == 400
    assert points["cifar10_alexnet_halt"] == points["cifar10_alexnet_pca"] == 4
    assert points["cifar10_alexnet_ia"] + points["cifar10_alexnet_ia_accuracy"] == 110
    assert points["svhn_pca_ia"] + points["svhn_pca_accuracy"] == 440


def test_figures_share_their_runs(tmp_path):
    """Figure 3c's seed 87 is Figure 5c's never halted run. Figures 3a, 4a and 5a are of different code."""
    grids = {path.stem: set(read_grid(path, data_root=tmp_path).runs) for path in JOBS}
    assert len(grids["cifar10_halt"] & grids["cifar10_ia_accuracy"]) == 1
    assert not grids["fmnist_halt"] & grids["fmnist_ia_accuracy"] and not grids["fmnist_k"] & grids["fmnist_halt"]
    assert len(grids["svhn_ia"] & grids["svhn_sobel"]) == 100


def test_each_figure_has_the_code_of_its_year(tmp_path):
    """docs/FIDELITY.md says from which job, date and commit this comes."""
    points = {path.stem: read_grid(path, data_root=tmp_path).points for path in JOBS}
    found = {name: {(p.protocol, p.training_view, p.last_cycle) for p in grid} for name, grid in points.items()}
    of_2021 = {name for name, ways in found.items() if {protocol for protocol, _, _ in ways} == {"code_2021"}}
    tables = {f"{name}_table_1_stage_{stage}" for name in ("svhn", "cifar10") for stage in (1, 2)} | {"fmnist_table_1"}
    alexnet = {name for name in points if name.startswith("cifar10_alexnet")}
    assert of_2021 == {"fmnist_k", "fmnist_ia", "fmnist_ia_accuracy"} | tables | alexnet
    for name in {"fmnist_k"} | tables:
        assert found[name] == {("code_2021", "box_per_image", "train")}
    assert found["fmnist_ia_accuracy"] == {("code_2021", "box_per_batch", "train")}
    assert found["cifar10_alexnet_halt"] == {("code_2021", "box_per_image_flip", "train")}
    assert all(p.probe_crop and p.probe_flip for p in points["cifar10_alexnet_pca"])
    assert {p.resize for stage in (1, 2) for p in points[f"svhn_table_1_stage_{stage}"]} == {42}
    first = points["cifar10_alexnet_ia"][0]
    assert (first.pca, first.kmeans_n_init, first.kmeans_iterations) == (None, 10, 300)
    assert {p.pca for p in points["cifar10_alexnet_ia_accuracy"]} == {None}


def test_a_product_in_the_order_of_the_file(tmp_path):
    grid = expand(tmp_path, HEAD + "sweep: {k: [5, 20], seed: [1, 2, 3]}\n")
    assert [(p.k, p.seed) for p in grid.points] == [(5, 1), (5, 2), (5, 3), (20, 1), (20, 2), (20, 3)]
    assert grid.points[0].protocol == "code" and grid.points[0].batch_size == 128


def test_union_zip_ranges_and_fixed(tmp_path):
    text = HEAD + (
        "fixed: {cycles: 3}\nsweep:\n  - {seed: 1..3}\n  - {seed: [7, 10..11], zip: {k: [6, 7], lr: [1, 1e-3]}}\n"
    )
    points = expand(tmp_path, text).points
    assert [(p.seed, p.k, p.lr) for p in points] == [
        (1, 5, 0.1),
        (2, 5, 0.1),
        (3, 5, 0.1),
        (7, 6, 1.0),
        (7, 7, 0.001),
        (10, 6, 1.0),
        (10, 7, 0.001),
        (11, 6, 1.0),
        (11, 7, 0.001),
    ]
    assert {p.cycles for p in points} == {3}


def test_words_mean_what_a_scientist_means(tmp_path):
    text = HEAD + "sweep: {seed: [1], pca: [off, 40], batch_norm: [on, off], halt_cycle: [never, 3], probe: off}\n"
    points = expand(tmp_path, text).points
    assert [(p.pca, p.batch_norm, p.halt_cycle, p.probe) for p in points[:4]] == [
        (None, True, None, ()),
        (None, True, 3, ()),
        (None, False, None, ()),
        (None, False, 3, ()),
    ]
    layers = expand(tmp_path, HEAD + "sweep: {seed: [1], probe: [[conv2, fc1], conv1]}\n").points
    assert [p.probe for p in layers] == [("conv2", "fc1"), ("conv1",)]
    fixed = expand(tmp_path, HEAD + "fixed: {probe: [conv2, fc1]}\nsweep: {seed: [1]}\n").points
    assert fixed[0].probe == ("conv2", "fc1")


def test_protocols_may_be_swept_and_mixed(tmp_path):
    swept = expand(tmp_path, HEAD + "sweep: {seed: [1], protocol: [text, code]}\n")
    mixed = expand(tmp_path, HEAD + "fixed: {training_view: none}\nsweep: {seed: [1]}\n")
    assert mixed.points[0].protocol == "mixed"
    assert [p.protocol for p in swept.points] == ["text", "code"]


def test_two_points_may_be_one_run(tmp_path):
    grid = expand(tmp_path, HEAD + "sweep: {seed: [1], halt_cycle: [50, 100, never]}\n")
    assert (len(grid.points), len(grid.runs)) == (3, 1)


def test_set_overrides(tmp_path):
    text = HEAD + "fixed: {cycles: 9}\nsweep: {k: [5, 7, 10], seed: 1..4}\n"
    grid = expand(tmp_path, text, cycles=2, k=[5, 20], seed="3..4")
    assert [(p.k, p.seed, p.cycles) for p in grid.points] == [(5, 3, 2), (5, 4, 2), (20, 3, 2), (20, 4, 2)]
    assert len(expand(tmp_path, text, pca=[3, 4]).points) == 24
    assert {p.protocol for p in expand(tmp_path, text, protocol="text").points} == {"text"}


@pytest.mark.parametrize(
    "overrides",
    [{"cycles": 2}, {"k": [5, 20]}, {"seed": 7, "lr": 0.2}, {"probe": ["conv1"]}, {"protocol": ["text", "code"]}],
)
def test_set_reaches_every_block_of_a_grid(tmp_path, overrides):
    """Whether the block sweeps over the setting or not. `with_overrides` writes a grid with the same points."""
    text = HEAD + "fixed: {cycles: 9}\nsweep:\n- {cycles: [0, 4], seed: 1..2}\n- {labels: [on], k: [10], seed: 1..2}\n"
    points = expand(tmp_path, text, **overrides).points
    for name, value in overrides.items():
        allowed = {tuple(value)} if name == "probe" else set(value) if isinstance(value, list) else {value}
        for labels in (False, True):
            assert {getattr(one, name) for one in points if one.labels is labels} == allowed
    written = json.dumps(with_overrides(yaml.safe_load(text), overrides))
    assert expand(tmp_path, yaml.safe_dump(json.loads(written), sort_keys=False)).points == points


@pytest.mark.parametrize(
    "text, expected",
    [
        ("cycles=2", ("cycles", 2)),
        ("k=[5, 20]", ("k", [5, 20])),
        ("lr=1e-3", ("lr", 0.001)),
        ("pca=off", ("pca", "off")),
    ],
)
def test_set_is_read_as_in_a_grid(text, expected):
    assert parse_override(text) == expected


def test_resources_change_no_run(tmp_path):
    plain = expand(tmp_path, HEAD + "sweep: {seed: [1]}\n")
    packed = expand(tmp_path, HEAD + "sweep: {seed: [1]}\nresources: {minutes: 7, runs_per_task: 4}\n")
    assert packed.resources.minutes == 7 and list(plain.runs) == list(packed.runs)


def test_own_images_are_part_of_the_name_by_their_content(tmp_path):
    def name_with(pixel):
        images = np.full((4, 8, 8), pixel, np.uint8)
        np.savez(
            tmp_path / "mine.npz",
            train_images=images,
            train_labels=np.arange(4),
            test_images=images,
            test_labels=np.arange(4),
        )
        grid = expand(tmp_path, HEAD + "fixed: {dataset: mine, k: 2}\nsweep: {seed: [1]}\n")
        assert grid.points[0].train_digest and grid.points[0].test_digest
        return run_id(grid.points[0])

    names = [name_with(pixel) for pixel in (3, 3, 4)]
    assert names[0] == names[1] != names[2] and names[0].startswith("mine-k2-seed1-")


@pytest.mark.parametrize(
    "text, message",
    [
        ("base: fmnist\nprotocol: code\n", "sweep is missing"),
        ("base: fmnist\nsweep: {seed: [1]}\n", "protocol is missing"),
        (
            "base: fmist\nprotocol: code\nsweep: {seed: [1]}\n",
            "1: base 'fmist' is not allowed; did you mean \"fmnist\"?",
        ),
        (
            "base: fmnist\nprotocol: cod\nsweep: {seed: [1]}\n",
            "2: protocol 'cod' is not allowed; did you mean \"code\"?",
        ),
        (HEAD + "swep: {seed: [1]}\n", "3: unknown key 'swep'; did you mean \"sweep\"?"),
        (HEAD + "sweep: {sed: [1]}\n", "3: unknown key 'sed'; did you mean \"seed\"?"),
        (HEAD + "sweep:\n  seed: [1]\n  k: []\n", "5: k is an empty list"),
        (HEAD + "sweep: []\n", "3: sweep is empty"),
        (HEAD + "sweep: 3\n", "3: sweep must map settings to lists"),
        (HEAD + "sweep:\n  seed: [1, 1]\n", "is there twice"),
        (HEAD + "sweep:\n  - {seed: 1..3}\n  - {seed: [3]}\n", "is there twice"),
        (
            HEAD + "sweep:\n  seed: [1]\n  k: [5, 0]\n",
            "5: k 0 is not allowed; allowed: a whole number from 1 to 10000000",
        ),
        (HEAD + "fixed:\n  sobel: yes\nsweep: {seed: [1]}\n", "4: sobel 'yes' is not allowed"),
        (HEAD + "fixed:\n  lr: fast\nsweep: {seed: [1]}\n", "4: lr 'fast' is not allowed; allowed: a number"),
        (HEAD + "fixed:\n  pca: 400\nsweep: {seed: [1]}\n", "4: pca 400 is larger than the 84 features of lenet5"),
        (
            HEAD + "fixed:\n  dataset: svhn\nsweep: {seed: [1]}\n",
            "4: net lenet5 reads 1 channels and dataset svhn has 3",
        ),
        (HEAD + "fixed: {seed: 1}\nsweep: {seed: [1]}\n", "3: seed is both fixed and swept"),
        (HEAD + "sweep: {k: [7], zip: {k: [5], seed: [1]}}\n", "3: k is both swept and zipped; keep one of them"),
        (HEAD + "fixed: {protocol: text}\nsweep: {seed: [1]}\n", "3: protocol is code on line 2; keep one of them"),
        ("base: fmnist\nprotocol: x\nsweep: {seed: [1], protocol: [text, code]}\n", "2: protocol 'x' is not allowed"),
        (HEAD + "sweep: {seed: [1], protocol: [text, x]}\n", "3: protocol 'x' is not allowed"),
        (HEAD + "sweep:\n- {seed: 1, k: 5}\n- {seed: 1, k: 0}\n", "5: k 0 is not allowed"),
        (HEAD + "fixed: {k: 5}\nsweep:\n- {seed: 1}\n- {zip: {k: [6, 0], seed: [1, 2]}}\n", "6: k 0 is not allowed"),
        (HEAD + "fixed: {k: 0}\nsweep:\n- {seed: 1, k: 5}\n- {seed: 1}\n", "3: k 0 is not allowed"),
        (HEAD + "sweep: {k: [5]}\n", "seed is missing"),
        (HEAD + "sweep: {seed: 5..1}\n", "3: range 5..1 must go upwards"),
        (HEAD + "sweep: {seed: [1], zip: {k: [5, 6], lr: [0.1]}}\n", "3: zip needs lists of one length"),
        (HEAD + "sweep: {seed: [1], zip: {k: [5, 6]}}\n", "3: zip pairs two settings or more"),
        (HEAD + "sweep: {seed: 1..1000, k: 1..1000}\n", "1000000 points; a grid has at most 100000"),
        (HEAD + "sweep: {seed: [1]}\nresources: {minute: 3}\n", "4: unknown key 'minute'; did you mean \"minutes\"?"),
        (HEAD + "sweep: {seed: [1]}\nresources: {minutes: 0}\n", "4: minutes 0 is not allowed"),
        (
            HEAD + "fixed: {dataset: mine}\nsweep: {seed: [1]}\n",
            "3: dataset 'mine' is neither one of fmnist, mnist, svhn",
        ),
        (HEAD + "fixed: {seed: 1, seed: 2}\nsweep: {k: [1]}\n", "3:"),
        (HEAD + "sweep: {seed: &a [1], k: *a}\n", "3:"),
    ],
)
def test_a_wrong_grid_is_refused_in_one_line_with_its_place(tmp_path, text, message):
    with pytest.raises(InputError) as caught:
        expand(tmp_path, text)
    assert message in str(caught.value) and "grid.yaml" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("overrides", [{"seed": -1}, {"protocol": "x"}, {"cycles": "two"}, {"pca": 400}])
def test_a_wrong_value_of_set_is_not_blamed_on_a_line_of_the_file(tmp_path, overrides):
    with pytest.raises(InputError, match="grid.yaml, --set {0}: {0} ".format(*overrides)):
        expand(tmp_path, HEAD + "fixed: {cycles: 2}\nsweep: {seed: 1..2}\n", **overrides)


@pytest.mark.parametrize(
    "text, message",
    [
        ("cycles", "write key=value"),
        ("cycle=2", "unknown key 'cycle'; did you mean \"cycles\"?"),
        ("k=[5", "--set k=[5: value"),
    ],
)
def test_a_wrong_set_is_refused(text, message):
    with pytest.raises(InputError, match=re.escape(message)):
        parse_override(text)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (dict(k="abc"), "--set k: k 'abc' is not allowed; allowed: a whole number"),
        (dict(seed="5..1"), "--set seed: range 5..1 must go upwards"),
        (dict(lr=[]), "--set lr: lr is an empty list"),
        (dict(protocol="txt"), "--set protocol: protocol 'txt' is not allowed; did you mean \"text\"?"),
        (dict(probe="conv9"), "--set probe: "),
        (dict(lr="high", k=7), "--set lr: lr 'high' is not allowed"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_set_is_not_said_of_the_file(tmp_path, overrides, message):
    with pytest.raises(InputError) as caught:
        expand(tmp_path, HEAD + "sweep: {k: [5, 20], seed: 1..2}\n", **overrides)
    assert str(caught.value).startswith(f"{tmp_path / 'grid.yaml'}, {message}")


def test_a_setting_that_is_set_twice_is_refused_and_no_value_of_it_is_lost():
    assert parse_overrides(["k=5", "seed=1..2"]) == {"k": 5, "seed": "1..2"}
    with pytest.raises(InputError, match="--set k is given twice; give it once, for several values as a list"):
        parse_overrides(["k=5", "seed=1", "k=20"])


def test_an_unknown_set_names_each_allowed_setting_once():
    with pytest.raises(InputError) as caught:
        parse_override("zzz=1")
    allowed = str(caught.value).partition("allowed: ")[2].split(", ")
    assert "protocol" in allowed and len(set(allowed)) == len(allowed)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.sampled_from(["off", "1..3", "code", "x"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["k", "seed", "zip"]), inner)),
    max_leaves=8,
)
KEYS = st.sampled_from(["base", "protocol", "fixed", "sweep", "resources", "k", "seed", "zip", "pca"])


@settings(max_examples=1500, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=5), st.booleans())
def test_any_document_gives_a_grid_or_one_line(tmp_path_factory, document, with_head):
    import yaml

    head = {"base": "fmnist", "protocol": "code"} if with_head else {}
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(yaml.safe_dump(head | document))
    try:
        grid = read_grid(path, data_root=path.parent)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000
    else:
        assert grid.points
