"""The TFLM project of a build: its C++ answers the link and steps as the golden model does, its files say what is true.

TFLM itself isn't here: the C++ is compiled against a stand-in of its headers (``tests/stand_ins/tflm``), behind which
the wheel computes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

import neurodeploy
from neurodeploy.artifact import Artifact
from neurodeploy.backends.tflite.project import add_method, c_string
from neurodeploy.backends.tflite.project_arena import arena_of
from neurodeploy.backends.tflite.project_facts import Tensor, facts_of
from neurodeploy.backends.tflite.stage import stage_model
from neurodeploy.backends.tflite.write import schema
from neurodeploy.data import Data
from neurodeploy.deploy import tflm
from neurodeploy.deploy.link import Board, Steps
from neurodeploy.deploy.tflm import arena_bytes
from neurodeploy.deploy.tflm_board import BoardEngine, Seat
from neurodeploy.errors import DeviceError, MissingExtraError, UnsupportedError, UsageError
from neurodeploy.ir.graph import Graph, Param, State
from neurodeploy.ir.text import parse_program
from neurodeploy.ir.types import Quant, TensorType
from tests import tflm_stand_in
from tests.families import CASES

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")
HELD = """program held numerics=float {
  input x: series f32[2]
  stage main forward {
    from x = x
    input %x: f32[2]
    param %start: f32[2]
    param %half: f32[2]
    state %s: f32[2] next=%y init=%start
    %z: f32[2] = mul(%s, %half)
    %y: f32[2] = add(%x, %z)
    output y = %y
  }
  output y = main.y
}
"""
needs_compiler = pytest.mark.skipif(not tflm_stand_in.compiler(), reason="no C++ compiler is installed")


def build(family: str, **options) -> neurodeploy.Built:
    case = CASES[family]
    return neurodeploy.compile(case.program, "tflm", Data(case.inputs, case.lengths), name=family, **options)


def facts(artifact: Artifact) -> list:
    return [facts_of(artifact.files[s["file"]]) for s in artifact.manifest["layout"]["stages"].values()]


@needs_compiler
@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("gru_reset_after", {}),
        ("gru_reset_after", {"state": "io", "steps": 4}),
        ("encoder_decoder", {}),
        ("stacked_bidirectional", {"steps": 5}),
        ("lstm", {"optimize": "size"}),
        ("lstm", {"fused_lstm": True, "quantize": {"activation_dtype": "i8"}}),
        ("lstm", {"fused_lstm": True, "steps": 5}),
        ("recursive", {"state": "io"}),
    ],
    ids=lambda item: item if isinstance(item, str) else "-".join(item) or "plain",
)
def test_firmware_equals_the_golden_model(family, options, tmp_path):
    """Several stages, states that are variables, inputs and outputs or in operators, one step a call or more."""
    made = build(family, costs=False, **options)
    firmware = tflm_stand_in.build(made.artifact, tmp_path)
    case = CASES[family]
    with tflm_stand_in.running(firmware, tflm_stand_in.Wheel(made.artifact, facts(made.artifact))) as port:
        found = made.validate(Data(case.inputs, case.lengths), on="board", port=port)
    (agreement,) = found.run.agreement
    assert agreement.bit_exact == agreement.compared > 0
    assert found.run.device.target_id == "0x4d4c4654"


@pytest.mark.parametrize(("dtype", "point", "kept"), [("i16", 0, None), ("i8", 3, None), ("i8", 0, b"\3\3")])
def test_a_variable_s_first_value_is_written_where_reset_does_not_leave_it(dtype, point, kept):
    """TFLM's reset fills a variable with its zero point."""
    type_ = TensorType((2,), dtype, Quant(0.5, point))
    start = Param(type_, np.full(2, 3 if dtype == "i8" else 0, type_.numpy))
    graph = Graph({"x": type_}, {"start": start}, (State("h", type_, "x", "start"),), (), {"y": "h"})
    (variable,) = facts_of(stage_model(graph, "held")).variables
    assert (variable.name, variable.bytes, variable.initial) == ("h", type_.nbytes, kept)


def test_the_resolver_has_the_operators_of_all_stages_and_no_other():
    made = build("encoder_decoder").artifact
    text = made.files["tflm/op_resolver.h"].decode()
    used = {op for each in facts(made) for op in each.ops}
    assert f"MicroMutableOpResolver<{len(used)}>" in text
    assert set(re.findall(r"ops->(\w+)\(", text)) == {add_method(op) for op in used}


def test_methods_are_those_of_tflm():
    assert add_method("CONV_2D") == "AddConv2D"
    assert add_method("UNIDIRECTIONAL_SEQUENCE_LSTM") == "AddUnidirectionalSequenceLSTM"
    with pytest.raises(UnsupportedError, match="no operator BIDIRECTIONAL_SEQUENCE_LSTM"):
        add_method("BIDIRECTIONAL_SEQUENCE_LSTM")


def test_names_become_c_strings():
    assert c_string('h "1"\\?é') == r'"h \0421\042\134\077\303\251"'


def test_the_arena_is_stated_for_both_widths_of_pointers():
    made = build("gru_reset_after").artifact
    arena = arena_of(made.files["main.tflite"])
    header = made.files["tflm/model_data.h"].decode()
    assert f"arena_bytes = sizeof(void *) > 4 ? {arena.bytes_64} : {arena.bytes};" in header
    assert arena.used == arena_bytes(made.files["main.tflite"]) < arena.bytes < arena.bytes_64
    assert {f["name"]: f["value"] for f in made.manifest["figures"]}["arena_bytes"] == arena.used


def test_the_wheel_plans_and_runs_in_the_arena_of_64_bits(tmp_path):
    """In a process of its own, since an arena far too small makes the interpreter crash. Before the plan was counted in,
    an eighth more than the wheel's figure failed for nearly all."""
    cases: list[tuple[str, dict]] = [
        ("elman_tanh", {"quantize": {"activation_dtype": "i8", "weight_bits": 4}}),
        ("gru_reset_after", {}),
        ("gru_reset_after", {"steps": 5}),
        ("lstm", {"fused_lstm": True}),
        ("lstm", {"numerics": "float", "fused_lstm": True}),
        ("ising", {"optimize": "size"}),
        ("dnc", {"steps": 5, "quantize": {"activation_dtype": "i8"}}),
    ]
    rows = []
    for number, (family, options) in enumerate(cases):
        model = build(family, costs=False, **options).artifact.files["main.tflite"]
        (tmp_path / f"{number}.tflite").write_bytes(model)
        rows.append(f"{number}.tflite {arena_of(model).bytes_64}")
    run = """
import sys
from tflite_micro import runtime
for line in sys.stdin:
    file, size = line.split()
    runtime.Interpreter.from_bytes(open(file, "rb").read(), arena_size=int(size)).invoke()
    print(file, flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", run], input="\n".join(rows), capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.stdout.split() == [row.split()[0] for row in rows], done.stderr[-500:]


def test_a_small_file_names_what_runs_subgraphs_where_tflm_s_planner_looks():
    """TFLM of August 2026 reads the wide field alone there, and laid a WHILE's body over the tensors of the step."""
    model = build("ising", costs=False, optimize="size").artifact.files["main.tflite"]
    root = schema().Model.GetRootAsModel(model, 0)
    codes = [root.OperatorCodes(i) for i in range(root.OperatorCodesLength())]
    wide = {code.BuiltinCode() for code in codes}
    assert {schema().BuiltinOperator.WHILE, schema().BuiltinOperator.CALL_ONCE} <= wide


@needs_compiler
@pytest.mark.parametrize("extra", [(), ("-DTFLM_STAND_IN_OLD",)], ids=["now", "before December 2024"])
def test_a_stream_s_state_begins_where_the_model_says(extra, tmp_path):
    """A state that begins elsewhere than at zero: after every reset, and when streams take turns on one board."""
    start = np.array([1.0, -0.5], np.float32)
    made = neurodeploy.compile(
        parse_program(HELD, {"main/start": start, "main/half": np.full(2, 0.5, np.float32)}),
        "tflm",
        np.ones((2, 4, 2), np.float32),
    )
    data = Data({"x": np.linspace(-1, 1, 2 * 4 * 2).reshape(2, 4, 2).astype(np.float32)})
    firmware = tflm_stand_in.build(made.artifact, tmp_path, extra)
    with tflm_stand_in.running(firmware, tflm_stand_in.Wheel(made.artifact, facts(made.artifact))) as port:
        found = made.validate(data, on="board", port=port)
        assert found.run.agreement[0].holds
    assert b"nullptr" not in made.artifact.files["tflm/model_data.cc"].split(b"_variables[]")[1].split(b"};")[0]


@needs_compiler
def test_a_tflm_without_a_scale_per_row_is_refused_when_it_is_compiled(tmp_path):
    """Before May 2024 TFLM took the first row's scale for all of them, without a word."""
    rows, one = (build("gru_reset_after", quantize={"per_channel": per_row}).artifact for per_row in (True, False))

    def complaint(artifact: Artifact, *defines: str) -> str:
        tflm_stand_in.unpack(artifact, tmp_path)
        command = [str(tflm_stand_in.compiler()), "-std=c++17", "-fsyntax-only", f"-I{tflm_stand_in.HEADERS}", *defines]
        return subprocess.run([*command, tmp_path / "model_data.cc"], capture_output=True, text=True).stderr

    assert "--quantize per_channel=false" in complaint(rows, "-DTFLM_STAND_IN_OLD")
    assert not complaint(rows)
    assert not complaint(rows, "-DTFLM_STAND_IN_OLD", "-DND_TFLM_SCALE_PER_ROW=1")
    assert not complaint(one, "-DTFLM_STAND_IN_OLD", "-DESP_PLATFORM")
    assert "--quantize per_channel=false" in complaint(rows, "-DESP_PLATFORM")  # of 16 bits: ESP-NN's kernel drops them
    narrow = build("gru_reset_after", quantize={"per_channel": True, "activation_dtype": "i8"}).artifact
    assert not complaint(narrow, "-DESP_PLATFORM")


needs_cmake = pytest.mark.skipif(not shutil.which("cmake"), reason="CMake is not installed")
PLAIN = """
cmake_minimum_required(VERSION 3.16)
project(firmware NONE)
add_subdirectory(tflm)
get_target_property(sources neurodeploy_tflm INTERFACE_SOURCES)
get_target_property(folder neurodeploy_tflm INTERFACE_INCLUDE_DIRECTORIES)
message("${sources};${folder}")
"""
IDF = """
function(idf_component_register)
  message("${ARGV}")
endfunction()
include(${CMAKE_CURRENT_LIST_DIR}/tflm/CMakeLists.txt)
"""


def cmake(folder: Path, listing: str, *options: str) -> list[str]:
    """What the listing says of the project in ``folder / "tflm"``."""
    (folder / "CMakeLists.txt").write_text(listing)
    source = ["-P", "CMakeLists.txt"] if options else ["-S", ".", "-B", "made"]
    ran = subprocess.run(["cmake", *options, *source], cwd=folder, capture_output=True, text=True, check=True)
    return ran.stderr.strip().split(";")


@pytest.fixture
def unpacked(tmp_path) -> Path:
    (tmp_path / "tflm").mkdir()
    tflm_stand_in.unpack(build("gru_reset_after").artifact, tmp_path / "tflm")
    return tmp_path / "tflm"


def sources(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix in {".c", ".cc"})


ARDUINO = """
extern "C" {
void setup(void);
void loop(void);
}
"""


@needs_compiler
def test_setup_and_loop_have_the_linkage_that_arduino_s_header_declares(unpacked):
    """The core calls setup and loop: cores declare them in Arduino.h, most as functions of C."""
    (unpacked / "Arduino.h").write_text(ARDUINO)
    command = [str(tflm_stand_in.compiler()), "-std=c++14", "-DARDUINO=1", f"-I{tflm_stand_in.HEADERS}", "-I."]
    subprocess.run([*command, "-S", "-o", "main.s", "main.cc"], cwd=unpacked, check=True)
    assert {"setup:", "loop:"} <= set((unpacked / "main.s").read_text().split())


@needs_cmake
@pytest.mark.parametrize(("version", "uart"), [("5.2", "driver"), ("6.0", "esp_driver_uart")])
def test_the_folder_is_an_esp_idf_component(version, uart, unpacked):
    """IDF 5.3 made the serial line's driver a component of its own, which 6.0's 'driver' no longer brings."""
    major, minor = version.split(".")
    defines = ("-DESP_PLATFORM=1", f"-DIDF_VERSION_MAJOR={major}", f"-DIDF_VERSION_MINOR={minor}")
    said = cmake(unpacked.parent, IDF, *defines)
    at = said.index("INCLUDE_DIRS")
    assert (said[0], sorted(said[1:at])) == ("SRCS", sources(unpacked))
    assert said[at:] == ["INCLUDE_DIRS", ".", "REQUIRES", "esp-tflite-micro", uart, "esp_timer"]


@needs_cmake
def test_the_folder_is_a_library_for_cmake(unpacked):
    *said, folder = cmake(unpacked.parent, PLAIN)
    assert sorted(said) == [str(unpacked / name) for name in sources(unpacked)]
    assert folder == str(unpacked)
    for name in ("main.cc", "nd_link.c", "port.cc"):  # a product has a main of its own
        (unpacked / name).unlink()
    assert cmake(unpacked.parent, PLAIN)[:-1] == [str(unpacked / name) for name in ("model_data.cc", "nd_tflm.cc")]


def test_the_folder_is_an_arduino_sketch():
    """The sketch has the folder's name and no main of its own; its include is how Arduino finds a library."""
    text = build("gru_reset_after").artifact.files["tflm/tflm.ino"].decode()
    assert "\n#include <TensorFlowLite.h>\n" in text
    assert "loop()" not in re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def test_what_cmsis_nn_refuses_is_said():
    """16-bit activations with a scale per row; not chosen where one scale will do."""
    said, warned = b"CMSIS-NN FULLY_CONNECTED refuses", "TFLM's CMSIS-NN kernel refuses them"
    for quantize, refused in (({"per_channel": True}, True), ({}, False), ({"activation_dtype": "i8"}, False)):
        made = build("gru_reset_after", quantize=quantize).artifact
        assert (said in made.files["tflm/README.md"]) == refused
        assert any(warned in text for text in made.manifest["warnings"]) == refused


def test_a_port_is_needed():
    case = CASES["gru_reset_after"]
    with pytest.raises(UsageError, match="no emulator for a build for TFLite Micro"):
        build("gru_reset_after").validate(Data(case.inputs, case.lengths), on="board")


def test_ticks_are_those_of_a_step():
    """A board counts a call, which takes the steps of a chunk."""

    class Counting:
        port = "none"

        def step(self, stage: int, data: bytes, n: int, *, reset: bool) -> Steps:
            return Steps(outputs=bytes(40 * n), counts=[50] * n)

    fact = facts(build("lstm", costs=False, steps=5).artifact)[0]
    seat = Seat(cast(Board, Counting()), 0, replace(fact, outputs=(Tensor("y", np.dtype("i2"), (5, 4)),)), steps=5)
    engine = BoardEngine(seat)
    engine.invoke()
    engine.invoke()
    assert seat.counts == [10.0, 10.0]


@needs_compiler
def test_a_board_says_that_an_arena_is_too_small(tmp_path, capfd):
    made = build("lstm", costs=False)
    firmware = tflm_stand_in.build(made.artifact, tmp_path)
    case, size = CASES["lstm"], arena_of(made.artifact.files["main.tflite"]).bytes_64
    wheel = tflm_stand_in.Wheel(made.artifact, facts(made.artifact))
    said = f"can't begin stage 0 in its arena of {size} bytes.*enlarge the stage's arena_bytes in tflm/model_data.h"
    with tflm_stand_in.running(firmware, wheel, needs=size + 1) as port, pytest.raises(DeviceError, match=said):
        made.validate(Data(case.inputs, case.lengths), on="board", port=port)
    assert f"stage 'main' can't begin in its arena of {size} bytes" in capfd.readouterr().err


@needs_compiler
def test_another_model_s_firmware_is_refused(tmp_path):
    made, other = build("gru_reset_after"), build("lstm")
    firmware = tflm_stand_in.build(made.artifact, tmp_path)
    case = CASES["lstm"]
    with (
        tflm_stand_in.running(firmware, tflm_stand_in.Wheel(made.artifact, facts(made.artifact))) as port,
        pytest.raises(DeviceError, match="the firmware holds model"),
    ):
        other.validate(Data(case.inputs, case.lengths), on="board", port=port)


def test_without_the_wheel_the_project_is_left_out(monkeypatch):
    def gone(model: bytes) -> int:
        raise MissingExtraError("the wheel is gone.")

    monkeypatch.setattr(tflm, "allocations", gone)
    made = build("gru_reset_after").artifact
    assert not [name for name in made.files if name.startswith("tflm/")]
    assert any("tflm/ is left out" in warning for warning in made.manifest["warnings"])
