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
