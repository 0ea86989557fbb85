"""examples/notebook.ipynb learns what it says: executed as a script, and as it is committed."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import notebook

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"


def check_what_it_prints(text):
    """The loss falls to a third of guessing, the clusters know the classes, and the layers beat the random net."""
    losses = [float(one) for one in re.findall(r"^cycle \d: NMI .*, loss ([\d.]+)$", text, re.M)]
    assert len(losses) == 4 and losses == sorted(losses, reverse=True) and losses[-1] < 3.0 / 3
    agreements = [float(one) for one in re.findall(r"classes ([\d.]+), loss", text)]
    chance = float(re.search(r"with shuffled classes: ([\d.]+)", text)[1])
    assert min(agreements) > 0.4 and chance < 0.02
    probes = re.findall(r"^(\w+) +random net +([\d.]+) %, after clustering +([\d.]+) %$", text, re.M)
    accuracy = {layer: (float(floor), float(learnt)) for layer, floor, learnt in probes}
    assert list(accuracy) == ["conv2", "relu2", "fc1_relu", "fc2"]
    for layer in ("fc1_relu", "fc2"):
        floor, learnt = accuracy[layer]
        assert learnt > floor + 15, layer


def test_the_notebook_is_committed_with_what_it_prints_and_its_figure():
    cells = notebook.code_cells(NOTEBOOK)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    check_what_it_prints("".join(map(notebook.printed, cells)))
    pictures = [one["data"]["image/png"] for cell in cells for one in cell["outputs"] if "data" in one]
    assert len(pictures) == 1 and base64.b64decode(pictures[0]).startswith(b"\x89PNG")
    assert NOTEBOOK.stat().st_size < 200_000 and json.loads(NOTEBOOK.read_text())["nbformat"] == 4


@pytest.mark.slow
def test_the_notebook_runs(fmnist_root):
    command = [sys.executable, "-W", "error", notebook.__file__, str(NOTEBOOK)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=560)
    assert done.returncode == 0, done.stderr
    check_what_it_prints(done.stdout)
