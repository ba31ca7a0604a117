"""The recurrent layers of a program without gates, as :class:`~neurodeploy.spiking.units.Units`.

Read off the step's dynamics (:mod:`~neurodeploy.spiking.dynamics`), whatever cell they were written as: each layer
``a = f(z)`` is filtered by a state of its own, ``h' = (1 - leak) h + leak a``, or by none (leak 1); or one state
``y' = y + leak (W x + U f(y - theta) + b - y)`` is the filter in front of the only layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Program
from neurodeploy.spiking import dynamics
from neurodeploy.spiking.dynamics import Dynamics, Form, Layer
from neurodeploy.spiking.tuning import Function
from neurodeploy.spiking.units import Units

ADVICE = "Use a target of the method sigma-delta, which takes gated cells and everything else with an integer form."
#: Relative difference below which two matrices are one (float32 weights, multiplied in float64).
SAME = 1e-5


@dataclass(frozen=True)
class _Filter:
    """A layer's state (None: its activations are read as they are) and leak [n]."""

    layer: Layer
    state: str | None
    leak: np.ndarray


def find(program: Program) -> Units:
    """The units of a program. Raises :class:`UnsupportedError` naming the value or state that rates can't follow."""
    found = dynamics.find(program, "rate", ADVICE)
    place = f"{program.name}/{found.stage.name}"
    output = _output(program)
    if len(found.inputs) != 1:
        raise _refusal(place, f"it has {len(found.inputs)} inputs; needed one")
    for state, start in found.init.items():
        if start.any():
            raise _refusal(f"{place}: state %{state}", "it doesn't start at zero, as spikes do")
    used = _used(found, output)
    if not used:
        raise _refusal(place, "it has no layer with an activation")
    inside = _inside(found, used, output, place)
    return inside if inside is not None else _outside(found, used, output, place)


def _refusal(place: str, what: str) -> UnsupportedError:
    return UnsupportedError(f"{what}.", place=place, hint=ADVICE)


def _output(program: Program) -> str:
    refs = list(program.outputs.items())
    if len({(ref.stage, ref.name) for _, ref in refs}) != 1 or any(ref.at == "final" for _, ref in refs):
        shown = ", ".join(f"{name} = {ref}" for name, ref in refs)
        raise _refusal(program.name, f"it has outputs {shown}; needed one readout of a layer")
    return refs[0][1].name


def _used(found: Dynamics, output: str) -> list[Layer]:
    """The layers that the output depends on, in order."""
    needed, seen = [found.outputs[output]], set()
    for form in needed:
        for base in form.matrices:
            if base not in seen:
                seen.add(base)
                layer = found.layer(base)
                needed += [found.next[base]] if base in found.next else [layer.z] if layer is not None else []
    return [layer for layer in found.layers if layer.value in seen]


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(
        np.abs(a - b).max(initial=0.0) <= SAME * max(1e-12, np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0))
    )


def _inside(found: Dynamics, used: list[Layer], output: str, place: str) -> Units | None:
    """A continuous-time cell: its layer reads a state alone, unit by unit."""
    (base, n_in) = next(iter(found.inputs.items()))
    layer = used[0]
    (state, *more) = list(layer.z.matrices) or [""]
    if len(used) > 1 or more or state not in found.next or not _same(layer.z.matrices[state], np.eye(layer.units)):
        return None
    n, form = layer.units, found.next[state]
    decay = form.of(state, n)
    leak = 1.0 - np.diag(decay)
    if not _same(decay, np.diag(1.0 - leak)) or form.of(layer.value, n).shape[0] != n:
        return None
    _check_leaks(leak, f"{place}: state %{state}")
    if _is_diagonal(form.of(layer.value, n) / leak[:, None], np.eye(n)) and base not in form.matrices:
        return None  # a filtered activation that feeds itself alone is a state behind the layer
    read = found.outputs[output]
    new = np.linalg.solve(decay.T, read.of(state, n).T).T if state in read.matrices and (leak < 1).all() else None
    if new is None or not _reads_new_state(read, form, new, state, layer.value, base):
        raise _refusal(f"{place}: output {output}", "it isn't an affine map of the cell's new state")
    per = leak[:, None]
    return Units(
        W=form.of(base, n_in) / per, U=form.of(layer.value, n) / per, fresh=np.zeros((n, n), bool),
        bias=form.offset / leak, leak=leak, theta=-layer.z.offset, V=new, c=read.offset - new @ form.offset,
        inside=True, layers=((state, 0, n, _function(layer, place)),), stage=found.stage.name,
        input=found.stage.inputs_from[base].name, output=output, place=place,
    )  # fmt: skip


def _reads_new_state(read: Form, form: Form, V: np.ndarray, *bases: str) -> bool:
    """Whether ``read`` is V times ``form`` in each base."""
    wanted = {k: V @ form.matrices[k] for k in bases if k in form.matrices}
    return all(_same(read.of(k, matrix.shape[1]), matrix) for k, matrix in wanted.items())


def _is_diagonal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and _same(a, b)


def _function(layer: Layer, place: str) -> Function:
    """The layer's f on arrays of any shape. Raises :class:`UnsupportedError` if it differs from unit to unit."""
    n = layer.units
    probe = layer.f(np.repeat(np.linspace(-8, 8, 161)[:, None], n, axis=1))
    if np.ptp(probe, axis=1).max(initial=0.0) > 0:
        raise _refusal(f"{place}: %{layer.value} ({layer.words})", "its activation differs from unit to unit")

    def f(z: np.ndarray) -> np.ndarray:
        flat = np.ravel(np.asarray(z, np.float64))
        rows = np.concatenate([flat, np.zeros(-len(flat) % n)]).reshape(-1, n)
        return layer.f(rows).ravel()[: len(flat)].reshape(np.shape(z))

    return f


def _check_leaks(leak: np.ndarray, place: str) -> None:
    if leak.min() <= 0 or leak.max() > 1 + SAME:
        raise _refusal(place, f"leaks {leak.min():.4g}..{leak.max():.4g}; needed above 0, at most 1")


def _filters(found: Dynamics, used: list[Layer], place: str) -> list[_Filter]:
    """Every layer's filter; a state that is none's is refused by name."""
    filters, owner = [], dict[str, str]()
    for layer in used:
        n = layer.units
        own = [s for s, form in found.next.items() if layer.value in form.matrices]
        state, leak = None, np.ones(n)
        if own:
            state = own[0]
            form = found.next[state]
            others = [k for k in form.matrices if k not in (state, layer.value)]
            leak = np.diag(form.matrices[layer.value]) if form.matrices[layer.value].shape[0] == n else np.zeros(1)
            fits = len(own) == 1 and found.states[state] == n and not others and not np.abs(form.offset).max() > SAME
            fits = (
                fits
                and _same(form.matrices[layer.value], np.diag(leak))
                and _same(form.of(state, n), np.diag(1 - leak))
            )
            if not fits:
                raise _refusal(
                    f"{place}: state %{own[-1]}",
                    f"it isn't a leaky sum, unit by unit, of the activations %{layer.value} ({layer.words})",
                )
            _check_leaks(leak, f"{place}: state %{state}")
            owner[state] = layer.value
        filters.append(_Filter(layer, state, leak))
    bases = {k for layer in used for k in layer.z.matrices}
    for name in bases & set(found.states) - set(owner):
        raise _refusal(f"{place}: state %{name}", "it is no filter of a layer's activations")
    return filters


def _outside(found: Dynamics, used: list[Layer], output: str, place: str) -> Units:
    (base, n_in) = next(iter(found.inputs.items()))
    filters = _filters(found, used, place)
    ends = np.cumsum([0, *(f.layer.units for f in filters)]).tolist()
    n = ends[-1]
    W, U, fresh, bias = np.zeros((n, n_in)), np.zeros((n, n)), np.zeros((n, n), bool), np.zeros(n)
    for i, own in enumerate(filters):
        rows, z = slice(ends[i], ends[i + 1]), own.layer.z
        W[rows], bias[rows] = z.of(base, n_in), z.offset
        for j, other in enumerate(filters):
            columns = slice(ends[j], ends[j + 1])
            new, old = _split(z, other)
            if new.any() and old.any():
                raise _refusal(
                    f"{place}: %{own.layer.value}", "it reads a layer's state both before and after its step"
                )
            U[rows, columns] = new + old
            fresh[rows, columns] = bool(new.any())
    read = found.outputs[output]
    V = np.zeros((len(read.offset), n))
    for j, other in enumerate(filters):
        V[:, ends[j] : ends[j + 1]], old = _split(read, other)
        if old.any():
            raise _refusal(f"{place}: output {output}", f"it reads the state %{other.state} of the step before")
    if read.of(base, n_in).any() or not V.any():
        raise _refusal(f"{place}: output {output}", "it isn't an affine map of the layers' new states alone")
    return Units(
        W=W, U=U, fresh=fresh, bias=bias, leak=np.concatenate([f.leak for f in filters]), theta=np.zeros(n), V=V,
        c=read.offset, inside=False,
        layers=tuple((f.state or f.layer.value, a, b, _function(f.layer, place))
                     for f, a, b in zip(filters, ends, ends[1:], strict=False)),
        stage=found.stage.name, input=found.stage.inputs_from[base].name, output=output, place=place,
    )  # fmt: skip


def _split(form: Form, f: _Filter) -> tuple[np.ndarray, np.ndarray]:
    """How a form reads a layer's new state, and its old one."""
    n = f.layer.units
    new = form.of(f.layer.value, n) / f.leak
    old = form.of(f.state, n) if f.state is not None else np.zeros_like(new)
    old = old - new * (1.0 - f.leak)
    return new, np.where(np.abs(old) <= SAME * max(1.0, np.abs(new).max(initial=0.0)), 0.0, old)
