"""Files that take and give floats around integers: on every real input the program gives what the file gives."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from neurodeploy.backends import c_build
from neurodeploy.backends.tflite.write import Subgraph
from neurodeploy.compiler import compile
from neurodeploy.errors import ModelError
from neurodeploy.importers import load
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.fixed import quantize
from neurodeploy.ir.graph import Program
from neurodeploy.ir.interpret import run
from neurodeploy.ir.types import Quant, TensorType
from tests.differential.test_tflite_import import Build, f32, loaded, written

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")

COUNT = 600


def around(dtype: str, scale: float, zero: int) -> Build:
    """QUANTIZE of a float, a sum with itself, DEQUANTIZE."""

    def build(s: Subgraph) -> None:
        end = Quant(f32(scale), zero)
        x, y = s.tensor("x", (1, COUNT), "f32"), s.tensor("y", (1, COUNT), "f32")
        inner = s.tensor("inner", (1, COUNT), dtype, end)
        made = s.tensor("made", (1, COUNT), dtype, Quant(f32(scale * 2), 5 if dtype == "i8" else 0))
        s.inputs, s.outputs = [x], [y]
        s.op("QUANTIZE", [x], [inner])
        s.op("ADD", [inner, inner], [made], "AddOptions")
        s.op("DEQUANTIZE", [made], [y])

    return build


def reals(scale: float, rng) -> np.ndarray:
    """Real numbers halfway between two steps, and the floats beside these; some far away, and none."""
    half = ((np.arange(-250, 250) + 0.5).astype(np.float32) * np.float32(scale)).astype(np.float32)
    half = rng.choice(half, COUNT - 20)
    half = np.nextafter(half, half + rng.choice([-1, 0, 1], half.shape).astype(np.float32))
    edges = np.array([0, -0.0, 0.49999997, -0.49999997, 0.5, -0.5, 1e4, -1e4, 1e8, -1e8], np.float32) * np.float32(
        scale
    )
    return np.concatenate([half, edges, rng.normal(0, 60, 10).astype(np.float32) * np.float32(scale)])


FORMS = [("i8", 0.02, 5), ("i8", 1.0, -100), ("i8", 0.0123, 40), ("i16", 3e-4, 0), ("i16", 0.5, 0)]


@pytest.mark.parametrize(("dtype", "scale", "zero"), FORMS)
def test_real_numbers_go_in_and_come_out_as_in_the_file(tmp_path, dtype, scale, zero):
    from neurodeploy.deploy.tflm import interpreter

    data, rng = written(around(dtype, scale, zero)), np.random.default_rng(0)
    program = loaded(tmp_path, data)
    assert program.meta["float_ends"] == ["x", "y"]
    assert program.inputs["x"].type == TensorType((COUNT,), dtype, Quant(f32(scale), zero))
    x = np.stack([reals(scale, rng) for _ in range(20)])[None].astype(np.float32)
    (found,) = real_outputs(program, run(program, {"x": x})).values()
    engine = interpreter(data, 1 << 20)
    for k in range(20):
        engine.set_input(x[:, k], 0)
        engine.invoke()
        np.testing.assert_array_equal(found[0, k], engine.get_output(0)[0])


@pytest.mark.parametrize(("dtype", "scale", "zero"), FORMS)
def test_the_check_feeds_and_compares_reals(tmp_path, monkeypatch, dtype, scale, zero):
    path = tmp_path / "ends.tflite"
    path.write_bytes(written(around(dtype, scale, zero)))
    check = load(path).meta["import_check"]
    assert check == {"against": "TFLite Micro", "max_abs_difference": 0.0, "samples": 1}
    monkeypatch.setattr("neurodeploy.ir.drive.from_real", quantize)  # half up, as in native numerics
    with pytest.raises(ModelError, match="output 'y' differs from TFLite Micro by"):
        load(path)


def in_c(program: Program, x: np.ndarray) -> np.ndarray:
    """What the function that the C header offers makes of real numbers."""
    built = compile(program, "host", costs=False)
    ((name, spec),) = program.inputs.items()
    stem = built.artifact.manifest["run"]["name"]
    kept = {n: d for n, d in built.artifact.files.items() if n in (f"{stem}.c", f"{stem}.h")}
    kind = {"i8": "int8_t", "i16": "int16_t"}[spec.type.dtype]
    shim = (
        f'#include "{stem}.h"\nvoid of_reals(const float *x, {kind} *y, int32_t n);\n'
        f"void of_reals(const float *x, {kind} *y, int32_t n)\n"
        f"{{ for (int32_t i = 0; i < n; ++i) {{ y[i] = {stem}_quantize_{name}(x[i]); }} }}\n"
    )
    library = ctypes.CDLL(str(c_build.compile_shared({**kept, "shim.c": shim.encode()})))
    y = np.empty(x.shape, spec.type.numpy)
    library.of_reals(*(ctypes.c_void_p(a.ctypes.data) for a in (x, y)), ctypes.c_int32(x.size))
    return y


@pytest.mark.parametrize(("dtype", "scale", "zero"), [FORMS[0], FORMS[4]])
def test_the_c_header_rounds_alike(tmp_path, dtype, scale, zero):
    pytest.importorskip("ziglang", reason="needs the extra 'board'")
    from neurodeploy.ir.tflite.borders import from_real

    program = loaded(tmp_path, written(around(dtype, scale, zero)))
    x = reals(scale, np.random.default_rng(1))
    type_ = TensorType((COUNT,), dtype, program.inputs["x"].type.quant)
    found = in_c(program, x)
    np.testing.assert_array_equal(found, from_real(x, type_))
    assert (found != quantize(x, type_)).any()
