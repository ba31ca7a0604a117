"""Memristor crossbars: products with constant weights on simulated analog tiles, everything else digital.

:class:`CrossbarBackend` maps a float or native program onto tiles (:mod:`neurodeploy.passes.tiling`,
:mod:`neurodeploy.crossbar.tiles`) and sets the converters' ranges; :class:`CrossbarRunner` simulates many chips and
several times after programming. IR drop along the wires is not modelled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.artifact import SCHEMA_VERSION, Artifact, Figure, Resources, Trace
from neurodeploy.backends import Capability
from neurodeploy.crossbar import converters, tiles
from neurodeploy.crossbar.ranges import with_ranges
from neurodeploy.crossbar.simulate import AnalogMatrix, Counter, run_chips
from neurodeploy.crossbar.tiles import Matrix
from neurodeploy.errors import TargetError, UsageError, nearest
from neurodeploy.hardware import Crossbar, Target
from neurodeploy.ir import text
from neurodeploy.ir.graph import DRIVES, Graph, Program, guards
from neurodeploy.ir.ops import OPS
from neurodeploy.ir.types import NUMPY_DTYPES
from neurodeploy.passes.tiling import OP, Tiling, digital, origin

if TYPE_CHECKING:
    from neurodeploy.data import Data

TIMES: dict[str, float] = {"t0": 0.0, "1h": 3600.0, "1day": 86400.0, "1month": 2592000.0, "1year": 31536000.0}
NOT_MODELLED = (
    "IR drop along word and bit lines",
    "stuck devices",
    "noise and mismatch of the converters",
    "nonlinear current-voltage curves",
    "device-to-device correlation",
)
#: How far mean accuracy at the first read may lie from the golden model's, as a share of 1 (docs/crossbar.md).
TOLERANCE = 0.05
_ROWS_AT_ONCE = 4096  # samples of all chips in one pass: large enough for BLAS, small enough for the cache


class CrossbarBackend:
    """Compiles float and native programs for crossbars."""

    name = "crossbar"

    def accepts(self, target: Target) -> Capability:
        """Every op and drive runs (what isn't a product with constant weights, digitally); no composite is native."""
        crossbar = _crossbar(target)
        equality = "close(1e-4)" if _is_ideal(crossbar) else f"statistical({TOLERANCE})"
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
    ) -> Artifact:
        """Map a program onto tiles.

        ``source``: the float program that a native one came from. ``data``: calibration data, which set the converters'
        ranges, the output converters' to ``percentile`` of their currents' magnitudes. ``name``: the artifact's.
        ``scaling``: full conductance is the largest weight of an ``"output"`` or of a ``"tile"``.
        Raises :class:`TargetError` for a target that can't hold a pair of devices, :class:`UnsupportedError` for
        numerics or programs that don't fit, :class:`UsageError` where converters lack a range.
        """
        crossbar = _crossbar(target)
        converters.check(crossbar)
        tiled = Tiling(crossbar.array.rows, crossbar.array.columns)(program)
        matrices, warnings = with_ranges(tiled, tiles.matrices(tiled, scaling), crossbar, data, percentile)
        files = {**text.to_files(tiled, "program"), **text.to_files(source or program, "source")}
        manifest: dict[str, Any] = {
            "schema": SCHEMA_VERSION,
            "name": name or program.name,
            "backend": self.name,
            "target": crossbar.name,
            "target_info": {"title": crossbar.title, "kind": "crossbar"},
            "numerics": program.numerics,
            "equality": _equality(tiled, crossbar),
            "layout": {"matrices": _named(matrices, source or program), "digital": digital(tiled)},
            "crossbar": crossbar.model_dump(mode="json"),
            "compiler": {"name": "neurodeploy", "flags": [f"percentile={percentile}", f"scaling={scaling}"]},
            "not_modelled": list(NOT_MODELLED),
            "warnings": [*program.meta.get("warnings", []), *warnings],
        }
        artifact = Artifact(manifest["name"], self.name, crossbar.name, files, manifest)
        manifest["figures"] = [asdict(figure) for figure in self.resources(artifact)]
        return artifact

    def resources(self, artifact: Artifact) -> Resources:
        """Tiles, devices, conversions and, where the target has sourced numbers, area and energy."""
        crossbar, matrices = _described(artifact)
        every = [tile for matrix in matrices for tile in matrix.tiles]
        used = sum(tile.devices for tile in every)
        there = len(every) * crossbar.array.rows * 2 * (crossbar.array.columns // 2)
        dac, adc = (sum(getattr(m, f"{kind}_conversions") for m in matrices) for kind in ("dac", "adc"))
        program = text.from_files(artifact.files, "program")
        guarded = _guarded(program)
        worst = "shapes of the tile map" + ("; every guarded product counted, so the worst case" if guarded else "")
        shape = "shapes of the tile map"
        return (
            Figure("tiles", len(every), "tiles", "compiled", shape),
            Figure("devices", used, "devices", "compiled", f"{shape}; two a weight"),
            Figure("utilisation", 100 * used / there, "%", "compiled", "devices used over devices of those tiles"),
            Figure("dac_conversions", dac, "conversions/step", "compiled", worst),
            Figure("adc_conversions", adc, "conversions/step", "compiled", worst),
            *_area(crossbar, len(every), used),
            *_energy(crossbar, dac, adc, "step"),
        )


@dataclass
class ChipTrace(Trace):
    """A :class:`Trace` of the first chip at the first time, and the outputs of every chip at every time.

    ``times``: seconds since the first read after programming. ``chip_outputs``: program output name ->
    ``[times, chips, batch, ...]``, raw. ``saturation``: ``"dac"`` and ``"adc"`` -> ``[times, chips]``, the share of
    conversions whose value lay outside the converter's range.
    """

    times: tuple[float, ...] = ()
    chip_outputs: dict[str, np.ndarray] = field(default_factory=dict)
    saturation: dict[str, np.ndarray] = field(default_factory=dict)

    def over_chips(self, judge: Callable[[dict[str, np.ndarray]], float]) -> dict[str, Any]:
        """What ``judge`` (raw outputs of one chip at one time -> an accuracy) finds, as a run's record states it.

        ``score``: mean, standard deviation (n - 1) and number of chips at the first time; ``drift``: at every time,
        ``seconds``, ``mean``, ``sd`` and ``chips``.
        """
        drift = []
        for t, seconds in enumerate(self.times):
            count = len(next(iter(self.chip_outputs.values()))[t])
            found = np.array([judge({n: a[t, chip] for n, a in self.chip_outputs.items()}) for chip in range(count)])
            sd = float(found.std(ddof=1)) if count > 1 else 0.0
            drift.append({"seconds": seconds, "mean": float(found.mean()), "sd": sd, "chips": count})
        first = drift[0]
        score = {"value": first["mean"], "sd": first["sd"], "n": first["chips"], "over": "chips"}
        return {"score": score, "drift": drift}


class CrossbarRunner:
    """Simulates an artifact of :class:`CrossbarBackend` on many chips."""

    name = "crossbar"

    def run(
        self,
        artifact: Artifact,
        inputs: Mapping[str, np.ndarray],
        lengths: np.ndarray | None = None,
        *,
        states: bool = False,
        chips: int = 25,
        times: Sequence[float | str] = tuple(TIMES),
        seed: int = 0,
        compensate: bool = True,
    ) -> ChipTrace:
        """Run every sample on every chip at every time.

        ``times``: seconds since the first read (t0 after programming), or names of :data:`TIMES`. ``compensate``:
        global drift compensation. Chip i of a seed is the same device by device, whatever the other arguments.
        The trace is the first chip's at the first time; ``states`` is about that one. Raises :class:`UsageError`.
        """
        if artifact.backend != self.name:
            raise UsageError(
                f"was compiled for '{artifact.backend}'; the crossbar runner needs a crossbar's build.",
                place=artifact.name,
                hint="Compile it with --target pcm-128.",
            )
        if chips < 1:
            raise UsageError(f"{chips} chips asked for; needed at least 1.", place="crossbar")
        seconds = _seconds(times)
        crossbar, matrices = _described(artifact)
        program = text.from_files(artifact.files, "program")
        samples = len(next(iter(inputs.values()))) if program.inputs and inputs else 1
        at_once = max(1, _ROWS_AT_ONCE // max(samples, 1)) if program.inputs else 1
        first: Trace | None = None
        found: list[list[Trace]] = [[] for _ in seconds]
        counted: list[list[Counter]] = [[] for _ in seconds]
        for start in range(0, chips, at_once):
            block = range(start, min(start + at_once, chips))
            analog = _analog(program, matrices, crossbar, block, samples, seed)
            for t, moment in enumerate(seconds):
                for stage in analog.values():
                    for matrix in stage.values():
                        matrix.set_time(moment, compensate)
                wanted = states and first is None
                trace, counter = run_chips(program, analog, inputs, lengths, len(block), states=wanted)
                if first is None:
                    first = _first_chip(trace, samples)
                trace.series.clear()
                found[t].append(trace)
                counted[t].append(counter)
        made = ChipTrace(**vars(first or Trace({})), times=seconds)
        for name in program.outputs:
            every = [np.concatenate(_padded([trace.outputs[name] for trace in row])) for row in found]
            together = _padded(every)
            made.chip_outputs[name] = np.stack([a.reshape(chips, -1, *a.shape[1:]) for a in together])
        _count(made, counted, matrices, samples, chips)
        made.record = _record(artifact, crossbar, made, chips, seed, compensate)
        return made


def _crossbar(target: Target) -> Crossbar:
    if not isinstance(target, Crossbar):
        raise TargetError(
            f"is of kind '{target.kind}'; the crossbar backend needs a crossbar.",
            place=target.name,
            hint="Use pcm-128 or ideal-128.",
        )
    if not target.array.differential:
        raise TargetError(
            "its tiles hold one device a weight ('array.differential' is false); only pairs g+ and g- are supported.",
            place=target.name,
            hint="Set differential = true.",
        )
    return target


def _is_ideal(crossbar: Crossbar) -> bool:
    device = crossbar.device
    quiet = device.programming is None and device.drift is None and device.read_noise is None
    return quiet and crossbar.dac.bits is None and crossbar.adc.bits is None


def _equality(program: Program, crossbar: Crossbar) -> str:
    if not _is_ideal(crossbar):
        return f"statistical({TOLERANCE})"
    return "exact" if program.numerics == "native" else "close(1e-4)"


def _named(matrices: Sequence[Matrix], source: Program) -> list[dict[str, Any]]:
    """The matrices as JSON, their parts under the names that the network itself has for its weights."""
    graphs = {stage.name: stage.graph for stage in source.stages}
    records = [matrix.as_json() for matrix in matrices]
    for record in records:
        graph = graphs.get(record["stage"], Graph())
        record["parts"] = [{**part, "weight": origin(graph, part["weight"])} for part in record["parts"]]
    return records


def _described(artifact: Artifact) -> tuple[Crossbar, tuple[Matrix, ...]]:
    """The target as it was when the artifact was compiled, and its matrices."""
    described = Crossbar.model_validate_json(json.dumps(artifact.manifest["crossbar"]))
    return described, tuple(Matrix.from_json(m) for m in artifact.manifest["layout"]["matrices"])


def _guarded(program: Program) -> bool:
    for stage in program.stages:
        conditions = guards(stage.graph)
        if any(value.op == OP and conditions[value.name] for value in stage.graph.values):
            return True
    return False


def _area(crossbar: Crossbar, count: int, used: int) -> list[Figure]:
    cell = crossbar.cell
    if cell is None:
        return [Figure.unknown("cell_area", "um2", f"'{crossbar.name}' has no sourced area of a cell")]
    area = count * crossbar.array.rows * crossbar.array.columns * cell.area_m2 * 1e12
    why = f"cells of whole tiles, without wiring and periphery; {cell.source}"
    return [Figure("cell_area", area, "um2", "estimated", why)]


def _energy(crossbar: Crossbar, dac: float, adc: float, per: str) -> list[Figure]:
    figures = []
    for name, count, converter in (("dac", dac, crossbar.dac), ("adc", adc, crossbar.adc)):
        if converter.energy is None:
            why = f"'{crossbar.name}' has no sourced energy of a conversion"
            figures.append(Figure.unknown(f"{name}_energy", f"pJ/{per}", why))
        else:
            joule = count * converter.energy.conversion_joule
            why = f"conversions times {converter.energy.conversion_joule * 1e12:g} pJ; {converter.energy.source}"
            figures.append(Figure(f"{name}_energy", joule * 1e12, f"pJ/{per}", "estimated", why))
    why = "array, digital part and some converters have no sourced figure"
    return [*figures, Figure.unknown("energy", f"pJ/{per}", why)]


def _seconds(times: Sequence[float | str]) -> tuple[float, ...]:
    found = []
    for time in times:
        if isinstance(time, str) and time not in TIMES:
            raise UsageError(f"'{time}' is no time.", place="crossbar", hint=nearest(time, TIMES))
        value = TIMES[time] if isinstance(time, str) else float(time)
        if not 0 <= value < 1e12:
            raise UsageError(f"the time {time} s lies before the first read or too far after it.", place="crossbar")
        found.append(value)
    if not found:
        raise UsageError("no time was asked for.", place="crossbar", hint=f"Known: {', '.join(TIMES)}.")
    return tuple(found)


def _analog(
    program: Program, matrices: Sequence[Matrix], crossbar: Crossbar, chips: range, samples: int, seed: int
) -> dict[str, dict[str, AnalogMatrix]]:
    table: dict[str, dict[str, AnalogMatrix]] = {}
    for matrix in matrices:
        table.setdefault(matrix.stage, {})[matrix.value] = AnalogMatrix(
            program, matrix, crossbar, chips, samples, seed
        )  # fmt: skip
    return table


def _first_chip(trace: Trace, samples: int) -> Trace:
    parts = ("outputs", "series", "states", "steps", "converged")
    return Trace(**{part: {n: a[:samples].copy() for n, a in getattr(trace, part).items()} for part in parts})


def _padded(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Arrays whose second axis (steps of ``until`` and ``generate``) differs, filled with zeros to the longest."""
    if len({a.shape[1:] for a in arrays}) == 1:
        return list(arrays)
    longest = max(a.shape[1] for a in arrays)
    return [np.pad(a, [(0, 0), (0, longest - a.shape[1])] + [(0, 0)] * (a.ndim - 2)) for a in arrays]


def _count(made: ChipTrace, counted: list[list[Counter]], matrices: Sequence[Matrix], samples: int, chips: int) -> None:
    """Conversions of the first chip at the first time ``[batch]``, and the shares that saturated ``[times, chips]``."""
    for kind in ("dac", "adc"):
        shares = np.zeros((len(counted), chips))
        for t, row in enumerate(counted):
            done, over = np.zeros(0), np.zeros(0)
            for counter in row:
                table = [(getattr(m, f"{kind}_conversions"), counter.counts[m.stage, m.value]) for m in matrices]
                done = np.append(done, sum(each * counts["reads"] for each, counts in table))
                over = np.append(over, sum(counts[f"{kind}_saturated"] for _, counts in table))
            if t == 0:
                made.counters[f"{kind}_conversions"] = done[:samples].astype(np.int64)
            done, over = done.reshape(chips, -1).sum(axis=1), over.reshape(chips, -1).sum(axis=1)
            shares[t] = np.divide(over, done, out=np.zeros(chips), where=done > 0)
        made.saturation[kind] = shares


def _record(
    artifact: Artifact, crossbar: Crossbar, made: ChipTrace, chips: int, seed: int, compensate: bool
) -> dict[str, Any]:
    """Where it ran, in JSON; ``figures`` are what the run counted."""
    dac, adc = (float(made.counters[f"{kind}_conversions"].mean()) for kind in ("dac", "adc"))
    counted = "counted while the chips were simulated; mean over samples"
    figures = [
        Figure("dac_conversions", dac, "conversions/inference", "simulated", counted),
        Figure("adc_conversions", adc, "conversions/inference", "simulated", counted),
        *(
            Figure(f"{kind}_saturation", 100 * float(made.saturation[kind].mean()), "%", "simulated",
                   "share of conversions outside the converter's range; mean over chips and times")
            for kind in ("dac", "adc")
        ),
        *_energy(crossbar, dac, adc, "inference"),
    ]  # fmt: skip
    return {
        "where": f"{chips} simulated chips, {crossbar.title}",
        "target": artifact.target,
        "chips": chips,
        "seeds": [seed],
        "generator": "Philox 4x64, keyed by seed, purpose, chip, matrix and time",
        "times_s": list(made.times),
        "drift_compensation": "global, per tile" if compensate else "none",
        "not_modelled": list(NOT_MODELLED),
        "versions": {"numpy": np.__version__},
        "figures": [asdict(figure) for figure in figures],
    }
