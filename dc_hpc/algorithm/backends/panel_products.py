"""The products of WinogradConv as machine code, for matrices that lie as its transforms leave them.

A BLAS first copies both factors into an order of its own, which pays for large matrices. Those of a point are small:
192 x 126 with 126 x 64. Here the right factor is read as it is, because its rows, the images, are whole vectors, and
the left one number by number. A block of the result stays in registers while the inner index runs.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from dc_hpc.algorithm.backends import kernel_cache
from dc_hpc.algorithm.backends.tile_transforms import broadcast, compiler, cpu, loop, machine

_NAME, _ROWS, _FLAGS = "panel_products", 6, ("contract",)


def products(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    """out[p] = left[p] @ right[p] of every point p: (p, rows, inner) and (p, inner, n) to (p, rows, n).

    float32. right and out are contiguous; left may be transposed.
    """
    (points, rows, inner), n = left.shape, right.shape[2]
    assert right.is_contiguous() and out.is_contiguous()
    assert right.shape == (points, inner, n) and out.shape == (points, rows, n) and left.stride(0) == rows * inner
    strides = left.stride(1), left.stride(2)
    _function()(left.data_ptr(), right.data_ptr(), out.data_ptr(), points, rows, inner, n, *strides)
    return out


@cache
def _function() -> Callable[..., None]:
    from llvmlite import binding

    folder = _folder()
    if folder:
        compiler().add_object_file(binding.ObjectFileRef.from_data((folder / f"{_NAME}.o").read_bytes()))
    else:
        compiler().add_module(_parsed())
    compiler().finalize_object()
    pointer, length = ctypes.c_void_p, ctypes.c_int64
    kind = ctypes.CFUNCTYPE(None, *[pointer] * 3, *[length] * 6)
    return kind(compiler().get_function_address(_NAME))


@cache
def _folder() -> Path | None:
    """The folder with the machine code for this kind of machine."""
    import llvmlite

    source = Path(__file__).stat()
    kind = [_NAME, llvmlite.__version__, sys.version, __file__, source.st_mtime_ns, source.st_size, *cpu()]

    def build(folder: Path) -> None:
        kernel_cache.store(folder, f"{_NAME}.o", machine().emit_object(_parsed()))

    return kernel_cache.cached_folder(kind, build)


def _parsed() -> Any:
    """The module, in LLVM's own form."""
    from llvmlite import binding, ir

    module, floats, length = ir.Module(name=_NAME), ir.FloatType().as_pointer(), ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [floats] * 3 + [length] * 6), name=_NAME)
    for argument in function.args[:3]:
        argument.add_attribute("noalias")
    _write(ir, function)
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    return parsed


def _write(ir: Any, function: Any) -> None:
    """The loops over points, columns and rows; what is left of columns and rows goes in smaller blocks."""
    left, right, out, points, rows, inner, n, row_stride, inner_stride = function.args
    builder, length = ir.IRBuilder(function.append_basic_block()), ir.IntType(64)
    zero, one = length(0), length(1)
    # with 32 registers of 16 numbers a block is 6 x 64, with 16 of 8 it is 6 x 16
    lanes, vectors = (16, 4) if "+avx512f" in cpu()[1].split(",") else (8, 2)
    vector = ir.VectorType(ir.FloatType(), lanes)
    shapes = ((vector, vectors, lanes * vectors), (vector, 1, lanes), (ir.FloatType(), 1, 1))
    with loop(ir, builder, zero, points, one) as point:
        a = builder.gep(left, [builder.mul(point, builder.mul(rows, inner))])
        b = builder.gep(right, [builder.mul(point, builder.mul(inner, n))])
        c = builder.gep(out, [builder.mul(point, builder.mul(rows, n))])
        begin = zero
        for kind, count, wide in shapes:
            end = builder.sub(n, builder.urem(n, length(wide)))
            with loop(ir, builder, begin, end, length(wide)) as column:
                whole = builder.sub(rows, builder.urem(rows, length(_ROWS)))
                for first, last, height in ((zero, whole, _ROWS), (whole, rows, 1)):
                    with loop(ir, builder, first, last, length(height)) as row:
                        a_row = builder.gep(a, [builder.mul(row, row_stride)])
                        c_row = builder.gep(c, [builder.add(builder.mul(row, n), column)])
                        b_column = builder.gep(b, [column])
                        sizes = (inner, n, row_stride, inner_stride)
                        _block(ir, builder, kind, count, height, (a_row, b_column, c_row), sizes)
            begin = end
    builder.ret_void()


def _block(
    ir: Any, builder: Any, kind: Any, count: int, height: int, starts: tuple[Any, Any, Any], sizes: tuple[Any, ...]
) -> None:
    """A block of the result, of `height` rows and `count` vectors: the loop over the inner index, then its stores."""
    (a, b, c), (inner, n, row_stride, inner_stride), length = starts, sizes, ir.IntType(64)
    lanes = getattr(kind, "count", 1)
    nothing = kind([0.0] * lanes) if lanes > 1 else kind(0.0)

    def at(start: Any, offset: Any, place: int) -> Any:
        moved = builder.gep(start, [builder.add(offset, length(place * lanes))])
        return builder.bitcast(moved, kind.as_pointer())

    entry, body, leave = builder.block, builder.append_basic_block("inner"), builder.append_basic_block("store")
    a_rows = [builder.gep(a, [builder.mul(row_stride, length(row))]) for row in range(height)]
    builder.branch(body)
    builder.position_at_end(body)
    k = builder.phi(length)
    sums = [[builder.phi(kind) for _ in range(count)] for _ in range(height)]
    k.add_incoming(length(0), entry)
    rights = [builder.load(at(b, builder.mul(k, n), place), align=4) for place in range(count)]
    for row in range(height):
        number = builder.load(builder.gep(a_rows[row], [builder.mul(k, inner_stride)]))
        factor = broadcast(ir, builder, kind, number)
        for place in range(count):
            product = builder.fmul(factor, rights[place], flags=_FLAGS)
            total = builder.fadd(sums[row][place], product, flags=_FLAGS)
            sums[row][place].add_incoming(nothing, entry)
            sums[row][place].add_incoming(total, body)
            sums[row][place] = total
    following = builder.add(k, length(1))
    k.add_incoming(following, body)
    builder.cbranch(builder.icmp_signed("<", following, inner), body, leave)
    builder.position_at_end(leave)
    for row in range(height):
        for place in range(count):
            builder.store(sums[row][place], at(c, builder.mul(n, length(row)), place), align=4)
