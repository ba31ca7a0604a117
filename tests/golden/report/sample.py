"""Builds for the tests of the report only.

FIXTURE FIGURES: every number here is made up to exercise the layout; none was measured, and none is a result.
"""

from __future__ import annotations

from typing import Any

from neurodeploy.artifact import Figure
from neurodeploy.report.schema import (
    Accuracy,
    Agreement,
    Build,
    DataSet,
    Device,
    DriftScore,
    FirstDifference,
    Model,
    NotRun,
    Run,
    Score,
    Target,
    Timing,
)

DATA = DataSet(name="FixtureVowels, test", samples=370, sha256="5e" * 32)
GRU = Model(name="gru", sha256="a1" * 32, parameters=4329, macs_per_step=4160)
ESN = Model(name="esn", sha256="b2" * 32, parameters=4809, macs_per_step=3210)
FLOATS = {"gru": 0.9757, "esn": 0.9865}
ZIG = "zig cc 0.17.0 -O2 -mcpu=cortex_m4 -ffp-contract=off"


def accuracy(model: Model, quantized: float | None, deployed: float | None, where: str, **more: Any) -> Accuracy:
    how = more.pop("how", "measured")
    sd, n, over = more.pop("sd", None), more.pop("n", None), more.pop("over", None)
    return Accuracy(
        metric="ClassificationAccuracy",
        data=DATA,
        seeds=[0],
        float_=Score(value=FLOATS[model.name], how="measured", where="float interpreter"),
        quantized=None if quantized is None else Score(value=quantized, how="measured", where="golden model"),
        deployed=None if deployed is None else Score(value=deployed, how=how, where=where, sd=sd, n=n, over=over),
        **more,
    )


def exact(against: str, compared: int = 5687) -> Agreement:
    return Agreement(
        against=against, equality="exact", holds=True, compared=compared, bit_exact=compared,
        max_difference=0, difference_unit="LSB", tensors=["rnn.y", "rnn.h"],
    )  # fmt: skip


def run(runner: str, where: str, accuracy: Accuracy | None, **more: Any) -> Run:
    return Run(
        runner=runner, where=where, accuracy=accuracy, when="2020-01-02 03:04 UTC",
        versions={"neurodeploy": "0.1.0", "numpy": "2.3.5", **more.pop("versions", {})},
        artifact={"program.nd": "0" * 64},
        timing=Timing(wall_seconds=4.81, samples=370, steps=5687), **more,
    ).sealed()  # fmt: skip


def figures(how: str, source: str, *entries: tuple[str, float | None, str]) -> list[Figure]:
    return [
        Figure(name, value, unit, how, source) if value is not None else Figure.unknown(name, unit, source)  # type: ignore[arg-type]
        for name, value, unit in entries
    ]


def board(name: str, model: Model, target: str, title: str, flash: int, ram: int, steps: float, got: float) -> Build:
    split = (("flash_code", flash - 5200, "B"), ("flash_tables", 1040, "B"), ("flash_weights", 4160, "B"))
    memory = (("ram_state", 64, "B"), ("ram_scratch", ram - 64 - 212, "B"), ("ram_stack", 212, "B"))
    ran = accuracy(model, got, got, f"{title}, emulated")
    return Build(
        name=name, model=model, backend="c", numerics="native", compiler=ZIG,
        target=Target(name=target, title=title, kind="mcu"),
        figures=[
            *figures("compiled", "linker map", ("flash", flash, "B"), *split, ("ram", ram, "B"), *memory),
            *figures("compiled", "shapes of the step graph", ("macs", model.macs_per_step, "MAC/step")),
        ],
        accuracies=[ran],
        runs=[
            run(
                "board", "emulated board over its serial line", ran, emulator="unicorn 2.1",
                device=Device(target_id="0x00000386", firmware_hash="c3" * 16), agreement=[exact("golden"), exact("host")],
                figures=figures(
                    "measured", f"instruction counter of the emulated core; {ZIG}",
                    ("instructions_worst", round(steps * 1.004), "instructions/step"),
                    ("instructions_mean", steps, "instructions/step"),
                    ("cycles_mean", None, "cycles/step"),
                ),
                not_run=[NotRun(what="cycle counts", why="unicorn counts instructions, not cycles")],
            ),
        ],
    )  # fmt: skip


def tflm(name: str, model: Model, size: int, arena: int, got: float) -> Build:
    ran = accuracy(model, got, got, "tflite-micro interpreter")
    return Build(
        name=name, model=model, backend="tflite", numerics="tflite", compiler="flatbuffer, schema 3",
        target=Target(name="tflm", title="TensorFlow Lite Micro interpreter", kind="tflite"),
        figures=figures("compiled", "size of the file", ("tflite_bytes", size, "B")),
        accuracies=[ran],
        runs=[
            run(
                "tflm", "tflite-micro wheel on this machine", ran, agreement=[exact("golden")],
                figures=figures("measured", "the interpreter's arena report", ("arena_bytes", arena, "B")),
                versions={"tflite-micro": "0.dev20260101"},
            )
        ],
    )  # fmt: skip


def spiking(name: str, model: Model, target: str, title: str, acs: float, spikes: float, got: float) -> Build:
    ran = accuracy(model, None, got, title, how="simulated")
    counted = figures(
        "simulated", "counted over the whole test set",
        ("spikes", spikes, "spikes/inference"), ("SynapticOperations.Effective_ACs", acs, "AC/inference"),
        ("SynapticOperations.Effective_MACs", 0, "MAC/inference"),
        ("SynapticOperations.Dense", acs * 9.3, "operations/inference"),
        ("MembraneUpdates", acs / 11, "updates/inference"), ("ActivationSparsity", 0.8931, ""),
    )  # fmt: skip
    cost = figures(
        "estimated", "23.6 pJ per operation on Loihi, Davies 2018", ("energy", acs * 23.6e-6, "uJ/inference")
    )
    return Build(
        name=name, model=model, backend=target, numerics="native", compiler=None,
        target=Target(name=target, title=title, kind="spiking"),
        figures=[
            *figures("compiled", "arrays of the network", ("neurons", 200, "neurons"), ("synapses", 4800, "synapses")),
            *figures("compiled", "bytes of parameters and states", ("Footprint", 21640, "B")),
        ],
        warnings=["the readout was refitted on spikes; the rest is as trained"] if target == "brian2" else [],
        accuracies=[ran],
        runs=[run(target, title, ran, figures=[*counted, *cost], agreement=[
            Agreement(against="golden", equality="statistical(0.02)", holds=None, per="inference", compared=370,
                      bit_exact=0, max_difference=0.418, difference_unit="absolute",
                      first_difference=FirstDifference(sample=0, step=None, tensor="y", index=0, value=0.1172,
                                                       reference=0.1211)),
        ])],
    )  # fmt: skip


def crossbar(name: str, model: Model, got: float, sd: float, devices: int) -> Build:
    times = [(1.0, 0.0), (3600.0, 0.004), (86400.0, 0.011), (2592000.0, 0.024), (31536000.0, 0.047)]
    drift = [DriftScore(seconds=t, mean=got - loss, sd=sd * (1 + 12 * loss), chips=25) for t, loss in times]
    ran = accuracy(
        model, 0.9757, got, "25 simulated PCM chips", how="simulated", sd=sd, n=25, over="chips", drift=drift
    )
    return Build(
        name=name, model=model, backend="crossbar", numerics="native", compiler=None,
        target=Target(name="pcm-128", title="PCM crossbar, 128 x 128 tiles", kind="crossbar"),
        figures=[
            *figures("compiled", "tile map", ("tiles", devices // 4000, "tiles"), ("devices", devices, "devices"),
                     ("utilisation", 31.25, "%"), ("dac_conversions", 3264, "conversions/inference"),
                     ("adc_conversions", 12288, "conversions/inference")),
            *figures("unknown", "no sourced figure for this converter", ("energy", None, "uJ/inference")),
        ],
        accuracies=[ran],
        runs=[run("crossbar", "25 simulated chips", ran)],
    )  # fmt: skip


def sample_builds() -> list[Build]:
    """Eight builds: two networks on every kind of hardware."""
    return [
        board("gru-m4f", GRU, "mps2-an386", "Arm MPS2 AN386, Cortex-M4F", 11824, 788, 14104.6, 0.9757),
        board("gru-m3", GRU, "mps2-an385", "Arm MPS2 AN385, Cortex-M3", 10216, 788, 23371.2, 0.9757),
        tflm("gru-tflm", GRU, 14752, 9216, 0.973),
        spiking("gru-snn", GRU, "snntorch", "Clocked sigma-delta, snnTorch", 41880.4, 718.3, 0.9703),
        crossbar("gru-pcm", GRU, 0.9589, 0.0081, 16640),
        board("esn-m4f", ESN, "mps2-an386", "Arm MPS2 AN386, Cortex-M4F", 13964, 1012, 11620.8, 0.9838),
        spiking("esn-lsm", ESN, "brian2", "Liquid state machine, Brian2", 88214.0, 2150.4, 0.9892),
        crossbar("esn-pcm", ESN, 0.9714, 0.0062, 24040),
    ]
