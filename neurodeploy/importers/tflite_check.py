"""The check that ends the import of a ``.tflite`` file: the program against TFLite Micro, on random inputs.

The interpreter runs in a process of its own, since it aborts the whole process for some models that it can't run.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec

import numpy as np

from neurodeploy.importers.check import Trial, check, unchecked
from neurodeploy.importers.tflite_read import Model
from neurodeploy.ir.graph import Program
from neurodeploy.ir.tflite.fixed_point import scale_of, zero_of
from neurodeploy.ir.types import TensorType

#: Steps of the one sample, and how long the interpreter may take for them.
STEPS, SECONDS = 6, 60
#: A difference between floats that is an error, relative to the largest output.
TOLERANCE = 1e-4

#: Reads an archive of the model, the arena's size and ``[steps, ...]`` inputs; writes one of the outputs.
_CHILD = """
import io, sys
import numpy as np
from tflite_micro import runtime
with np.load(io.BytesIO(sys.stdin.buffer.read())) as archive:
    given = dict(archive)
engine = runtime.Interpreter.from_bytes(given["model"].tobytes(), arena_size=int(given["arena"]))
made = []
for k in range(int(given["steps"])):
    for i in range(int(given["inputs"])):
        engine.set_input(given[f"x{i}"][k], i)
    engine.invoke()
    made.append([engine.get_output(i).copy() for i in range(int(given["outputs"]))])
out = io.BytesIO()
np.savez(out, **{f"y{i}": np.stack(y) for i, y in enumerate(zip(*made))})
sys.stdout.buffer.write(out.getvalue())
"""


def checked(program: Program, model: Model, data: bytes) -> Program:
    """The program with ``meta["import_check"]``; not checked where tflite-micro isn't installed, or can't run the file.

    Raises :class:`ModelError` naming an output that differs.
    """
    if find_spec("tflite_micro") is None:
        return unchecked(program, "the package tflite-micro isn't installed")
    rng = np.random.default_rng(0)
    ends = program.meta.get("float_ends", ())
    inputs = {n: (_reals if n in ends else _random)(rng, spec.type) for n, spec in program.inputs.items()}
    found = _interpreted(program, model, data, inputs)
    if found is None:
        return unchecked(program, "TFLite Micro can't run the file")
    tolerance = 0.0 if program.numerics == "tflite" else TOLERANCE
    return check(program, lambda _: found, [Trial(inputs, None)], "TFLite Micro", model.file, tolerance)


def _random(rng: np.random.Generator, type_: TensorType) -> np.ndarray:
    shape = (1, STEPS, *type_.shape)
    if type_.dtype == "f32":
        return rng.normal(size=shape).astype(np.float32)
    if type_.dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if type_.quant is None:  # an index or a count
        return rng.integers(0, 2, shape).astype(type_.numpy)
    bounds = np.iinfo(type_.numpy)
    return rng.integers(bounds.min, int(bounds.max) + 1, shape, dtype=type_.numpy)


def _reals(rng: np.random.Generator, type_: TensorType) -> np.ndarray:
    """Real numbers for an end in float: on the integers, between two of them, anywhere, and beyond the range."""
    steps = _random(rng, type_).astype(np.float64) - zero_of(type_)
    steps += rng.choice([0.0, 0.5, -0.5], steps.shape) + rng.choice([0.0, 1.0], steps.shape) * rng.normal(
        size=steps.shape
    )
    return (steps * float(scale_of(type_))).astype(np.float32)


def _interpreted(
    program: Program, model: Model, data: bytes, inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray] | None:
    """The outputs of TFLite Micro, ``[1, steps, ...]`` as the program gives them; None where it fails."""
    main, ends = model.subgraphs[0], program.meta.get("float_ends", ())
    uint8 = set(program.meta.get("uint8", ())) - set(ends)
    fed = {}
    for i, (index, (name, x)) in enumerate(zip(main.inputs, inputs.items(), strict=True)):
        x = x[0].reshape(STEPS, *main.tensors[index].shape)
        fed[f"x{i}"] = (x.astype(np.int16) + 128).astype(np.uint8) if name in uint8 else x
    size = sum(8 * int(np.prod(t.shape, dtype=np.int64)) for t in main.tensors)
    sizes = {
        "arena": (1 << 20) + 10 * len(data) + size,
        "steps": STEPS,
        "inputs": len(fed),
        "outputs": len(main.outputs),
    }
    given = io.BytesIO()
    np.savez(given, model=np.frombuffer(data, np.uint8), **{k: np.array(v) for k, v in sizes.items()}, **fed)
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD], input=given.getvalue(), capture_output=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    found = {}
    with np.load(io.BytesIO(done.stdout)) as made:
        for i, (name, type_) in enumerate(program.output_types().items()):
            y = made[f"y{i}"]
            y = y.astype(np.int16) - 128 if name in uint8 else y
            y = y if name in ends else y.astype(type_.numpy)
            found[name] = y.reshape(1, STEPS, *type_.shape)
    return found
