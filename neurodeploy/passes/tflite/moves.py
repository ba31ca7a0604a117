"""Rules for what moves elements or chooses between them."""

from __future__ import annotations

from collections.abc import Mapping

from neurodeploy.ir.graph import Value
from neurodeploy.passes.tflite.scales import MOVES, Form
from neurodeploy.passes.tflite.stage import Rule, StageQuantizer

BOOL = Form("bool")


def _move(q: StageQuantizer, value: Value) -> None:
    """The same op: its arguments (the first is in its class) on its own scale."""
    target = q.form(value.name)
    q.emit(value.op, [q.at(a, target) for a in value.args], target, value.name, **value.attrs)


def _compare(q: StageQuantizer, value: Value) -> None:
    """Integers compared on one scale: the coarser of two values, or the value's where the other is constant."""
    if q.source[value.args[0]].dtype != "f32":
        q.emit(value.op, [q.plain(a) for a in value.args], BOOL, value.name)
        return
    q.emit(value.op, [q.at(a, _common(q, value)) for a in value.args], BOOL, value.name)


def _common(q: StageQuantizer, value: Value) -> Form:
    """A form that holds what is compared: the value's own, or of two values the coarser, or one for both ranges."""
    forms = [q.held(a) for a in value.args if a not in q.known]
    if len(forms) == 1 or {form.dtype for form in forms} == {"i16"}:
        return max(forms, key=lambda form: form.scale)
    if len(set(forms)) == 1:
        return forms[0]
    spans = [q.span(a) for a in value.args]
    dtype = "i16" if "i16" in {form.dtype for form in forms} else "i8"
    return q.span_form(min(s[0] for s in spans), max(s[1] for s in spans), dtype)


def _select(q: StageQuantizer, value: Value) -> None:
    condition, *choices = value.args
    target = q.form(value.name)
    q.emit("select", [q.plain(condition), *(q.at(a, target) for a in choices)], target, value.name)


RULES: Mapping[str, Rule] = {
    **dict.fromkeys((*MOVES, "min", "max", "concat"), _move),
    **dict.fromkeys(("lt", "eq", "ne"), _compare),
    "select": _select,
}
