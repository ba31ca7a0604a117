"""How long the ``.tflite`` file of an LSTM takes in a fresh process, from a calibrated float program and its samples.

python -m benchmarks.tflite_write [--units 128] [--inputs 16]

Without TensorFlow. Each run is a process of its own: what it imports, reads, quantizes and packs. Beside it, in the
same process, the same model packed by the schema module's object API.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 3
SAMPLES = "samples.npz"


def calibrated(folder: Path, inputs: int, units: int) -> None:
    """An LSTM with random weights (seed 0) as a program with its ranges, in a folder."""
    import numpy as np

    from neurodeploy.data import arrange
    from neurodeploy.ir import text
    from neurodeploy.ir.build import Builder
    from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
    from neurodeploy.ir.types import TensorType
    from neurodeploy.passes import pipeline, run

    rng, b = np.random.default_rng(0), Builder()
    x, h, c = b.input("x", [inputs]), b.state("h", [units]), b.state("c", [units])
    shapes = {"W": (4 * units, inputs), "U": (4 * units, units), "b": (4 * units,)}
    params = [b.param(name, rng.uniform(-1, 1, shape) / units**0.5) for name, shape in shapes.items()]
    hidden, cell = b.call("lstm", x, h, c, *params)
    b.next(h, hidden)
    b.next(c, cell)
    b.output("y", hidden)
    stage = Stage("main", b.graph(), inputs_from={"x": Ref("x")})
    program = Program("lstm", {"x": ProgramInput(TensorType((inputs,)))}, (stage,), {"y": Ref("y", "main")})
    samples = {"x": rng.normal(size=(8, 20, inputs)).astype(np.float32)}
    passes = pipeline("tflite", "tflite", data=arrange(samples, program))
    for name, data in text.to_files(run(program, passes[:-1]), "program").items():
        (folder / name).write_bytes(data)
    np.savez(folder / SAMPLES, **samples)  # type: ignore[arg-type]


def measure(folder: Path) -> dict[str, float]:
    """Seconds of each part, in this process; and sizes."""
    marks = {"start": time.perf_counter()}
    import numpy as np

    from neurodeploy.backends.tflite.stage import stage_model
    from neurodeploy.backends.tflite.write import schema
    from neurodeploy.data import Data
    from neurodeploy.ir import text
    from neurodeploy.passes.tflite.quantize import QuantizeTFLite

    fb = schema()
    marks["import"] = time.perf_counter()
    program = text.from_files({p.name: p.read_bytes() for p in folder.iterdir()}, "program")
    samples = Data(dict(np.load(folder / SAMPLES)))
    marks["read"] = time.perf_counter()
    program = QuantizeTFLite(data=samples)(program)
    marks["quantize"] = time.perf_counter()
    model = stage_model(program.stages[0].graph, "lstm/main")
    (folder / "model.tflite").write_bytes(model)
    marks["write"] = time.perf_counter()
    names = list(marks)
    found = {b: marks[b] - marks[a] for a, b in zip(names, names[1:], strict=False)}
    found |= {"bytes": len(model), "tensorflow": float("tensorflow" in sys.modules)}
    import flatbuffers

    objects = fb.ModelT.InitFromPackedBuf(model)
    start = time.perf_counter()
    builder = flatbuffers.Builder(1024)
    builder.Finish(objects.Pack(builder), b"TFL3")
    packed = bytes(builder.Output())
    return found | {"object_api": time.perf_counter() - start, "object_api_bytes": len(packed)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=128)
    parser.add_argument("--inputs", type=int, default=16)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        print(json.dumps(measure(args.child)))
        return
    print(f"LSTM, {args.inputs} inputs, {args.units} units; seconds")
    print("process  import  read  quantize  write  total  | packing by the object API")
    with tempfile.TemporaryDirectory() as scratch:
        calibrated(Path(scratch), args.inputs, args.units)
        for _ in range(RUNS):
            (Path(scratch) / "model.tflite").unlink(missing_ok=True)
            start = time.perf_counter()
            command = [sys.executable, "-m", "benchmarks.tflite_write", "--child", scratch]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            whole, found = time.perf_counter() - start, json.loads(done.stdout)
            if found["tensorflow"]:
                sys.exit("TensorFlow was imported")
            parts = [found[name] for name in ("import", "read", "quantize", "write")]
            columns = "  ".join(f"{seconds:6.2f}" for seconds in (whole, *parts, sum(parts)))
            other = f"{found['object_api']:.2f}, {found['object_api_bytes']:,} B instead of {found['bytes']:,} B"
            print(f"{columns}  | {other}")


if __name__ == "__main__":
    main()
