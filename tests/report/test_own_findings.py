"""The findings beside the paper: the grey filter, k-means' share, the valley; on made-up runs whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from support.recorded_runs import config_of, row_of, tables_of

from dc_hpc.algorithm.nets import Sobel, build_net, initialise
from dc_hpc.report.figures.style import style
from dc_hpc.report.panels.findings.luminance import luminances
from dc_hpc.report.panels.panel import FigureSources, PanelRows
from dc_hpc.report.panels.paper import PANELS


def luminance_of(layer: Sobel) -> float:
    weights = layer[0].weight.detach().double().flatten()
    return abs(float(weights.sum())) / (math.sqrt(3) * float(weights.norm()))


@pytest.mark.parametrize("seed", [0, 1, 7, 79, 666, 1000])
def test_the_table_of_luminances_is_what_the_product_draws(seed):
    net = build_net("alexnet_small", sobel="random")
    initialise(net, seed=seed)
    assert luminances()[seed] == pytest.approx(luminance_of(net.sobel), abs=1e-6)


def test_luminance_by_hand():
    layer = Sobel(frozen_kernels=False)
    for weights, expected in (((1, 1, 1), 1.0), ((1, -1, 0), 0.0), ((-2, 0, 0), 1 / math.sqrt(3))):
        with torch.no_grad():
            layer[0].weight.copy_(torch.tensor(weights, dtype=torch.float32).reshape(1, 3, 1, 1))
        assert luminance_of(layer) == pytest.approx(expected)


def alignment(seeds, ia, **settings):
    base = settings.pop("base", "svhn")
    return [row_of(config_of(base, seed=seed, cycles=0, probe=(), **settings), ia=ia(seed)) for seed in seeds]


@pytest.mark.parametrize("sign", [1, -1])
def test_rho_of_the_luminance(sign):
    known = luminances()
    rows = alignment(range(1, 41), lambda seed: 0.1 + 0.05 * sign * known[seed], k=200)
    rows += alignment(range(1, 41), lambda seed: 0.2 + seed / 1e5, k=200, sobel="fixed")
    rows += [row for sobel in ("random", "fixed") for row in alignment(range(1, 41), lambda _: 0.1, k=500, sobel=sobel)]
    (table,) = tables_of(PANELS["luminance_svhn"], rows)
    line = dict(zip(table.columns, next(row for row in table.rows if row[0] == 200)))
    assert line["rho"] == pytest.approx(sign) and line["rho_n"] == 40
    assert line["true_sd"] == pytest.approx(np.std(np.arange(40) / 1e5, ddof=1))
    dark = sum(known[seed] < 0.22 for seed in range(1, 41))
    assert line["dark_n"] == dark > 0
    lowest = sorted(known[seed] for seed in range(1, 41))[::sign][: line["lowest_n"]]
    assert line["lowest_luminance_max"] == pytest.approx(max(lowest))


def test_filters_of_other_draws_are_not_looked_up():
    rows = [row | {"draws": "authors"} for row in alignment(range(1, 20), lambda seed: 0.1 + seed / 100, k=200)]
    assert tables_of(PANELS["luminance_svhn"], rows) == []


@pytest.mark.parametrize("shared, low, high", [(1.0, -0.01, 0.01), (0.5, 0.25, 0.75), (0.0, 0.7, 1.3)])
def test_the_share_of_k_means(shared, low, high):
    """Two clusterings of a net have the net in common, as far as `shared` says."""
    rng = np.random.default_rng(0)
    net = rng.normal(size=200)
    ia = {init: 0.4 + 0.02 * (math.sqrt(shared) * net + math.sqrt(1 - shared) * rng.normal(size=200)) for init in "ab"}
    rows = [
        row
        for init, values in zip(("k-means++", "random"), ia.values())
        for row in alignment(
            range(200), lambda seed, values=values: float(values[seed]), base="fmnist", kmeans_init=init
        )
    ]
    (table,) = tables_of(PANELS["kmeans_share_fmnist"], rows)
    line = dict(zip(table.columns, table.rows[0]))
    assert low < line["kmeans_share"] < high and line["ia_n"] == 200
    assert line["r_low"] <= line["r"] <= line["r_high"]


def cycles_of(rows, **columns) -> pd.DataFrame:
    return pd.DataFrame(
        [{"run_id": row["run_id"], "cycle": cycle} | {name: values[cycle] for name, values in columns.items()}
         for row in rows for cycle in range(3)]
    )  # fmt: skip


def valley(**columns):
    panel = PANELS["valley_svhn"]
    rows = [row_of(config_of("svhn", seed=seed, cycles=3), ia=0.1, accuracy=50.0) for seed in (1, 2)]
    rows += [row_of(config_of("svhn", seed=1, cycles=3, halt_cycle=1), ia=0.1, accuracy=50.0)]
    cycles = cycles_of(rows, **columns)
    found = panel.select(rows)
    (table,) = panel.tables(PanelRows(found.accuracy, cycles=cycles))
    with style():
        figure = panel.figure(found, FigureSources(cycles, None, lambda name: None))
    return table, figure


def test_the_valley_divides_the_inertia_by_the_images():
    old = {"nmi_true": [0.1, 0.01, 0.2], "nmi_prev": [np.nan, 0.7, 0.8], "inertia": [73257.0, 36628.5, 7325.7]}
    table, figure = valley(**old)
    place = table.columns.index("inertia_per_point_median")
    assert [row[place] for row in table.rows] == pytest.approx([1.0, 0.5, 0.1])
    assert {line[table.heads.index("NMI, brightness")] for line in table.lines} == {"not measured"}
    assert {line[table.heads.index("n")] for line in table.lines} == {"2"}  # the halted run is none of them
    assert len(figure.axes) == 3


def test_the_valley_fills_when_the_columns_are_there():
    new = {
        "nmi_true": [0.1] * 3,
        "nmi_prev": [0.5] * 3,
        "inertia": [9.0] * 3,
        "inertia_per_point": [0.7, 0.1, 0.4],
        "nmi_brightness": [0.2, 0.3, 0.3],
        "effective_rank": [90.0, 4.0, 30.0],
        "components_alive": [256, 70, 256],
    }
    table, figure = valley(**new)
    assert "not measured" not in str(table.lines)
    values = {
        name: [row[table.columns.index(f"{name}_median")] for row in table.rows] for name in new if name != "inertia"
    }
    assert values["inertia_per_point"] == [0.7, 0.1, 0.4] and values["components_alive"] == [256.0, 70.0, 256.0]
    assert len(figure.axes) == 4
