"""The numerical check that ends every import: the program against the module, at several lengths and batch sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurodeploy.errors import DataError, ModelError
from neurodeploy.importers.time import Tensor
from neurodeploy.ir.graph import Program

#: Largest difference allowed, absolute and as a part of the largest output.
TOLERANCE = 1e-4
#: Steps of the example that are compared.
LONGEST = 200


@dataclass
class Comparison:
    """The largest difference found, and over how many samples."""

    source: str
    samples: int = 0
    largest: float = 0.0

    def add(self, name: str, ours: np.ndarray, theirs: np.ndarray, where: str) -> None:
        """Compare one output. Raises :class:`ModelError` naming it."""
        if ours.shape != theirs.shape:
            raise ModelError(
                f"output '{name}' is {list(ours.shape)}, PyTorch's is {list(theirs.shape)}, {where}.", place=self.source
            )
        if not theirs.size:
            return
        both = np.isfinite(theirs) & np.isfinite(ours)
        same = both | (np.isnan(theirs) & np.isnan(ours)) | (theirs == ours)
        difference = float(np.abs(np.where(both, ours - theirs, 0)).max()) if same.all() else np.inf
        scale = max(1.0, float(np.abs(np.where(both, theirs, 0)).max()))
        if not difference <= TOLERANCE * scale:
            raise ModelError(
                f"output '{name}' differs from PyTorch's by {difference:.3g}, {where}; needed at most "
                f"{TOLERANCE * scale:.3g}.",
                place=self.source,
                hint="This is a fault of the importer: please report it with the module's code.",
            )
        self.largest = max(self.largest, difference)

    def meta(self, program: Program, **more: Any) -> Program:
        """The program with the result written in its meta."""
        import torch

        check = {"against": f"torch {torch.__version__.split('+')[0]}"}
        check |= {"max_abs_difference": self.largest, "samples": self.samples, **more}
        return replace(program, meta={**program.meta, "import_check": check})


def arrange(array: np.ndarray, tensor: Tensor) -> np.ndarray:
    """A module's array, ``[batch, time, features]`` however its axes lie; a batch axis of 1 where it has none."""
    labels = [a.label for a in tensor.axes]
    order = [i for label in ("batch", "time", "feature") for i, own in enumerate(labels) if own == label]
    moved = array.transpose(order)
    return moved if "batch" in labels else moved[None]


def as_array(tensor: Any) -> np.ndarray:
    """A tensor's numbers as NumPy's, reals as float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def random_like(leaf: Any, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """A tensor like the example's: normal reals, or whole numbers drawn from the example's own."""
    import torch

    if leaf.is_floating_point():
        values = rng.standard_normal(shape).astype(np.float32)
    else:
        values = rng.choice(leaf.detach().cpu().numpy().ravel(), shape)
    return torch.from_numpy(np.asarray(values)).to(leaf.dtype).to(leaf.device)


def check_sequence(
    module: Any, args: tuple[Any, ...], program: Program, inputs: Mapping[Any, Tensor], outputs: Mapping[str, Tensor],
    source: str,
) -> Program:  # fmt: skip
    """Run the program and the module on the example and on random data of other shapes, and compare."""
    from neurodeploy.importers.torch import tensors_of

    leaves = tensors_of(args)
    axes = list(inputs.values())
    found = Comparison(source)
    lengths: list[int] = []
    for sample, must_run in _samples(leaves, axes):
        result = _results(module, args, sample, must_run)
        if result is None:
            continue
        steps = [leaf.shape[i] for leaf, t in zip(sample, axes) for i, a in enumerate(t.axes) if a.label == "time"]
        where = f"on {steps[0]} steps" if steps else "on one sample"
        fed = {name: arrange(as_array(leaf), t) for name, leaf, t in zip(program.inputs, sample, axes)}
        try:
            ours = run(program, fed)
        except DataError as error:
            raise ModelError(f"the imported program doesn't run {where}: {error}", place=source) from error
        for name, theirs, mine, tensor in zip(outputs, result, ours.values(), outputs.values()):
            expected = arrange(as_array(theirs), tensor)
            if "batch" not in [a.label for a in tensor.axes]:
                expected = np.broadcast_to(expected, mine.shape)
            found.add(name, mine, expected, where)
        found.samples += len(next(iter(fed.values()))) if fed else 1
        lengths += steps[:1]
    return found.meta(program, **({"lengths": sorted(set(lengths))} if lengths else {}))


def run(program: Program, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The golden model's outputs."""
    from neurodeploy.ir import interpret

    return dict(interpret.run(program, inputs).outputs)


def _samples(leaves: list[Any], axes: list[Tensor]) -> Iterator[tuple[list[Any], bool]]:
    """The example, then random data of its shape, shorter and longer; and whether the module must take it."""
    rng = np.random.default_rng(0)
    times = {a.domain: a for t in axes for a in t.axes if a.label == "time"}
    example = [_cut(leaf, t) for leaf, t in zip(leaves, axes)]
    yield example, True
    sized = [leaf.shape[i] for leaf, t in zip(example, axes) for i, a in enumerate(t.axes) if a.label == "time"]
    usual = sized[0] if sized else 1
    for batch, steps in ((3, usual), (2, min(usual, 40) + 3), (1, max(1, usual // 2)), (2, 1)):
        if not times and (batch, steps) != (3, usual):
            continue
        lengths = {domain: max(1, steps + i) for i, domain in enumerate(times)} if steps != usual else {}
        sample = []
        for leaf, t in zip(example, axes):
            shape = list(leaf.shape)
            for i, axis in enumerate(t.axes):
                if axis.label == "batch":
                    shape[i] = batch
                elif axis.label == "time":
                    shape[i] = lengths.get(axis.domain, shape[i])
            sample.append(random_like(leaf, tuple(shape), rng))
        yield sample, False


def _cut(leaf: Any, tensor: Tensor) -> Any:
    for i, axis in enumerate(tensor.axes):
        if axis.label == "time" and leaf.shape[i] > LONGEST:
            leaf = leaf.narrow(i, 0, LONGEST)
    return leaf


def _results(module: Any, args: tuple[Any, ...], leaves: list[Any], must_run: bool) -> list[Any] | None:
    """What the module gives for other tensors in the example's places; None for a shape that it doesn't take."""
    import torch
    from torch.utils import _pytree as tree

    every, spec = tree.tree_flatten(args)
    rest = iter(leaves)
    filled = tree.tree_unflatten([next(rest) if isinstance(leaf, torch.Tensor) else leaf for leaf in every], spec)
    try:
        found = module(*filled)
    except (RuntimeError, ValueError, IndexError):
        if must_run:
            raise
        return None
    return [leaf for leaf in tree.tree_leaves(found) if leaf is not None]
