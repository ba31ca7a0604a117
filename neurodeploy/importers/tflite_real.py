"""Files with weights in integers and activations in floats (dynamic-range quantization), with weights in floats."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator

import numpy as np

from neurodeploy.importers import tflite_schema as schema
from neurodeploy.importers.tflite_flat import Flat
from neurodeploy.importers.tflite_read import Model
from neurodeploy.importers.tflite_step import QUANTIZED, Call, Step

#: Where constants begin, as TFLite writes them.
ALIGNMENT = 16


def integer_weights(model: Model) -> Iterator[tuple[int, int, np.ndarray]]:
    """Subgraph, tensor and real numbers of each weight of such an operator."""
    for number, subgraph in enumerate(model.subgraphs):
        step, found = Step(model, subgraph), set()
        for call in (Call(step, operator) for operator in subgraph.operators):
            for i, index in enumerate(call.operator.inputs):
                held = call.dynamic and index >= 0 and subgraph.tensors[index].kind in QUANTIZED
                if held and index not in found:
                    found.add(index)
                    yield number, index, call.real(i)


def with_real_weights(data: bytes, model: Model) -> bytes | None:
    """The same file with those weights in floats, behind the old bytes; None where they share their data."""
    root = Flat(data, model.file).root()
    tensors = [t.get(*schema.SUBGRAPH["tensors"]) for t in root.get(*schema.MODEL["subgraphs"])]
    buffers, made = root.get(*schema.MODEL["buffers"]), bytearray(data)
    shared = Counter(tensor.get(*schema.TENSOR["buffer"]) for part in tensors for tensor in part)
    for number, index, real in integer_weights(model):
        tensor = tensors[number][index]
        held = tensor.get(*schema.TENSOR["buffer"])
        kind, vector = tensor.where(schema.TENSOR["type"][0]), buffers[held].where(schema.BUFFER["data"][0])
        if shared[held] > 1 or kind is None or vector is None:
            return None
        raw = real.astype("<f4").tobytes()
        made += bytes(-(len(made) + 4) % ALIGNMENT)
        struct.pack_into("<I", made, vector, len(made) - vector)
        made += struct.pack("<I", len(raw)) + raw
        made[kind] = schema.TENSOR_TYPES.index("FLOAT32")
    return bytes(made)
