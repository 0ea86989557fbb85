"""DeepCluster and how it is measured: pure computation on tensors, usable without the rest of the package.

The names below are loaded at their first use, so that `dc_hpc.algorithm.net_specs` and `dc_hpc.algorithm.agreement`
can be imported without torch.
"""

from importlib import import_module
from typing import Any

# The version of the arithmetic: it rises when the bits of a run change. A run is computed under one of them from its
# beginning to its end, and tables say where they show runs of several.
NUMERICS = 2

_MODULES = {
    "agreement": ("cluster_health", "label_entropy"),
    "clustering": ("Clustering", "cluster_by_kmeans", "reduce_features"),
    "deepcluster": ("Cycle", "deep_cluster", "extract_features"),
    "nets": ("alexnet", "alexnet_small", "lenet5"),
    "probe": ("activations", "linear_probe"),
    "schedule": ("Schedule",),
    "state": ("State", "init_state"),
    "views": ("ImageViews", "Views"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
