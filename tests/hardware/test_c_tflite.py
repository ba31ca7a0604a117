"""TFLite's numerics on emulated boards, one of each family of cores: every bit is the golden model's."""

import numpy as np
import pytest

from neurodeploy import compile, hardware
from neurodeploy.backends.c_toolchain import toolchains
from neurodeploy.deploy import emulator
from neurodeploy.hardware import Board
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import Quant, TensorType
from tests.families import CASES

pytestmark = pytest.mark.board
BOARDS = ["mps2-an386", "mps2-an385", "microbit", "mps3-an547", "rv32-virt"]


def needs(board):
    if not emulator.available(hardware.find(board, Board)) or not toolchains(board):
        pytest.skip(f"no emulator or compiler of {board} is installed")


def stream(width: str) -> Program:
    """A stream's window as a file of others has it: a depthwise convolution, one of all channels, functions."""
    rng, b = np.random.default_rng(3), Builder()
    form = Quant(0.05, -3) if width == "i8" else Quant(2.0**-12)
    x = b.input("x", TensorType((1, 1, 10), width, form))
    line = b.state("line", TensorType((4, 1, 10), width, form))
    window = b("concat", line, x, axis=0, quant=form)
    b.next(line, b("slice", window, axis=0, start=1, stop=5, quant=form))
    taps, rows = (
        rng.integers(-127, 128, (1, 5, 1, 10)).astype(np.int8),
        rng.integers(-127, 128, (7, 1, 1, 10)).astype(np.int8),
    )
    scales = Quant(tuple(float(s) for s in rng.uniform(0.003, 0.02, 10).astype(np.float32)), 0, 3)
    zero = 9 if width == "i8" else 0
    seen = b("tfl_depthwise_conv_2d", window, b.param("taps", taps, scales), quant=Quant(0.04 if zero else 0.001, zero))
    made = b(
        "tfl_conv_2d", seen, b.param("rows", rows, Quant(0.01)), quant=Quant(0.06 if zero else 0.0005, zero), act="relu"
    )
    flat = b("reshape", made, shape=[7], quant=made.type.quant)
    b.output("p", b("tfl_softmax", flat, quant=Quant(2.0**-8, -128) if zero else Quant(2.0**-15)))
    b.output("t", b("tfl_tanh", flat, quant=Quant(2.0**-7) if zero else Quant(2.0**-15)))
    stage = Stage("main", b.graph(), Drive(), {"x": Ref("x")})
    outputs = {n: Ref(n, "main") for n in ("p", "t")}
    return Program(f"stream_{width}", {"x": ProgramInput(x.type)}, (stage,), outputs, numerics="tflite")


@pytest.mark.parametrize("board", BOARDS)
def test_a_file_of_others(board):
    needs(board)
    for width in ("i8", "i16"):
        program = stream(width)
        built = compile(program, board, costs=False)
        assert built.artifact.manifest["numerics"] == "tflite" and built.artifact.manifest["equality"] == "exact"
        x = np.random.default_rng(0).normal(size=(2, 12, 1, 1, 10)) * 3
        wanted, found = built.run(x, on="golden"), built.run(x)
        for name in ("p", "t"):
            np.testing.assert_array_equal(found[name], wanted[name])
            assert len(np.unique(wanted[name])) > 10


@pytest.mark.parametrize(("board", "family"), [*((b, "gru_reset_after") for b in BOARDS), ("mps2-an386", "lstm")])
def test_a_float_network_with_tflites_numerics(board, family):
    needs(board)
    case = CASES[family]
    for width in ("i8", "i16"):
        built = compile(
            case.program, board, dict(case.inputs), lengths=case.lengths, numerics="tflite", costs=False,
            quantize={"activation_dtype": width},
        )  # fmt: skip
        wanted, found = (built.run(dict(case.inputs), case.lengths, on=on) for on in ("golden", None))
        for one, other in zip(*(v.values() if isinstance(v, dict) else [v] for v in (wanted, found)), strict=True):
            np.testing.assert_array_equal(other, one)
