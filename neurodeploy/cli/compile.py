"""``neurodeploy compile``."""

from __future__ import annotations

import inspect
import json as json_module
import shlex
from pathlib import Path
from typing import Any

from neurodeploy import compiler, hardware, mixed_front, passes
from neurodeploy import data as data_files
from neurodeploy.cli import fit
from neurodeploy.cli.crossbar import cost_rows, floor_plan, mapping_options
from neurodeploy.cli.output import out, print_json, progress, table
from neurodeploy.errors import UsageError


def main(
    model: Path,
    target: str | None,
    output: Path | None,
    all_boards: bool,
    period_ms: float | None,
    data: Path | None,
    numerics: str | None,
    method: str,
    toolchain: str | None,
    optimize: str | None,
    ram: str | None,
    samples: int | None,
    quantize: str | None,
    spikes: str | None,
    mapping: str | None,
    fused_lstm: bool,
    state: str | None,
    steps: int | None,
    max_loss: float | None,
    minimise: str,
    costs: bool,
    json: bool,
) -> None:
    """Compile, save, and print what it costs; or, for all boards, hand over to :mod:`neurodeploy.cli.fit`."""
    if all_boards:
        if target is not None:
            raise UsageError("--target and --all-boards exclude each other.", hint="Leave out one of them.")
        if quantize is not None or max_loss is not None:
            raise UsageError(
                "--all-boards takes no --quantize and no --max-loss.",
                hint="Choose widths for one: --target NAME.",
            )
        for option, value in (("--fused-lstm", fused_lstm), ("--state", state), ("--steps", steps)):
            if value:
                raise UsageError(f"{option} is for TFLite Micro.", hint="Give its target: --target tflm.")
        fit.main(model, output, period_ms, data, numerics, method, toolchain, samples, json)
        return
    if period_ms is not None:
        raise UsageError("--period-ms goes with --all-boards.")
    if target is None or output is None:
        missing = "--target" if target is None else "--output"
        raise UsageError(f"Missing option '{missing}'.", hint="Or ask which boards it fits: --all-boards.")
    described = hardware.find(target)
    given = {"optimize": optimize, "ram": ram, "state": state, "steps": steps}
    options: dict[str, Any] = {k: v for k, v in given.items() if v}
    options |= _conversion_options(spikes, described) if spikes is not None else {}
    options |= mapping_options(mapping, described) if mapping is not None else {}
    options |= {"fused_lstm": True} if fused_lstm else {}
    with progress(f"compiling {model.name} for {described.name}", quiet=json) as say:
        say("importing")
        source = compiler.load(model)
        calibration = data_files.load(data, source).first(samples) if data else None
        built = compiler.compile(
            source,
            described,
            calibration,
            numerics=numerics,
            method=method,
            costs=costs,
            quantize=passes.options("quantize", quantize) if quantize else None,
            max_loss=max_loss,
            minimise=minimise,
            progress=say,
            toolchain=toolchain,
            **options,
        ).save(output)
    manifest = built.artifact.manifest
    if json:
        print_json({"folder": str(output), **manifest})
        return
    check = source.meta.get("import_check")
    if check and check.get("max_abs_difference") is not None:
        out.print(f"imported {model}: largest difference from {check['against']} {check['max_abs_difference']:.2g}")
    if mixed_front.JSON in built.artifact.files:
        front = json_module.loads(built.artifact.files[mixed_front.JSON])
        columns = mixed_front.COLUMNS
        table(mixed_front.title(front), columns, mixed_front.rows(front), right=columns[1:-1])
        out.print(mixed_front.held_out_line(front), markup=False)
    columns, rows = cost_rows(manifest["figures"])
    table(f"{manifest['name']} on {described.title}", columns, rows, right=columns[1:-2])
    for line in floor_plan(built.artifact.files):
        out.print(line, markup=False, highlight=False)
    for warning in manifest.get("warnings", []):
        out.print(f"warning: {warning}", markup=False)
    out.print(f"wrote {output}/", markup=False)
    if data:
        out.print(f"next: neurodeploy run {shlex.quote(str(output))} --data TEST.npz", markup=False)


def _conversion_options(spikes: str, target: hardware.Target) -> dict[str, Any]:
    """What ``--spikes`` gives the target's conversion. Raises :class:`UsageError` for what isn't the conversion's."""
    if not isinstance(target, hardware.Neuromorphic):
        raise UsageError(f"--spikes is for spiking targets; '{target.name}' is none.", hint="Leave it out.")
    given = passes.options("--spikes", spikes)
    for key in given:
        if key in inspect.signature(compiler.compile).parameters:
            raise UsageError(
                f"--spikes takes the conversion's own options; '{key}' isn't one.",
                hint=f"Give --{key.replace('_', '-')}.",
            )
    return given
