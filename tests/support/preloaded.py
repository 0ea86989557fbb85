"""Imports all that a run imports and loads its compiled kernels, in the server that forks the runs of the crash tests.

A worker process forks its runs in the same way. Without this every kill would cost several seconds.
"""

from __future__ import annotations

import h5py  # noqa: F401
import safetensors.numpy  # noqa: F401
import sklearn.cluster  # noqa: F401
import sklearn.metrics  # noqa: F401
import torch._inductor.config  # noqa: F401

import dc_hpc.experiment.run  # noqa: F401
from dc_hpc.algorithm.backends import kernels

if kernels.available():
    for kernel in (
        kernels.moments,
        kernels.rectified_maxima,
        kernels.to_winners,
        kernels.through_batch_norm,
        kernels.from_rows,
        kernels.direct_conv5,
        kernels.direct_conv5_filters,
    ):
        kernels.compiled(kernel)
