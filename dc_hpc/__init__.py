"""DeepCluster as batch jobs, and in Python: read the runs of a folder, or one run with its arrays and its net.

    import dc_hpc
    runs = dc_hpc.load_runs("outputs")                  # a pandas table, a row a run
    run = dc_hpc.load_run("outputs/runs/fmnist-k5-...")
    run.metrics.nmi_true.plot()

`dc_hpc.algorithm` is the algorithm by itself. The names below are loaded at their first use, and torch when a net is.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dc_hpc.report.frames.runs import load_runs as load_runs
    from dc_hpc.report.frames.single_run import Run as Run
    from dc_hpc.report.frames.single_run import load_run as load_run

    __version__: str

_MODULE_OF = {
    "Run": "dc_hpc.report.frames.single_run",
    "load_run": "dc_hpc.report.frames.single_run",
    "load_runs": "dc_hpc.report.frames.runs",
}

__all__ = ["Run", "__version__", "load_run", "load_runs"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    """The version of the installed package; "unknown" where a copy of the code runs that is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("dc-hpc")
    except PackageNotFoundError:
        return "unknown"
