"""Starts `python -m dc_hpc.status`."""

from dc_hpc.cli import run_cli
from dc_hpc.status import app

if __name__ == "__main__":
    run_cli(app)
