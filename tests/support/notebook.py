"""Executes a notebook without Jupyter: its code cells one after the other in one namespace, as a script would.

python tests/support/notebook.py examples/notebook.ipynb           # print what the cells print
python tests/support/notebook.py examples/notebook.ipynb --write   # and keep it in the notebook, with the figures
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any


def code_cells(path: Path) -> list[dict[str, Any]]:
    """The code cells of a notebook, in their order."""
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def printed(cell: dict[str, Any]) -> str:
    """The text that a cell has printed."""
    return "".join("".join(one.get("text", ())) for one in cell["outputs"])


def execute(path: Path) -> dict[str, Any]:
    """The notebook with the outputs of its code cells: what they print, and the figures that they draw, as PNG."""
    os.environ["MPLBACKEND"] = "Agg"
    notebook = json.loads(path.read_text())
    namespace: dict[str, Any] = {"__name__": "__main__"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, 1):
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), namespace)
        cell["execution_count"] = number
        lines = text.getvalue().splitlines(keepends=True)
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": lines}] if lines else []
        cell["outputs"] += [_picture(png) for png in _figures()]
    return notebook


def _figures() -> list[bytes]:
    """The open figures of matplotlib, which are closed."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return []
    pictures = []
    for number in pyplot.get_fignums():
        file = io.BytesIO()
        pyplot.figure(number).savefig(file, dpi=72, bbox_inches="tight")
        pictures.append(file.getvalue())
    pyplot.close("all")
    return pictures


def _picture(png: bytes) -> dict[str, Any]:
    return {"output_type": "display_data", "metadata": {}, "data": {"image/png": base64.b64encode(png).decode()}}


def main(path: str, *options: str) -> None:
    """Execute the notebook of this path in its folder, and print or keep its outputs."""
    file = Path(path).resolve()
    os.chdir(file.parent)
    notebook = execute(file)
    for cell in notebook["cells"]:
        print(printed(cell) if cell["cell_type"] == "code" else "", end="")
    if "--write" in options:
        file.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
