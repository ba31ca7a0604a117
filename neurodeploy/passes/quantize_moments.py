"""How the operands of products with weights move together on sample data: what weights are rounded against."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from neurodeploy.data import Data
from neurodeploy.ir.graph import Program
from neurodeploy.ir.interpret import run
from neurodeploy.passes.quantize_affine import find_sums, product_terms
from neurodeploy.passes.quantize_rounding import regularized
from neurodeploy.passes.quantize_values import Const

_BATCH = 256
#: (stage, sum of products) -> [K+1, K+1].
Moments = Mapping[tuple[str, str], np.ndarray]


def moments(legal: Program, data: Data, progress: Callable[[str], None] | None = None) -> Moments:
    """``E[v v^T]`` of the vectors of every sum of products, and a 1 behind them, over all steps that count.

    ``v`` is what one accumulator multiplies: the operands of its products one behind the other. (stage, sum) ->
    ``[K+1, K+1]``, :func:`~neurodeploy.passes.quantize_rounding.regularized` for the number of steps.
    """
    wanted: dict[tuple[str, str], list[str]] = {}
    for stage in legal.stages:
        graph = stage.graph
        consts = {n: Const(p.data) for n, p in graph.params.items() if p.type.dtype == "f32"}
        consts |= {
            v.name: Const(np.asarray(v.attrs["value"]))
            for v in graph.values
            if v.op == "const" and v.tensor.dtype == "f32"
        }
        for root, found in find_sums(graph, set(consts))[0].items():
            wanted[stage.name, root] = [x for _, _, x in product_terms(found, consts)]
    if not wanted:
        return {}
    operands = {(stage, x) for (stage, _), names in wanted.items() for x in names}
    now: dict[tuple[str, str], np.ndarray] = {}
    sums: dict[tuple[str, str], np.ndarray] = {}
    counts: dict[tuple[str, str], int] = {}
    lengths: dict[tuple[str, str], list[int]] = {}

    def observe(stage: str, name: str, array: np.ndarray, active: np.ndarray) -> None:
        key = (stage, name)
        if key in operands:
            now[key] = array
        if key not in wanted or not active.any():
            return
        parts = [np.broadcast_to(now[stage, x], (len(active), now[stage, x].shape[-1])) for x in wanted[key]]
        lengths[key] = [part.shape[1] for part in parts]
        v = np.concatenate([*parts, np.ones((len(active), 1))], axis=1)[active].astype(np.float64)
        sums[key] = sums.get(key, 0.0) + v.T @ v
        counts[key] = counts.get(key, 0) + len(v)

    run_samples(legal, data, observe, progress)
    return {key: regularized(total / counts[key], lengths[key], counts[key]) for key, total in sums.items()}


def run_samples(
    program: Program, data: Data, observe: Callable[..., None], progress: Callable[[str], None] | None
) -> None:
    """Run a program on all samples, some at a time; ``observe`` sees every value as :func:`run` tells it."""
    for start in range(0, data.samples, _BATCH):
        stop = min(start + _BATCH, data.samples)
        if progress is not None:
            progress(f"moments of the operands: {stop} of {data.samples} samples")
        inputs = {name: array[start:stop] for name, array in data.inputs.items()}
        run(program, inputs, None if data.lengths is None else data.lengths[start:stop], observe=observe)
