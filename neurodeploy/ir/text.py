"""The text form of a program, ``.nd``: prints, parses, diffs. Weights stand beside it as ``.npz``.

Printing and parsing are each other's inverse; attributes and metadata are JSON.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neurodeploy.archive import read_arrays
from neurodeploy.errors import IRError, TextError
from neurodeploy.ir.graph import Drive, Graph, Param, Program, ProgramInput, Ref, Stage, State, Value
from neurodeploy.ir.types import TensorType, Type, parse_type, split_commas
from neurodeploy.ir.verify import verify


def print_program(program: Program) -> str:
    """The text of a program (without the data of its params)."""
    lines = [f"program {program.name} numerics={program.numerics} {{"]
    if program.meta:
        lines.append(f"  meta {json.dumps(program.meta, sort_keys=True)}")
    lines += [f"  input {name}: {spec.kind} {spec.type}" for name, spec in program.inputs.items()]
    for stage in program.stages:
        lines.append(f"  stage {stage.name} {_print_drive(stage.drive)} {{")
        lines += [f"    from {name} = {ref}" for name, ref in stage.inputs_from.items()]
        lines += [f"    start {name} = {ref}" for name, ref in stage.state_from.items()]
        lines += _print_graph(stage.graph, "    ")
        lines.append("  }")
    lines += [f"  output {name} = {ref}" for name, ref in program.outputs.items()]
    return "\n".join([*lines, "}", ""])


def _print_drive(drive: Drive) -> str:
    given = {
        "order": drive.order,
        "predicate": drive.predicate,
        "max_steps": drive.max_steps,
        "feedback": dict(drive.feedback) or None,
        "stop": drive.stop,
    }
    return drive.kind + _print_attrs({k: v for k, v in given.items() if v is not None})


def _print_attrs(attrs: Mapping[str, Any]) -> str:
    return f" <{', '.join(f'{k}={json.dumps(v)}' for k, v in attrs.items())}>" if attrs else ""


def _print_graph(graph: Graph, indent: str) -> Iterator[str]:
    for name, type_ in graph.inputs.items():
        yield f"{indent}input %{name}: {type_}"
    for name, param in graph.params.items():
        yield f"{indent}param %{name}: {param.type}"
    for s in graph.states:
        init = f" init=%{s.init}" if s.init else ""
        when = f" when=%{s.when}" if s.when else ""
        yield f"{indent}state %{s.name}: {s.type} next=%{s.next}{init}{when}"
    for v in graph.values:
        args = ", ".join(f"%{a}" for a in v.args)
        head = f"{indent}%{v.name}: {v.type} = {v.op}({args}){_print_attrs(v.attrs)}"
        if v.body is None:
            yield head
        else:
            yield head + " {"
            yield from _print_graph(v.body, indent + "  ")
            yield indent + "}"
    for name, value in graph.outputs.items():
        yield f"{indent}output {name} = %{value}"


_NAME = r"[A-Za-z_][A-Za-z0-9_.]*"
_ATTRS = r"(?: <(.*)>)?"
_PROGRAM = re.compile(r"program (\S+) numerics=(\w+) \{\Z")
_STAGE = re.compile(rf"stage ({_NAME}) (\w+){_ATTRS} \{{\Z")
_INPUT = re.compile(rf"input ({_NAME}): (series|static) (\S+)\Z")
_WIRE = re.compile(rf"(from|start|output) ({_NAME}) = (\S+)\Z")
_LEAF = re.compile(rf"(input|param) %({_NAME}): (.+)\Z")
_STATE = re.compile(rf"state %({_NAME}): (.+?) next=%({_NAME})(?: init=%({_NAME}))?(?: when=%({_NAME}))?\Z")
_VALUE = re.compile(rf"%({_NAME}): (.+?) = ({_NAME})\(([^)]*)\){_ATTRS}( \{{)?\Z")
_OUT = re.compile(rf"output ({_NAME}) = %({_NAME})\Z")


class _Lines:
    """The lines of a text with their numbers; comments (``#``) and blank lines are passed over."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.number = 0
        numbered = enumerate(text.splitlines(), 1)
        self._rest = iter([(i, s.strip()) for i, s in numbered if s.strip() and not s.strip().startswith("#")])

    def take(self) -> str:
        try:
            self.number, line = next(self._rest)
        except StopIteration:
            raise self.error("the text ends early; a closing } is missing.") from None
        return line

    def error(self, message: str) -> TextError:
        return TextError(message, place=f"{self.source}:{self.number}")


def parse_program(text: str, params: Mapping[str, np.ndarray], source: str = "text") -> Program:
    """Parse and verify. ``params``: ``"stage/name"`` -> array. Raises :class:`TextError` with the line, or IRError."""
    lines = _Lines(text, source)
    try:
        return verify(_parse_program(lines, params))
    except TextError as error:
        raise error if error.place else lines.error(error.message) from error


def _parse_program(lines: _Lines, data: Mapping[str, np.ndarray]) -> Program:
    match = _PROGRAM.match(lines.take())
    if not match:
        raise lines.error("needed 'program NAME numerics=NUMERICS {'.")
    name, numerics = match.groups()
    inputs: dict[str, ProgramInput] = {}
    stages: list[Stage] = []
    outputs: dict[str, Ref] = {}
    meta: dict[str, Any] = {}
    while (line := lines.take()) != "}":
        if line.startswith("meta "):
            meta = _json(lines, line[5:])
        elif m := _INPUT.match(line):
            inputs[m[1]] = ProgramInput(_tensor(lines, m[3]), m[2])
        elif m := _STAGE.match(line):
            stages.append(_parse_stage(lines, m[1], Drive(m[2], **_attrs(lines, m[3], Drive)), data))
        elif (m := _WIRE.match(line)) and m[1] == "output":
            outputs[m[2]] = _ref(lines, m[3])
        else:
            raise lines.error(f"'{line[:60]}' is no line of a program.")
    return Program(name, inputs, tuple(stages), outputs, numerics, meta)


def _parse_stage(lines: _Lines, name: str, drive: Drive, data: Mapping[str, np.ndarray]) -> Stage:
    wires: dict[str, dict[str, Ref]] = {"from": {}, "start": {}}

    def wire(line: str) -> bool:
        m = _WIRE.match(line)
        if m and m[1] in wires:
            wires[m[1]][m[2]] = _ref(lines, m[3])
            return True
        return False

    graph = _parse_graph(lines, f"{name}/", data, wire)
    return Stage(name, graph, drive, wires["from"], wires["start"])


def _parse_graph(lines: _Lines, prefix: str, data: Mapping[str, np.ndarray], wire: Any = None) -> Graph:
    inputs: dict[str, TensorType] = {}
    params: dict[str, Param] = {}
    states: list[State] = []
    values: list[Value] = []
    outputs: dict[str, str] = {}
    while (line := lines.take()) != "}":
        if wire is not None and wire(line):
            continue
        if m := _LEAF.match(line):
            type_ = _tensor(lines, m[3])
            if m[1] == "input":
                inputs[m[2]] = type_
            else:
                params[m[2]] = _param(lines, prefix + m[2], type_, data)
        elif m := _STATE.match(line):
            states.append(State(m[1], _tensor(lines, m[2]), m[3], m[4], m[5]))
        elif m := _VALUE.match(line):
            args = tuple(a.lstrip("%") for a in split_commas(m[4]))
            at = lines.number
            body = _parse_graph(lines, "", {}) if m[6] else None
            try:
                type_: Type = parse_type(m[2])
            except TextError as error:
                raise TextError(error.message, place=f"{lines.source}:{at}") from error
            values.append(Value(m[1], m[3], args, _attrs(lines, m[5]), type_, body))
        elif m := _OUT.match(line):
            outputs[m[1]] = m[2]
        else:
            raise lines.error(f"'{line[:60]}' is no line of a graph.")
    return Graph(inputs, params, tuple(states), tuple(values), outputs)


def _param(lines: _Lines, key: str, type_: TensorType, data: Mapping[str, np.ndarray]) -> Param:
    if key not in data:
        raise lines.error(f"the weights hold no '{key}'.")
    array = np.array(data[key], order="C")
    if array.shape != type_.shape or array.dtype != type_.numpy:
        raise lines.error(f"'{key}' is {array.dtype}{list(array.shape)} in the weights, {type_} in the text.")
    return Param(type_, array)


def _tensor(lines: _Lines, text: str) -> TensorType:
    found = parse_type(text)
    if not isinstance(found, TensorType):
        raise lines.error(f"needed a tensor's type, found {found}.")
    return found


def _ref(lines: _Lines, text: str) -> Ref:
    try:
        return Ref.parse(text)
    except IRError as error:
        raise lines.error(error.message) from error


def _json(lines: _Lines, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise lines.error(f"'{text[:60]}' is no JSON.") from error


def _attrs(lines: _Lines, text: str | None, owner: type | None = None) -> dict[str, Any]:
    attrs: dict[str, Any] = {}
    for part in split_commas(text or ""):
        key, equals, value = part.partition("=")
        if not equals or (owner is not None and key not in owner.__dataclass_fields__):  # type: ignore[attr-defined]
            raise lines.error(f"'{part[:60]}' is no attribute here.")
        attrs[key] = _json(lines, value)
    return attrs


def param_data(program: Program) -> dict[str, np.ndarray]:
    """``"stage/name"`` -> array, for every param."""
    return {f"{s.name}/{name}": param.data for s in program.stages for name, param in s.graph.params.items()}


def to_files(program: Program, stem: str) -> dict[str, bytes]:
    """``stem.nd`` and ``stem.npz`` as bytes; the same program gives the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, array in param_data(program).items():
            item = io.BytesIO()
            np.lib.format.write_array(item, array, allow_pickle=False)
            archive.writestr(
                zipfile.ZipInfo(f"{key}.npy", (1980, 1, 1, 0, 0, 0)), item.getvalue(), zipfile.ZIP_DEFLATED
            )
    return {f"{stem}.nd": print_program(program).encode(), f"{stem}.npz": buffer.getvalue()}


def from_files(files: Mapping[str, bytes], stem: str, source: str = "") -> Program:
    """Read what :func:`to_files` gave. Raises :class:`TextError`."""
    try:
        params = read_arrays(io.BytesIO(files[f"{stem}.npz"]))
        text = files[f"{stem}.nd"].decode()
    except (KeyError, OSError, ValueError) as error:
        raise TextError(f"can't be read ({error}).", place=source or f"{stem}.nd", hint="Compile it again.") from error
    return parse_program(text, params, source or f"{stem}.nd")


def load(path: str | Path) -> Program:
    """A program from ``path.nd`` and the ``.npz`` beside it. Raises :class:`TextError`."""
    path = Path(path)
    try:
        files = {f"{path.stem}{end}": path.with_suffix(end).read_bytes() for end in (".nd", ".npz")}
    except OSError as error:
        raise TextError(f"can't be read ({error.strerror}).", place=str(error.filename)) from error
    return from_files(files, path.stem, str(path))
