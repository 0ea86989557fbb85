"""Products of matrices as machine code, written for LLVM through llvmlite: blocks of the result that stay in registers.

A block is some rows by some vectors of columns. Its left factors are read number by number, its right ones as vectors.
The innermost loop runs over the inner index: it reads one number of each row and one row of vectors, and adds their
products to the sums of the block. A `Store` then says what becomes of the sums: `into` writes them to a matrix, another
one takes a step of SGD with them (panel_products.py).

Each number of a result is summed from the first inner index to the last, one product at a time, in float32, whatever
block it is in. So the size of blocks and the width of vectors should change the speed and no bits; these depend on
whether the CPU has one instruction for a product and a sum. No test compares the bits of two widths.

The names of types and of the writing code are explained in `machine_code/__init__.py`. A panel is the columns of one
block over all rows of the right factor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dc_hpc.algorithm.backends.machine_code.tile_transforms import broadcast, cpu, loop

ROWS, FLAGS = 6, ("contract",)  # rows of a block; a product and a sum may be one instruction
# Writes what becomes of a block: of builder, kind, first row, first column, and the sums, row by row in vectors.
Store = Callable[[Any, Any, Any, Any, list[list[Any]]], None]


def vectors() -> tuple[int, tuple[int, ...]]:
    """The numbers in a vector of this CPU, and how many vectors wide blocks are: the widest first.

    With 32 registers of 16 numbers a block of 6 x 64 fits, with 16 of 8 one of 6 x 16: 24 or 12 registers for the sums,
    4 or 2 for the vectors of the right factor, one for the number of the left one. A larger block would not stay in
    registers. The narrower widths, each a half, are for the columns that are left at the end.
    """
    return (16, (4, 2, 1)) if "+avx512f" in cpu()[1].split(",") else (8, (2, 1))


@dataclass(frozen=True)
class Product:
    """left @ right: where both lie in memory, as variables of the machine code.

    ir, builder: what writes the code. left: number (i, k) is at i row_stride + k inner_stride. right: (inner, n), rows
    of n numbers one after another, or as `pack` left it. inner: 1 or more, since its loop looks for the end last.
    """

    ir: Any
    builder: Any
    left: Any
    right: Any
    inner: Any
    n: Any
    row_stride: Any
    inner_stride: Any
    is_packed: bool = False

    def columns(self, rows: Any, store: Store) -> None:
        """Every block, columns outermost: the columns of the right factor stay in the nearest cache.

        rows: of the left factor. The columns that fill no vector are computed with the last ones before them, a second
        time, to the same bits: so `store` may only overwrite, and never read what it has written. Fewer columns than a
        vector has are computed one by one.
        """
        builder, length = self.builder, self.ir.IntType(64)
        lanes, widths = vectors()
        vector, begin = self.ir.VectorType(self.ir.FloatType(), lanes), length(0)
        for count in widths:
            wide = length(lanes * count)
            end = builder.sub(self.n, builder.urem(self.n, wide))
            with loop(self.ir, builder, begin, end, wide) as column:
                self._rows(vector, count, rows, column, store)
            begin = end
        fits = builder.icmp_signed(">=", self.n, length(lanes))
        last = builder.sub(self.n, length(lanes))
        is_left = builder.and_(fits, builder.icmp_signed("<", begin, self.n))
        with loop(self.ir, builder, last, builder.select(is_left, self.n, last), length(lanes)) as column:
            self._rows(vector, 1, rows, column, store)
        with loop(self.ir, builder, builder.select(fits, self.n, begin), self.n, length(1)) as column:
            self._rows(self.ir.FloatType(), 1, rows, column, store)

    def rows(self, rows: Any, store: Store) -> None:
        """Every block once, rows outermost: what `store` reads and writes lies one after another.

        For a `store` that changes a matrix in place. The right factor may be packed: the panels are those of `pack`.
        """
        builder, length = self.builder, self.ir.IntType(64)
        whole = builder.sub(rows, builder.urem(rows, length(ROWS)))
        for first, last, height in ((length(0), whole, ROWS), (whole, rows, 1)):
            with loop(self.ir, builder, first, last, length(height)) as row:
                for kind, count, begin, end, step in _panels(self.ir, builder, self.n):
                    with loop(self.ir, builder, begin, end, step) as column:
                        store(builder, kind, row, column, self._block(kind, count, height, row, column))

    # the blocks below each other at a column: of ROWS rows each, then of one row each
    def _rows(self, kind: Any, count: int, rows: Any, column: Any, store: Store) -> None:
        builder, length = self.builder, self.ir.IntType(64)
        whole = builder.sub(rows, builder.urem(rows, length(ROWS)))
        for first, last, height in ((length(0), whole, ROWS), (whole, rows, 1)):
            with loop(self.ir, builder, first, last, length(height)) as row:
                store(builder, kind, row, column, self._block(kind, count, height, row, column))

    def _block(self, kind: Any, count: int, height: int, row: Any, column: Any) -> list[list[Any]]:
        """A block of the result, `height` rows of `count` vectors: the loop over the inner index.

        kind: a vector, or float32 for a column alone. Returns the sums, row by row.
        """
        ir, builder, length = self.ir, self.builder, self.ir.IntType(64)
        start = builder.gep(self.left, [builder.mul(row, self.row_stride)])
        right, step = builder.gep(self.right, [column]), self.n
        if self.is_packed:
            right = builder.gep(self.right, [builder.mul(column, self.inner)])
            step = length(count * getattr(kind, "count", 1))
        lines = [builder.gep(start, [builder.mul(self.row_stride, length(line))]) for line in range(height)]
        entry, body, leave = builder.block, builder.append_basic_block("inner"), builder.append_basic_block("leave")
        builder.branch(body)
        builder.position_at_end(body)
        k = builder.phi(length)
        sums = [[builder.phi(kind) for _ in range(count)] for _ in range(height)]
        k.add_incoming(length(0), entry)
        rights = [builder.load(p, align=4) for p in places(builder, kind, right, builder.mul(k, step), count)]
        for line, line_sums in zip(lines, sums):
            number = builder.load(builder.gep(line, [builder.mul(k, self.inner_stride)]))
            factor = broadcast(ir, builder, kind, number)
            for place in range(count):
                product = builder.fmul(factor, rights[place], flags=FLAGS)
                total = builder.fadd(line_sums[place], product, flags=FLAGS)
                line_sums[place].add_incoming(constant(kind, 0.0), entry)
                line_sums[place].add_incoming(total, body)
                line_sums[place] = total
        following = builder.add(k, length(1))
        k.add_incoming(following, body)
        builder.cbranch(builder.icmp_signed("<", following, self.inner), body, leave)
        builder.position_at_end(leave)
        return sums


def into(ir: Any, out: Any, row_stride: Any, bias: Any = None) -> Store:
    """A block written to its place in out, rows of neighbours. bias: added to all of a row, where it is not null.

    row_stride: from one row of out to the next. bias: an address of one number for each row; None where no caller of
    the function gives one, so that nothing is written for it.
    """

    def store(builder: Any, kind: Any, row: Any, column: Any, block: Sequence[Sequence[Any]]) -> None:
        for line, sums in enumerate(block):
            at_row = builder.add(row, row.type(line))
            here = places(builder, kind, out, builder.add(builder.mul(at_row, row_stride), column), len(sums))
            for value, place in zip(sums, here):
                if bias is not None:
                    has_bias = builder.icmp_unsigned("!=", builder.ptrtoint(bias, row.type), row.type(0))
                    # where there is none, any readable number stands in its place and counts as 0
                    number = builder.load(builder.select(has_bias, builder.gep(bias, [at_row]), out))
                    added = broadcast(ir, builder, kind, builder.select(has_bias, number, ir.FloatType()(0.0)))
                    value = builder.fadd(value, added)
                builder.store(value, place, align=4)

    return store


def pack(ir: Any, builder: Any, source: Any, inner: Any, n: Any, target: Any) -> None:
    """From source (inner, n) to target: the columns of one block after those of the other, each (inner, columns).

    The columns of a block are then one stretch of memory, which is read from its beginning to its end for every block
    of rows; in source they are `inner` short pieces, n numbers apart. `Product.rows` must divide the columns in the
    same way: the widest blocks first, then single vectors, then single columns.
    """
    for kind, count, begin, end, step in _panels(ir, builder, n):
        with loop(ir, builder, begin, end, step) as column, loop(ir, builder, step.type(0), inner, step.type(1)) as k:
            read = places(builder, kind, source, builder.add(builder.mul(k, n), column), count)
            first = builder.add(builder.mul(column, inner), builder.mul(k, step))
            for one, other in zip(read, places(builder, kind, target, first, count)):
                builder.store(builder.load(one, align=4), other, align=4)


def _panels(ir: Any, builder: Any, n: Any) -> list[tuple[Any, int, Any, Any, Any]]:
    """How n columns are divided among blocks without overlap: (kind, vectors, begin, end, columns of a block)."""
    length, (lanes, (count, *_)) = ir.IntType(64), vectors()
    vector, begin, found = ir.VectorType(ir.FloatType(), lanes), length(0), []
    for kind, wide, step in ((vector, count, lanes * count), (vector, 1, lanes), (ir.FloatType(), 1, 1)):
        end = builder.sub(n, builder.urem(n, length(step)))
        found.append((kind, wide, begin, end, length(step)))
        begin = end
    return found


def transpose(ir: Any, builder: Any, source: Any, rows: Any, columns: Any, target: Any) -> None:
    """From source (rows, columns) to target (columns, rows), by squares of vectors in registers.

    Number by number, each write would touch another line of the cache; here whole vectors are read and written. The
    columns and rows that fill no square are moved one number at a time.
    """
    length, (lanes, _) = ir.IntType(64), vectors()
    vector, one = ir.VectorType(ir.FloatType(), lanes), length(1)
    whole_rows = builder.sub(rows, builder.urem(rows, length(lanes)))
    whole_columns = builder.sub(columns, builder.urem(columns, length(lanes)))
    with loop(ir, builder, length(0), whole_rows, length(lanes)) as row:
        with loop(ir, builder, length(0), whole_columns, length(lanes)) as column:
            lines = [builder.mul(builder.add(row, length(lane)), columns) for lane in range(lanes)]
            starts = [builder.gep(source, [builder.add(line, column)]) for line in lines]
            square = [builder.load(builder.bitcast(start, vector.as_pointer()), align=4) for start in starts]
            for lane, value in enumerate(_turned(ir, builder, square)):
                place = builder.gep(target, [builder.add(builder.mul(builder.add(column, length(lane)), rows), row)])
                builder.store(value, builder.bitcast(place, vector.as_pointer()), align=4)
    for first_row, last_row, first_column in ((length(0), whole_rows, whole_columns), (whole_rows, rows, length(0))):
        with loop(ir, builder, first_row, last_row, one) as row:
            with loop(ir, builder, first_column, columns, one) as column:
                value = builder.load(builder.gep(source, [builder.add(builder.mul(row, columns), column)]))
                builder.store(value, builder.gep(target, [builder.add(builder.mul(column, rows), row)]))


def _turned(ir: Any, builder: Any, square: list[Any]) -> list[Any]:
    """A square of vectors transposed: interleaved with the one half a square further, log2 of their number times."""
    lanes, half = len(square), len(square) // 2
    picks = ir.VectorType(ir.IntType(32), lanes)
    low, high = ([first + lane // 2 + lane % 2 * lanes for lane in range(lanes)] for first in (0, half))
    for _ in range(lanes.bit_length() - 1):
        pairs = list(zip(square[:half], square[half:]))
        square = [builder.shuffle_vector(*pair, picks(pick)) for pair in pairs for pick in (low, high)]
    return square


def places(builder: Any, kind: Any, start: Any, offset: Any, count: int) -> list[Any]:
    """The addresses of some neighbouring vectors, or of one number."""
    lanes = getattr(kind, "count", 1)
    offsets = [builder.add(offset, offset.type(place * lanes)) for place in range(count)]
    return [builder.bitcast(builder.gep(start, [one]), kind.as_pointer()) for one in offsets]


def constant(kind: Any, number: float) -> Any:
    """A number, or a vector of it."""
    return kind([number] * kind.count) if hasattr(kind, "count") else kind(number)
