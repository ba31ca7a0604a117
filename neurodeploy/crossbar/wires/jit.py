"""How the kernels of :mod:`neurodeploy.crossbar.wires` are compiled; modules of kernels are imported where they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neurodeploy.errors import require


def jit(function: Callable) -> Any:
    """Compile a kernel when it is first called; keep it on disk where there is a place that may be written to.

    ``fastmath`` allows contraction only: reassociation would give other bits from a kernel that comes from disk than
    from a fresh one. Raises MissingExtraError without numba.
    """
    numba = require("numba", "crossbar", "simulating a crossbar's wires")
    options = {"fastmath": {"contract"}, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither __pycache__ nor a user's cache folder may be written to
        return numba.njit(**options)(function)


def add_scaled(lanes: int) -> Any:
    """``add_scaled(f[lanes], x[n, lanes], y[n, lanes])``: ``y += f x`` for kernels, a vector instruction a row.

    Written in LLVM's own terms: a compiled loop over so few lanes is unrolled before it could become a vector.
    """
    numba = require("numba", "crossbar", "simulating a crossbar's wires")
    ir, types = numba.core.cgutils.ir, numba.types

    def add_scaled(typing: Any, f: Any, x: Any, y: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector = ir.VectorType(ir.DoubleType(), lanes)
            arrays = [context.make_array(t)(context, builder, a) for t, a in zip(signature.args, arguments)]
            f, x, y = (builder.bitcast(array.data, vector.as_pointer()) for array in arrays)
            factor = builder.load(f, align=8)
            (rows, _) = numba.core.cgutils.unpack_tuple(builder, arrays[2].shape, 2)
            with numba.core.cgutils.for_range(builder, rows) as loop:
                place = builder.gep(y, [loop.index])
                product = builder.fmul(factor, builder.load(builder.gep(x, [loop.index]), align=8), flags=("contract",))
                total = builder.fadd(builder.load(place, align=8), product, flags=("contract",))
                builder.store(total, place, align=8)
            return context.get_dummy_value()

        return types.void(f, x, y), code

    return numba.extending.intrinsic(add_scaled)
