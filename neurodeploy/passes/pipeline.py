"""The registry of passes, each backend's pipeline, the text form of a pipeline, and running one."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, get_args

from neurodeploy.errors import IRError, UsageError, nearest
from neurodeploy.ir.graph import Program
from neurodeploy.ir.types import split_commas

if TYPE_CHECKING:
    from neurodeploy.data import Data

Progress = Callable[[str], None]


class Pass(Protocol):
    """A frozen dataclass that makes one program of another."""

    def __call__(self, program: Program) -> Program: ...


#: name -> where its class is.
PASSES: Mapping[str, str] = {
    "simplify": "neurodeploy.passes.simplify:Simplify",
    "expand": "neurodeploy.passes.expand:Expand",
    "calibrate": "neurodeploy.passes.calibrate:Calibrate",
    "quantize": "neurodeploy.passes.quantize:Quantize",
    "blend_tflite": "neurodeploy.passes.tflite.blend:BlendTFLite",
    "decompose_tflite": "neurodeploy.passes.tflite.decompose:DecomposeTFLite",
    "fuse_lstm": "neurodeploy.passes.tflite.fused:FuseLSTM",
    "solve_tflite": "neurodeploy.passes.tflite.solve:SolveTFLite",
    "quantize_tflite": "neurodeploy.passes.tflite.quantize:QuantizeTFLite",
    "delay_lines": "neurodeploy.passes.delay_lines:DelayLines",
    "tiling": "neurodeploy.passes.tiling:Tiling",
    "spiking": "neurodeploy.passes.spiking:SigmaDelta",
}

#: Passes that keep every number.
MOVES = ("simplify", "expand", "simplify")
_APART = (*MOVES, "decompose_tflite")
_QUANTIZED = ("blend_tflite", "simplify", "calibrate", "quantize_tflite")

#: (backend, numerics) -> the names of its passes, in order.
PIPELINES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("c", "native"): (*MOVES, "delay_lines", "calibrate", "quantize", "simplify"),
    ("c", "float"): (*MOVES, "delay_lines"),
    ("c", "tflite"): (*_APART, *_QUANTIZED),
    ("tflite", "tflite"): (*_APART, "solve_tflite", *_QUANTIZED),
    ("tflite", "float"): (*_APART, "solve_tflite", "blend_tflite", "simplify"),
    ("brian2", "float"): ("simplify",),
    ("nir", "float"): ("simplify",),
    ("snntorch", "float"): ("simplify",),
    ("crossbar", "float"): ("simplify", "expand", "simplify"),
    ("crossbar", "native"): ("simplify", "expand", "simplify", "calibrate", "quantize", "simplify"),
}


#: backend -> the composites that it runs as they are in a program that is quantized already.
NATIVE: Mapping[str, tuple[str, ...]] = {"tflite": ("tflite_lstm", "tflite_svdf")}


def pass_class(name: str) -> type:
    """The class of a pass. Raises :class:`UsageError` naming the nearest one."""
    if name not in PASSES:
        raise UsageError(f"there is no pass '{name}'.", hint=nearest(name, PASSES))
    module, _, attribute = PASSES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def options_of(kind: type) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a pass that can be written as text (data and callbacks can't)."""
    return {f.name: f for f in dataclasses.fields(kind) if f.metadata.get("text", True)}


def make(name: str, options: Mapping[str, Any], data: Data | None = None) -> Pass:
    """One pass with its options; ``data`` goes to those that take samples. Raises :class:`UsageError`."""
    kind = pass_class(name)
    known = options_of(kind)
    for key in options:
        if key not in known:
            raise UsageError(f"the pass '{name}' has no option '{key}'.", hint=nearest(key, known))
    values = {key: _typed(name, known[key], value) for key, value in options.items()}
    if "data" in {f.name for f in dataclasses.fields(kind)} and data is not None:
        values["data"] = data
    return kind(**values)


def _typed(name: str, field: dataclasses.Field[Any], value: Any) -> Any:
    """An option's value in the type of its default, or the one that it names. Raises :class:`UsageError`."""
    if "type" in field.metadata:
        wanted = field.metadata["type"]
    elif field.default_factory is not dataclasses.MISSING:
        wanted = type(field.default_factory())
    else:
        wanted = type(field.default)
    if wanted is tuple:
        return tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, wanted):
        raise UsageError(f"option '{field.name}' of pass '{name}' is {value!r}; needed: {_words(wanted)}.")
    return value


_KINDS = {str: "a word", int: "a whole number", float: "a number", bool: "true or false", dict: '{"name": width, ...}'}


def _words(wanted: type) -> str:
    return _KINDS.get(wanted, wanted.__name__ if not get_args(wanted) else str(wanted))


_SPEC = re.compile(r"([a-z_]+)(?:\{(.*)\})?\Z")


def parse(text: str, data: Data | None = None) -> tuple[Pass, ...]:
    """Read ``"simplify,calibrate{method=percentile},quantize"``; option values are JSON or plain words.

    Raises :class:`UsageError` for an unknown pass or option.
    """
    found: list[Pass] = []
    for part in split_commas(text):
        match = _SPEC.match(part)
        if not match:
            raise UsageError(f"'{part}' is no pass; write name or name{{option=value}}.", place="passes")
        found.append(make(match[1], options(match[1], match[2] or ""), data))
    return tuple(found)


def options(name: str, text: str) -> dict[str, Any]:
    """Options from ``"method=percentile,percentile=99"``; ``name``: a pass, or the ``--option`` that holds them.

    Raises :class:`UsageError`.
    """
    place = name if name.startswith("--") else f"pass '{name}'"
    found: dict[str, Any] = {}
    for item in split_commas(text):
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"'{item}' is no option; write option=value.", place=place)
        found[key.strip()] = _value(value.strip())
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def pipeline(
    backend: str,
    numerics: str,
    *,
    data: Data | None = None,
    method: str = "minmax",
    quantized: bool = False,
    **given: Mapping[str, Any],
) -> tuple[Pass, ...]:
    """The passes of a backend; ``given``: pass name -> its options. For a program that is ``quantized`` already, those
    that keep its numbers. Raises :class:`UsageError`."""
    if (backend, numerics) not in PIPELINES:
        known = [f"{b} with {n}" for b, n in PIPELINES]
        raise UsageError(
            f"there is no pipeline for '{backend}' with '{numerics}' numerics.", hint=nearest(backend, known)
        )
    keep = {"keep": NATIVE[backend]} if quantized and backend in NATIVE else {}
    all_given: dict[str, Mapping[str, Any]] = {"expand": keep, "calibrate": {"method": method}, **given}
    names = (*MOVES, *(("delay_lines",) if backend == "c" else ())) if quantized else PIPELINES[backend, numerics]
    return tuple(make(name, all_given.get(name, {}), data) for name in names)


def run(
    program: Program,
    passes: Sequence[Pass] | Iterable[Pass],
    *,
    observe: Callable[[str, Program], None] | None = None,
    progress: Progress | None = None,
) -> Program:
    """Run passes one after another, verifying what goes in and what comes out of each.

    ``observe(name, program)`` sees every result; ``progress(text)`` gets a line for each pass and for long work in it.
    Raises :class:`IRError` naming the pass if it breaks a rule.
    """
    from neurodeploy.ir.verify import verify

    verify(program)
    for step in passes:
        name = name_of(step)
        if progress is not None:
            progress(f"pass {name}")
            if "progress" in {f.name for f in dataclasses.fields(step)}:  # type: ignore[arg-type]
                step = dataclasses.replace(step, progress=progress)  # type: ignore[type-var]
        program = step(program)
        try:
            verify(program)
        except IRError as error:
            raise IRError(f"after pass '{name}': {error.message}", place=error.place, hint=error.hint) from error
        if observe is not None:
            observe(name, program)
    return program


def print_pass(step: Pass) -> str:
    """A pass as :func:`parse` reads it, with the options that differ from their defaults."""
    given = []
    for name, field in options_of(type(step)).items():
        value = getattr(step, name)
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if value != default:
            given.append(f"{name}={json.dumps(dict(value) if isinstance(value, Mapping) else value)}")
    return f"{name_of(step)}{{{','.join(given)}}}" if given else name_of(step)


def name_of(step: Pass) -> str:
    """The registered name of a pass."""
    kind = type(step)
    return next((n for n, where in PASSES.items() if where == f"{kind.__module__}:{kind.__name__}"), kind.__name__)
