"""The command line. Each command's work is imported when it is called, so that ``--help`` answers at once."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from neurodeploy.cli.grouped import Grouped

Model = Annotated[Path, typer.Argument(help="Model file: .onnx, .tflite, .nd, or .npz of an echo state network.")]
Build = Annotated[Path, typer.Argument(help="Build folder that 'compile' made.")]
DataFile = Annotated[Path, typer.Option("--data", "-d", help=".npz with the inputs, 'lengths' and labels 'y'.")]
MaybeData = Annotated[Path | None, typer.Option("--data", "-d", help=".npz with the inputs, 'lengths', 'y'.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Port = Annotated[str | None, typer.Option(help="A real board's port: /dev/ttyACM0, COM3, socket://HOST:PORT.")]
Emulator = Annotated[str, typer.Option(help="Emulated board: auto, unicorn or qemu.")]
Samples = Annotated[int | None, typer.Option(min=1, help="Use the first N samples only.")]
Method = Annotated[str, typer.Option(help="How ranges are chosen: minmax, percentile or mse.")]


def _grouped(panel: str, text: str, *names: str, **limits: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **limits)


def _crossbars(text: str, **limits: Any) -> Any:
    return _grouped("Crossbars", text, **limits)


# What options of 'compile' are for.
_FIT, _WIDTHS = "Which boards fit", "Widths by what they lose (C with native numerics, spikes)"
_C, _C_TFLITE, _TFLITE = "C (boards and the host)", "C and TFLite Micro", "TFLite Micro"

_app = typer.Typer(
    name="neurodeploy",
    help="Compile trained recurrent networks to microcontrollers, TFLite Micro, spikes and memristor crossbars.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
# Some versions of typer carry their own click, so its root error is found through typer.
_CLICK_ERROR: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")
targets_app = typer.Typer(
    help="Hardware that networks can be compiled for.", no_args_is_help=True, rich_markup_mode=None
)
_app.add_typer(targets_app, name="targets")


def app(arguments: Sequence[str]) -> int:
    """Run the command line; misuse that typer finds is printed by it and gives 2."""
    command = typer.main.get_command(_app)
    try:
        result = command.main(args=list(arguments), prog_name="neurodeploy", standalone_mode=False)
    except _CLICK_ERROR as error:
        error.show()
        return 2
    except typer.Abort:
        return 130
    return result if isinstance(result, int) else 0


def _do(module: str, **arguments: Any) -> None:
    name = f"neurodeploy.cli.{module}"
    importlib.import_module(name).main(**arguments)


@_app.callback(invoke_without_command=True)
def options(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        from neurodeploy.version import release

        typer.echo(f"neurodeploy {release()}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise typer.Exit(2)


@_app.command()
def doctor(json: Json = False) -> None:
    """What is installed, what that makes available, how to get the rest."""
    _do("doctor", json=json)


@_app.command()
def inspect(model: Model, json: Json = False) -> None:
    """Layers, states, parameters, MACs per step, targets it fits."""
    _do("inspect", model=model, json=json)


@_app.command(cls=Grouped)
def compile(
    model: Model,
    target: Annotated[str | None, typer.Option("--target", "-t", help="Target's name or .toml file.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write; with --all-boards a .json or .md file.")
    ] = None,
    data: MaybeData = None,
    samples: Samples = None,
    numerics: Annotated[str | None, typer.Option(help="native, float or tflite; by default the target's own.")] = None,
    method: Method = "minmax",
    quantize: Annotated[
        list[str] | None,
        typer.Option(
            help="Options of the quantizer, like 'activation_dtype=i8,weight_bits=4' or 'weights={\"U\": 4}'."
        ),
    ] = None,
    costs: Annotated[
        bool,
        typer.Option(help="Have the C compiler say how large the code becomes, and compare with the float network."),
    ] = True,
    json: Json = False,
    all_boards: Annotated[
        bool, _grouped(_FIT, "Which boards it fits: flash, RAM, time of a step. Builds no folder.", "--all-boards")
    ] = False,
    period_ms: Annotated[
        float | None, _grouped(_FIT, "With --all-boards: the time that a step may take, in milliseconds.")
    ] = None,
    max_loss: Annotated[
        float | None,
        _grouped(
            _WIDTHS,
            "Lose at most so many points of accuracy (or % of the range): chooses each weight's bits, or levels, ticks "
            "and neurons of spikes.",
        ),
    ] = None,
    minimise: Annotated[
        str, _grouped(_WIDTHS, "What --max-loss saves in C: flash (weights) or ram (states).")
    ] = "flash",
    optimize: Annotated[
        str | None,
        _grouped(
            _C_TFLITE,
            "How C stores weights: balanced, speed or size; balanced if not given. TFLite Micro: balanced or size, "
            "which leaves out what TFLM doesn't read.",
        ),
    ] = None,
    fused_lstm: Annotated[
        bool,
        _grouped(
            _C_TFLITE,
            "LSTMs as TFLite's own operator, whose state TFLM's CMSIS-NN kernel forgets between calls; in C with "
            "--numerics tflite.",
            "--fused-lstm",
        ),
    ] = False,
    state: Annotated[
        str | None,
        _grouped(_TFLITE, "variables, which the interpreter keeps (if not given), or io: inputs and outputs."),
    ] = None,
    steps: Annotated[
        int | None, _grouped(_TFLITE, "How many steps of a series one call takes; 1 if not given.", min=1)
    ] = None,
    toolchain: Annotated[str | None, _grouped(_C, "zig, gcc or clang; by default the first that is there.")] = None,
    ram: Annotated[
        str | None, _grouped(_C, "fast, or small: less RAM for some more instructions; fast if not given.")
    ] = None,
    spikes: Annotated[
        str | None,
        _grouped("Spikes", "Options of the conversion, like 'levels=8' or 'neurons=200,excitatory=0.8'."),
    ] = None,
    mapping: Annotated[
        str | None, _crossbars("Options of the mapping onto arrays, like 'scaling=tile,percentile=99.5'.")
    ] = None,
) -> None:
    """Compile a model for a target into a folder, or say which boards it fits.

    'neurodeploy targets list' names the targets. Options under a heading are for the targets that it names.
    """
    _do("compile", **locals())


@_app.command(cls=Grouped)
def run(
    build: Build,
    data: DataFile,
    port: Port = None,
    emulator: Emulator = "auto",
    on: Annotated[str | None, typer.Option(help="golden, host, board ...; by default the target itself.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write the outputs, as real numbers, to this .npz.")] = None,
    samples: Samples = None,
    json: Json = False,
    chips: Annotated[int | None, _crossbars("How many chips to simulate; 25 if not given.", min=1)] = None,
    ages: Annotated[str | None, _crossbars("Ages of the chips, like 0s,1h,1d,1y.")] = None,
    seed: Annotated[int | None, _crossbars("Seed of the chips; 0 if not given.", min=0)] = None,
    effects: Annotated[str | None, _crossbars("Physical effects that are on, like 'programming,wires'; all.")] = None,
    compensate: Annotated[bool | None, _crossbars("Global drift compensation, on if not given.")] = None,
    repair: Annotated[str | None, _crossbars("Repair the chips first: columns, readout or both.")] = None,
    repair_data: Annotated[Path | None, _crossbars("Calibration data for --repair; never the test data.")] = None,
    stuck_map: Annotated[Path | None, _crossbars("Maps of stuck devices: .npz, an array for each crossbar.")] = None,
    attribute: Annotated[bool, _crossbars("Where the error comes from: each effect alone, at the last age.")] = False,
    sweep: Annotated[list[str] | None, _crossbars("Accuracy against a quantity: adc_bits=4,6,8, stuck=0,0.01.")] = None,
    jobs: Annotated[int | None, _crossbars("Processes to spread the chips over.", min=1)] = None,
) -> None:
    """Run a build on its target, real, emulated or simulated."""
    crossbar = {
        "chips": chips, "ages": ages, "seed": seed, "effects": effects, "compensate": compensate, "jobs": jobs,
        "repair": repair, "repair_data": repair_data, "stuck_map": stuck_map, "attribute": attribute, "sweep": sweep,
    }  # fmt: skip
    common = {"build": build, "data": data, "port": port, "emulator": emulator, "on": on, "samples": samples}
    _do("run", **common, save=save, json=json, crossbar=crossbar)


@_app.command()
def validate(
    build: Build,
    data: DataFile,
    on: Annotated[str | None, typer.Option(help="golden, host, board ...; by default the target itself.")] = None,
    port: Port = None,
    emulator: Emulator = "auto",
    samples: Samples = None,
    json: Json = False,
) -> None:
    """Accuracy, and the first step and tensor that differs."""
    _do("run", build=build, data=data, port=port, emulator=emulator, on=on, samples=samples, json=json, strict=True)


@_app.command()
def export(
    build: Annotated[Path, typer.Argument(help="Build folder of a board or of 'host' that 'compile' made.")],
    to: Annotated[str, typer.Option("--to", help="arduino, cmake, plain or zephyr.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write; its README.md says how to go on.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", "-d", help=".npz whose first sample the example feeds; else made-up values."),
    ] = None,
    json: Json = False,
) -> None:
    """Write a C build as a project: an Arduino library, CMake, a Zephyr module, or plain C files."""
    _do("export", build=build, form=to, output=output, data=data, json=json)


@_app.command()
def report(
    builds: Annotated[list[Path], typer.Argument(help="Build folders.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="report.html, .md or .json.")] = Path("report.html"),
    json: Json = False,
) -> None:
    """Builds side by side: accuracy kept, and what each costs."""
    _do("report", builds=builds, output=output, json=json)


@_app.command()
def quantize(
    model: Model,
    data: DataFile,
    sensitivity: Annotated[bool, typer.Option("--sensitivity", help="Which tensor costs how much accuracy.")] = False,
    method: Method = "minmax",
    samples: Samples = None,
    json: Json = False,
) -> None:
    """Quantize a model; which tensor costs how much accuracy."""
    _do("quantize", model=model, data=data, sensitivity=sensitivity, method=method, samples=samples, json=json)


@_app.command()
def opt(
    model: Model,
    passes: Annotated[str, typer.Option(help="Passes, like simplify,calibrate{method=mse},quantize.")] = "simplify",
    data: MaybeData = None,
    show: Annotated[bool, typer.Option("--print", help="Print the program after the last pass.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write PROGRAM.nd and .npz.")] = None,
) -> None:
    """Run passes on a model; print what the compiler sees."""
    _do("opt", model=model, spec=passes, data=data, show=show, output=output)


@targets_app.command("list")
def targets_list(json: Json = False) -> None:
    """List every target."""
    _do("targets", action="list", json=json)


@targets_app.command("show")
def targets_show(name: Annotated[str, typer.Argument(help="Target's name.")], json: Json = False) -> None:
    """Show one target's numbers and their sources."""
    _do("targets", action="show", name=name, json=json)


@targets_app.command("check")
def targets_check(file: Annotated[Path, typer.Argument(help="A target's .toml file.")], json: Json = False) -> None:
    """Check a target's file."""
    _do("targets", action="check", name=str(file), json=json)
