"""Memristor crossbars: products with constant weights on simulated analog tiles, everything else digital.

:class:`CrossbarBackend` maps a float or native program onto tiles (:mod:`neurodeploy.passes.tiling`,
:mod:`neurodeploy.crossbar.mapping`) and sets the converters' ranges; :mod:`neurodeploy.deploy.crossbar` simulates many
chips at several ages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.artifact import SCHEMA_VERSION, Artifact, Figure, Resources
from neurodeploy.backends import Capability
from neurodeploy.crossbar import balance, converters, costs, direct, ranges
from neurodeploy.crossbar.effects import present
from neurodeploy.crossbar.manifest import described, drive_of, not_modelled
from neurodeploy.crossbar.mapping import encode, floor_plan, tiles
from neurodeploy.crossbar.mapping.tiles import Matrix
from neurodeploy.errors import TargetError, UsageError, nearest
from neurodeploy.hardware import Crossbar, Target
from neurodeploy.ir import text
from neurodeploy.ir.graph import DRIVES, Graph, Program, guards
from neurodeploy.ir.ops import OPS
from neurodeploy.ir.types import NUMPY_DTYPES
from neurodeploy.passes.tiling import OP, Tiling, digital, origin

if TYPE_CHECKING:
    from neurodeploy.data import Data

#: How far mean accuracy at the first read may lie from the golden model's, as a share of 1 (docs/crossbar.md).
TOLERANCE = 0.05


class CrossbarBackend:
    """Compiles float and native programs for crossbars."""

    name = "crossbar"

    def accepts(self, target: Target) -> Capability:
        """Every op and drive runs (what isn't a product with constant weights, digitally); no composite is native."""
        crossbar = _crossbar(target)
        equality = "close(1e-5)" if _is_ideal(crossbar) else f"statistical({TOLERANCE})"
        return Capability(frozenset(OPS), frozenset(NUMPY_DTYPES), frozenset(DRIVES), frozenset({OP}), equality)

    def compile(
        self,
        program: Program,
        target: Target,
        *,
        source: Program | None = None,
        data: Data | None = None,
        name: str | None = None,
        percentile: float = 99.9,
        scaling: str = "output",
        join: str = "auto",
        bias: str = "digital",
        pack: str = "auto",
        zeros: str = "formed",
    ) -> Artifact:
        """Map a program onto tiles.

        ``source``: the float program that a native one came from. ``data``: calibration data, which set the converters'
        ranges, the output converters' to ``percentile`` of their currents' magnitudes. ``name``: the artifact's.
        ``scaling``: full conductance is the largest weight of an ``"output"`` or of a ``"tile"``. ``join``, ``bias``:
        options of :class:`~neurodeploy.passes.tiling.Tiling`; ``pack``
        and ``zeros``: of :func:`neurodeploy.crossbar.mapping.tiles.matrices`.
        Raises :class:`TargetError` for a target that can't hold a pair of devices, :class:`UnsupportedError` for
        numerics or programs that don't fit, :class:`UsageError` where converters lack a range.
        """
        crossbar = _crossbar(target)
        converters.check(crossbar)
        direct.check(crossbar)
        encode.check(crossbar)
        if scaling not in tiles.SCALINGS:
            raise UsageError(
                f"there is no scaling '{scaling}'.", place="crossbar", hint=nearest(scaling, tiles.SCALINGS)
            )
        if isinstance(percentile, bool) or not isinstance(percentile, int | float) or not 0 < percentile <= 100:
            raise UsageError(f"the percentile is {percentile!r}; needed more than 0, at most 100.", place="crossbar")
        tiled = Tiling.of(crossbar.array, join, bias)(program)
        seen = ranges.observe(tiled, data) if data is not None and ranges.needed(crossbar) else None
        segments = balance.balanced(tiled, crossbar, ranges.segments(tiled, crossbar, seen), seen)
        matrices = tiles.matrices(tiled, crossbar, scaling, segments, pack, zeros)
        matrices, warnings = ranges.with_ranges(tiled, matrices, crossbar, seen, percentile)
        files = {**text.to_files(tiled, "program"), **text.to_files(source or program, "source")}
        flags = [f"percentile={percentile}", f"scaling={scaling}", f"join={join}", f"bias={bias}", f"pack={pack}"]
        flags.append(f"zeros={zeros}")
        manifest: dict[str, Any] = {
            "schema": SCHEMA_VERSION,
            "name": name or program.name,
            "backend": self.name,
            "target": crossbar.name,
            "target_info": {"title": crossbar.title, "kind": "crossbar"},
            "numerics": program.numerics,
            "equality": _equality(tiled, crossbar),
            "layout": {
                "matrices": _named(matrices, source or program),
                "digital": digital(tiled),
                "drive": _drive(matrices, seen),
            },
            "crossbar": crossbar.model_dump(mode="json"),
            "compiler": {"name": "neurodeploy", "flags": flags},
            "not_modelled": not_modelled(crossbar),
            "warnings": [*program.meta.get("warnings", []), *warnings],
        }
        artifact = Artifact(manifest["name"], self.name, crossbar.name, files, manifest)
        files |= floor_plan.files(artifact)
        manifest["figures"] = [asdict(figure) for figure in self.resources(artifact)]
        return artifact

    def resources(self, artifact: Artifact) -> Resources:
        """What a step takes: arrays, devices, conversions, energy, latency and area by part."""
        crossbar, matrices = described(artifact)
        program = text.from_files(artifact.files, "program")
        count = tiles.arrays(matrices)
        used = sum(matrix.devices for matrix in matrices)
        there = count * crossbar.array.rows * crossbar.array.columns
        reads = converters.cycles(crossbar)
        dac, adc = (reads * sum(m.conversions(kind) for m in matrices) for kind in ("dac", "adc"))
        worst = "; every guarded product counted, so the worst case" if _guarded(program) else ""
        shape = "shapes of the tile map"
        return (
            Figure("tiles", count, "tiles", "compiled", f"{shape}; arrays of the target"),
            Figure("devices", used, "devices", "compiled", f"{shape}; {crossbar.array.encoding}"),
            Figure("utilisation", 100 * used / there, "%", "compiled", "devices used over devices of those arrays"),
            Figure("dac_conversions", dac, "conversions/step", "compiled", shape + worst),
            Figure("adc_conversions", adc, "conversions/step", "compiled", shape + worst),
            *costs.compile_figures(program, matrices, crossbar, drive_of(artifact)),
        )


def _crossbar(target: Target) -> Crossbar:
    if not isinstance(target, Crossbar):
        raise TargetError(
            f"is of kind '{target.kind}'; the crossbar backend needs a crossbar.",
            place=target.name,
            hint="Use pcm-128 or ideal-128.",
        )
    return target


def _is_ideal(crossbar: Crossbar) -> bool:
    return not present(crossbar) and crossbar.array.weight_bits is None


def _equality(program: Program, crossbar: Crossbar) -> str:
    """What is promised: ideal devices hold weights as they are, and whole ones on a grid that has room for them too."""
    if present(crossbar):
        return f"statistical({TOLERANCE})"
    bits = crossbar.array.weight_bits
    if program.numerics == "native" and (bits is None or _largest(program) < 1 << (bits - 1)):
        return "exact"
    return "close(1e-5)" if bits is None else f"statistical({TOLERANCE})"


def _largest(program: Program) -> float:
    """The largest magnitude of a whole weight on the arrays; infinity where one isn't whole."""
    held = [s.graph.params[v.args[0]].data for s in program.stages for v in s.graph.values if v.op == OP]
    return max(float(np.abs(w.astype(np.int64)).max()) if w.dtype.kind == "i" else np.inf for w in held)


def _guarded(program: Program) -> bool:
    for stage in program.stages:
        conditions = guards(stage.graph)
        if any(value.op == OP and conditions[value.name] for value in stage.graph.values):
            return True
    return False


def _drive(matrices: Sequence[Matrix], seen: Mapping[tuple[str, str], ranges.Watch] | None) -> list[dict[str, Any]]:
    """Mean square of every word line's drive over full scale, on the calibration data."""
    found = []
    if seen is None:
        return found
    for matrix in matrices:
        full = ranges.full_scales(matrix)
        relative = seen[matrix.stage, matrix.value].power / np.where(full > 0, full, 1.0) ** 2
        found.append({"stage": matrix.stage, "value": matrix.value, "mean_square": relative.tolist()})
    return found


def _named(matrices: Sequence[Matrix], source: Program) -> list[dict[str, Any]]:
    """The matrices as JSON, their parts under the names that the network itself has for its weights."""
    graphs = {stage.name: stage.graph for stage in source.stages}
    records = [matrix.as_json() for matrix in matrices]
    for record in records:
        graph = graphs.get(record["stage"], Graph())
        record["parts"] = [{**part, "weight": origin(graph, part["weight"])} for part in record["parts"]]
    return records
