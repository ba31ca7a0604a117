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
from neurodeploy.compiler import Built
from neurodeploy.errors import UsageError
from neurodeploy.ir.graph import Program


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
    quantize: list[str] | None,
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
    some = {"optimize": optimize, "ram": ram, "spikes": spikes, "mapping": mapping}
    some |= {"fused_lstm": fused_lstm, "state": state, "steps": steps}
    given = {key: value for key, value in some.items() if value not in (None, False)}
    if all_boards:
        _check_all_boards(target, given, bool(quantize) or max_loss is not None)
        fit.main(model, output, period_ms, data, numerics, method, toolchain, samples, json)
        return
    if period_ms is not None:
        raise UsageError("--period-ms goes with --all-boards.")
    if minimise != "flash" and max_loss is None:
        raise UsageError("--minimise goes with --max-loss.", hint="Say how much may be lost: --max-loss 0.5.")
    if target is None or output is None:
        missing = "--target" if target is None else "--output"
        raise UsageError(f"Missing option '{missing}'.", hint="Or ask which boards it fits: --all-boards.")
    described = hardware.find(target)
    options = _target_options(given, described)
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
            quantize=passes.options("quantize", ",".join(quantize)) if quantize else None,
            max_loss=max_loss,
            minimise=minimise,
            progress=say,
            toolchain=toolchain,
            **options,
        ).save(output)
    if json:
        print_json({"folder": str(output), **built.artifact.manifest})
        return
    _print_import(model, source)
    _print_costs(built, described)
    out.print(f"wrote {output}/", markup=False)
    if data:
        out.print(f"next: neurodeploy run {shlex.quote(str(output))} --data TEST.npz", markup=False)


def _check_all_boards(target: str | None, given: dict[str, Any], widths: bool) -> None:
    """Raise :class:`UsageError` for what makes no sense for all boards: a target, and what ``--target`` alone takes."""
    if target is not None:
        raise UsageError("--target and --all-boards exclude each other.", hint="Leave out one of them.")
    if widths:
        raise UsageError(
            "--all-boards takes no --quantize and no --max-loss.", hint="Choose widths for one: --target NAME."
        )
    for key in given:
        raise UsageError(
            f"--all-boards takes no --{key.replace('_', '-')}.", hint="Compile for one target: --target NAME."
        )


def _target_options(given: dict[str, Any], target: hardware.Target) -> dict[str, Any]:
    """Options of :func:`neurodeploy.compile` for some targets only; ``--spikes`` and ``--mapping`` hold several."""
    options = dict(given)
    if "spikes" in given:
        options |= _conversion_options(options.pop("spikes"), target)
    if "mapping" in given:
        options |= mapping_options(options.pop("mapping"), target)
    return options


def _print_import(model: Path, source: Program) -> None:
    check = source.meta.get("import_check")
    if check and check.get("max_abs_difference") is not None:
        out.print(f"imported {model}: largest difference from {check['against']} {check['max_abs_difference']:.2g}")


def _print_costs(built: Built, target: hardware.Target) -> None:
    """Tables of the widths that were tried and of the figures, a crossbar's floor plan, and warnings."""
    manifest, files = built.artifact.manifest, built.artifact.files
    if mixed_front.JSON in files:
        front = json_module.loads(files[mixed_front.JSON])
        columns = mixed_front.COLUMNS
        table(mixed_front.title(front), columns, mixed_front.rows(front), right=columns[1:-1])
        out.print(mixed_front.held_out_line(front), markup=False)
    columns, rows = cost_rows(manifest["figures"])
    table(f"{manifest['name']} on {target.title}", columns, rows, right=columns[1:-2])
    for line in floor_plan(files):
        out.print(line, markup=False, highlight=False)
    for warning in manifest.get("warnings", []):
        out.print(f"warning: {warning}", markup=False)


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
