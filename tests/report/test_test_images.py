"""The number of test images stands beside accuracies, and runs of other test images are never pooled."""

import pytest
from support.recorded_runs import config_of, frame, row_of, rows_of, tables_of

from dc_hpc.data.known_files import KNOWN_FILES
from dc_hpc.report.frames.csv_files import read_runs_csv
from dc_hpc.report.frames.runs import runs_csv
from dc_hpc.report.panels.grouping import setting
from dc_hpc.report.panels.paper import PANELS

((WHOLE, KNOWN),) = KNOWN_FILES.items()
TRAIN, TEST, OTHER = KNOWN.digests.train, KNOWN.digests.test, "e" * 64


def derived(seed, *, digests, accuracy=None, **cells):
    settings = {"cycles": 0, "probe": ()} if accuracy is None else {}
    config = config_of("svhn", dataset="svhn-derived", seed=seed, **settings, **digests)
    return row_of(config, ia=0.1 + seed / 100, accuracy=accuracy, **cells)


def test_a_run_that_names_a_whole_file_is_grouped_by_its_parts():
    row = derived(1, digests={"data_digest": WHOLE}, accuracy=60.0)
    assert [setting(row, name) for name in ("data_digest", "train_digest", "test_digest")] == [None, TRAIN, TEST]
    row = derived(1, digests={"data_digest": WHOLE})
    assert [setting(row, name) for name in ("data_digest", "train_digest", "test_digest")] == [None, TRAIN, None]
    row = derived(1, digests={"data_digest": "d" * 64}, accuracy=60.0)
    assert [setting(row, name) for name in ("data_digest", "train_digest", "test_digest")] == ["d" * 64, None, None]


def test_the_alignments_of_earlier_runs_count_and_their_accuracies_stay_apart():
    """The full test set keeps the IA of the hundred seeds that were measured beside the first 1,952 digits."""
    rows = [derived(seed, digests={"data_digest": WHOLE}) for seed in range(1, 21)]
    rows += [derived(seed, digests={"data_digest": WHOLE}, accuracy=50.0 + seed, test_images=1_952) for seed in (3, 4)]
    new = {"train_digest": TRAIN, "test_digest": OTHER}
    rows += [derived(seed, digests=new, accuracy=60.0 + seed, test_images=26_032) for seed in (5, 6, 7)]
    panel = PANELS["fig_3b"]
    chosen = panel.select(rows_of(*rows))
    assert [len(cell.values("ia")) for cell in chosen.cells("ia")] == [20]
    assert sorted(len(cell.values("accuracy")) for cell in chosen.cells("accuracy")) == [2, 3]
    table = tables_of(panel, rows_of(*rows))[0]
    assert table.caption.endswith(", tested on 1,952 or 26,032 images.") and "test_digest" in " ".join(table.heads)
    only_new = tables_of(panel, rows_of(*rows[-3:]))[0]
    assert only_new.caption.endswith(", tested on 26,032 images.")


@pytest.mark.parametrize(
    "digests, dataset, expected",
    [({"data_digest": WHOLE}, "svhn-derived", 1_952), ({}, "svhn", 26_032), ({"data_digest": "d" * 64}, "mine", None)],
)
def test_a_table_of_an_earlier_version_gets_the_number_where_it_is_known(digests, dataset, expected, tmp_path):
    config = config_of("svhn", dataset=dataset, seed=1, **digests)
    table = frame([row_of(config, accuracy=60.0)]).drop(columns=["test_images", "train_digest", "test_digest"])
    path = tmp_path / "runs.csv"
    path.write_text(runs_csv(table))
    (found,) = rows_of(*read_runs_csv(path).to_dict("records"))
    assert found["test_images"] == expected and found["data_digest"] == digests.get("data_digest")
    assert found["train_digest"] is None
