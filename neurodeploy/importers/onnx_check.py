"""Checking an imported ONNX model against onnxruntime, or ONNX's reference where that can't run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.importers.check import LENGTHS, Arrays, Trial, check, trials, unchecked
from neurodeploy.importers.onnx_read import Model
from neurodeploy.importers.time_axes import Axes, find
from neurodeploy.ir.graph import Program

if TYPE_CHECKING:
    from neurodeploy.importers.onnx import Traced

Session = Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]
NUMPY = {
    1: np.float32, 10: np.float16, 11: np.float64, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32,
    7: np.int64, 9: np.bool_, 12: np.uint32, 13: np.uint64,
}  # fmt: skip


def check_onnx(program: Program, model: Model, traced: Traced) -> Program:
    """The program with what the check found in its ``meta``. Raises :class:`ModelError` if it differs."""
    reasons = []
    tried = _trials(program, model, traced)
    for start in (_onnxruntime, _reference):
        try:
            session, against = start(model)
            _outputs(session, model, traced, program, tried[0])
        except _Unavailable as error:
            reasons.append(str(error))
            continue
        run = lambda trial, session=session: _outputs(session, model, traced, program, trial)  # noqa: E731
        return check(program, run, tried, against, model.file)
    return unchecked(program, "; ".join(reasons))


class _Unavailable(Exception):
    """A framework that isn't installed or can't run the model."""


def _onnxruntime(model: Model) -> tuple[Session, str]:
    try:
        import onnxruntime
    except ImportError as error:
        raise _Unavailable("onnxruntime is not installed") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    content = str(model.path) if model.path else model.proto.SerializeToString()
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except RUNTIME_ERRORS + _native(onnxruntime) as error:
        raise _Unavailable(f"onnxruntime can't run it ({str(error).splitlines()[0][:120]})") from error

    def run(feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        try:
            return [np.asarray(a) for a in session.run(list(model.outputs), dict(feed))]
        except RUNTIME_ERRORS + _native(onnxruntime) as error:
            raise _Unavailable(f"onnxruntime can't run it ({str(error).splitlines()[0][:120]})") from error

    return run, f"onnxruntime {onnxruntime.__version__}"


RUNTIME_ERRORS: tuple[type[Exception], ...] = (RuntimeError, ValueError, TypeError, KeyError, IndexError)


def _native(onnxruntime: Any) -> tuple[type[Exception], ...]:
    """The exceptions of onnxruntime's own, which have no common ancestor but Exception."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    return tuple(e for e in vars(state).values() if isinstance(e, type) and issubclass(e, Exception))


def _reference(model: Model) -> tuple[Session, str]:
    import onnx
    from onnx.reference import ReferenceEvaluator

    try:
        session = ReferenceEvaluator(model.proto)
    except (*RUNTIME_ERRORS, NotImplementedError) as error:
        raise _Unavailable(f"onnx.reference can't run it ({str(error)[:120]})") from error

    def run(feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        try:
            return [np.asarray(a) for a in session.run(None, dict(feed))]  # type: ignore[union-attr]
        except (*RUNTIME_ERRORS, NotImplementedError, AttributeError) as error:
            raise _Unavailable(f"onnx.reference can't run it ({str(error)[:120]})") from error

    return run, f"onnx.reference {onnx.__version__}"


def _trials(program: Program, model: Model, traced: Traced) -> list[Trial]:
    """Random inputs of the sizes that the model allows."""
    axes = traced.tracer.input_axes
    batches = [a.size for found in axes.values() for a in found if a.label == "batch" and isinstance(a.size, int)]
    has_batch = any(a.label == "batch" for found in axes.values() for a in found)
    batch = batches[0] if batches else (None if has_batch else 1)
    fixed = {n: a.size for n, found in axes.items() if (a := find(found, "time")) and isinstance(a.size, int)}
    if not fixed:
        return trials(program, batch=batch, unequal=bool(traced.lengths) and not traced.pools)
    spans = {name: fixed.get(name, LENGTHS[-1]) for name in axes}
    made = trials(program, batch=batch, steps=spans)
    if not traced.lengths or traced.pools:
        return made
    span = max(fixed.values())
    lengths = np.random.default_rng(1).integers(1, span + 1, size=len(next(iter(made[0].inputs.values()))))
    lengths[0] = span
    return [*made, replace(made[0], lengths=lengths)]


def _outputs(session: Session, model: Model, traced: Traced, program: Program, trial: Trial) -> Arrays:
    """The source's outputs for a trial, as the program lays them out."""
    specs = {spec.name: spec for spec in model.inputs}
    feed: dict[str, np.ndarray] = {k: v for k, v in model.given.items() if k in _graph_inputs(model)}
    for name, array in trial.inputs.items():
        source = traced.inputs[name]
        dtype = NUMPY[specs[source].elem_type]
        feed[source] = to_source(array, traced.tracer.input_axes[name]).astype(dtype)
    if traced.lengths:
        array = next(iter(trial.inputs[n] for n, i in program.inputs.items() if i.kind == "series"))
        lengths = np.full(len(array), array.shape[1]) if trial.lengths is None else trial.lengths
        for name in model.lengths:
            feed[name] = lengths.astype(NUMPY[specs[name].elem_type])
    found = session(feed)
    results = {}
    for name, tensor, array in zip(program.outputs, traced.outputs.values(), found, strict=True):
        laid = from_source(array, tensor.axes, len(next(iter(trial.inputs.values()), [0])))
        if trial.lengths is not None and tensor.time is not None:
            laid = laid.copy()
            laid[np.arange(laid.shape[1])[None] >= trial.lengths[:, None]] = 0
        results[name] = laid
    return results


def _graph_inputs(model: Model) -> set[str]:
    return {i.name for i in model.proto.graph.input}


def to_source(array: np.ndarray, axes: Axes) -> np.ndarray:
    """An array ``[batch, time, features ...]`` (no time: ``[batch, features ...]``) in the source's axes."""
    labels = [a.label for a in axes]
    has_time = "time" in labels
    if "batch" not in labels:
        array = array[0]
    order, next_feature = [], ("batch" in labels) + has_time
    for label in labels:
        if label == "feature":
            order.append(next_feature)
            next_feature += 1
        else:
            order.append(0 if label == "batch" else int("batch" in labels))
    return np.transpose(array, order)


def from_source(array: np.ndarray, axes: Axes, batch: int) -> np.ndarray:
    """The inverse of :func:`to_source`; what has no batch axis is repeated for each sample."""
    labels = [a.label for a in axes]
    order = [labels.index(label) for label in ("batch", "time") if label in labels]
    order += [i for i, label in enumerate(labels) if label == "feature"]
    laid = np.transpose(array, order)
    return laid if "batch" in labels else np.broadcast_to(laid[None], (batch, *laid.shape))
