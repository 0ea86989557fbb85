"""The transforms of WinogradConv as machine code: a matrix along both axes of every tile, for whole vectors of images.

As a product of matrices a transform of 6 x 6 takes 36 products a value, along one axis after the other 12, and it reads
and writes the maps in the order that they have. numba makes no vectors of it, because it does not know that so many
arrays do not overlap. Therefore the code is written for LLVM itself, through llvmlite, which numba brings along.

The layouts: `maps` are float32 (c, a, a, n), as a block has them; `points` are (a a, c, n), as the products need them;
`filters` are (e, a, a), as a layer has them, of which the points are (a a, e). Vectors of many filters are put together
in registers.

How a transform becomes a function:

    TileTransform, FilterTransform    hold the matrices; a call passes addresses, lengths and strides
    _function                         one function for each pair of matrices and kind, kept for the process
      _folder                         its object file from the kernel cache, which has those of `_usual`
      _parsed, _write                 or the code itself, for LLVM to compile

The numbers of the matrices are constants in the code: products by 0 are left out, those by 1 and -1 are sums. A kind is
"points" (from maps), "maps" or "sums" (from points, overwriting or adding), "filters_to_points" or "points_to_filters".

The module also holds what `panel_code` and `panel_products` share with it: the CPU, the compiler, and loops.
"""

from __future__ import annotations

import ctypes
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from dc_hpc.algorithm.backends import kernel_cache
from dc_hpc.algorithm.backends.toom_cook import Matrix, toom_cook

Rows = tuple[tuple[float, ...], ...]
# Sizes of results and filters, (m, r), whose code is kept in the kernel cache; others are compiled in each process.
_USUAL = ((4, 3), (3, 3), (2, 3), (4, 2), (3, 2), (2, 2))
_USUAL_OVERLAP = 4  # tiles of this side overlap by one, in maps of 7 x 7 (conv2 of AlexNet-small)
_WIDTH = 16  # floats of a vector of 512 bits; where a CPU has shorter ones, LLVM takes two
# A product and a sum may be one instruction, which rounds once. Sums keep the order that is written here, so the bits
# depend on whether the CPU has that instruction and not on the width of its vectors.
_FLAGS = ("contract",)


class TileTransform:
    """matrix @ tile @ across.T of every tile (a, a) of every channel and image; matrix, across: (b, a), by default one.

    to_points: from maps with tiles (c, a, a, n) to points (b b, c, n); else from points (a a, c, n) to maps with tiles
    (c, b, b, n). add: to what the maps hold, which it else overwrites. The matrices are rounded to float32.
    """

    def __init__(self, matrix: Matrix, across: Matrix | None = None, *, to_points: bool, add: bool = False):
        self.matrices = _numbers(matrix), _numbers(matrix if across is None else across)
        self.kind = "points" if to_points else "sums" if add else "maps"

    def __call__(self, source: Tensor, target: Tensor, bias: Tensor | None = None) -> None:
        """Overwrite `target`, or add to it. bias (c,): added to every value of a channel, of maps only.

        float32, of these shapes, which must fit the matrices and each other; of maps and points any part of larger
        ones, where the images are neighbours. source and target must not overlap. Only the stride of the images is
        checked.
        """
        maps, points = (source, target) if self.kind == "points" else (target, source)
        assert maps.stride(3) == points.stride(2) == 1
        (channels, _, _, images), width = maps.shape, points.stride(1)
        strides = (maps.stride(0), maps.stride(1), maps.stride(2), points.stride(0), width)
        added = 0 if bias is None else bias.data_ptr()
        _function(self.matrices, self.kind)(source.data_ptr(), target.data_ptr(), added, channels, images, *strides)


class FilterTransform:
    """matrix @ filter @ matrix.T of every filter (a, a); matrix: (b, a).

    to_points: from filters (e, a, a) to points (b b, e); else from points (a a, e) to filters (e, b, b).
    """

    def __init__(self, matrix: Matrix, *, to_points: bool):
        self.matrices = _numbers(matrix), _numbers(matrix)
        self.kind = "filters_to_points" if to_points else "points_to_filters"

    def __call__(self, source: Tensor, target: Tensor) -> None:
        """Overwrite `target`. float32, contiguous; filters of any shape that ends with (a, a), points (a a, ...).

        source and target must not overlap.
        """
        after, before = len(self.matrices[0]), len(self.matrices[0][0])
        filters = source.numel() // before**2
        assert source.is_contiguous() and target.is_contiguous() and target.numel() == filters * after**2
        strides = (0, 0, 0, filters, 0)
        _function(self.matrices, self.kind)(source.data_ptr(), target.data_ptr(), 0, 1, filters, *strides)


@cache
def _function(matrices: tuple[Rows, Rows], kind: str) -> Callable[..., None]:
    """The machine code of a transform, as a function of three addresses and seven lengths.

    They are source, target, bias (0 for none), channels, images, and strides in numbers of maps by channel, row and
    column and of points by point and channel. Of filters the images are the filters and there is one channel.
    """
    from llvmlite import binding

    name, folder = _name(matrices, kind), _folder()
    stored = folder / f"{name}.o" if folder else None
    if stored and stored.is_file():
        compiler().add_object_file(binding.ObjectFileRef.from_data(stored.read_bytes()))
    else:
        compiler().add_module(_parsed(matrices, kind))
    compiler().finalize_object()
    pointer, length = ctypes.c_void_p, ctypes.c_int64
    return ctypes.CFUNCTYPE(None, *[pointer] * 3, *[length] * 7)(compiler().get_function_address(name))


def without_first(matrix: Matrix, count: int) -> Matrix:
    """The matrix (b, a) of a transform that takes the first `count` of its a numbers for 0, whatever they are."""
    return np.where(np.arange(matrix.shape[1]) < count, 0, matrix)


def _numbers(matrix: Matrix) -> Rows:
    """A matrix as tuples, which a cache can have as keys."""
    return tuple(map(tuple, matrix.tolist()))


def _usual() -> Iterator[tuple[tuple[Rows, Rows], str]]:
    """The transforms of the usual sizes: of a gradient, of y, of filters both ways, of x both ways."""
    for m, r in _USUAL:
        y, filters, x = toom_cook(m, r)
        firsts = [without_first(y, count) for count in range(2 if m == _USUAL_OVERLAP else 1)]
        yield from (((_numbers(one), _numbers(other)), "points") for one in firsts for other in firsts)
        for matrix, kind in (
            (y.T, "maps"),
            (filters, "filters_to_points"),
            (filters.T, "points_to_filters"),
            (x, "points"),
            (x.T, "maps"),
            (x.T, "sums"),
        ):
            yield (_numbers(matrix), _numbers(matrix)), kind


@cache
def _folder() -> Path | None:
    """The folder with the machine code of the usual transforms for this kind of machine; None where there is none.

    Its kind leaves out toom_cook.py, since the names of the files depend on the numbers of the matrices.
    """
    import llvmlite

    source = Path(__file__).stat()
    kind = ["tiles", llvmlite.__version__, sys.version, __file__, source.st_mtime_ns, source.st_size, *cpu()]

    def build(folder: Path) -> None:
        target = machine()
        for matrices, name in _usual():
            kernel_cache.store(folder, f"{_name(matrices, name)}.o", target.emit_object(_parsed(matrices, name)))

    return kernel_cache.cached_folder(kind, build)


def cpu() -> tuple[str, str]:
    """Name and features of this CPU. By default LLVM uses half of a vector of 512 bits; here it is to use the whole."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return binding.get_host_cpu_name(), features.flatten() + (",-prefer-256-bit" if features.get("avx512f") else "")


def machine() -> Any:
    """A compiler for this CPU, from a module of LLVM to machine code."""
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    name, features = cpu()
    return binding.Target.from_default_triple().create_target_machine(cpu=name, features=features, opt=3, jit=True)


@cache
def compiler() -> Any:
    """LLVM's compiler and loader. It lives as long as the process, since the functions' code is its memory."""
    from llvmlite import binding

    return binding.create_mcjit_compiler(binding.parse_assembly(""), machine())


def _name(matrices: tuple[Rows, Rows], kind: str) -> str:
    """The name of a transform, of its function and of its file: another one for other numbers in the matrices."""
    digits = hashlib.sha256(repr(matrices).encode()).hexdigest()[:12]
    return f"tile_{kind}_{len(matrices[0])}_{len(matrices[0][0])}_{digits}"


def _parsed(matrices: tuple[Rows, Rows], kind: str) -> Any:
    """The module of one transform, in LLVM's own form."""
    from llvmlite import binding, ir

    name = _name(matrices, kind)
    module, floats, length = ir.Module(name=name), ir.FloatType().as_pointer(), ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [floats] * 3 + [length] * 7), name=name)
    for argument in function.args[:3]:  # a promise that they do not overlap: reads may move past writes
        argument.add_attribute("noalias")
    _write(ir, function, matrices, kind)
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    return parsed


def _write(ir: Any, function: Any, matrices: tuple[Rows, Rows], kind: str) -> None:
    """The loops over channels and over images, or over filters, some at a time, then one at a time.

    Loads and stores promise an alignment of 4 bytes only: tiles begin anywhere in the maps, and batches have any size.
    Filters are shuffled among vectors, so their vectors are as wide as those of the CPU; others are always of 16.
    """
    source, target, bias, channels, images, *strides = function.args
    builder, length = ir.IRBuilder(function.append_basic_block()), ir.IntType(64)
    lanes = 8 if "filters" in kind and "+avx512f" not in cpu()[1].split(",") else _WIDTH
    zero, one, width = (length(number) for number in (0, 1, lanes))
    whole = builder.sub(images, builder.urem(images, width))
    after, before = len(matrices[0]), len(matrices[0][0])
    has_bias = builder.icmp_unsigned("!=", builder.ptrtoint(bias, length), zero)
    with loop(ir, builder, zero, channels, one) as channel:
        inputs = _places(builder, source, channel, before, strides, in_maps=kind == "points")
        outputs = _places(builder, target, channel, after, strides, in_maps=kind in ("maps", "sums"))
        # where there is no bias, any readable number stands in its place and counts as 0
        place = builder.select(has_bias, builder.gep(bias, [channel]), source)
        added = builder.select(has_bias, builder.load(place), ir.FloatType()(0.0))
        for begin, end, step in ((zero, whole, width), (whole, images, one)):
            with loop(ir, builder, begin, end, step) as image:
                value = ir.VectorType(ir.FloatType(), lanes) if step is width else ir.FloatType()
                if kind == "filters_to_points":
                    values = _values_of_filters(ir, builder, value, source, image, before**2)
                else:
                    values = [builder.load(at, align=4) for at in _at(builder, value, inputs, image)]
                found = _transformed(builder, value, matrices, values)
                if kind == "points_to_filters":
                    _store_filters(ir, builder, value, target, image, found)
                    continue
                shift = broadcast(ir, builder, value, added) if kind in ("maps", "sums") else None
                for result, at in zip(found, _at(builder, value, outputs, image)):
                    result = result if shift is None else builder.fadd(result, shift)
                    result = builder.fadd(result, builder.load(at, align=4)) if kind == "sums" else result
                    builder.store(result, at, align=4)
    builder.ret_void()


def _at(builder: Any, kind: Any, places: list[Any], image: Any) -> list[Any]:
    """The addresses of the values of some images, from those of the first image."""
    return [builder.bitcast(builder.gep(place, [image]), kind.as_pointer()) for place in places]


def _transformed(builder: Any, kind: Any, matrices: tuple[Rows, Rows], values: list[Any]) -> list[Any]:
    """One tile of some images, row by row: the first matrix along its columns, then the other along its rows.

    kind: a vector of images, or one number. values: the a a values of the tile. Returns the b b results.
    """
    down, across = matrices
    before = len(down[0])
    # half[k][j]: sum over i of down[k][i] tile[i][j]
    half = [[_combined(builder, kind, row, values[j::before]) for j in range(before)] for row in down]
    return [_combined(builder, kind, factors, line) for line in half for factors in across]


def _values_of_filters(ir: Any, builder: Any, kind: Any, filters: Any, first: Any, size: int) -> list[Any]:
    """For each of the `size` values of a filter: that of some neighbouring filters, read as whole vectors.

    Filters lie one after another, so value v of filter f is number f size + v of what the `size` vectors hold.
    """
    vectors = [builder.load(place, align=4) for place in _neighbours(builder, kind, filters, first, size)]
    if not hasattr(kind, "count"):
        return vectors
    places = [[lane * size + value for lane in range(kind.count)] for value in range(size)]
    return [_picked(ir, builder, kind, vectors, [divmod(place, kind.count) for place in one]) for one in places]


def _store_filters(ir: Any, builder: Any, kind: Any, filters: Any, first: Any, values: list[Any]) -> None:
    """The reverse of `_values_of_filters`."""
    size, vectors = len(values), values
    if hasattr(kind, "count"):
        places = [[vector * kind.count + lane for lane in range(kind.count)] for vector in range(size)]
        picks = [[(place % size, place // size) for place in one] for one in places]
        vectors = [_picked(ir, builder, kind, values, one) for one in picks]
    for vector, place in zip(vectors, _neighbours(builder, kind, filters, first, size)):
        builder.store(vector, place, align=4)


def _neighbours(builder: Any, kind: Any, filters: Any, first: Any, size: int) -> list[Any]:
    """The addresses of `size` vectors one after another, of which the first begins with a filter."""
    length, lanes = first.type, getattr(kind, "count", 1)
    starts = [builder.add(builder.mul(first, length(size)), length(number * lanes)) for number in range(size)]
    return [builder.bitcast(builder.gep(filters, [start]), kind.as_pointer()) for start in starts]


def _picked(ir: Any, builder: Any, kind: Any, vectors: list[Any], picks: list[tuple[int, int]]) -> Any:
    """A vector whose lanes come from others, each from (vector, lane).

    An instruction chooses among two vectors, so what has been found so far is joined with one vector after the other.
    """
    chosen = ir.VectorType(ir.IntType(32), kind.count)
    used = sorted({vector for vector, _ in picks})
    found, done = vectors[used[0]], [lane if vector == used[0] else 0 for vector, lane in picks]
    for number in used[1:]:
        lanes = [kind.count + lane if vector == number else old for (vector, lane), old in zip(picks, done)]
        found = builder.shuffle_vector(found, vectors[number], chosen(lanes))
        done = list(range(kind.count))
    return found if len(used) > 1 else builder.shuffle_vector(found, found, chosen(done))


def _combined(builder: Any, kind: Any, factors: Sequence[float], values: Sequence[Any]) -> Any:
    """The sum of factor times value, from the first on; factors 0, 1 and -1 take no product."""
    total = None
    for factor, value in zip(factors, values, strict=True):
        if factor == 0:
            continue
        if total is None:
            total = value if factor == 1 else builder.fmul(value, _constant(kind, factor), flags=_FLAGS)
        elif factor in (1, -1):
            total = (builder.fadd if factor == 1 else builder.fsub)(total, value, flags=_FLAGS)
        else:
            total = builder.fadd(total, builder.fmul(value, _constant(kind, factor), flags=_FLAGS), flags=_FLAGS)
    return _constant(kind, 0.0) if total is None else total


def _constant(kind: Any, number: float) -> Any:
    """A number rounded to float32, or a vector of it."""
    rounded = ctypes.c_float(number).value
    return kind([rounded] * kind.count) if hasattr(kind, "count") else kind(rounded)


def broadcast(ir: Any, builder: Any, kind: Any, number: Any) -> Any:
    """A number as a vector of it, where the kind is a vector."""
    if not hasattr(kind, "count"):
        return number
    lane = builder.insert_element(kind(ir.Undefined), number, ir.IntType(32)(0))
    return builder.shuffle_vector(lane, kind(ir.Undefined), ir.VectorType(ir.IntType(32), kind.count)([0] * kind.count))


def _places(builder: Any, start: Any, channel: Any, side: int, strides: list[Any], *, in_maps: bool) -> list[Any]:
    """The addresses of the side^2 values of a channel's tile, of the first image, in maps or among points."""
    of_channel, of_row, of_column, of_point, of_point_channel = strides
    length = channel.type
    found = []
    for row in range(side):
        for column in range(side):
            if in_maps:
                parts = [(channel, of_channel), (length(row), of_row), (length(column), of_column)]
            else:
                parts = [(length(row * side + column), of_point), (channel, of_point_channel)]
            offset = length(0)
            for number, stride in parts:
                offset = builder.add(offset, builder.mul(number, stride))
            found.append(builder.gep(start, [offset]))
    return found


@contextmanager
def loop(ir: Any, builder: Any, begin: Any, end: Any, step: Any) -> Iterator[Any]:
    """A loop of the machine code, while the counter, which the body gets, is below `end`.

    What a `with` block writes is its body. All are 64-bit integers with a sign; begin may be above end.
    """
    entry, head = builder.block, builder.append_basic_block("head")
    body, leave = builder.append_basic_block("body"), builder.append_basic_block("leave")
    builder.branch(head)
    builder.position_at_end(head)
    counter = builder.phi(ir.IntType(64))
    counter.add_incoming(begin, entry)
    builder.cbranch(builder.icmp_signed("<", counter, end), body, leave)
    builder.position_at_end(body)
    yield counter
    counter.add_incoming(builder.add(counter, step), builder.block)
    builder.branch(head)
    builder.position_at_end(leave)
