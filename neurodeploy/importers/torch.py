"""PyTorch modules, traced by ``torch.export``: whole-sequence modules as they are, and custom cells as steps.

::

    program = load(classifier, torch.randn(2, 20, 12))                     # y, _ = gru(x); fc(y[:, -1])
    program = load(cell, (torch.randn(2, 12), torch.randn(2, 16)), states={"h": 1})      # y, h' = cell(x_t, h)

A module that takes whole sequences needs an example input, whose batch and time sizes don't matter. A module that takes
one step gets ``states``: which argument is a state, and which result (counted in the order that ``forward`` returns
them) is its next value. Every import ends with a numerical check against the module itself.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.errors import ModelError, UnsupportedError, nearest, require
from neurodeploy.importers import torch_check, torch_export
from neurodeploy.importers.check import unchecked
from neurodeploy.importers.time import Dim, Tensor, Tracer
from neurodeploy.importers.torch_moves import MOVES
from neurodeploy.importers.torch_ops import MATHS, Rule
from neurodeploy.importers.torch_recurrent import LAYERS

if TYPE_CHECKING:
    from neurodeploy.ir.graph import Program

RULES: Mapping[str, Rule] = {**MATHS, **MOVES, **LAYERS}
#: Ops without an effect on values; torch.export adds them as run-time checks.
CHECKS = ("_assert_tensor_metadata", "_assert_scalar", "_guards_fn", "sym_constrain_range_for_size", "_assert_async")
#: Ops that can't be supported, and what to do instead.
REFUSED: Mapping[str, tuple[str, str]] = {
    "scaled_dot_product_attention": (
        "attention reads the whole sequence at every step.", "Use a recurrent layer; only its state is kept in a step."
    ),
    "cumsum": ("a running sum over an axis.", "Give the step itself: load(cell, (x_t, h), states={'h': 1})."),
    "copy": ("it writes into a tensor.", "Keep states as arguments and results of forward, not in buffers."),
    "index_put": ("it writes into a tensor.", "Build the result with torch.cat or torch.stack."),
    "item": ("a tensor's value is read by Python.", "Compute with tensors."),
    "nonzero": ("the result's size depends on the data.", "Use torch.where(condition, a, b)."),
}  # fmt: skip
SYMBOLIC = {getattr(operator, name) for name in ("add", "sub", "mul", "floordiv", "truediv", "neg", "mod", "pow")}


def load_torch(
    module: Any,
    example: Any = None,
    *,
    states: Mapping[str, Any] | None = None,
    initial: Mapping[str, Any] | None = None,
    axes: Mapping[str, Sequence[str]] | None = None,
    outputs: Sequence[str] | None = None,
    name: str | None = None,
    check: bool = True,
) -> Program:
    """A ``torch.nn.Module`` as a program, compared with the module at other lengths and batch sizes.

    ``module``: also a path of a ``.pt2`` archive or an exported program, whose own example serves if none is given.

    ``example``: a tensor or array, a tuple of them, or a dict by argument. Floats are ``[batch, time, features]`` or
    ``[batch, features]``, whole numbers ``[batch, time]``, unless recurrent layers or convolutions say otherwise;
    ``axes={"x": ["time", "batch", "feature"]}`` says it outright. ``outputs``: names for the results in order.
    ``states``: the module is one step; argument -> the number or name of the result that is its next value (a
    tuple of them for an argument that is a tuple); axis 0 is the batch. A result that is only a state's next value is
    no output, unless there is none else. ``initial``: argument -> the state's initial value per sample (zeros).
    ``program.meta["import_check"]`` holds the largest difference found.
    Raises :class:`ModelError` and :class:`UnsupportedError` naming the module's path and op.
    """
    require("torch", "torch", "importing a PyTorch module")
    import torch

    from neurodeploy.importers import torch_step

    source = ""
    if isinstance(module, str | Path | torch.export.ExportedProgram):
        is_file = not isinstance(module, torch.export.ExportedProgram)
        source = Path(module).name if is_file else "exported program"
        name = name or (Path(module).stem if is_file else None)
        module, kept = torch_export.archived(module)
        example = kept if example is None else example
    if not isinstance(module, torch.nn.Module) or isinstance(module, torch.jit.ScriptModule):
        raise ModelError(
            f"{type(module).__name__} is no ordinary torch.nn.Module.", hint="Give the module that was scripted itself."
        )
    source = source or type(module).__name__
    _check_weights(module, source)
    label = name or source.lower()
    with torch_export.in_eval_mode(module):
        states, example = torch_step.defaults(module, states, example)
        if states is not None:
            return torch_step.import_step(module, example, states, initial or {}, outputs, label, source, check)
        if initial:
            raise ModelError("initial= is given without states=.", place=source, hint="Name the states: states={...}.")
        args = torch_export.grown(module, torch_export.arguments(module, example, source), source)
        exported = torch_export.export(module, args, source)
        tracer = Tracer(label, source)
        inputs = bind_inputs(tracer, exported, args, axes or {}, source)
        refuse_attention(tracer, exported)
        results = walk(tracer, exported, inputs)
        named = name_outputs(module, args, results, outputs, source)
        program = tracer.finish(named, {"origin": f"torch {torch.__version__}: {source}"})
        if not check:
            return unchecked(program, "check=False")
        return torch_check.check_sequence(module, args, program, list(inputs.values()), named, source)


def _check_weights(module: Any, source: str) -> None:
    """Refuse weights that are no numbers or of low precision. (A buffer may hold infinities, as masks do.)"""
    for path, parameter in module.named_parameters():
        kind = str(parameter.dtype)
        if kind not in ("torch.float32", "torch.float64"):
            raise UnsupportedError(
                f"parameter '{path}' is {kind}; needed torch.float32.", place=source, hint="Give module.float()."
            )
    bad = [f"parameter '{path}'" for path, p in module.named_parameters() if not bool(p.isfinite().all())]
    bad += [f"buffer '{path}'" for path, b in module.named_buffers() if bool(b.isnan().any())]
    if bad:
        raise ModelError(
            f"{bad[0]} holds NaN or infinity.",
            place=source,
            hint="Train again with a lower learning rate or clipped gradients, or load another checkpoint.",
        )


def bind_inputs(
    tracer: Tracer, exported: Any, args: tuple[Any, ...], axes: Mapping[str, Sequence[str]], source: str
) -> dict[Any, Tensor]:
    """The graph's tensor inputs as inputs of the program, in the order of the example."""
    leaves = torch_check.tensors_of(args)
    nodes = input_nodes(exported)
    found: dict[Any, Tensor] = {}
    for argument, leaf in zip(torch_export.label_inputs(nodes, exported, leaves, axes, source), leaves):
        tracer.at("", argument.name)
        found[argument.node] = tracer.input(argument.name, argument.labels, argument.sizes, dtype_of(leaf))
    return found


def refuse_attention(tracer: Tracer, exported: Any) -> None:
    """Refuse attention as such, rather than the reshapes that lead up to it."""
    for node in exported.graph.nodes:
        place, stem = torch_export.place_of(node)
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        inside = bool(stack) and str(stack[-1][1]).endswith("MultiheadAttention")
        if inside or torch_export.op_name(node) == "scaled_dot_product_attention":
            tracer.at(f"{stack[-1][0]} (nn.MultiheadAttention)" if inside else place, stem)
            raise tracer.error(*REFUSED["scaled_dot_product_attention"])


def input_nodes(exported: Any) -> list[Any]:
    """The placeholders of the user's tensors."""
    names = [s.arg.name for s in exported.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
    table = {node.name: node for node in exported.graph.nodes if node.op == "placeholder"}
    return [table[n] for n in names if hasattr(table[n].meta.get("val"), "shape")]


def dtype_of(tensor: Any) -> str:
    """The IR's dtype of an input."""
    if tensor.is_floating_point():
        return "f32"
    return "bool" if str(tensor.dtype) == "torch.bool" else "i32"


def walk(tracer: Tracer, exported: Any, inputs: Mapping[Any, Tensor], rules: Mapping[str, Rule] = RULES) -> list[Any]:
    """Trace every node of the exported graph; returns the results of ``forward``, flattened."""
    table: dict[Any, Any] = dict(inputs)
    specs = {s.arg.name: s for s in exported.graph_signature.input_specs if hasattr(s.arg, "name")}
    for node in exported.graph.nodes:
        if node in table:
            continue
        place, stem = torch_export.place_of(node)
        tracer.at(place if node.op == "call_function" else "", stem)
        if node.op == "placeholder":
            table[node] = _leaf(tracer, exported, specs[node.name])
        elif node.op == "get_attr":
            value = exported.graph_module
            for part in str(node.target).split("."):
                value = getattr(value, part)
            table[node] = tracer.constant(torch_check.as_array(value)) if hasattr(value, "detach") else value
        elif node.op == "call_function":
            args, kwargs = _resolve(node.args, table), _resolve(node.kwargs, table)
            table[node] = _call(tracer, node, args, kwargs, rules)
            if _is_in_place(node):
                table[node.args[0]] = table[node]
        elif node.op == "output":
            return list(_resolve(node.args[0], table))
    return []


def _leaf(tracer: Tracer, exported: Any, spec: Any) -> Any:
    """What a placeholder holds: a weight, a constant, or a plain Python value of the example."""
    if spec.target is None:
        return getattr(spec.arg, "value", None)
    held = exported.state_dict.get(spec.target)
    held = exported.constants[spec.target] if held is None else held
    return tracer.constant(torch_check.as_array(held), spec.target.replace(".", "_"))


def _resolve(value: Any, table: Mapping[Any, Any]) -> Any:
    if isinstance(value, list | tuple):
        return [_resolve(one, table) for one in value]
    if isinstance(value, dict):
        return {key: _resolve(one, table) for key, one in value.items()}
    return table[value] if hasattr(value, "users") else value


def _is_in_place(node: Any) -> bool:
    kind = torch_export.op_name(node)
    return kind.endswith("_") and not kind.startswith("_")


def _call(tracer: Tracer, node: Any, args: list[Any], kwargs: dict[str, Any], rules: Mapping[str, Rule]) -> Any:
    kind = torch_export.op_name(node)
    if node.target is operator.getitem:
        held = args[0][args[1]]
        return held() if callable(held) and node.users else held
    if kind in CHECKS:
        return None
    if kind in ("sym_size", "size"):
        return args[0].shape[args[1]]
    kind = kind[:-1] if _is_in_place(node) else kind
    try:
        if node.target in SYMBOLIC:
            return node.target(*args)
        if kind in REFUSED:
            raise tracer.error(*REFUSED[kind])
        if kind not in rules:
            return _folded(tracer, node, args, kwargs, kind)
        return rules[kind](
            tracer, *args, **{k: v for k, v in kwargs.items() if k not in ("device", "layout", "pin_memory")}
        )
    except UnsupportedError as error:
        if error.place:
            raise
        raise tracer.error(error.message, error.hint) from error
    except TypeError as error:
        raise tracer.error(f"'{kind}' is called in a way that isn't supported: {error}.") from error


def _folded(tracer: Tracer, node: Any, args: list[Any], kwargs: dict[str, Any], kind: str) -> Any:
    """An op that there is no rule for, worked out by PyTorch: possible where it reads weights only."""
    import torch
    from torch.utils import _pytree as tree

    leaves, spec = tree.tree_flatten((args, kwargs))
    if any(isinstance(leaf, Dim) or (isinstance(leaf, Tensor) and leaf.data is None) for leaf in leaves):
        raise tracer.error(f"the op '{kind}' is not supported.", nearest(kind, RULES))
    given = [torch.from_numpy(np.array(leaf.data)) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    args, kwargs = tree.tree_unflatten(given, spec)
    found = node.target(*args, **kwargs)
    return tree.tree_map(
        lambda v: tracer.constant(torch_check.as_array(v)) if isinstance(v, torch.Tensor) else v, found
    )


def name_results(module: Any, args: tuple[Any, ...]) -> list[str]:
    """Names of the results of ``forward``: by their keys where it returns a dict, or numbered."""
    import torch
    from torch.utils import _pytree as tree

    paths = [path for path, _ in tree.tree_flatten_with_path(module(*args))[0]]
    if isinstance(module, torch.nn.RNNBase):
        return ["y", "h", "c"][: len(paths)]
    if isinstance(module, torch.nn.RNNCellBase):
        return ["h", "c"][: len(paths)]
    if len(paths) == 1 and not paths[0]:
        return ["output"]
    keys = ["_".join(str(getattr(p, "key", getattr(p, "idx", p))) for p in path) for path in paths]
    return [f"output_{i}" if key[:1].isdigit() else key for i, key in enumerate(keys)]


def name_outputs(
    module: Any, args: tuple[Any, ...], results: Sequence[Any], names: Sequence[str] | None, source: str
) -> dict[str, Tensor]:
    """The tensors among the results by name, as the caller named them or as :func:`name_results` does."""
    keys = list(names) if names is not None else name_results(module, args)
    if len(keys) != len(results) or len(set(keys)) != len(keys):
        raise ModelError(
            f"outputs= gives {len(keys)} names; forward returns {len(results)}.",
            place=source,
            hint="Give one name each, all different.",
        )
    found: dict[str, Tensor] = {}
    for key, value in zip(keys, results):
        if value is not None and not isinstance(value, Tensor):
            raise ModelError(f"result '{key}' is {value}, no tensor.", place=source, hint="Return tensors only.")
        if value is not None:
            found[key] = value
    if not found:
        raise ModelError("forward returns no tensor.", place=source)
    return found
