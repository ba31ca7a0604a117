"""Reading an ONNX file: bytes to a checked graph, constants as arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from neurodeploy.errors import ModelError, UnsupportedError
from neurodeploy.importers.onnx_ops_shape import DTYPES

HINT = "Export the model again."
OLDEST_OPSET = 7
UNREADABLE = (ValueError, TypeError, KeyError, RuntimeError, OverflowError)
RECURRENT = ("RNN", "GRU", "LSTM")


@dataclass(frozen=True)
class InputSpec:
    """A graph input that isn't a constant: sizes are whole numbers or names."""

    name: str
    sizes: tuple[int | str, ...]
    dtype: str
    elem_type: int


@dataclass(frozen=True)
class Model:
    """An ONNX model, read: ``proto`` is its ModelProto, ``file`` what errors call it, ``path`` where it lies."""

    proto: Any
    file: str
    path: Path | None
    name: str
    sha256: str
    constants: Mapping[str, np.ndarray]
    given: Mapping[str, np.ndarray]
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]
    opset: int
    lengths: frozenset[str] = field(default_factory=frozenset)

    @property
    def nodes(self) -> Any:
        return self.proto.graph.node

    @property
    def producer(self) -> str:
        return f"{self.proto.producer_name} {self.proto.producer_version}".strip()[:80]

    @cached_property
    def _attributes(self) -> list[dict[str, Any]]:
        return [_attributes(node, self.file) for node in self.nodes]

    def attributes(self, index: int) -> dict[str, Any]:
        """The attributes of node ``index``."""
        return self._attributes[index]


def read(source: Any, constants: Mapping[str, np.ndarray], name: str | None) -> Model:
    """Read and check a model. Raises :class:`ModelError`."""
    proto, raw, path = _parse(source)
    file = path.name if path else (name or "model")
    graph = proto.graph
    if not graph.node and not graph.output:
        raise ModelError("holds no ONNX graph.", place=file, hint=HINT)
    if not graph.node:
        raise ModelError("holds an ONNX graph without nodes.", place=file, hint=HINT)
    proto = _inlined(proto, file)
    opset = _opset(proto, file)
    _check(proto, path, file)
    weights = _initializers(proto, path, file)
    for key, value in constants.items():
        weights[key] = np.asarray(value)
    _finite(weights, file)
    inputs = tuple(_input(i, file) for i in proto.graph.input if i.name not in weights)
    outputs = tuple(o.name for o in proto.graph.output)
    if not outputs:
        raise ModelError("has no outputs.", place=file, hint=HINT)
    lengths = _lengths(proto, {i.name for i in inputs})
    stem = name or (path.stem if path else proto.graph.name or "model")
    sha256 = hashlib.sha256(raw).hexdigest()
    given = {k: np.asarray(v) for k, v in constants.items()}
    return Model(proto, file, path, stem, sha256, weights, given, inputs, outputs, opset, lengths)


def _parse(source: Any) -> tuple[Any, bytes, Path | None]:
    import onnx
    from google.protobuf.message import DecodeError

    if isinstance(source, onnx.ModelProto):
        return source, source.SerializeToString(), None
    path = None if isinstance(source, bytes) else Path(source)
    try:
        raw = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise ModelError(f"can't be read ({error.strerror or error}).", place=str(path)) from error
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(raw)
    except (DecodeError, ValueError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError("is no ONNX model, or is damaged.", place=path.name if path else "model", hint=HINT) from error
    return proto, raw, path


def _opset(proto: Any, file: str) -> int:
    versions = {o.domain: o.version for o in proto.opset_import}
    opset = versions.get("", versions.get("ai.onnx", 0))
    if opset < OLDEST_OPSET:
        raise UnsupportedError(
            f"uses ONNX opset {opset}; needed {OLDEST_OPSET} or later.", place=file, hint="Export with opset 17."
        )
    for index, node in enumerate(proto.graph.node):
        if node.domain not in ("", "ai.onnx"):
            raise UnsupportedError(
                f"the op {node.op_type} belongs to '{node.domain}', not to ONNX itself.",
                place=f"{file}: node '{node.name or f'#{index}'}'",
                hint="Export with standard ONNX ops only.",
            )
    return opset


def _inlined(proto: Any, file: str) -> Any:
    """The model with its own functions inlined."""
    if not proto.functions:
        return proto
    import onnx.inliner

    try:
        return onnx.inliner.inline_local_functions(proto)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"its functions can't be inlined ({_line(error)}).", place=file, hint=HINT) from error


def _check(proto: Any, path: Path | None, file: str) -> None:
    """ONNX's own checker, but for what is refused elsewhere with a better message."""
    import onnx

    from neurodeploy.importers.onnx_ops import RULES

    if any(node.op_type not in RULES for node in proto.graph.node):
        return
    bare = proto
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in proto.graph.initializer):
        return
    try:
        onnx.checker.check_model(bare)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise ModelError(f"is not valid ONNX ({_line(error)}).", place=file, hint=HINT) from error


def _line(error: Exception) -> str:
    lines = [s.strip() for s in str(error).splitlines() if s.strip()]
    return (lines[0] if lines else type(error).__name__)[:160].rstrip(".")


def _initializers(proto: Any, path: Path | None, file: str) -> dict[str, np.ndarray]:
    if proto.graph.sparse_initializer:
        raise UnsupportedError("has sparse initializers.", place=file, hint="Export dense weights.")
    return {t.name: _array(t, path, f"{file}: tensor '{t.name}'") for t in proto.graph.initializer}


def _array(tensor: Any, path: Path | None, place: str) -> np.ndarray:
    """A TensorProto's numbers. Raises :class:`ModelError`."""
    import onnx
    from onnx import external_data_helper, numpy_helper

    external = tensor.data_location == onnx.TensorProto.EXTERNAL
    try:
        if external:
            if path is None:
                raise ModelError("keeps its data in another file.", place=place, hint="Give the model's path.")
            folder = str(path.parent)
            external_data_helper.load_external_data_for_tensor(tensor, folder)
            tensor.data_location = onnx.TensorProto.DEFAULT
        array = numpy_helper.to_array(tensor)
    except ModelError:
        raise
    except (OSError, *UNREADABLE, onnx.checker.ValidationError) as error:
        if external:
            hint = "Keep the file with its data beside the model."
            raise ModelError("its data, in another file, can't be read.", place=place, hint=hint) from error
        raise ModelError(f"can't be read ({_line(error)}).", place=place, hint=HINT) from error
    if array.dtype.kind not in "fiub":
        try:
            return array.astype(np.float32)
        except (ValueError, TypeError) as error:
            raise ModelError(f"holds {array.dtype}; needed numbers.", place=place, hint=HINT) from error
    return array


def _finite(weights: Mapping[str, np.ndarray], file: str) -> None:
    for name, array in weights.items():
        if array.dtype.kind == "f" and not (np.isfinite(array).all() if array.size > 1 else not np.isnan(array).any()):
            raise ModelError(
                "holds NaN or infinity.", place=f"{file}: tensor '{name}'", hint="Train it again; it has diverged."
            )


def _input(value: Any, file: str) -> InputSpec:
    place = f"{file}: input '{value.name}'"
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type" or value.type.tensor_type.elem_type not in DTYPES:
        raise UnsupportedError("is no tensor of numbers.", place=place, hint="Give it tensors of float or integers.")
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise UnsupportedError("has no shape.", place=place, hint="Export it with the number of axes known.")
    sizes: list[int | str] = []
    for i, dim in enumerate(tensor.shape.dim):
        known = dim.WhichOneof("value") == "dim_value"
        if known and dim.dim_value < 1:
            raise ModelError(f"axis {i} has the size {dim.dim_value}.", place=place, hint=HINT)
        sizes.append(dim.dim_value if known else dim.dim_param or f"{value.name}_{i}")
    return InputSpec(value.name, tuple(sizes), DTYPES[tensor.elem_type], tensor.elem_type)


def _lengths(proto: Any, inputs: set[str]) -> frozenset[str]:
    """The graph inputs that recurrent layers take as sequence_lens, directly or through a cast."""
    casts = {n.output[0]: n.input[0] for n in proto.graph.node if n.op_type in ("Cast", "Identity") and n.output}
    found = set()
    for node in proto.graph.node:
        if node.op_type in RECURRENT and len(node.input) > 4:
            name = node.input[4]
            while name in casts:
                name = casts.pop(name)
            if name in inputs:
                found.add(name)
    return frozenset(found)


def _attributes(node: Any, file: str) -> dict[str, Any]:
    import onnx

    found: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR:
            found[attribute.name] = _array(attribute.t, None, f"{file}: node '{node.name}' ({node.op_type})")
            continue
        try:
            value = onnx.helper.get_attribute_value(attribute)
        except ValueError as error:
            raise ModelError(
                f"attribute '{attribute.name}' can't be read.", place=f"{file}: node '{node.name}'"
            ) from error
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        elif isinstance(value, list) and value and isinstance(value[0], bytes):
            value = [v.decode(errors="replace") for v in value]
        found[attribute.name] = value
    return found
