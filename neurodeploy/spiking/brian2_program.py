"""A step program as a Brian2 script that runs and can be edited without neurodeploy: ``network.py`` and its data."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from neurodeploy.ir.graph import Program, Ref
from neurodeploy.ir.types import TensorType, int_range
from neurodeploy.spiking.brian2_names import Names
from neurodeploy.spiking.brian2_plan import FINAL, START, Feed, Plan, Projection, plan
from neurodeploy.spiking.brian2_script import SCRIPT, lanes_for, plain, render

DATA = "network.npz"
#: Steps of one build, unless a sample is longer.
STEPS = 256


def program_files(program: Program, title: str = "A step program") -> dict[str, bytes]:
    """The script of a step program of whole numbers, and the data that it reads.

    ``program.meta["spiking"]["sent"]``: stage -> the values whose changes are sent; what weights multiply is sent
    anyway, unless it is an input. Raises :class:`UnsupportedError` naming what Brian2 can't run.
    """
    arrays: dict[str, np.ndarray] = {}
    stages, names = [], Names()
    neurons = synapses = 0
    for stage in program.stages:
        made = plan_of(program, stage.name)
        stages.append(_stage(made, names.new(stage.name), arrays))
        neurons += sum(p.size for p in made.populations)
        synapses += sum(int(np.count_nonzero(w)) for p in made.projections for _, w in p.sums)
    types, refs = program.output_types(), program.outputs
    inputs = {n: (i.kind, _scale(i.type), *int_range(i.type.dtype)) for n, i in program.inputs.items()}
    outputs = {n: (*_origin(ref), _scale(types[n])) for n, ref in refs.items()}
    script = render(
        "brian2_program.py.j2",
        title=plain(title),
        data=DATA,
        dt="1e-3",
        neurons=neurons,
        lanes=lanes_for(neurons, synapses),
        frames=STEPS,
        inputs=inputs,
        outputs=outputs,
        input_words=", ".join(_words(n, i.kind == "series", i.type) for n, i in program.inputs.items()),
        output_words=", ".join(_words(n, program.is_series(refs[n]), t) for n, t in types.items()),
        stages=stages,
    )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return {SCRIPT: script.encode(), DATA: buffer.getvalue()}


def _scale(type_: TensorType) -> float | None:
    return None if type_.quant is None else float(type_.quant.array.reshape(-1)[0])


def _words(name: str, series: bool, type_: TensorType) -> str:
    axes = ["samples", *(["steps"] if series else []), *map(str, type_.shape)]
    return f"{name} [{', '.join(axes)}]"


def sent_of(program: Program, stage: str) -> tuple[str, ...]:
    """The values of a stage whose changes are to be sent; empty where the program doesn't say."""
    return tuple(program.meta.get("spiking", {}).get("sent", {}).get(stage, ()))


def plan_of(program: Program, name: str) -> Plan:
    """The plan of a stage. Raises :class:`UnsupportedError` naming what Brian2 can't run."""
    refs = [*program.outputs.values()]
    for stage in program.stages:
        refs += [*stage.inputs_from.values(), *stage.state_from.values()]
    finals = dict.fromkeys(ref.name for ref in refs if ref.stage == name and ref.at == "final")
    return plan(program.stage(name), sent_of(program, name), f"{program.name}/{name}", tuple(finals))


def _origin(ref: Ref) -> tuple[str | None, str, str]:
    return ref.stage, f"{ref.name}{FINAL}" if ref.at == "final" else ref.name, "last" if ref.at == "final" else ref.at


def _stage(made: Plan, name: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """What the template says of a stage, whose function is called ``name``; its arrays are added to ``arrays``."""
    stage = made.stage.name
    populations = []
    for p in made.populations:
        keys = {constant: f"{stage}.{p.name}.{constant}" for constant in p.constants}
        arrays.update((keys[constant], array) for constant, array in p.constants.items())
        populations.append({"name": p.name, "size": p.size, "variables": p.variables, "constants": keys,
                            "sends": list(p.sends)})  # fmt: skip
    tables = {table: f"{stage}.{table}" for table in made.tables}
    arrays.update((tables[table], array) for table, array in made.tables.items())
    feed_from = {}
    for feed in made.feeds:
        key = None
        if feed.weights is not None:
            key = f"{stage}.{feed.name}"
            arrays[key] = feed.weights
        feed_from[feed.name] = (feed.input, feed.start, feed.stop, key)
    outputs: dict[str, tuple[int, list[tuple[str, int, int]]]] = {}
    recorded: dict[str, list[str]] = {}
    for output, home, variable, start, stop in made.records:
        size, parts = outputs.get(output, (0, []))
        outputs[output] = max(size, stop), [*parts, (variable, start, stop)]
        known = recorded.setdefault(home.name, [])
        if variable not in known:
            known.append(variable)
    steps = _steps(made, arrays)
    return {
        "name": name,
        "key": repr(stage),
        "populations": populations,
        "tables": tables,
        "steps": steps,
        "records": [{"population": home, "variables": variables} for home, variables in recorded.items()],
        "events": [{**step, "order": step["order"] + 1} for step in steps if step.get("counted")],
        "feeds": {"phases": 1, **{feed.name: _feed_size(feed) for feed in made.feeds}},
        "feed_from": feed_from,
        "drive": made.stage.drive.kind,
        "inputs": {inner: _origin(ref) for inner, ref in made.stage.inputs_from.items()}
        | {f"{state}{START}": _origin(ref) for state, ref in made.stage.state_from.items()},
        "outputs": outputs,
    }


def _feed_size(feed: Feed) -> int:
    return feed.stop - feed.start if feed.weights is None else len(feed.weights)


def _steps(made: Plan, arrays: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Every level's code, then its events, then their synapses, each with its place in the order."""
    found: list[dict[str, Any]] = []
    order = 1
    for level in range(made.levels):
        for p in made.populations:
            if level in p.code:
                found.append({"kind": "code", "order": order, "population": p.name, "lines": p.code[level],
                              "name": f"{p.name}_code_{level}", "words": f"what {p.name} computes"})  # fmt: skip
                order += 1
        for p in made.populations:
            for sent in [sent for sent, at in p.sends.items() if at == level]:
                found.append({"kind": "event", "order": order, "population": p.name, "sent": sent,
                              "counted": sent in made.counted})  # fmt: skip
                order += 2  # the monitor's is between
        for projection in made.projections:
            if projection.source.sends[projection.sent] == level:
                found.append(_synapses(made, projection, order, arrays))
                order += 1
    return found


def _synapses(made: Plan, projection: Projection, order: int, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Synapses with a weight for each sum that they add to; those whose weights are all 0 are left out."""
    key = f"{made.stage.name}.{projection.name}"
    weights = [w for _, w in projection.sums]
    post, pre = np.nonzero(np.any([w != 0 for w in weights], axis=0))
    arrays |= {f"{key}.pre": pre.astype(np.int32), f"{key}.post": post.astype(np.int32)}
    arrays |= {f"{key}.w_{k}": w[post, pre].astype(np.int32) for k, w in enumerate(weights)}
    return {
        "kind": "synapses",
        "order": order,
        "name": projection.name,
        "key": key,
        "source": projection.source.name,
        "target": projection.target.name,
        "sent": projection.sent,
        "weights": [{"name": f"w_{k}", "sum": total} for k, (total, _) in enumerate(projection.sums)],
        "words": f"{len(pre)} synapses, {projection.source.name} to {projection.target.name}",
    }
