"""The products of WinogradConv, and Linear layers with SGD in them, as machine code for matrices that lie as they are.

A BLAS first copies both factors into an order of its own, which pays for large matrices. Those of a point are small:
192 x 126 with 126 x 64. Here the right factor is read as it is, because its rows, the images, are whole vectors, and
the left one number by number. A block of the result stays in registers while the inner index runs (panel_code.py).

The four functions below take tensors and pass addresses, lengths and strides to machine code, which `_function` loads
from the kernel cache or compiles at their first call. All tensors are float32 on the CPU; most functions do not check
that. They check shapes and strides with `assert`, and lengths may be 0 only where no product is summed.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor, float32

from dc_hpc.algorithm.backends import kernel_cache
from dc_hpc.algorithm.backends.machine_code import panel_code, tile_transforms
from dc_hpc.algorithm.backends.machine_code.panel_code import FLAGS, Product, into, pack, places, transpose
from dc_hpc.algorithm.backends.machine_code.tile_transforms import broadcast, compiler, cpu, loop, machine


def products(left: Tensor, right: Tensor, out: Tensor, bias: Tensor | None = None) -> Tensor:
    """out[p] = left[p] @ right[p] of every point p: (p, rows, inner) and (p, inner, n) to (p, rows, n).

    float32. bias (rows,), contiguous: added to every number of a row. The rows of right lie one after another, the
    numbers of a row of out, too; right may repeat and left may be transposed. inner is 1 or more. out is overwritten,
    must not overlap the others, and is returned.
    """
    (points, rows, inner), n = left.shape, right.shape[2]
    assert right.stride()[1:] == (n, 1) and out.stride(2) == 1
    assert right.shape == (points, inner, n) and out.shape == (points, rows, n)
    added = 0 if bias is None else bias.data_ptr()
    addresses = left.data_ptr(), right.data_ptr(), out.data_ptr(), added
    strides = *left.stride(), right.stride(0), *out.stride()[:2]
    _function("products")(*addresses, points, rows, inner, n, *strides)
    return out


def products_of_rows(left: Tensor, right: Tensor, out: Tensor, turned: Tensor) -> Tensor:
    """out[p] = left[p] @ right[p].T of every point p: (p, rows, inner) and (p, n, inner) to (p, rows, n).

    float32. The numbers of a row of left lie one after another, the rows of right, too. out and turned are contiguous.
    turned (inner, n): overwritten; it holds one right factor transposed, which stays in the cache. inner is 1 or more.
    out is overwritten and returned.
    """
    (points, rows, inner), n = left.shape, right.shape[1]
    assert left.stride(2) == 1 and right.stride()[1:] == (inner, 1) and out.is_contiguous() and turned.is_contiguous()
    assert right.shape == (points, n, inner) and out.shape == (points, rows, n) and turned.shape == (inner, n)
    addresses = left.data_ptr(), right.data_ptr(), out.data_ptr(), turned.data_ptr()
    strides = *left.stride()[:2], right.stride(0)
    _function("products_of_rows")(*addresses, points, rows, inner, n, *strides)
    return out


def transposed(source: Tensor, target: Tensor) -> Tensor:
    """target (columns, rows) = source (rows, columns).T; float32, contiguous, apart in memory. Returns target."""
    assert source.is_contiguous() and target.is_contiguous() and target.shape == source.shape[::-1]
    assert source.dtype == target.dtype == float32
    _function("transposed")(source.data_ptr(), target.data_ptr(), *source.shape)
    return target


def descend(
    weight: Tensor,
    velocity: Tensor,
    gradient: Tensor,
    inputs: Tensor,
    packed: Tensor,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """A step of SGD on the weight (o, i) of a Linear layer, from its inputs (n, i) and its results' gradient (n, o).

    velocity = momentum * velocity + gradient.T @ inputs + weight_decay * weight; weight -= lr * velocity; in place, in
    one pass: the gradient of the weight is never written. float32, contiguous. packed (n, i): overwritten. n is 1 or
    more. autograd does not notice that the weight has changed.
    """
    (outs, ins), n = weight.shape, len(inputs)
    assert all(one.is_contiguous() for one in (weight, velocity, gradient, inputs, packed))
    assert velocity.shape == weight.shape and gradient.shape == (n, outs) and inputs.shape == packed.shape == (n, ins)
    addresses = [one.data_ptr() for one in (gradient, inputs, packed, weight, velocity)]
    _function("descend")(*addresses, n, outs, ins, lr, momentum, weight_decay)


@cache
def _function(name: str) -> Callable[..., None]:
    """One of _FUNCTIONS as a Python function of its arguments, from the kernel cache or compiled now."""
    from llvmlite import binding

    folder = _folder()
    stored = folder / f"{name}.o" if folder else None
    if stored and stored.is_file():
        compiler().add_object_file(binding.ObjectFileRef.from_data(stored.read_bytes()))
    else:
        compiler().add_module(_parsed(name))
    compiler().finalize_object()
    kinds = {"p": ctypes.c_void_p, "i": ctypes.c_int64, "f": ctypes.c_float}
    return ctypes.CFUNCTYPE(None, *[kinds[one] for one in _FUNCTIONS[name][0]])(compiler().get_function_address(name))


@cache
def _folder() -> Path | None:
    """The folder with the machine code for this kind of machine; None where there is none."""
    import llvmlite

    sources = [Path(name).stat() for name in (__file__, panel_code.__file__, tile_transforms.__file__)]
    kind = ["panels", llvmlite.__version__, sys.version, __file__, *cpu()]
    kind += [number for source in sources for number in (source.st_mtime_ns, source.st_size)]

    def build(folder: Path) -> None:
        for name in _FUNCTIONS:
            kernel_cache.store(folder, f"{name}.o", machine().emit_object(_parsed(name)))

    return kernel_cache.cached_folder(kind, build)


def _parsed(name: str) -> Any:
    """The module of one function, in LLVM's own form."""
    from llvmlite import binding, ir

    arguments, write = _FUNCTIONS[name]
    kinds = {"p": ir.FloatType().as_pointer(), "i": ir.IntType(64), "f": ir.FloatType()}
    module = ir.Module(name=name)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [kinds[one] for one in arguments]), name=name)
    for argument, kind in zip(function.args, arguments):
        if kind == "p":  # a promise that it overlaps no other, so that reads may move past writes
            argument.add_attribute("noalias")
    write(ir, function)
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    return parsed


def _write_products(ir: Any, function: Any) -> None:
    """The code of `products`, point by point."""
    left, right, out, bias, points, rows, inner, n, *strides = function.args
    left_point, row_stride, inner_stride, right_point, out_point, out_row = strides
    builder, length = ir.IRBuilder(function.append_basic_block()), ir.IntType(64)
    with loop(ir, builder, length(0), points, length(1)) as point:
        a, b, c = _of_point(builder, point, (left, left_point), (right, right_point), (out, out_point))
        Product(ir, builder, a, b, inner, n, row_stride, inner_stride).columns(rows, into(ir, c, out_row, bias))
    builder.ret_void()


def _write_products_of_rows(ir: Any, function: Any) -> None:
    """The code of `products_of_rows`: of each point the right factor is transposed, then it is a product as above."""
    left, right, out, turned, points, rows, inner, n, left_point, row_stride, right_point = function.args
    builder, length = ir.IRBuilder(function.append_basic_block()), ir.IntType(64)
    with loop(ir, builder, length(0), points, length(1)) as point:
        found = out, builder.mul(rows, n)
        a, b, c = _of_point(builder, point, (left, left_point), (right, right_point), found)
        transpose(ir, builder, b, n, inner, turned)
        Product(ir, builder, a, turned, inner, n, row_stride, length(1)).columns(rows, into(ir, c, n))
    builder.ret_void()


def _write_transposed(ir: Any, function: Any) -> None:
    """The code of `transposed`."""
    source, target, rows, columns = function.args
    builder = ir.IRBuilder(function.append_basic_block())
    transpose(ir, builder, source, rows, columns, target)
    builder.ret_void()


def _write_descend(ir: Any, function: Any) -> None:
    """The code of `descend`: inputs are packed once, then blocks of the gradient move blocks of the weight.

    The left factor is the gradient of the results, transposed by its strides: row stride 1, inner stride o.
    """
    gradient, inputs, packed, weight, velocity, n, outs, ins, lr, momentum, weight_decay = function.args
    builder, length = ir.IRBuilder(function.append_basic_block()), ir.IntType(64)

    def update(builder: Any, kind: Any, row: Any, column: Any, block: list[list[Any]]) -> None:
        """A step of SGD with a block of the gradient, in the order of torch's: decay, momentum, then the weight."""
        rate, kept, decay = (broadcast(ir, builder, kind, one) for one in (lr, momentum, weight_decay))
        for line, sums in enumerate(block):
            first = builder.add(builder.mul(builder.add(row, length(line)), ins), column)
            at_weight = places(builder, kind, weight, first, len(sums))
            for total, here, moving in zip(sums, at_weight, places(builder, kind, velocity, first, len(sums))):
                before = builder.load(here, align=4)
                total = builder.fadd(total, builder.fmul(decay, before, flags=FLAGS), flags=FLAGS)
                kept_part = builder.fmul(kept, builder.load(moving, align=4), flags=FLAGS)
                total = builder.fadd(kept_part, total, flags=FLAGS)
                builder.store(total, moving, align=4)
                builder.store(builder.fsub(before, builder.fmul(rate, total, flags=FLAGS), flags=FLAGS), here, align=4)

    pack(ir, builder, inputs, n, ins, packed)
    Product(ir, builder, gradient, packed, n, ins, length(1), outs, is_packed=True).rows(outs, update)
    builder.ret_void()


def _of_point(builder: Any, point: Any, *matrices: tuple[Any, Any]) -> list[Any]:
    """Where the matrices of a point begin, each given as (where the first one does, from there to the next)."""
    return [builder.gep(start, [builder.mul(point, stride)]) for start, stride in matrices]


_FUNCTIONS = {  # p: an address, i: a length, f: a number
    "products": ("pppp" + "i" * 10, _write_products),
    "products_of_rows": ("pppp" + "i" * 7, _write_products_of_rows),
    "transposed": ("ppii", _write_transposed),
    "descend": ("pppppiiifff", _write_descend),
}
