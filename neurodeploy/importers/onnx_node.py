"""One ONNX node as the rules of :mod:`neurodeploy.importers.onnx_ops` see it: values, attributes, errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.importers.time import Dim, Tensor, Tracer

#: A traced tensor; a constant array; an array of sizes (dtype object) some of which are not known; or nothing.
Found = Tensor | np.ndarray | None
Rule = Callable[["Call"], Any]


class WrongAxes(UnsupportedError):
    """A layer's input doesn't have the axes that it needs: perhaps the model's inputs were labelled wrongly."""


@dataclass(frozen=True)
class Lengths:
    """The graph input that holds the number of steps of each sample."""

    name: str


@dataclass(frozen=True)
class Call:
    """A node with the values of its inputs.

    A rule takes it and gives the value of its output, or a tuple of values.
    """

    op: str
    values: Sequence[Any]
    attrs: Mapping[str, Any]
    outputs: Sequence[str]
    opset: int
    tracer: Tracer

    def error(self, message: str, hint: str = "") -> UnsupportedError:
        """An error at this node, to be raised."""
        return self.tracer.error(message, hint)

    def given(self, index: int) -> bool:
        """Whether input ``index`` is there."""
        return index < len(self.values) and self.values[index] is not None

    def value(self, index: int) -> Any:
        """The value of input ``index``. Raises :class:`UnsupportedError` if it isn't there."""
        if not self.given(index):
            raise self.error(f"input {index} is missing.", "The file is damaged; export it again.")
        found = self.values[index]
        if isinstance(found, Lengths):
            raise self.error(f"'{found.name}' holds sequence lengths and is used for something else too.", _LENGTHS)
        return found

    def tensor(self, index: int) -> Tensor:
        """Input ``index`` as a traced tensor; a constant becomes one."""
        found = self.value(index)
        if isinstance(found, Tensor):
            return found
        if found.dtype == object:
            raise self.error("a size that isn't known when compiling is used as data.", "Export it with fixed sizes.")
        return self.tracer.constant(found)

    def array(self, index: int, what: str, default: Any = None) -> np.ndarray:
        """Input ``index`` as a constant array (dtype object if it holds unknown sizes), ``default`` if absent."""
        if not self.given(index) and default is not None:
            return np.asarray(default)
        found = self.value(index)
        if isinstance(found, Tensor):
            if found.data is None:
                raise self.error(f"{what} depends on the model's input; needed a constant.", "Export it as a constant.")
            return found.data
        return found

    def numbers(self, index: int, attr: str, default: Any = None) -> list[Any] | None:
        """A list of whole numbers or sizes from attribute ``attr`` (older opsets) or input ``index``."""
        if attr in self.attrs:
            found = self.attrs[attr]
            return list(found) if isinstance(found, list | tuple) else [found]
        if not self.given(index):
            return default
        return plain(self.array(index, f"'{attr}'"))

    def folds(self) -> bool:
        """Whether every input is a constant array."""
        return all(v is None or isinstance(v, np.ndarray) for v in self.values)


_LENGTHS = "Feed them to the recurrent layers only, as sequence_lens."


def plain(array: np.ndarray) -> list[Any]:
    """The elements as Python numbers and sizes."""
    return [v if isinstance(v, Dim) else int(v) for v in np.asarray(array).ravel().tolist()]


def sizes_array(sizes: Sequence[Any] | Any) -> np.ndarray:
    """Sizes as int64, or as objects where one isn't known."""
    array = np.empty(np.shape(sizes), dtype=object)
    array[...] = np.array(sizes, dtype=object) if np.shape(sizes) else sizes
    return tidy(array)


def tidy(found: Any) -> np.ndarray:
    """An array of objects as int64 or bool if nothing in it is unknown."""
    if isinstance(found, Dim):
        return sizes_array(found)
    array = np.asarray(found)
    if array.dtype != object or any(isinstance(v, Dim) for v in array.ravel()):
        return array
    kinds = {type(v) for v in array.ravel().tolist()}
    if kinds <= {bool, np.bool_}:
        return array.astype(np.bool_)
    return array.astype(np.int64 if kinds <= {int} else np.float64)
