"""``torch.export`` of an ordinary module, with recurrent layers held whole and the axes of its inputs labelled.

``torch.export`` shows ``nn.GRU`` as the op ``aten.gru``, but works out its shapes by running it step by step, which
pins the number of steps to the example's. While exporting, calls of the recurrent layers are therefore redirected to
ops of our own that have only a shape rule; batch and time stay unknowns, and the graph says what every axis is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any

from neurodeploy.errors import ModelError, UnsupportedError

#: Layer -> the index of its argument ``batch_first``.
BATCH_FIRST = {"gru": 8, "rnn_tanh": 8, "rnn_relu": 8, "lstm": 8}
#: Op -> why it is refused while exporting.
_REMEDY_PACKED = "Call the layer on the padded tensor; give the lengths when the compiled model runs (lengths=...)."
_LAYER = "(Tensor x, {state}, Tensor[] w, bool bias, int n, float dropout, bool train, bool two_way, bool batch_first)"
#: Unknown sizes are made of axes of at least 2, as torch.export takes 0 and 1 for constants.
_AXES_THAT_MAY_GROW = 2


@cache
def _layers() -> Any:
    """Define the ops that stand for recurrent layers while exporting; torch keeps them for the process."""
    import torch

    library = torch.library.Library("neurodeploy", "FRAGMENT")
    for name in BATCH_FIRST:
        state = "Tensor[] h" if name == "lstm" else "Tensor h"
        results = "(Tensor, Tensor, Tensor)" if name == "lstm" else "(Tensor, Tensor)"
        library.define(f"{name}{_LAYER.format(state=state)} -> {results}")
        library.impl(name, _shapes, "Meta")
    return library


def _shapes(x: Any, h: Any, w: Any, bias: Any, n: Any, dropout: Any, train: Any, two_way: bool, first: Any) -> Any:
    """The shapes of a recurrent layer's results: outputs at each step, and the final states."""
    import torch

    states = h if isinstance(h, list | tuple) else [h]
    width = states[0].shape[-1] * (2 if two_way else 1)
    return (x.new_empty((*x.shape[:-1], width)), *(torch.empty_like(s) for s in states))


def _redirection(source: str) -> Any:
    """A mode under which calls of recurrent layers become our ops, and packed sequences are refused."""
    import torch
    from torch.overrides import TorchFunctionMode

    _layers()
    # The originals, by identity: what a module calls through torch.nn, torch.gru or torch.ops.
    originals: dict[Any, str] = {}
    for name in BATCH_FIRST:
        originals[getattr(torch, name)] = name
        originals[getattr(torch.ops.aten, name)] = name
        originals[getattr(torch.ops.aten, name).input] = name

    class Redirection(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kind = originals.get(func) if callable(func) and getattr(func, "__hash__", None) else None
            packed = getattr(func, "__name__", "") == "_pack_padded_sequence"
            if packed or (kind and len(args) > 3 and isinstance(args[3], list | tuple)):
                raise UnsupportedError(
                    "a packed sequence is given to a recurrent layer.", place=source, hint=_REMEDY_PACKED
                )
            if kind:
                return getattr(torch.ops.neurodeploy, kind)(*args, **(kwargs or {}))
            return func(*args, **(kwargs or {}))

    return Redirection()


@contextmanager
def in_eval_mode(module: Any) -> Iterator[None]:
    """Evaluation mode and no gradients inside; every submodule's own mode is restored."""
    import torch

    modes = [(m, m.training) for m in module.modules()]
    try:
        module.eval()
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def arguments(module: Any, example: Any, source: str) -> tuple[Any, ...]:
    """The example as positional arguments of ``forward``, arrays as tensors. Raises :class:`ModelError`."""
    import inspect

    if example is None:
        raise ModelError(
            "an example input is needed to trace a torch module.",
            place=source,
            hint="Give a tensor of the shape that the module takes: load(module, torch.randn(2, 10, 12)).",
        )
    if isinstance(example, Mapping):
        signature = inspect.signature(module.forward)
        try:
            bound = signature.bind(**example)
        except TypeError as error:
            raise ModelError(f"the example doesn't fit forward{signature}: {error}.", place=source) from error
        if bound.kwargs:
            raise ModelError(f"forward takes '{next(iter(bound.kwargs))}' by keyword only.", place=source)
        example = bound.args
    given = tuple(example) if isinstance(example, tuple | list) else (example,)
    return tuple(_as_tensor(one) for one in given)


def _as_tensor(value: Any) -> Any:
    import numpy as np
    import torch

    if isinstance(value, tuple | list):
        return tuple(_as_tensor(one) for one in value)
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
        return value.float() if value.dtype == torch.float64 else value
    return value.detach() if isinstance(value, torch.Tensor) else value


def grown(module: Any, args: tuple[Any, ...], source: str) -> tuple[Any, ...]:
    """The example with as many leading axes of size 1 as the module allows repeated, so that batch and time can vary.

    Raises :class:`ModelError` where the module doesn't run on the example itself.
    """
    import torch
    from torch.utils import _pytree as tree

    leaves, spec = tree.tree_flatten(args)
    _run(module, args, source)
    ones = [
        (i, axis)
        for i, leaf in enumerate(leaves)
        if isinstance(leaf, torch.Tensor)
        for axis in range(min(leaf.ndim, _AXES_THAT_MAY_GROW))
        if leaf.shape[axis] == 1
    ]
    ones = ones[:8]
    for count in range(len(ones), 0, -1):
        for chosen in combinations(ones, count):
            larger = list(leaves)
            for i, axis in chosen:
                larger[i] = larger[i].repeat_interleave(2, dim=axis)
            candidate = tree.tree_unflatten(larger, spec)
            if _runs(module, candidate):
                return candidate
    return args


def _run(module: Any, args: tuple[Any, ...], source: str) -> Any:
    try:
        return module(*args)
    except UnsupportedError:
        raise
    except Exception as error:
        raise ModelError(
            f"the module doesn't run on the example: {_first_line(error)}", place=source, hint="Check its shapes."
        ) from error


def _runs(module: Any, args: tuple[Any, ...]) -> bool:
    try:
        module(*args)
    except Exception:  # noqa: BLE001 - whatever it raises, this shape is not one of its shapes
        return False
    return True


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0]
    return line if line.endswith(".") else f"{line}."


def export(module: Any, args: tuple[Any, ...], source: str) -> Any:
    """The exported program, every size unknown that can be. Raises :class:`ModelError`, :class:`UnsupportedError`."""
    import logging
    import warnings

    import torch
    from torch.utils import _pytree as tree

    def dynamic(leaf: Any) -> Any:
        return dict.fromkeys(range(leaf.ndim), torch.export.Dim.AUTO) if isinstance(leaf, torch.Tensor) else None

    level = logging.root.manager.disable
    try:
        logging.disable(logging.WARNING)  # torch prints the graph of a failed export
        with warnings.catch_warnings(), _redirection(source):
            warnings.simplefilter("ignore")
            return torch.export.export(module, args, dynamic_shapes=tree.tree_map(dynamic, args), strict=False)
    except UnsupportedError:
        raise
    except Exception as error:
        found = _cause(error, UnsupportedError)
        if found is not None:
            raise found from error
        raise ModelError(
            f"torch.export can't trace it: {_first_line(error)}",
            place=source,
            hint="Tensors must not decide what Python does (if, while, int()); a custom cell in a loop can be given "
            "as its step: load(cell, (x_t, h), states={'h': 1}).",
        ) from error
    finally:
        logging.disable(level)


def _cause(error: BaseException, kind: type[UnsupportedError]) -> UnsupportedError | None:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, kind):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


@dataclass(frozen=True)
class Argument:
    """One tensor input: the graph's placeholder, its name, what each axis is, and sizes (a str where unknown)."""

    node: Any
    name: str
    labels: tuple[str, ...]
    sizes: tuple[int | str, ...]


def label_inputs(
    nodes: Sequence[Any], exported: Any, leaves: Sequence[Any], axes: Mapping[str, Sequence[str]], source: str
) -> list[Argument]:
    """Label the axes of the tensor inputs ``nodes`` by following their unknown sizes into recurrent layers.

    ``leaves``: the example's tensors, in order. ``axes``: labels that the caller gave, by input name.
    Without either, floats are ``[batch, time, feature ...]`` (``[batch, feature]`` if they have two axes) and whole
    numbers ``[batch, time, feature ...]``. Raises :class:`ModelError`.
    """
    roles = _roles(exported)
    for name in axes:
        if name not in {n.name for n in nodes}:
            known = ", ".join(n.name for n in nodes)
            raise ModelError(f"axes= names '{name}', which is no input; there are {known}.", place=source)
    guesses = [_labels(node, leaf, roles, axes.get(node.name), source) for node, leaf in zip(nodes, leaves)]
    domains: dict[str, str] = {}
    result = []
    for node, leaf, labels in zip(nodes, leaves, guesses):
        sizes: list[int | str] = []
        for size, label, own in zip(leaf.shape, labels, node.meta["val"].shape):
            if label == "batch":
                sizes.append("B")
            elif label == "time":
                symbol = _symbol(own) or "T"
                sizes.append(domains.setdefault(symbol, "T" if not domains else f"T{len(domains) + 1}"))
            else:
                sizes.append(int(size))
        result.append(Argument(node, node.name, tuple(labels), tuple(sizes)))
    return result


def _symbol(size: Any) -> str | None:
    """The one unknown that a size depends on, if there is one."""
    node = getattr(size, "node", None)
    free = sorted(map(str, node.expr.free_symbols)) if node is not None else []
    return free[0] if len(free) == 1 else None


def _roles(exported: Any) -> dict[str, str]:
    """Unknown size -> ``batch`` or ``time``, as recurrent layers and convolutions use it."""
    roles: dict[str, str] = {}
    for node in exported.graph.nodes:
        kind = op_name(node)
        if kind in BATCH_FIRST and len(node.args) > BATCH_FIRST[kind]:
            places = ("batch", "time") if node.args[BATCH_FIRST[kind]] else ("time", "batch")
        elif kind == "conv1d":
            places = ("batch", "", "time")
        else:
            continue
        shape = node.args[0].meta["val"].shape
        for size, role in zip(shape, places):
            symbol = _symbol(size)
            if role and symbol:
                roles.setdefault(symbol, role)
    return roles


def _labels(
    node: Any, leaf: Any, roles: dict[str, str], given: Sequence[str] | None, source: str
) -> list[str]:  # fmt: skip
    rank = leaf.ndim
    if given is not None:
        labels = list(given)
        if len(labels) != rank or not set(labels) <= {"batch", "time", "feature"}:
            raise ModelError(
                f"axes= gives {labels} for input '{node.name}' of {rank} axes; needed batch, time or feature for each.",
                place=source,
            )
        return labels
    symbols = [_symbol(size) for size in node.meta["val"].shape]
    found = [roles.get(symbol or "", "") for symbol in symbols]
    if not any(found):
        whole = not leaf.dtype.is_floating_point
        defaults = ["batch", "time"] if rank > 2 or (whole and rank == 2) else ["batch"]
        found = [*defaults, *[""] * rank][:rank]
    for symbol, role in zip(symbols, found):
        if symbol and role:
            roles.setdefault(symbol, role)
    return [role or "feature" for role in found]


def op_name(node: Any) -> str:
    """``linear`` of ``aten.linear.default``; empty for what is no op's call."""
    if node.op != "call_function":
        return ""
    packet = getattr(node.target, "overloadpacket", None)
    return packet.__name__ if packet is not None else getattr(node.target, "__name__", str(node.target))


def place_of(node: Any) -> tuple[str, str]:
    """Where a node is, as errors name it (``encoder.attn (aten.softmax)``), and a stem for the names of its values."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = stack[-1][0] if stack and not stack[-1][0].startswith("_empty") else ""
    packet = getattr(node.target, "overloadpacket", None)
    op = str(packet) if packet is not None else op_name(node)
    stem = path.split(".")[-1] if path else ""
    return f"{path or node.name} ({op})", stem if stem and not stem.isdigit() else (path or node.name)
