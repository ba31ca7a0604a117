"""Where the bytes of a GRU's ``.tflite`` files go, by kind.

python -m benchmarks.tflite_bytes [--inputs 8] [--units 32] [--dtype i8]

It walks the flatbuffer: every table, vector and string once, however often it is referred to.
"""

from __future__ import annotations

import argparse
import struct
from collections import Counter

import numpy as np

from neurodeploy import hardware
from neurodeploy.backends.tflite import TFLiteBackend
from neurodeploy.data import arrange
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import TensorType
from neurodeploy.passes import pipeline, run

#: Fields of tables, by their places in ``schema.fbs``: what they hold (a table, a vector of ... ) and its kind.
VECTOR, STRING, TABLE, TABLES = "vector", "string", "table", "tables"
TREE = {
    "model": {1: (TABLES, "operator codes"), 2: (TABLES, "subgraphs"), 3: (STRING, "names"), 4: (TABLES, "buffers"),
              6: (TABLES, "metadata"), 7: (TABLES, "signature")},
    "subgraphs": {0: (TABLES, "tensors"), 1: (VECTOR, 4), 2: (VECTOR, 4), 3: (TABLES, "operators"),
                  4: (STRING, "names")},
    "tensors": {0: (VECTOR, 4), 3: (STRING, "names"), 4: (TABLE, "quantization")},
    "quantization": {2: (VECTOR, 4), 3: (VECTOR, 8)},
    "operators": {1: (VECTOR, 4), 2: (VECTOR, 4), 4: (TABLE, "options"), 8: (VECTOR, 4)},
    "buffers": {0: (VECTOR, 1)},
    "metadata": {0: (STRING, "names")},
    "signature": {0: (TABLES, "signature names"), 1: (TABLES, "signature names"), 2: (STRING, "names")},
    "signature names": {0: (STRING, "names")},
}  # fmt: skip
KINDS = {
    ("tensors", 0): "shapes", ("quantization", 2): "scales", ("quantization", 3): "zero points",
    ("operators", 1): "operators' tensors", ("operators", 2): "operators' tensors", ("buffers", 0): "constants",
}  # fmt: skip


class Budget:
    """Bytes of a flatbuffer by kind."""

    def __init__(self, file: bytes) -> None:
        self.file = file
        self.seen: dict[int, tuple[int, str]] = {0: (8, "root")}
        self._table(self._at(0), "model")

    def kinds(self) -> Counter[str]:
        """Kind -> bytes; what nothing refers to is padding."""
        found: Counter[str] = Counter()
        for size, kind in self.seen.values():
            found[kind] += size
        found["padding"] = len(self.file) - found.total()
        return found

    def _at(self, place: int) -> int:
        return place + struct.unpack_from("<I", self.file, place)[0]

    def _mark(self, place: int, size: int, kind: str) -> None:
        if self.seen.get(place, (0, ""))[0] < size:
            self.seen[place] = size, kind

    def _table(self, place: int, kind: str) -> None:
        layout = place - struct.unpack_from("<i", self.file, place)[0]
        size, inline = struct.unpack_from("<HH", self.file, layout)
        fields = struct.unpack_from(f"<{(size - 4) // 2}H", self.file, layout + 4)
        self._mark(layout, size, "tables of fields")
        self._mark(place, inline, kind)
        for field, (holds, what) in TREE.get(kind, {}).items():
            if field < len(fields) and fields[field]:
                self._field(self._at(place + fields[field]), holds, what, KINDS.get((kind, field), kind))

    def _field(self, place: int, holds: str, what: str | int, kind: str) -> None:
        if holds == TABLE:
            self._table(place, str(what))
            return
        count = struct.unpack_from("<I", self.file, place)[0]
        if holds == STRING:
            self._mark(place, 5 + count, "names")
        elif holds == VECTOR:
            self._mark(place, 4 + count * int(what), kind)
        else:
            self._mark(place, 4 + 4 * count, str(what))
            for i in range(count):
                self._table(self._at(place + 4 + 4 * i), str(what))


def gru(inputs: int, units: int, seed: int) -> tuple[Program, np.ndarray]:
    """A GRU as PyTorch initialises one, without a readout, and samples."""
    rng, b = np.random.default_rng(seed), Builder()
    x, h = b.input("x", [inputs]), b.state("h", [units])
    shapes = {"W": (3 * units, inputs), "U": (3 * units, units), "b": (3 * units,), "u": (units,)}
    edge = units**-0.5
    (new,) = b.call("gru", x, h, *(b.param(name, rng.uniform(-edge, edge, shape)) for name, shape in shapes.items()))
    b.next(h, new)
    b.output("y", new)
    stage = Stage("main", b.graph(), inputs_from={"x": Ref("x")})
    program = Program("gru", {"x": ProgramInput(TensorType((inputs,)))}, (stage,), {"y": Ref("y", "main")})
    return program, rng.normal(size=(8, 50, inputs)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=8)
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--dtype", choices=["i8", "i16"], default="i8")
    args = parser.parse_args()
    program, samples = gru(args.inputs, args.units, 0)
    known, columns = arrange({"x": samples}, program), {}
    for optimize, prefer in (("size", "size"), ("balanced", "speed")):
        options = {"activation_dtype": args.dtype, "prefer": prefer}
        quantized = run(program, pipeline("tflite", "tflite", data=known, quantize_tflite=options))
        for state in ("io", "variables"):
            made = TFLiteBackend().compile(quantized, hardware.find("tflm"), optimize=optimize, state=state)
            columns[f"{optimize}, {state}"] = Budget(made.files["main.tflite"]).kinds()
    kinds = sorted({k for c in columns.values() for k in c}, key=lambda k: -max(c[k] for c in columns.values()))
    print(f"GRU, {args.inputs} inputs, {args.units} units, {args.dtype} activations, seed 0; bytes")
    print(f"{'':20}", *(f"{name:>20}" for name in columns))
    for kind in kinds:
        print(f"{kind:20}", *(f"{column[kind]:20,}" for column in columns.values()))
    print(f"{'total':20}", *(f"{column.total():20,}" for column in columns.values()))


if __name__ == "__main__":
    main()
