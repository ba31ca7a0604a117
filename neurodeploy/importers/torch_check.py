"""Checking an imported PyTorch module against the module itself, at several lengths and batch sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from neurodeploy.errors import ModelError
from neurodeploy.importers.check import Arrays, Trial, check, trials
from neurodeploy.importers.time import Tensor
from neurodeploy.ir.graph import Program

#: Steps of the example that are compared.
LONGEST = 100
#: What a module raises for a shape that it doesn't take.
SHAPE_ERRORS = (RuntimeError, ValueError, IndexError)
Reference = Callable[[Trial], Arrays]


def check_sequence(
    module: Any, args: tuple[Any, ...], program: Program, inputs: Sequence[Tensor], outputs: Mapping[str, Tensor],
    source: str,
) -> Program:  # fmt: skip
    """Compare on the example and on random data of other shapes. Raises :class:`ModelError` naming the output.

    ``inputs``: the traced inputs in the order of the example's tensors.
    """
    leaves = tensors_of(args)

    def reference(trial: Trial) -> Arrays:
        sample = [back(trial.inputs[name], t, leaf) for name, t, leaf in zip(program.inputs, inputs, leaves)]
        results = [as_array(r) for r in tensors_of(module(*with_tensors(args, sample)))]
        batch = next((len(array) for array in trial.inputs.values()), 1)
        return {name: arranged(array, tensor, batch) for (name, tensor), array in zip(outputs.items(), results)}

    example = {name: arranged(as_array(leaf), t, 1) for name, t, leaf in zip(program.inputs, inputs, leaves)}
    example = {n: a[:, :LONGEST] if program.inputs[n].kind == "series" else a for n, a in example.items()}
    steps = next((a.shape[1] for n, a in example.items() if program.inputs[n].kind == "series"), 1)
    sizes = [next((a.size for a in t.axes if a.label == "batch"), 1) for t in inputs]
    fixed = next((size for size in sizes if isinstance(size, int)), None)
    return compare(
        program, reference, Trial(example, None), steps, source, batches=(3, 2, 1) if fixed is None else (fixed,)
    )


def compare(
    program: Program, reference: Reference, example: Trial, steps: int, source: str, *, batches: Sequence[int]
) -> Program:
    """Compare on the example, and on random data of as many steps, more and fewer, and of several batch sizes.

    Shapes that the module doesn't take are left out; the example's it must take.
    """
    import torch

    lengths = (steps, min(steps, 40) + 3, max(1, steps // 2), 1)
    if all(spec.kind == "static" for spec in program.inputs.values()):
        lengths = lengths[:1]
    tried = [example]
    expected: dict[int, Arrays] = {id(example): reference(example)}
    for i, length in enumerate(lengths):
        for trial in trials(program, batch=batches[i % len(batches)], steps=[length], seed=i):
            try:
                expected[id(trial)] = reference(trial)
            except SHAPE_ERRORS:
                continue
            tried.append(trial)
    against = f"torch {torch.__version__.split('+')[0]}"
    return check(program, lambda trial: expected[id(trial)], tried, against, source)


def _order(tensor: Tensor) -> list[int]:
    labels = [a.label for a in tensor.axes]
    return [i for label in ("batch", "time", "feature") for i, own in enumerate(labels) if own == label]


def arranged(array: np.ndarray, tensor: Tensor, batch: int) -> np.ndarray:
    """A module's array as the program has it: ``[batch, time, features]``, with a batch axis where it has none."""
    if array.ndim != tensor.rank:
        raise ModelError(f"a result has {array.ndim} axes, traced {tensor.rank}.")
    moved = array.transpose(_order(tensor))
    if any(a.label == "batch" for a in tensor.axes):
        return moved
    return np.broadcast_to(moved, (batch, *moved.shape))


def back(array: np.ndarray, tensor: Tensor, leaf: Any) -> Any:
    """A program's array as the module takes it."""
    import torch

    if all(a.label != "batch" for a in tensor.axes):
        array = array[0]
    moved = np.array(array.transpose(np.argsort(_order(tensor))), order="C")
    return torch.from_numpy(moved).to(dtype=leaf.dtype, device=leaf.device)


def as_array(tensor: Any) -> np.ndarray:
    """A tensor's numbers as NumPy's, reals as float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def tensors_of(nested: Any) -> list[Any]:
    """The tensors of nested arguments or results, in order."""
    import torch
    from torch.utils import _pytree as tree

    return [leaf for leaf in tree.tree_leaves(nested) if isinstance(leaf, torch.Tensor)]


def with_tensors(args: tuple[Any, ...], tensors: Sequence[Any]) -> tuple[Any, ...]:
    """Nested arguments with other tensors in the places of theirs."""
    import torch
    from torch.utils import _pytree as tree

    rest = iter(tensors)
    return tree.tree_map(lambda leaf: next(rest) if isinstance(leaf, torch.Tensor) else leaf, args)
