"""python -m dc_hpc.status: the status of all runs, with or without a cluster, and commands about single runs."""

from __future__ import annotations

from dc_hpc.cli import new_app
from dc_hpc.status.disk import check, du, prune
from dc_hpc.status.one_run import logs, show
from dc_hpc.status.queue import cancel, forget
from dc_hpc.status.table import status

app = new_app()
app.callback(invoke_without_command=True)(status)
for command in (show, logs, check, cancel, forget, du, prune):
    app.command()(command)
