"""Compiled loops for what torch is slow at on a CPU: parts of a net, and k-means with few clusters.

A kernel is a plain Python function over NumPy arrays that writes its results into arrays of the caller.
`compiled(kernel)` is its machine code, made by numba for the types in `_TYPES`; `available()` says whether there is
any. Without numba, torch computes the same. All kernels are compiled when a user first needs one on a kind of machine
(2.5 seconds); later processes load them (kernel_cache.py).

The arrays of a net are float32 with the images of the batch innermost, (c, h, w, n): every inner loop runs over
neighbours in memory, whatever the size or the stride of a window. Arrays are contiguous; a kernel that never looks at
single columns takes them as (c, h, w n).

The kernels are for reading as they are, with three habits: rows are taken out of the innermost loop and get short
names, because LLVM makes vectors of a loop only where it sees plain one-dimensional arrays; constants are written as
np.float32 so that no float64 comes in; statistics are summed in float32 within a row and in float64 over the rows. No
kernel checks bounds.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dc_hpc.algorithm.backends import kernel_cache

numba: Any = None
_problem = ""  # why numba is there and cannot be used
try:
    import llvmlite.binding
    import numba as installed_numba

    numba = installed_numba  # its types lack what is used here, so it is Any
except Exception as error:  # an installation that does not fit fails in its own way: numpy, LLVM, a lost library
    if not (isinstance(error, ModuleNotFoundError) and importlib.util.find_spec("numba") is None):
        _problem = f"{type(error).__name__}: {error}"

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Ints32 = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]


@cache
def available() -> bool:
    """Whether numba is installed and compiles; the answer is kept for the process.

    A numba that is there and fails is named on stderr, in one line, and torch computes. A numba that is not there, or
    that NUMBA_DISABLE_JIT switches off, needs no word.
    """
    problem = _problem
    if numba is not None:
        try:
            if numba.config.DISABLE_JIT:
                return False
            _try_a_kernel()
            return True
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
    if problem:
        why = " ".join(problem.split())[:300]
        print(f"dc_hpc: numba cannot be used ({why}); torch computes without it, more slowly", file=sys.stderr)
    return False


def _try_a_kernel() -> None:
    """RuntimeError where the mean and variance of 1 and 3 are not 2 and 1, or whatever numba or llvmlite raises."""
    from dc_hpc.algorithm.backends.machine_code.tile_transforms import compiler

    compiler()
    found = np.zeros((1, 2))
    compiled(moments)(np.array([[[1, 3]]], np.float32), found)
    if found.tolist() != [[2, 1]]:
        raise RuntimeError(f"a compiled kernel is wrong: {found.tolist()}")


@cache
def compiled(kernel: Callable[..., None]) -> Callable[..., None]:
    """The machine code of one of the kernels below, for the types in `_TYPES`; numba must be available.

    It takes its arguments by position. Raises TypeError, at the call: an array has another dtype or is not contiguous.
    Sums may be taken in another order (that is what makes them vectors: their bits depend on the width of this
    CPU's, like those of a BLAS), but not-a-number, infinities and comparisons are left as they are.
    """
    folder = _folder()
    try:
        return _compile(kernel, folder)
    except Exception:
        if folder is None:
            raise
        return _compile(kernel, None)  # whatever prevents cached code from being loaded


def moments(x: Floats, found: Doubles) -> None:
    """Mean and biased variance of each channel of x (c, h, w n), into found, float64 (c, 2).

    Rows are summed in float32 and added up in float64; the variance is that of the distances to the mean, in a second
    pass, since the difference of mean square and squared mean would lose the digits of a small variance.
    """
    for c in range(x.shape[0]):
        total = np.float64(0)
        for h in range(x.shape[1]):
            row, part = x[c, h], np.float32(0)
            for e in range(row.size):
                part += row[e]
            total += part
        size = x.shape[1] * x.shape[2]
        mean, squares = np.float32(total / size), np.float64(0)
        for h in range(x.shape[1]):
            row, part = x[c, h], np.float32(0)
            for e in range(row.size):
                part += (row[e] - mean) * (row[e] - mean)
            squares += part
        found[c, 0], found[c, 1] = total / size, squares / size


def rectified_maxima(x: Floats, scale: Floats, shift: Floats, stride: int, maxima: Floats, winner: Bytes) -> None:
    """Batch norm's scale and shift, then ReLU, then a 2 x 2 max-pool, in one pass over x (c, h, w, n).

    scale, shift: (c,). stride: of the windows, 1 or 2. maxima: (c, h', w', n). winner: uint8 of that shape, which value
    of its window each is (0 to 3, row by row; the first of equals, as in torch), or 4 where ReLU made it zero. Since
    ReLU never falls, its maximum over a window is that of the largest value, and where several values became zero no
    gradient flows whichever wins.
    """
    zero = np.float32(0)
    i0, i1, i2, i3, i4 = np.uint8(0), np.uint8(1), np.uint8(2), np.uint8(3), np.uint8(4)
    for c in range(maxima.shape[0]):
        a, b = scale[c], shift[c]
        for h in range(maxima.shape[1]):
            for w in range(maxima.shape[2]):
                top, left = h * stride, w * stride
                x0, x1, x2, x3 = x[c, top, left], x[c, top, left + 1], x[c, top + 1, left], x[c, top + 1, left + 1]
                m, won = maxima[c, h, w], winner[c, h, w]
                for n in range(m.size):
                    best, at = x0[n] * a + b, i0
                    z = x1[n] * a + b
                    if z > best or z != z:  # the last of several not-a-numbers wins, as in torch
                        best, at = z, i1
                    z = x2[n] * a + b
                    if z > best or z != z:
                        best, at = z, i2
                    z = x3[n] * a + b
                    if z > best or z != z:
                        best, at = z, i3
                    if best <= zero:
                        best, at = zero, i4
                    m[n], won[n] = best, at


def to_winners(gradient: Floats, winner: Bytes, stride: int, spread: Floats) -> None:
    """The gradient of `rectified_maxima`: each value of gradient (c, h', w', n) is added where its maximum was.

    spread: (c, h, w, n), zeros to begin with.
    """
    zero = np.float32(0)
    for c in range(gradient.shape[0]):
        for h in range(gradient.shape[1]):
            for w in range(gradient.shape[2]):
                g, won = gradient[c, h, w], winner[c, h, w]
                for at in range(4):
                    row, here = spread[c, h * stride + at // 2, w * stride + at % 2], np.uint8(at)
                    for n in range(row.size):
                        row[n] += g[n] if won[n] == here else zero


def through_batch_norm(
    gradient: Floats, x: Floats, mean: Floats, deviation: Floats, weight: Floats, sums: Doubles
) -> None:
    """The gradient of batch norm in training, in place of gradient (c, h, w n); x is what went in, of that shape.

    With g the gradient, s the deviation and m the mean of a channel: the gradient of x is
    weight / s (g - mean(g) - (x - m) mean(g (x - m)) / s^2), as in Ioffe and Szegedy 2015 (arXiv 1502.03167).
    mean, deviation (with epsilon), weight: (c,). sums: float64 (c, 3), the gradients of batch norm's bias and weight
    and, since they are at hand, of the bias of the convolution before it.
    """
    size = x.shape[1] * x.shape[2]
    for c in range(x.shape[0]):
        m, plain, product = mean[c], np.float64(0), np.float64(0)
        for h in range(x.shape[1]):
            g, row, part, part_product = gradient[c, h], x[c, h], np.float32(0), np.float32(0)
            for e in range(row.size):
                part += g[e]
                part_product += g[e] * (row[e] - m)
            plain += part
            product += part_product
        inverse = 1.0 / deviation[c]
        level, slope = np.float32(plain / size), np.float32(product * inverse * inverse / size)
        factor, rest = np.float32(weight[c] * inverse), np.float64(0)
        for h in range(x.shape[1]):
            g, row, part = gradient[c, h], x[c, h], np.float32(0)
            for e in range(row.size):
                g[e] = factor * (g[e] - level - (row[e] - m) * slope)
                part += g[e]
            rest += part
        sums[c, 0], sums[c, 1], sums[c, 2] = plain, product * inverse, rest


def from_rows(rows: Floats, stride: int, summed: Floats) -> None:
    """Add each value of rows (h, c, kw, w', n) to the place of summed (c, h, w, n) that it was copied from.

    The reverse of the copy in `Im2colConv.forward`; summed: zeros to begin with.
    """
    for h in range(rows.shape[0]):
        for c in range(rows.shape[1]):
            for j in range(rows.shape[2]):
                for w in range(rows.shape[3]):
                    part, row = rows[h, c, j, w], summed[c, h, w * stride + j]
                    for n in range(row.size):
                        row[n] += part[n]


def direct_conv5(x: Floats, filters: Floats, bias: Floats, images: int, y: Floats) -> None:
    """A convolution with filters (o, c, kh, 5) and stride 1: x (c, h, w n) to y (o, h', w' n); n = images.

    For few channels, where products of matrices would be small or their windows larger than all that is computed from
    them (LeNet-5). bias: (o,). Five products for each value that is read and written keep the loop from waiting for
    memory. Columns lie `images` numbers apart in a row, so the values under the five columns of a filter are the same
    row five times, each time `images` numbers further.
    """
    for h in range(y.shape[1]):
        for o in range(y.shape[0]):
            row = y[o, h]
            for e in range(row.size):
                row[e] = bias[o]
            for c in range(x.shape[0]):
                for i in range(filters.shape[2]):
                    f, line, size = filters[o, c, i], x[c, h + i], row.size
                    f0, f1, f2, f3, f4 = f[0], f[1], f[2], f[3], f[4]
                    x0, x1, x2 = line[:size], line[images : images + size], line[2 * images : 2 * images + size]
                    x3, x4 = line[3 * images : 3 * images + size], line[4 * images : 4 * images + size]
                    for e in range(size):
                        row[e] += f0 * x0[e] + f1 * x1[e] + f2 * x2[e] + f3 * x3[e] + f4 * x4[e]


def direct_conv5_input(gradient: Floats, filters: Floats, images: int, back: Floats) -> None:
    """The gradient of the x of `direct_conv5`, into back (c, h, w n), from that of its y with a border.

    gradient: (o, h', (w' + 8) n), four zeros a side: so the same five products make every value of a row. filters:
    (o, c, kh, 5), of which each row is read backwards. Rows have no border: the loop leaves out those outside.
    """
    for h in range(back.shape[1]):
        for c in range(back.shape[0]):
            row, size = back[c, h], back.shape[2]
            for e in range(size):
                row[e] = np.float32(0)
            for i in range(max(0, h - gradient.shape[1] + 1), min(filters.shape[2], h + 1)):
                for o in range(gradient.shape[0]):
                    f, line = filters[o, c, i], gradient[o, h - i]
                    f0, f1, f2, f3, f4 = f[4], f[3], f[2], f[1], f[0]
                    g0, g1, g2 = line[:size], line[images : images + size], line[2 * images : 2 * images + size]
                    g3, g4 = line[3 * images : 3 * images + size], line[4 * images : 4 * images + size]
                    for e in range(size):
                        row[e] += f0 * g0[e] + f1 * g1[e] + f2 * g2[e] + f3 * g3[e] + f4 * g4[e]


def direct_conv5_filters(x: Floats, gradient: Floats, images: int, filters: Floats) -> None:
    """The gradient of the filters of `direct_conv5`, from that of its y; two filters at a time share each read of x.

    x: (c, h, w n). gradient: (o, h', w' n). filters (o, c, kh, 5): overwritten. The ten sums of a pair stay in
    registers over all rows, as float32.
    """
    outs = gradient.shape[0]
    for o in range(0, outs, 2):
        other = min(o + 1, outs - 1)  # itself, where one is left
        for c in range(x.shape[0]):
            for i in range(filters.shape[2]):
                s0 = s1 = s2 = s3 = s4 = t0 = t1 = t2 = t3 = t4 = np.float32(0)
                for h in range(gradient.shape[1]):
                    g, k, line = gradient[o, h], gradient[other, h], x[c, h + i]
                    size = g.size
                    x0, x1, x2 = line[:size], line[images : images + size], line[2 * images : 2 * images + size]
                    x3, x4 = line[3 * images : 3 * images + size], line[4 * images : 4 * images + size]
                    for e in range(size):
                        s0 += g[e] * x0[e]
                        s1 += g[e] * x1[e]
                        s2 += g[e] * x2[e]
                        s3 += g[e] * x3[e]
                        s4 += g[e] * x4[e]
                        t0 += k[e] * x0[e]
                        t1 += k[e] * x1[e]
                        t2 += k[e] * x2[e]
                        t3 += k[e] * x3[e]
                        t4 += k[e] * x4[e]
                f, t = filters[o, c, i], filters[other, c, i]
                f[0], f[1], f[2], f[3], f[4] = s0, s1, s2, s3, s4
                t[0], t[1], t[2], t[3], t[4] = t0, t1, t2, t3, t4


def lloyd_pass(
    points: Floats,
    blocks: Floats,
    centroids: Floats,
    half_norms: Floats,
    scores: Floats,
    nearest: Ints32,
    labels: Ints,
    sums: Doubles,
    sizes: Ints,
) -> None:
    """One pass of Lloyd's algorithm for few clusters: labels (n,) of points (n, d), and what the means are made of.

    blocks (m, d, b): the same points, b at a time, the points of a block innermost, so that the scores of b points are
    computed as vectors; behind the last point anything. centroids: (k, d).
    half_norms (k,): |c|^2 / 2. scores (2, b), nearest (b,): overwritten. The nearest centroid has the largest
    x.c - |c|^2 / 2; of equal ones the first. labels, sums (k, d) and sizes (k,) come from the pass before, or are -1
    and zeros: only points that change their cluster are read and added up, in float64.
    """
    width, score, best = blocks.shape[2], scores[0], scores[1]
    for block in range(blocks.shape[0]):
        x = blocks[block]
        for j in range(centroids.shape[0]):
            c, t, half = centroids[j], 0, half_norms[j]
            for e in range(width):
                score[e] = -half
            while t + 4 <= x.shape[0]:
                c0, c1, c2, c3 = c[t], c[t + 1], c[t + 2], c[t + 3]
                x0, x1, x2, x3 = x[t], x[t + 1], x[t + 2], x[t + 3]
                for e in range(width):
                    score[e] += c0 * x0[e] + c1 * x1[e] + c2 * x2[e] + c3 * x3[e]
                t += 4
            for rest in range(t, x.shape[0]):
                c0, x0 = c[rest], x[rest]
                for e in range(width):
                    score[e] += c0 * x0[e]
            for e in range(width):
                is_nearer = j == 0 or score[e] > best[e]
                best[e] = score[e] if is_nearer else best[e]
                nearest[e] = np.int32(j) if is_nearer else nearest[e]
        for e in range(min(width, points.shape[0] - block * width)):
            place, cluster = block * width + e, nearest[e]
            old, point = labels[place], points[place]
            if old == cluster:
                continue
            if old >= 0:
                total = sums[old]
                sizes[old] -= 1
                for t in range(point.size):
                    total[t] -= point[t]
            total = sums[cluster]
            labels[place] = cluster
            sizes[cluster] += 1
            for t in range(point.size):
                total[t] += point[t]


def _compile(kernel: Callable[..., None], folder: Path | None) -> Callable[..., None]:
    """A kernel as machine code: loaded from the folder, or compiled, and then stored there if there is a folder.

    numba reads the folder of its cache from a setting of the process when it decorates a function; it is put back.
    """
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder or "")
    try:
        decorate: Callable[[Callable[..., None]], Callable[..., None]] = numba.njit(
            f"void({_TYPES[kernel.__name__]})",  # with types, numba compiles now and not at the first call
            fastmath={"contract", "reassoc"},  # fused products and sums, sums as vectors; not "nnan" and "ninf"
            error_model="numpy",  # a division by 0 gives infinity, as in torch
            no_cfunc_wrapper=True,  # nothing calls the kernels from C, and the wrapper would be compiled, too
            cache=folder is not None,
        )
        return decorate(kernel)
    finally:
        numba.config.CACHE_DIR = before


@cache
def _folder() -> Path | None:
    """The folder with the machine code of all kernels for this kind of machine; None where none can be had.

    Its kind is all that the code depends on. All kernels are compiled into it at once, because a folder is never
    written to again.
    """
    _use_whole_vectors()
    source = Path(__file__).stat()
    kind = [
        numba.__version__,
        llvmlite.__version__,
        sys.version,
        __file__,
        source.st_mtime_ns,
        source.st_size,
        llvmlite.binding.get_host_cpu_name(),
        numba.config.CPU_FEATURES,
        llvmlite.binding.get_host_cpu_features().flatten(),
        sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_")),
    ]

    def build(folder: Path) -> None:
        for name in _TYPES:
            _compile(globals()[name], folder)

    return kernel_cache.cached_folder(kind, build)


def _use_whole_vectors() -> None:
    """Let LLVM use vectors of 512 bits where the CPU has them; by default it uses 256, which is a third slower here.

    It takes effect only before numba's first compilation in a process. A user's own NUMBA_CPU_FEATURES is respected.
    """
    if numba.config.CPU_FEATURES is None and numba.config.CPU_NAME is None:
        features = llvmlite.binding.get_host_cpu_features()
        if features.get("avx512f"):
            numba.config.CPU_FEATURES = f"{features.flatten()},-prefer-256-bit"


# The types of each kernel's arguments, in numba's words: f4 float32, f8 float64, i8 int64, u1 uint8; "::1" contiguous.
_MAPS, _ROWS, _MATRIX, _CHANNELS, _DOUBLES = "f4[:,:,:,::1]", "f4[:,:,::1]", "f4[:,::1]", "f4[::1]", "f8[:,::1]"
_TYPES = {
    "moments": f"{_ROWS}, {_DOUBLES}",
    "rectified_maxima": f"{_MAPS}, {_CHANNELS}, {_CHANNELS}, i8, {_MAPS}, u1[:,:,:,::1]",
    "to_winners": f"{_MAPS}, u1[:,:,:,::1], i8, {_MAPS}",
    "through_batch_norm": f"{_ROWS}, {_ROWS}, {_CHANNELS}, {_CHANNELS}, {_CHANNELS}, {_DOUBLES}",
    "from_rows": f"f4[:,:,:,:,::1], i8, {_MAPS}",
    "direct_conv5": f"{_ROWS}, {_MAPS}, {_CHANNELS}, i8, {_ROWS}",
    "direct_conv5_input": f"{_ROWS}, {_MAPS}, i8, {_ROWS}",
    "direct_conv5_filters": f"{_ROWS}, {_ROWS}, i8, {_MAPS}",
    "lloyd_pass": f"{_MATRIX}, {_ROWS}, {_MATRIX}, {_CHANNELS}, {_MATRIX}, i4[::1], i8[::1], {_DOUBLES}, i8[::1]",
}
