"""Networks as plain arrays in a ``.npz``, for those that no exchange format has an op for.

An echo state network is the arrays ``W_in`` [units, inputs], ``W`` [units, units], ``bias`` [units], ``leak``
(one or one a unit) and ``activation``, with the readout ``W_out`` [outputs, units] and ``b_out`` [outputs] of its last
state. Other cells of :data:`neurodeploy.ir.cells.CELLS` carry a ``spec``, JSON as a string array::

    {"cell": "ctrnn", "weights": ["W", "theta", "rate"], "state": 8, "inputs": 8, "attrs": {"activation": "tanh"},
     "output": "last"}

``weights`` names arrays in the cell's own order; ``state`` and ``inputs`` are sizes; ``output`` is ``last`` (after the
last step, the default) or ``series``; ``W_out`` and ``b_out`` are optional there. Associative memories are recalled
until they stand, from a ``cue`` of +-1::

    {"cell": "hopfield", "weights": ["W", "theta"]}, {"cell": "bam", "weights": ["W"]}, "max_steps": 50 by default
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from neurodeploy.archive import read_arrays
from neurodeploy.errors import DataError, ModelError, UnsupportedError, nearest
from neurodeploy.importers.check import check as check_program
from neurodeploy.importers.check import trials, unchecked
from neurodeploy.importers.time import Tracer
from neurodeploy.ir.cells import ACTIVATIONS, CELLS
from neurodeploy.ir.graph import Program

ESN = ("W_in", "W", "bias", "leak")
#: Associative memories and what their weights are.
MEMORIES = {"hopfield": ("W", "theta"), "bam": ("W",)}
MEMORY_KEYS = ("cell", "weights", "max_steps")
SPEC_KEYS = ("cell", "weights", "state", "inputs", "attrs", "output")


def load_numpy(source: str | Path, *, check: bool = True) -> Program:
    """A program from a ``.npz`` of weights; an echo state network is checked against its equation in float64.

    Raises :class:`ModelError` naming the array that is missing, of the wrong shape, or not finite.
    """
    path = Path(source)
    raw, arrays = _read(path)
    origin = {"file": path.name, "sha256": hashlib.sha256(raw).hexdigest(), "format": "npz"}
    memory = _memory(arrays, path.name, path.stem)
    if memory is not None:
        memory = replace(memory, meta={**memory.meta, "origin": origin})
        return unchecked(memory, "a .npz of weights has no source framework")
    tracer = Tracer(path.stem, path.name)
    spec = _spec(arrays, path.name) if "spec" in arrays else _esn(arrays, path.name)
    for name in [*spec["weights"], *(n for n in ("W_out", "b_out") if n in arrays)]:
        _finite(arrays[name], f"{path.name}: array '{name}'")
    x = tracer.input("x", ["batch", "time", "feature"], ["batch", "time", spec["inputs"]])
    tracer.at(f"'{spec['cell']}'", "reservoir" if "spec" not in arrays else spec["cell"])
    weights = [arrays[name].astype(np.float32) for name in spec["weights"]]
    found = tracer.rnn(spec["cell"], x, weights, [None], sizes=[spec["state"]], attrs=spec["attrs"])
    y = found.series[0] if spec["output"] == "series" else tracer.take(found.series[0], 1, -1)
    if "W_out" in arrays:
        tracer.at("'readout'", "readout")
        y = tracer.linear(y, arrays["W_out"].astype(np.float32), arrays.get("b_out"))
    program = tracer.finish({"y": y}, {"origin": origin, "axes": {"x": ["batch", "time", "feature"]}})
    if not check:
        return unchecked(program, "the check was turned off")
    if "spec" in arrays:
        return unchecked(program, "a .npz of weights has no source framework")
    reference = Reference(arrays)
    tried = trials(program, unequal=True)
    return check_program(program, lambda t: {"y": reference(t.inputs["x"], t.lengths)}, tried, "float64", path.name)


def _read(path: Path) -> tuple[bytes, dict[str, np.ndarray]]:
    hint = (
        "Write it with numpy.savez(file, W_in=..., W=..., bias=..., leak=..., W_out=..., b_out=..., activation='tanh')."
    )
    try:
        raw = path.read_bytes()
        return raw, read_arrays(path)
    except OSError as error:
        raise ModelError(f"can't be read ({error.strerror or error}).", place=str(path), hint=hint) from error
    except ValueError as error:
        raise ModelError(f"{error}.", place=path.name, hint=hint) from error


def _shape(arrays: Mapping[str, np.ndarray], name: str, shapes: tuple[tuple[int, ...], ...], file: str) -> np.ndarray:
    if name not in arrays:
        raise ModelError(f"the array '{name}' is missing.", place=file, hint=f"It holds: {', '.join(sorted(arrays))}.")
    array = arrays[name]
    if array.dtype.kind not in "fiub" or array.shape not in shapes:
        needed = " or ".join(str(list(s)) for s in shapes)
        raise ModelError(f"'{name}' is {array.dtype}{list(array.shape)}; needed numbers {needed}.", place=file)
    return array


def _finite(array: np.ndarray, place: str) -> None:
    if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
        raise ModelError("holds something other than finite numbers.", place=place, hint="Train it again.")


def _esn(arrays: dict[str, np.ndarray], file: str) -> dict[str, Any]:
    """The description of an echo state network's arrays, checked."""
    W_in = arrays.get("W_in")
    if W_in is None or W_in.ndim != 2 or 0 in W_in.shape:
        raise ModelError(
            "holds no matrix 'W_in' of an echo state network and no 'spec'.",
            place=file,
            hint="See the documentation of neurodeploy.importers.numpy for what a .npz holds.",
        )
    units, inputs = W_in.shape
    _shape(arrays, "W", ((units, units),), file)
    _shape(arrays, "bias", ((units,),), file)
    _shape(arrays, "leak", ((), (units,)), file)
    outputs = _shape(arrays, "W_out", tuple((n, units) for n in arrays.get("W_out", W_in).shape[:1]), file).shape[0]
    _shape(arrays, "b_out", ((outputs,),), file)
    activation = str(arrays.get("activation", np.array("tanh")))
    if activation not in ACTIVATIONS:
        raise ModelError(f"there is no activation '{activation}'.", place=file, hint=nearest(activation, ACTIVATIONS))
    attrs = {} if activation == "tanh" else {"activation": activation}
    return {"cell": "leaky", "weights": list(ESN), "state": units, "inputs": inputs, "attrs": attrs, "output": "last"}


def _memory(arrays: Mapping[str, np.ndarray], file: str, name: str) -> Program | None:
    """The recall of an associative memory, None where the arrays are of something else."""
    try:
        spec = json.loads(str(arrays["spec"])) if "spec" in arrays else None
    except ValueError:
        return None  # said by _spec
    if not isinstance(spec, dict) or spec.get("cell") not in MEMORIES:
        return None
    from neurodeploy.crossbar.associative import programs

    for key in spec:
        if key not in MEMORY_KEYS:
            raise ModelError(f"its spec has no key '{key}'.", place=file, hint=nearest(key, MEMORY_KEYS))
    wanted = MEMORIES[spec["cell"]]
    weights, steps = spec.get("weights"), spec.get("max_steps", 50)
    if not isinstance(weights, list) or not 1 <= len(weights) <= len(wanted):
        raise ModelError(f"its spec's 'weights' is {weights!r}; needed names of {', '.join(wanted)}.", place=file)
    for key in weights:
        if key not in arrays:
            raise ModelError(f"the array '{key}' is missing.", place=file, hint=f"It holds {', '.join(arrays)}.")
    if not isinstance(steps, int) or steps < 1:
        raise ModelError(f"its spec's 'max_steps' is {steps!r}; needed a whole number, at least 1.", place=file)
    build = programs.hopfield_program if spec["cell"] == "hopfield" else programs.bam_program
    try:
        return build(*(arrays[key] for key in weights), max_steps=steps, name=name)
    except DataError as error:
        raise ModelError(error.message, place=file, hint=error.hint) from error


def _spec(arrays: Mapping[str, np.ndarray], file: str) -> dict[str, Any]:
    """The description in array ``spec``, checked."""
    try:
        found = json.loads(str(arrays["spec"]))
        for key in found:
            if key not in SPEC_KEYS:
                raise ModelError(f"its spec has no key '{key}'.", place=file, hint=nearest(key, SPEC_KEYS))
        spec = {"attrs": {}, "output": "last", **found}
        cell, weights = str(spec["cell"]), [str(w) for w in spec["weights"]]
        sizes = {"state": int(spec["state"]), "inputs": int(spec["inputs"])}
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"its spec can't be used ({error}).", place=file, hint=f"It needs {', '.join(SPEC_KEYS[:4])}."
        ) from error
    if cell not in CELLS:
        raise ModelError(f"there is no cell '{cell}'.", place=file, hint=nearest(cell, CELLS))
    if cell in ("lstm", "jordan", "affine", "hopfield", "ntm_head", "dnc_allocation", "ctdv", "lif"):
        raise UnsupportedError(f"the cell '{cell}' has not just one state.", place=file, hint="Import it from ONNX.")
    for name in weights:
        if name not in arrays:
            raise ModelError(f"the array '{name}' is missing.", place=file, hint=f"It holds {', '.join(arrays)}.")
    if spec["output"] not in ("last", "series") or min(sizes.values()) < 1:
        raise ModelError("its spec needs output 'last' or 'series', and sizes of at least 1.", place=file)
    return {**spec, "cell": cell, "weights": weights, **sizes}


class Reference:
    """``h' = (1 - leak) h + leak f(W_in x + W h + bias)``, ``y = W_out h + b_out``, in float64."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = {k: v.astype(np.float64) for k, v in arrays.items() if v.dtype.kind in "fiub"}
        self.activation = str(arrays.get("activation", np.array("tanh")))

    def __call__(self, x: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
        a = self.arrays
        h = np.zeros((len(x), len(a["bias"])))
        ends = np.full(len(x), x.shape[1]) if lengths is None else lengths
        for t in range(x.shape[1]):
            new = _activate(self.activation, x[:, t] @ a["W_in"].T + h @ a["W"].T + a["bias"])
            h = np.where((t < ends)[:, None], (1 - a["leak"]) * h + a["leak"] * new, h)
        return h @ a["W_out"].T + a["b_out"]


def _activate(name: str, x: np.ndarray) -> np.ndarray:
    """An activation with its default numbers, by its formula; those without one here by the IR's own body."""
    known = {
        "tanh": np.tanh,
        "identity": lambda v: v,
        "sigmoid": lambda v: 0.5 * (1 + np.tanh(v / 2)),
        "relu": lambda v: np.maximum(v, 0),
        "softplus": lambda v: np.logaddexp(0, v),
        "leaky_relu": lambda v: np.where(v < 0, 0.01 * v, v),
        "softsign": lambda v: v / (1 + np.abs(v)),
        "elu": lambda v: np.where(v < 0, np.expm1(np.minimum(v, 0)), v),
        "hard_sigmoid": lambda v: np.clip(0.2 * v + 0.5, 0, 1),
        "sign": lambda v: np.where(v < 0, -1.0, 1.0),
        "affine": lambda v: v,
        "scaled_tanh": np.tanh,
        "thresholded_relu": lambda v: np.where(v < 1, 0, v),
    }
    return known[name](x)
