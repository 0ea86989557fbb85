"""A shell in which a person submits again and again: one process that reads orders, so that each costs no new start.

An order is a line of JSON: at (seconds since 1970), folder (of the stand-in scheduler), arguments (of submit). The
answer is a line of JSON: code, out.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from pathlib import Path

from support.stand_in_slurm import shared

from dc_hpc.cli import run_cli
from dc_hpc.scheduler import slurm
from dc_hpc.scheduler.submitting import command, grids, search
from dc_hpc.scheduler.submitting.command import Answer
from dc_hpc.storage import lock_file
from dc_hpc.submit import app

BACK_OFF = (0.05, 0.1, 0.2, 0.4, 0.4, 0.4)  # a twentieth of the product's


def main() -> None:
    """Obey orders until the input ends. With --direct, ask the scheduler without starting its commands."""
    search.BACK_OFF, lock_file._LOOK_SECONDS = BACK_OFF, 0.02
    grids.provenance.code_record = dict
    if "--direct" in sys.argv:
        command.run = _ask_directly
        slurm.shutil.which = lambda name: f"/bin/{name}"
    path = os.environ["PATH"]
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        os.environ["PATH"] = f"{order['folder']}/bin:{path}"
        time.sleep(max(0.0, order["at"] - time.time()))
        code, out = _submit(order["arguments"])
        print(json.dumps({"code": code, "out": out}), flush=True)


def _submit(arguments: list[str]) -> tuple[object, str]:
    out = io.StringIO()
    sys.argv = ["submit", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            run_cli(app)
            code: object = 0
        except SystemExit as end:
            code = end.code or 0
    return code, out.getvalue()


def _ask_directly(asked: list[str], *, seconds: float = 30.0) -> Answer:
    with shared(Path(os.environ["PATH"].split("/bin:")[0])) as one:
        one.tick = lambda: None  # type: ignore[method-assign]
        answer = one.answer(list(asked))
        del one.tick
    return Answer(*answer)


if __name__ == "__main__":
    main()
