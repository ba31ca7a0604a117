"""Damaged and hostile ``.tflite`` files: reading one gives a program or a ModelError in words, at once."""

from __future__ import annotations

import struct
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodeploy import hardware
from neurodeploy.backends import backend
from neurodeploy.data import arrange
from neurodeploy.errors import ModelError, NeurodeployError
from neurodeploy.importers import load
from neurodeploy.importers.tflite_read import read
from neurodeploy.ir.graph import Program
from neurodeploy.ir.interpret import run
from neurodeploy.passes import pipeline
from neurodeploy.passes import run as run_passes
from tests.families import CASES

pytest.importorskip("flatbuffers", reason="the extra 'tflite' is not installed")
pytest.importorskip("ai_edge_litert", reason="the extra 'tflite' is not installed")

WORDS = (0, 1, 2, 3, 127, 2**31 - 1, 2**31, 2**32 - 1, 2**30, 2**16)


@cache
def whole(name: str) -> bytes:
    """A family's file."""
    case = CASES[name.split()[0]]
    numerics = name.split()[1]
    program = run_passes(case.program, pipeline("tflite", numerics, data=arrange(dict(case.inputs), case.program)))
    files = backend("tflite").compile(program, hardware.find("tflm")).files
    return next(data for file, data in files.items() if file.endswith(".tflite"))


def tried(path: Path, data: bytes) -> Program | None:
    """The program of a file; None where it is refused. Anything but a ModelError in words is an error."""
    path.write_bytes(data)
    begun = time.process_time()
    try:
        program = load(path, check=False)
    except ModelError as error:
        assert path.name in str(error) and len(str(error)) < 2000
        return None
    finally:
        assert time.process_time() - begun < 5
    given = {n: np.zeros((1, 2, *i.type.shape), i.type.numpy) for n, i in program.inputs.items()}
    try:
        run(program, given)
    except NeurodeployError as error:
        assert str(error)
    return program


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tflite")


@pytest.mark.parametrize("name", ["gru_reset_after tflite", "lstm float", "hopfield float"])
@settings(max_examples=150)
@given(
    edits=st.lists(st.tuples(st.floats(0, 1), st.sampled_from(WORDS) | st.integers(0, 2**32 - 1)), max_size=4),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
    kept=st.floats(0, 1),
)
def test_mutated_files(folder, name, edits, flips, kept):
    data = bytearray(whole(name))
    for place, word in edits:
        struct.pack_into("<I", data, 4 * int(place * (len(data) // 4 - 1)), word)
    for place, byte in flips:
        data[int(place * (len(data) - 1))] = byte
    tried(folder / "mutated.tflite", bytes(data) if kept > 0.2 else bytes(data[: int(kept * 5 * len(data))]))


def test_what_is_whole_is_read(folder):
    for name in ("gru_reset_after tflite", "lstm float"):
        assert tried(folder / "whole.tflite", whole(name)) is not None


# -- files made to harm ------------------------------------------------------------------------------------------------


def changed(change: Any, name: str = "gru_reset_after tflite") -> bytes:
    """A family's file after a change to the schema's object of it."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as fb

    model = fb.ModelT.InitFromObj(fb.Model.GetRootAs(whole(name), 0))
    change(model, fb)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def refusal(folder: Path, data: bytes) -> str:
    path = folder / "hostile.tflite"
    path.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        load(path, check=False)
    return str(caught.value)


def test_wrong_indices_are_named(folder):
    def tensor(model, fb):
        model.subgraphs[0].operators[-2].inputs = [9999]

    def negative(model, fb):
        model.subgraphs[0].operators[-2].outputs = [-3]

    def code(model, fb):
        model.subgraphs[0].operators[3].opcodeIndex = 77

    def buffer(model, fb):
        model.subgraphs[0].tensors[0].buffer = 500

    def graph(model, fb):
        model.subgraphs[0].operators[0].builtinOptions.initSubgraphIndex = 9

    assert "names tensor 9999 of" in refusal(folder, changed(tensor))
    assert "names tensor -3 of" in refusal(folder, changed(negative))
    assert "operator 3: names operator code 77" in refusal(folder, changed(code))
    assert "names buffer 500 of" in refusal(folder, changed(buffer))
    assert "names subgraph 9 of 2" in refusal(folder, changed(graph))


def test_cycles_are_refused(folder):
    def cycle(model, fb):
        main = model.subgraphs[0]
        step = next(o for o in main.operators if len(o.inputs) == 2 and len(o.outputs) == 1)
        step.inputs = [step.outputs[0], step.inputs[1]]

    def twice(model, fb):
        main = model.subgraphs[0]
        main.operators.append(next(o for o in main.operators if len(o.inputs) == 2 and len(o.outputs) == 1))

    assert "before it is made" in refusal(folder, changed(cycle))
    assert "a second time" in refusal(folder, changed(twice))


def test_an_init_subgraph_that_calls_itself_is_refused(folder):
    def recursive(model, fb):
        model.subgraphs[1].operators.insert(0, model.subgraphs[0].operators[0])

    assert "runs another subgraph" in refusal(folder, changed(recursive))


def test_huge_shapes_are_refused(folder):
    def huge(model, fb):
        model.subgraphs[0].tensors[0].shape = [1, 2**31 - 1, 2**31 - 1]

    def many(model, fb):
        for tensor in model.subgraphs[0].tensors:
            if not tensor.buffer:
                tensor.shape = [1, 1 << 24]

    def longer(model, fb):
        data = [model.buffers[t.buffer].data for t in model.subgraphs[0].tensors]
        constant = model.subgraphs[0].tensors[next(i for i, d in enumerate(data) if d is not None)]
        constant.shape, constant.quantization = [1 << 20], None

    assert "has the shape [1, 2147483647, 2147483647]" in refusal(folder, changed(huge))
    assert "too many elements" in refusal(folder, changed(many))
    assert "needs" in refusal(folder, changed(longer))


def test_scales_that_are_none_are_refused(folder):
    def scaled(value):
        def change(model, fb):
            model.subgraphs[0].tensors[0].quantization.scale = value

        return change

    assert "scales from" in refusal(folder, changed(scaled([-0.1])))
    assert "scales from" in refusal(folder, changed(scaled([float("nan")])))
    assert "along axis" in refusal(folder, changed(scaled([0.1] * 7)))


def test_data_beyond_the_file_is_refused(folder):
    def beyond(model, fb):
        model.buffers[2].data, model.buffers[2].offset, model.buffers[2].size = None, 1 << 40, 8

    assert "beyond the file" in refusal(folder, changed(beyond))


def test_nan_is_refused(folder):
    def spoiled(model, fb):
        tensor = next(t for t in model.subgraphs[0].tensors if t.type == 0 and model.buffers[t.buffer].data is not None)
        data = np.array(model.buffers[tensor.buffer].data, np.uint8)
        data[:4] = np.frombuffer(np.float32("nan").tobytes(), np.uint8)
        model.buffers[tensor.buffer].data = data

    assert "holds NaN" in refusal(folder, changed(spoiled, "lstm float"))


def test_tables_that_overlap_cost_nothing():
    """200,000 references to one tensor whose name has 800,000 letters: 160 GB to read, in 1.6 MB."""
    count, tensors = 200_000, 200
    data = bytearray(struct.pack("<I4s", 8, b"TFL3")).ljust(tensors, b"\0")
    struct.pack_into("<iII", data, 8, 8 - 40, 60 - 12, 120 - 16)  # the root: subgraphs at 60, buffers at 120
    struct.pack_into("<7H", data, 40, 14, 12, 0, 0, 4, 0, 8)
    struct.pack_into("<II", data, 60, 1, 80 - 64)  # one subgraph at 80, its tensors at 200
    struct.pack_into("<iI", data, 80, 80 - 100, tensors - 84)
    struct.pack_into("<3H", data, 100, 6, 8, 4)
    struct.pack_into("<II", data, 120, 1, 140 - 124)  # one buffer without data
    struct.pack_into("<i", data, 140, 140 - 150)
    struct.pack_into("<2H", data, 150, 4, 4)
    tensor = tensors + 4 + 4 * count
    data += struct.pack("<I", count) + b"".join(struct.pack("<I", tensor - tensors - 4 - 4 * i) for i in range(count))
    data += struct.pack("<iI6H", -8, 20 - 4, 12, 8, 0, 0, 0, 4) + struct.pack("<I", 4 * count) + b"n" * 4 * count
    begun = time.process_time()
    with pytest.raises(ModelError, match="its tables or vectors overlap"):
        read(bytes(data), "bomb.tflite")
    assert time.process_time() - begun < 5
