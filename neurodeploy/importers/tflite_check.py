"""The check that ends the import of a ``.tflite`` file: the program against TFLite Micro, on random inputs.

A float program of a file that TFLite Micro can't run is compared with LiteRT instead; one with weights in integers
and activations in floats is compared as the same file with weights in floats. The interpreter runs in a process
of its own, since it aborts the whole process for some models that it can't run.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec

import numpy as np

from neurodeploy.errors import NumericsError
from neurodeploy.importers.check import Trial, check, unchecked
from neurodeploy.importers.tflite_read import Model
from neurodeploy.importers.tflite_real import with_real_weights
from neurodeploy.ir.graph import Program
from neurodeploy.ir.tflite.fixed_point import scale_of, zero_of
from neurodeploy.ir.types import TensorType, int_range

#: Steps of the one sample, and how long the interpreter may take for them.
STEPS, SECONDS = 6, 60
#: A difference between floats that is an error, relative to the largest output.
TOLERANCE = 1e-4
#: Shares of the integers' range that inputs are drawn from, the next where a sum left int32 (undefined in TFLM's C++).
SHARES = (1.0, 1 / 16, 1 / 256)

#: Reads an archive of the model, the arena's size and ``[steps, ...]`` inputs; writes one of the outputs.
_CHILD = """
import io, sys
import numpy as np
with np.load(io.BytesIO(sys.stdin.buffer.read())) as archive:
    given = dict(archive)
steps, inputs, outputs = (int(given[k]) for k in ("steps", "inputs", "outputs"))
made = []
if sys.argv[1] == "TFLite Micro":
    from tflite_micro import runtime
    engine = runtime.Interpreter.from_bytes(given["model"].tobytes(), arena_size=int(given["arena"]))
    feed, fetch = engine.set_input, engine.get_output
else:
    from ai_edge_litert.interpreter import Interpreter
    engine = Interpreter(model_content=given["model"].tobytes())
    engine.allocate_tensors()
    starts, ends = ([d["index"] for d in ds] for ds in (engine.get_input_details(), engine.get_output_details()))
    feed, fetch = (lambda x, i: engine.set_tensor(starts[i], x)), (lambda i: engine.get_tensor(ends[i]))
for k in range(steps):
    for i in range(inputs):
        feed(given[f"x{i}"][k], i)
    engine.invoke()
    made.append([fetch(i).copy() for i in range(outputs)])
out = io.BytesIO()
np.savez(out, **{f"y{i}": np.stack(y) for i, y in enumerate(zip(*made))})
sys.stdout.buffer.write(out.getvalue())
"""


def checked(program: Program, model: Model, data: bytes) -> Program:
    """The program with ``meta["import_check"]``; not checked where no interpreter is installed that can run the file.

    Raises :class:`ModelError` naming an output that differs.
    """
    if find_spec("tflite_micro") is None:
        return unchecked(program, "the package tflite-micro isn't installed")
    integers, outputs = program.numerics == "tflite", program.output_types()
    if "dynamic_range" in program.meta:
        real = with_real_weights(data, model)
        if real is None:
            return unchecked(program, "its weights in integers share their data with other tensors")
        data = real
    against = ["TFLite Micro"] + ["LiteRT"] * (not integers and find_spec("ai_edge_litert") is not None)
    floats = any(t.dtype == "f32" and n not in program.meta.get("float_ends", ()) for n, t in outputs.items())
    for share in SHARES:
        rng = np.random.default_rng(0)
        ends = program.meta.get("float_ends", ())
        inputs = {n: (_reals if n in ends else _random)(rng, i.type, share) for n, i in program.inputs.items()}
        for name in against:
            found = _interpreted(program, model, data, inputs, name)
            if found is None:
                continue
            tolerance = 0.0 if integers and not floats else TOLERANCE
            try:
                return check(program, lambda _, found=found: found, [Trial(inputs, None)], name, model.file, tolerance)
            except NumericsError as error:
                why = f"on random inputs a sum leaves int32, which TFLite Micro leaves undefined ({error.message})"
                break
        else:
            return unchecked(program, f"{' and '.join(against)} can't run the file")
    return unchecked(program, why)


def _random(rng: np.random.Generator, type_: TensorType, share: float = 1.0) -> np.ndarray:
    shape = (1, STEPS, *type_.shape)
    if type_.dtype == "f32":
        return rng.normal(size=shape).astype(np.float32)
    if type_.dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if type_.quant is None:  # an index or a count
        return rng.integers(0, 2, shape).astype(type_.numpy)
    least, most = int_range(type_.dtype)
    reach = int((most - least + 1) * share) // 2
    middle = zero_of(type_) if share < 1 else (least + most + 1) // 2
    made = rng.integers(max(least, middle - reach), min(most + 1, middle + reach), shape)
    return made.astype(type_.numpy)


def _reals(rng: np.random.Generator, type_: TensorType, share: float = 1.0) -> np.ndarray:
    """Real numbers for an end in float: on the integers, between two of them, anywhere, and beyond the range."""
    steps = _random(rng, type_, share).astype(np.float64) - zero_of(type_)
    steps += rng.choice([0.0, 0.5, -0.5], steps.shape) + rng.choice([0.0, 1.0], steps.shape) * rng.normal(
        size=steps.shape
    )
    return (steps * float(scale_of(type_))).astype(np.float32)


def _interpreted(
    program: Program, model: Model, data: bytes, inputs: Mapping[str, np.ndarray], by: str
) -> dict[str, np.ndarray] | None:
    """The outputs of an interpreter, ``[1, steps, ...]`` as the program gives them; None where it fails."""
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
            [sys.executable, "-c", _CHILD, by],
            input=given.getvalue(),
            capture_output=True,
            timeout=SECONDS,
            check=False,
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
