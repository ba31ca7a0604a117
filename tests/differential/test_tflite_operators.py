"""``docs/tflite/operators.md``: what every primitive and family becomes in a ``.tflite`` file, and what is read from one.

Each is compiled and its file is read back through the schema; a table that differs from what was found fails. To write
the page anew: ``NEURODEPLOY_WRITE_SUPPORT=1 pytest tests/differential/test_tflite_operators.py -n 0``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurodeploy import hardware
from neurodeploy.backends.tflite import TFLiteBackend
from neurodeploy.backends.tflite.project_facts import _names, _operators
from neurodeploy.backends.tflite.stage import stage_model
from neurodeploy.backends.tflite.write import Model, schema
from neurodeploy.compiler import prepare
from neurodeploy.data import arrange
from neurodeploy.deploy.tflm import interpreter
from neurodeploy.errors import DeviceError, IRError, NeurodeployError, UnsupportedError, UsageError
from neurodeploy.importers import load
from neurodeploy.importers.tflite import MOVING, VARIABLES
from neurodeploy.importers.tflite_ops import FLOAT_RULES, QUANTIZED_RULES
from neurodeploy.importers.tflite_recurrent import RULES as RECURRENT
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.ir.ops_math import MATH_OPS
from neurodeploy.ir.ops_shape import SHAPE_OPS
from neurodeploy.ir.types import Quant
from tests.families import CASES
from tests.tflite_operators import FILES, NUMPY, ROWS, WEIGHTED, Draft, File, Row

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")

PAGE = Path(__file__).parents[2] / "docs" / "tflite" / "operators.md"
TARGET = hardware.find("tflm")
#: Column -> numerics, options of the quantizer, the dtype of a primitive's inputs, the schema's type of its values.
COLUMNS: Mapping[str, tuple[str, dict[str, Any], str, str]] = {
    "float32": ("float", {}, "f32", "FLOAT32"),
    "int16x8": ("tflite", {}, "f32", "INT16"),
    "int8": ("tflite", {"activation_dtype": "i8"}, "f32", "INT8"),
    "whole numbers (i32)": ("tflite", {}, "i32", "INT32"),
}
REAL = tuple(COLUMNS)[:3]
READ = ("f32", "i8", "i16", "i32", "bool")
#: What a model with states has besides the operators of its step.
STATES = ("ASSIGN_VARIABLE", "CALL_ONCE", "READ_VARIABLE", "VAR_HANDLE")

Table = dict[str, list[str]]


def operators(file: bytes) -> list[tuple[str, str]]:
    """Every operator of the step and the type of its first result, as the file has them."""
    root = schema().Model.GetRootAsModel(file, 0)
    main, types = root.Subgraphs(0), _names("TensorType")
    return [
        (code, types[main.Tensors(op.Outputs(0)).Type()] if op.OutputsLength() else "")
        for code, op in _operators(root, main)
    ]


def compiled(
    program: Program, numerics: str, options: Mapping[str, Any], lengths=None, inputs=None, fused=False
) -> list[bytes]:
    """The files of a program's stages."""
    rng = np.random.default_rng(0)
    whole = {"i32": lambda shape: rng.integers(0, 4, shape), "bool": lambda shape: rng.integers(0, 2, shape)}
    made = inputs or {
        name: np.asarray(whole.get(i.type.dtype, lambda s: rng.uniform(0.1, 2, s))((4, 9, *i.type.shape)), i.type.numpy)
        for name, i in program.inputs.items()
    }
    data = arrange(dict(made), program)
    data = data if lengths is None else replace(data, lengths=np.asarray(lengths))
    done = prepare(program, "tflite", numerics, data, quantize=options, fused_lstm=fused, progress=lambda *_: None)
    return [stage_model(stage.graph, f"{program.name}/{stage.name}") for stage in done.stages]


def primitive(row: Row, dtype: str) -> Program:
    b = Builder()
    b.output("y", row.build(Draft(b, dtype)))
    graph = b.graph()
    inputs = {name: ProgramInput(type_) for name, type_ in graph.inputs.items()}
    stage = Stage("main", graph, inputs_from={name: Ref(name) for name in inputs})
    return Program("model", inputs, (stage,), {"y": Ref("y", "main")})


def words(error: NeurodeployError) -> str:
    assert error.place or isinstance(error, UsageError), f"is refused without a name: {error}"
    return str(error).replace("|", "/")


def primitives() -> tuple[Table, list[list[str]]]:
    """The table of primitives, and the words of what is refused."""
    table: Table = {}
    refused = []
    for name, row in ROWS.items():
        table[name] = []
        for column, (numerics, options, dtype, kind) in COLUMNS.items():
            if dtype == "i32" and row.options:
                table[name].append("")
                continue
            try:
                program = primitive(row, dtype)
            except IRError:  # not defined on whole numbers
                table[name].append("")
                continue
            try:
                options = {**options, **row.options} if numerics == "tflite" else {}
                (file,) = compiled(program, numerics, options)
            except (UnsupportedError, UsageError) as error:
                table[name].append("refused")
                refused.append([name, column, words(error)])
                continue
            table[name].append(listed(operators(file), kind))
    return table, refused


def joined(refused: list[list[str]]) -> list[list[str]]:
    """Refusals of one primitive in the same words as one line."""
    columns: dict[tuple[str, str], list[str]] = {}
    for name, column, message in refused:
        columns.setdefault((name, message), []).append(column)
    return [[name, ", ".join(there), message] for (name, message), there in columns.items()]


def listed(found: list[tuple[str, str]], kind: str) -> str:
    """Operators in the order of their first use, with the type where it isn't the column's, and how often."""
    counts = Counter(f"{code} {type_}" if type_ not in (kind, "") else code for code, type_ in found)
    return ", ".join(f"{count} {name}" if count > 1 else name for name, count in counts.items()) or "none"


def families() -> tuple[Table, list[list[str]]]:
    table: Table = {}
    refused = []
    for case in CASES.values():
        found: list[set[str] | None] = []
        for column in REAL:
            numerics, options, *_ = COLUMNS[column]
            try:
                files = compiled(case.program, numerics, options, case.lengths, case.inputs)
                found.append({code for file in files for code, _ in operators(file)} - set(STATES))
            except UnsupportedError as error:
                found.append(None)
                refused.append([f"{case.name}, {column}", words(error)])
        there = [codes for codes in found if codes is not None]
        shared = set.intersection(*there) if there else set()
        more = ["refused" if codes is None else " ".join(sorted(codes - shared)) for codes in found]
        table[case.name] = [" ".join(sorted(shared)), *more]
    return table, refused


# -- what is read ------------------------------------------------------------------------------------------------------


def importable(folder: Path) -> Table:
    """Operator -> whether a file of it alone is read in each type, and then gives what the wheel gives."""
    return {code: [read_back(code, dtype, folder) for dtype in READ] for code in sorted({*FILES, *RECURRENT})}


def read_back(code: str, dtype: str, folder: Path) -> str:
    if (file := file_of(code, dtype)) is None:
        return "-"
    path = folder / "model.tflite"
    path.write_bytes(file)
    try:
        program = load(path, check=False)
    except NeurodeployError as error:
        assert isinstance(error, UnsupportedError) or dtype in ("i32", "bool"), f"{code} {dtype}: {error}"
        return "-"
    return "yes" if as_the_wheel(program, file, f"{code} {dtype}") else "yes, TFLM doesn't"


def file_of(code: str, dtype: str) -> bytes | None:
    """A file of one operator in a type, None where that makes no sense."""
    if code == "UNIDIRECTIONAL_SEQUENCE_LSTM":
        int8 = {"activation_dtype": "i8"}
        options: dict[str, tuple[str, dict[str, Any]]] = {
            "f32": ("float", {}),
            "i8": ("tflite", int8),
            "i16": ("tflite", {}),
        }
        if dtype not in options:
            return None
        case = CASES["lstm"]
        numerics, quantizer = options[dtype]
        return compiled(case.program, numerics, quantizer, case.lengths, case.inputs, fused=True)[0]
    model = Model()
    build = FILES[code]
    if dtype in ("i32", "bool") and code in WEIGHTED:
        return None
    build(File(model.subgraph("main"), dtype, code))
    return model.finish()


def as_the_wheel(program: Program, file: bytes, name: str, steps: int = 3) -> bool:
    """Whether TFLM runs the file; fails where the program gives anything else."""
    rng = np.random.default_rng(0)
    given = {n: drawn(rng, i.type.dtype, (1, steps, *i.type.shape)) for n, i in program.inputs.items()}
    trace = interpret.run(program, given)
    try:
        engine = interpreter(file, 1 << 20)
        for k in range(steps):
            for index, array in enumerate(given.values()):
                engine.set_input(array[0, k].reshape(engine.get_input_details(index)["shape"]), index)
            engine.invoke()
            for index, array in enumerate(trace.outputs.values()):
                wanted, found = engine.get_output(index), array[0, k]
                close = 2e-6 if found.dtype.kind == "f" else 0
                np.testing.assert_allclose(found.reshape(wanted.shape), wanted, close, close, err_msg=name)
    except (DeviceError, RuntimeError):
        return False
    return True


def drawn(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    if dtype == "f32":
        return rng.uniform(0.1, 2, shape).astype(np.float32)
    if dtype in ("bool", "i32"):
        return rng.integers(dtype == "i32", 2 + (dtype == "i32"), shape).astype(NUMPY[dtype])
    return rng.integers(-100, 101, shape).astype(NUMPY[dtype])


# -- what is refused ---------------------------------------------------------------------------------------------------


def asked(
    name: str, quantize: Mapping[str, Any] | None = None, fused: bool = False, **options: Any
) -> Callable[[Path], None]:
    """A family compiled with options of the compiler and the backend."""

    def compile(folder: Path) -> None:
        program, data = CASES[name].program, arrange(dict(CASES[name].inputs), CASES[name].program)
        done = prepare(program, "tflite", "tflite", data, quantize=quantize, fused_lstm=fused, progress=lambda *_: None)
        TFLiteBackend().compile(done, TARGET, **options)

    return compile


def holding(build: Callable[[File], None], code: str, dtype: str) -> Callable[[Path], None]:
    """A file that is loaded."""

    def read(folder: Path) -> None:
        model = Model()
        build(File(model.subgraph("main"), dtype, code))
        path = folder / "model.tflite"
        path.write_bytes(model.finish())
        load(path, check=False)

    return read


def mixture(f: File) -> None:
    weights = f.s.tensor("W", (3, 6), "i8", Quant(0.01), np.ones((3, 6), np.int8))
    f.op([f.x(1, 6), weights], [f.y(1, 3, dtype="f32")], "FullyConnectedOptions")


def large_batch(f: File) -> None:
    f.op([f.x(100, 6, 5, 4), f.weights(2, 3, 2, 4, axis=0), f.bias(2)], [f.y(100, 4, 4, 2)], "Conv2DOptions",
         strideH=1, strideW=1, padding=1)  # fmt: skip


def computed_order(f: File) -> None:
    f.op([f.x(1, 6), f.x(2, name="order", dtype="i32")], [f.y(1, 6)])


REFUSED: Mapping[str, Callable[[Path], None]] = {
    "`--steps 4`, a net that runs until it is stable": asked("hopfield", steps=4),
    "`--fused-lstm --state io`": asked("lstm", fused=True, state="io"),
    "weights of 4 bits, int16 activations": asked("lstm", {"weight_bits": 4}),
    "`--fused-lstm`, weights of 4 bits": asked("lstm", {"weight_bits": 4, "activation_dtype": "i8"}, fused=True),
    "`--fused-lstm`, no LSTM": asked("gru_reset_after", fused=True),
}
UNREAD: Mapping[str, Callable[[Path], None]] = {
    "an operator without a rule": holding(FILES["ABS"], "SIN", "f32"),
    "a float operator on integers": holding(FILES["EXP"], "EXP", "i8"),
    "a comparison of int16": holding(FILES["GREATER"], "GREATER", "i16"),
    "an integer input, a float result": holding(mixture, "FULLY_CONNECTED", "i8"),
    "a batch of 100": holding(large_batch, "CONV_2D", "i8"),
    "a computed order of axes": holding(computed_order, "TRANSPOSE", "f32"),
}


def refusals(cases: Mapping[str, Callable[[Path], None]], folder: Path) -> list[list[str]]:
    found = []
    for name, act in cases.items():
        with pytest.raises((UnsupportedError, UsageError)) as caught:
            act(folder)
        found.append([name, words(caught.value)])
    return found


# -- the page ----------------------------------------------------------------------------------------------------------


def rows(head: list[str], lines: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in lines)]


def lines(table: Table) -> list[list[str]]:
    return [[name, *cells] for name, cells in table.items()]


def section(title: str) -> list[str]:
    """The lines of the page's tables under a heading, without prose."""
    text = PAGE.read_text().split(f"\n## {title}\n")
    assert len(text) == 2, f"{PAGE.name} has no '## {title}'"
    return [line for line in text[1].split("\n## ")[0].splitlines() if line.startswith("|")]


def held_to(title: str, prose: str, found: list[str]) -> None:
    """The page says what was found; with NEURODEPLOY_WRITE_SUPPORT it is made to."""
    if os.environ.get("NEURODEPLOY_WRITE_SUPPORT"):
        PAGE.parent.mkdir(exist_ok=True)
        empty = HEAD + "".join(f"\n## {name}\n" for name in TITLES)
        text = PAGE.read_text() if PAGE.exists() else empty
        made = f"\n## {title}\n\n{prose.strip()}\n\n" + "\n".join(found) + "\n"
        parts = text.split(f"\n## {title}\n")
        after = "\n## " + parts[1].split("\n## ", 1)[1] if len(parts) == 2 and "\n## " in parts[1] else ""
        PAGE.write_text(parts[0].rstrip("\n") + "\n" + made + after)
    assert section(title) == found


HEAD = """# Every operator

Made by the tests: each primitive, family and operator is compiled or read by itself, and the tables say what was found
in the file. A table that is out of date fails.
"""
TITLES = ("From primitives to operators", "Refused primitives", "Families", "Refused options",
          "From files to programs", "Refused files")  # fmt: skip
PRIMITIVES = """
What a step's primitives become, each alone in a model. *2 MUL*: two of them. *CAST INT32*: an operator whose result has
another type than its column (INT16 activations at int16x8, INT8 at int8; weights are int8 always). *none*: nothing is
left to compute. Empty: not defined on whole numbers. Neighbours share work that these tables can't show: a bias, an
activation and sums of products become one FULLY_CONNECTED each; constants are folded.
"""
FAMILIES = f"""
The operators of each recurrent family, small and with random weights; those of its states are left out
({", ".join(STATES)}).
First those that it has in all three numerics, then the others.
"""
READING = """
*yes*: a file of this operator alone was read in that type, and the program gave what TFLite Micro's wheel gives (every
bit of integers, floats within 2e-6). *yes, TFLM doesn't*: it is read, and the wheel has no such kernel. *-*: refused, or
there is no such thing. int8 and int16 are quantized values; uint8 is read as int8.
"""


def test_primitives() -> None:
    assert {row.op for row in ROWS.values()} == {*MATH_OPS, *SHAPE_OPS}  # a new primitive needs a row
    table, refused = primitives()
    refused = joined(refused)
    held_to("From primitives to operators", PRIMITIVES, rows(["primitive", *COLUMNS], lines(table)))
    held_to("Refused primitives", "In the compiler's words.", rows(["primitive", "at", "message"], refused))


def test_families() -> None:
    table, refused = families()
    assert not refused, refused
    head = ["family", "in all", *(f"more at {column}" for column in REAL)]
    held_to("Families", FAMILIES, rows(head, lines(table)))


def test_refused_options(tmp_path) -> None:
    found = refusals(REFUSED, tmp_path)
    held_to("Refused options", "In the compiler's words.", rows(["asked for", "message"], found))


def test_operators_that_are_read(tmp_path) -> None:
    registered = {*FLOAT_RULES, *QUANTIZED_RULES, *MOVING, *RECURRENT, *VARIABLES}
    assert {*FILES, *RECURRENT} == registered  # a new rule needs a file
    found = importable(tmp_path)
    assert all(set(cells) != {"-"} for cells in found.values()), found
    head = ["operator", "float32", "int8", "int16", "int32", "bool"]
    held_to("From files to programs", READING, rows(head, lines(found)))


def test_files_that_are_refused(tmp_path) -> None:
    found = refusals(UNREAD, tmp_path)
    held_to("Refused files", "In the importer's words.", rows(["the file has", "message"], found))
