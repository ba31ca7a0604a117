"""Files of every operator with wrong shapes, constants, options, types and indices: a program, or a refusal in words.

The changes go through the schema, so that each file is a sound flatbuffer and the importer's rules see what is wrong.
"""

from __future__ import annotations

import resource
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from neurodeploy.backends.tflite.write import Model
from tests.differential import test_tflite_import_loops as loops
from tests.fuzz.test_tflite_fuzz import tried
from tests.tflite_operators import FILES, WEIGHTED, File

flatbuffers = pytest.importorskip("flatbuffers", reason="the extra 'tflite' is not installed")
fb = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="the extra 'tflite' is not installed")

CODES = (*FILES, "WHILE", "IF")
#: What sizes, options and constants become.
WORDS = (0, 1, 2, 3, 5, 64, 65, 1000, -1, -2, 1 << 16, 1 << 24, 2**31 - 1, -(2**31))
#: Options of 8 bits, bools and others.
BYTES = ("padding", "fusedActivationFunction", "weightsFormat", "mode", "outputType", "type", "quantizedBiasType",
         "kernelType", "outType", "inDataType", "outDataType", "alpha", "keepDims")  # fmt: skip
MEMORY = 1 << 30


@cache
def whole(code: str, dtype: str) -> bytes:
    """A file of one operator, or of a loop or branches."""
    if code in ("WHILE", "IF"):
        return loops.looped(3) if code == "WHILE" else loops.branching()
    model = Model()
    FILES[code](File(model.subgraph("main"), "i8" if dtype in ("i32", "bool") and code in WEIGHTED else dtype, code))
    return model.finish()


def pick(places: Any, at: float) -> Any:
    return places[min(int(at * len(places)), len(places) - 1)]


def changed(data: bytes, edits: Any) -> bytes:
    """A file after edits: what is changed, where of all such places, and into what."""
    model: Any = fb.ModelT.InitFromObj(fb.Model.GetRootAs(data, 0))
    graphs = model.subgraphs
    tensors, operators = [t for g in graphs for t in g.tensors], [o for g in graphs for o in g.operators]
    for what, at, word in edits:
        if what == "shape":
            shape = list(pick(tensors, at).shape)
            where = word % (len(shape) + 1)
            shape[where : where + 1] = [word] * (1 if where < len(shape) else 2)
            pick(tensors, at).shape = shape
        elif what == "constant":
            held = [b for b in model.buffers if b.data is not None and len(b.data) > 3]
            if held:
                words = np.array(pick(held, at).data, np.uint8).copy()
                start = 4 * (abs(word) % (len(words) // 4))
                words[start : start + 4] = np.frombuffer(np.int32(word).tobytes(), np.uint8)
                pick(held, at).data = words
        elif what == "option":
            tables = [o.builtinOptions for o in operators if o.builtinOptions is not None]
            if tables:
                names = [n for n, v in vars(pick(tables, at)).items() if isinstance(v, int)]
                if names:
                    name = names[word % len(names)]
                    flag = type(getattr(pick(tables, at), name)) is bool
                    setattr(pick(tables, at), name, word > 0 if flag else abs(word) % 128 if name in BYTES else word)
        elif what == "no options":
            pick(operators, at).builtinOptions, pick(operators, at).builtinOptionsType = None, 0
        elif what == "type":
            pick(tensors, at).type = word % 20
        elif what == "scale":
            pick(tensors, at).quantization = None
        elif what == "input":
            takes = list(pick(operators, at).inputs)
            if takes:
                takes[word % len(takes)] = word % len(graphs[0].tensors)
                pick(operators, at).inputs = takes
        elif what == "fewer":
            pick(operators, at).inputs = list(pick(operators, at).inputs)[:-1]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("operators")


def test_every_file_is_read_as_it_stands(folder):
    """What is changed below is sound before."""
    read = {code for code in CODES for dtype in ("f32", "i8") if tried(folder / "m.tflite", whole(code, dtype))}
    assert {*CODES} - read <= {"LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT"}, "these take bools alone"


KINDS = ("shape", "shape", "constant", "constant", "option", "no options", "type", "scale", "input", "fewer")


@settings(max_examples=400)
@given(
    code=st.sampled_from(CODES),
    dtype=st.sampled_from(("f32", "i8", "i16", "i32", "bool")),
    edits=st.lists(st.tuples(st.sampled_from(KINDS), st.floats(0, 1), st.sampled_from(WORDS)), min_size=1, max_size=3),
)
@example(code="PAD", dtype="f32", edits=[("constant", 0.0, 2**31 - 1)])
@example(code="SVDF", dtype="f32", edits=[("no options", 0.5, 5)])
@example(code="CONV_2D", dtype="f32", edits=[("fewer", 0.9, 0), ("constant", 0.03, 2), ("shape", 0.66, 3)])
@example(code="WHILE", dtype="f32", edits=[("constant", 0.52, -(2**31))])
def test_wrong_files_of_every_operator(folder, code, dtype, edits):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tried(folder / "wrong.tflite", changed(whole(code, dtype), edits))
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY
