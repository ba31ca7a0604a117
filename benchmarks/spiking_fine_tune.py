"""What fine-tuning brings: rate conversions that are cheap and bad, before and after surrogate-gradient training.

The relu networks of ``spiking_networks.py`` are converted for ``snntorch-lif`` at so few ticks a step that accuracy is
lost (the conversion sees the calibration samples), and trained on the training samples, of which a fifth is held out to
say when to stop. The test samples are seen once, at the end.

    python -m benchmarks.spiking_fine_tune [--tasks digits vowels] [--ticks 1] [--epochs 30] [--seeds 5]
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks import spiking_networks
from neurodeploy import hardware
from neurodeploy.cli.output import table
from neurodeploy.data import Data
from neurodeploy.ir import interpret
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.fixed import quantize
from neurodeploy.report.metrics import mcnemar
from neurodeploy.spiking import fine_tune, reference
from neurodeploy.spiking.convert import Conversion, convert


def correct(made: Conversion, data: Data) -> tuple[np.ndarray, float]:
    """Which samples a conversion's network gets right, and its spikes an inference."""
    (name, wanted), net = next(iter(made.program.inputs.items())), made.net
    assert net is not None and data.lengths is not None
    x = quantize(data.inputs[name], wanted.type)
    ran = reference.simulate(net, x, np.arange(x.shape[1]) < data.lengths[:, None])
    scores = net.scores(ran.traces[np.arange(len(x)), data.lengths - 1])
    return scores.argmax(axis=1) == data.labels, ran.spikes


def row(task: str, seed: int, ticks: int, epochs: int) -> list[str]:
    """One network."""
    source = spiking_networks.network(task, "relu", seed)
    train, calibrate, test = (spiking_networks.load(task, split) for split in spiking_networks.SPLITS)
    outputs = next(iter(real_outputs(source, interpret.run(source, test.inputs, test.lengths)).values()))
    plain = float(np.mean(outputs.argmax(axis=1) == test.labels))
    target = hardware.find("snntorch-lif", hardware.Neuromorphic)
    made = convert("rate", source, target, calibrate, lambda _: None, {"ticks": ticks, "max_loss": 100.0})
    tuned = fine_tune.tune(made, train, epochs, seed=seed)
    report = tuned.layout["fine_tune"]
    (before, spikes_before), (after, spikes_after) = correct(made, test), correct(tuned, test)
    p = mcnemar(before, after)
    kept = f"epoch {report['epoch']} of {len(report['epochs']) - 1}" if report["kept"] else "no"
    shares = [f"{share:.2%}" for share in (plain, before.mean(), after.mean(), report["before"], report["after"])]
    spikes = [f"{count:.0f}" for count in (spikes_before, spikes_after)]
    return [task, str(seed), *shares[:3], f"{p:.1g}", kept, *shares[3:], *spikes]


def main() -> None:
    parser = argparse.ArgumentParser(description="Rate conversions before and after fine-tuning.")
    parser.add_argument("--tasks", nargs="+", default=["digits", "vowels"], choices=spiking_networks.TASKS)
    parser.add_argument("--ticks", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    rows = [row(task, seed, options.ticks, options.epochs) for task in options.tasks for seed in range(options.seeds)]
    columns = ["task", "seed", "float", "before", "after", "p", "kept", "held-out before", "held-out after",
               "spikes before", "spikes after"]  # fmt: skip
    table("", columns, rows, right=columns[1:6] + columns[7:])


if __name__ == "__main__":
    main()
