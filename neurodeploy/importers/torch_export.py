"""``torch.export`` of an ordinary module, with recurrent layers held whole and the axes of its inputs labelled.

``torch.export`` shows ``nn.GRU`` as the op ``aten.gru``, but works out its shapes by running it step by step, which
pins the number of steps to the example's. While exporting, calls of the recurrent layers are therefore redirected to
ops of our own that have only a shape rule; batch and time stay unknowns, and the graph says what every axis is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any

from neurodeploy.errors import ModelError, UnsupportedError

#: Layer -> the index of its argument ``batch_first``.
BATCH_FIRST = {"gru": 8, "rnn_tanh": 8, "rnn_relu": 8, "lstm": 8}
#: Ops that take [batch, channels, time].
ALONG_LAST = ("conv1d", "adaptive_avg_pool1d", "adaptive_max_pool1d")
_REMEDY_PACKED = "Call the layer on the padded tensor; give the lengths when the compiled model runs (lengths=...)."
_LAYER = "(Tensor x, {state}, Tensor[] w, bool bias, int n, float dropout, bool train, bool two_way, bool batch_first)"


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


def _originals() -> dict[Any, str]:
    """PyTorch's functions of recurrent layers, by identity: as torch.nn, torch.gru or torch.ops call them."""
    import torch

    found: dict[Any, str] = {}
    for name in BATCH_FIRST:
        packet = getattr(torch.ops.aten, name)
        found |= dict.fromkeys((getattr(torch, name), packet, packet.input), name)
    return found


def _is_packed(args: Any) -> bool:
    """Whether a layer is called as (data, batch sizes, states, weights ...)."""
    return len(args) > 3 and isinstance(args[3], list | tuple)


def _mismatch_refused() -> Any:
    """A mode under which a recurrent layer checks its initial state's batch, as the bare functions don't.

    Shapes are tried out here, and PyTorch's kernels write beyond the state's end where it is too small.
    """
    from torch.overrides import TorchFunctionMode

    originals = _originals()

    class Checked(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kind = originals.get(func)
            if kind and len(args) > BATCH_FIRST[kind] and not _is_packed(args):
                states = args[1] if isinstance(args[1], list | tuple) else [args[1]]
                batch = args[0].shape[0 if args[BATCH_FIRST[kind]] else 1]
                if any(state.shape[1] != batch for state in states):
                    raise RuntimeError(f"the initial state of {kind} is for another batch than {batch}.")
            return func(*args, **(kwargs or {}))

    return Checked()


def _redirection(source: str) -> Any:
    """A mode under which calls of recurrent layers become our ops, and packed sequences are refused."""
    import torch
    from torch.overrides import TorchFunctionMode

    _layers()
    originals = _originals()

    class Redirection(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kind = originals.get(func)
            if getattr(func, "__name__", "") == "_pack_padded_sequence" or (kind and _is_packed(args)):
                raise UnsupportedError(
                    "a packed sequence is given to a recurrent layer.", place=source, hint=_REMEDY_PACKED
                )
            if kind:
                return getattr(torch.ops.neurodeploy, kind)(*args, **(kwargs or {}))
            return func(*args, **(kwargs or {}))

    return Redirection()


@contextmanager
def in_eval_mode(module: Any) -> Iterator[None]:
    """Evaluation mode and no gradients inside; modes, attributes and buffers are restored afterwards."""
    import torch

    parts = [(m, dict(vars(m))) for m in module.modules()]
    buffers = [(b, b.detach().clone()) for b in module.buffers()]
    try:
        if isinstance(module, torch.fx.GraphModule):  # an exported one refuses eval()
            for part, _ in parts:
                part.training = False
        else:
            module.eval()
        with torch.no_grad(), _mismatch_refused():
            yield
    finally:
        for part, attributes in parts:
            for name in set(vars(part)) - set(attributes):
                delattr(part, name)
            vars(part).update(attributes)
        with torch.no_grad():
            for buffer, held in buffers:
                buffer.copy_(held)


def refuse_memory(module: Any, args: tuple[Any, ...], source: str) -> None:
    """Refuse a module that gives something else the second time: it keeps a state, or draws random numbers.

    Raises :class:`ModelError`, :class:`UnsupportedError`.
    """
    import torch
    from torch.utils import _pytree as tree

    before = {id(m): dict(vars(m)) for m in module.modules()}
    kept = {name: b.detach().clone() for name, b in module.named_buffers()}
    first = tree.tree_leaves(_run(module, args, source))
    second = tree.tree_leaves(_run(module, args, source))
    pairs = [(a, b) for a, b in zip(first, second) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)]
    if all(a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs):
        return
    changed = [name for name, b in module.named_buffers() if not torch.equal(b, kept[name])]
    for path, part in module.named_modules():
        old = before[id(part)]
        changed += [f"{path}.{k}".lstrip(".") for k, v in vars(part).items() if k not in old or old[k] is not v]
    if changed:
        raise UnsupportedError(
            f"forward keeps values in the module between calls: '{changed[0]}'.",
            place=source,
            hint="Take the state as an argument and return its next value; then states={...} names it.",
        )
    raise UnsupportedError(
        "two runs on one input differ: it draws random numbers in evaluation mode.",
        place=source,
        hint="Make dropout follow self.training, and give noise as an input.",
    )


def archived(source: Any) -> tuple[Any, Any]:
    """The module of a ``.pt2`` archive (a path) or of an exported program, and the example that was kept with it.

    The sizes that it was exported for are not insisted on: it is exported anew, with recurrent layers held whole.
    Raises :class:`ModelError`.
    """
    import inspect

    import torch

    exported = source
    if not isinstance(source, torch.export.ExportedProgram):
        try:
            with _quiet():
                exported = torch.export.load(str(source))
        except Exception as error:  # a damaged archive raises many kinds
            raise ModelError(
                f"it can't be read as an archive of torch.export: {_first_line(error)}",
                place=str(source),
                hint="Write it with torch.export.save(torch.export.export(module.eval(), (x,)), 'model.pt2').",
            ) from error
    guarded = "check_guards" not in inspect.signature(exported.module).parameters
    module = exported.module() if guarded else exported.module(check_guards=False)
    module._forward_pre_hooks.clear()
    args, kwargs = exported.example_inputs or ((), {})
    return module, (dict(kwargs) if kwargs and not args else tuple(args)) or None


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
    several = isinstance(example, tuple | list) and not hasattr(example, "_fields")
    given = tuple(example) if several else (example,)
    return tuple(_as_tensor(one, source) for one in given)


def _as_tensor(value: Any, source: str) -> Any:
    import numpy as np
    import torch

    if isinstance(value, torch.nn.utils.rnn.PackedSequence):
        raise UnsupportedError("the example is a packed sequence.", place=source, hint=_REMEDY_PACKED)
    if isinstance(value, tuple | list):
        return tuple(_as_tensor(one, source) for one in value)
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
        return value.float() if value.dtype == torch.float64 else value
    return value.detach() if isinstance(value, torch.Tensor) else value


def grown(module: Any, args: tuple[Any, ...], source: str, *, one_axis: bool = False) -> tuple[Any, ...]:
    """The example with as many leading axes of size 1 as the module allows repeated, so that batch and time can vary.

    (``torch.export`` takes a size of 1 for a constant.) ``one_axis``: only one axis of each tensor, the batch's.

    Raises :class:`ModelError` where the module doesn't run on the example itself.
    """
    import torch
    from torch.utils import _pytree as tree

    leaves, spec = tree.tree_flatten(args)
    refuse_memory(module, args, source)
    if one_axis and leaves and getattr(leaves[0], "shape", (2,))[:1] != (1,):
        return args
    ones = [
        (i, axis)
        for i, leaf in enumerate(leaves)
        if isinstance(leaf, torch.Tensor)
        for axis in range(_leading(leaf))
        if leaf.shape[axis] == 1
    ]
    ones = ones[:8]
    for count in range(len(ones), 0, -1):
        for chosen in combinations(ones, count):
            if one_axis and len({i for i, _ in chosen}) < count:
                continue
            larger = list(leaves)
            for i, axis in chosen:
                larger[i] = larger[i].repeat_interleave(2, dim=axis)
            candidate = tree.tree_unflatten(larger, spec)
            if _runs(module, candidate):
                return candidate
    return args


def _leading(leaf: Any) -> int:
    """How many axes may be batch or time; ``[batch, features]`` of floats has one."""
    return min(leaf.ndim, 1 if leaf.ndim == 2 and leaf.is_floating_point() else 2)


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
    import inspect

    import torch
    from torch.utils import _pytree as tree

    def dynamic(leaf: Any) -> Any:
        return dict.fromkeys(range(leaf.ndim), torch.export.Dim.AUTO) if isinstance(leaf, torch.Tensor) else None

    # As forward names its arguments: those of *args are one argument, a tuple.
    bound = tuple(inspect.signature(module.forward).bind(*args).arguments.values())
    try:
        with _quiet(), _redirection(source):
            return torch.export.export(module, args, dynamic_shapes=tree.tree_map(dynamic, bound), strict=False)
    except UnsupportedError:
        raise
    except Exception as error:  # torch.export raises many kinds
        found = _cause(error, UnsupportedError)
        if found is not None:
            raise found from error
        raise ModelError(
            f"torch.export can't trace it: {_first_line(error)}",
            place=source,
            hint="Tensors must not decide what Python does (if, while, int()); a custom cell in a loop can be given "
            "as its step: load(cell, (x_t, h), states={'h': 1}).",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """torch.export prints the graph and a log of what failed; the error says it."""
    import logging
    import warnings

    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(None), redirect_stderr(None):
            warnings.simplefilter("ignore")
            yield
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
    roles = _roles(exported, source)
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
                sizes.append("B" if _symbol(own) else int(size))
            elif label == "time":
                symbol = _symbol(own) or "T"
                sizes.append(domains.setdefault(symbol, "T" if not domains else f"T{len(domains) + 1}"))
            else:
                sizes.append(int(size))
        result.append(Argument(node, node.name, tuple(labels), tuple(sizes)))
    return result


def _symbol(size: Any) -> str | None:
    """The one unknown that a size depends on, if there is one."""
    free = _unknowns(size)
    return free[0] if len(free) == 1 else None


def _unknowns(size: Any) -> list[str]:
    node = getattr(size, "node", None)
    return sorted(map(str, node.expr.free_symbols)) if node is not None else []


def batch_axes(nodes: Sequence[Any], leaves: Sequence[Any], first: int, source: str) -> list[list[str]]:
    """Labels of a step's arguments: axis 0 of argument ``first`` is the batch, and so is every axis of that size.

    An argument that never meets that one has its batch at axis 0 if the example has the same size there.

    Raises :class:`ModelError` where an argument has no such axis.
    """
    shapes = [node.meta["val"].shape for node in nodes]
    batch = _symbol(shapes[first][0]) if len(shapes[first]) else None
    found = []
    for node, shape, leaf in zip(nodes, shapes, leaves):
        labels = ["batch" if batch and _symbol(size) == batch else "feature" for size in shape]
        if "batch" not in labels and batch and leaf.ndim and leaf.shape[0] == leaves[first].shape[0]:
            labels[0] = "batch"
        if labels.count("batch") != 1:
            raise ModelError(
                f"argument '{node.name}' has no batch axis that can vary.", place=source,
                hint="A step takes x_t as [batch, features] and its states with the same batch axis.",
            )  # fmt: skip
        found.append(labels)
    return found


def _roles(exported: Any, source: str) -> dict[str, str]:
    """Unknown size -> ``batch`` or ``time``, as recurrent layers and convolutions use it."""
    roles: dict[str, str] = {}
    for node in exported.graph.nodes:
        kind = op_name(node)
        if kind in BATCH_FIRST and len(node.args) > BATCH_FIRST[kind]:
            places = ("batch", "time") if node.args[BATCH_FIRST[kind]] else ("time", "batch")
        elif kind in ALONG_LAST:
            places = ("batch", "", "time")
        else:
            continue
        shape = node.args[0].meta["val"].shape
        for size, role in zip(shape, places):
            symbol = _symbol(size)
            if role and symbol:
                roles.setdefault(symbol, role)
            elif role == "time" and not _unknowns(size) and size != 1:
                raise UnsupportedError(
                    f"it runs over {size} steps, a number that something else in the module fixes to the example's.",
                    place=f"{source}: node {place_of(node)[0]}",
                    hint="Flattening over time, a table of positions and a Python loop over steps do that; "
                    "take the last step or a mean over time instead.",
                )
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
    ones = [i for i, size in enumerate(leaf.shape[:2]) if size == 1 and not found[i]]
    if "time" in found and "batch" not in found and ones and rank > found.index("time") + (ones[0] < 1):
        found[ones[0]] = "batch"  # a batch of one that the module fixes
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
    op = str(packet).replace("neurodeploy.", "aten.") if packet is not None else op_name(node)
    stem = path.split(".")[-1] if path else ""
    return f"{path or node.name} ({op})", stem if stem and not stem.isdigit() else (path or node.name)
