"""What simulators make of NIR files: spikes that differ from ours, of each dialect in each simulator.

Recurrent echo state networks on JapaneseVowels (``examples/train_esn.py``, seeds 0 to 4), converted with reset to zero
and fixed knobs, whole test set; each file in the simulator that it is for. Then what each reader makes of the other
dialects, on one of these. Needs ``pip install 'neurodeploy[train,spiking,nir]'``.

    python -m benchmarks.spiking_nir
"""

from __future__ import annotations

import numpy as np

import neurodeploy
from benchmarks.precision import EXAMPLES, echo_state
from neurodeploy import data
from neurodeploy.cli.output import table
from neurodeploy.errors import NeurodeployError
from neurodeploy.ir.fixed import quantize
from neurodeploy.spiking import nir_run, nir_write
from neurodeploy.spiking.net import SpikingNet
from neurodeploy.spiking.net_program import input_type
from neurodeploy.spiking.reference import simulate

SEEDS = range(5)
KNOBS = {"ticks": 4, "spikes": 4.0, "pieces": 2, "beta": 0.9}


def main() -> None:
    """Print both tables."""
    rows, net, x, active = [], None, None, None
    for seed in SEEDS:
        source = echo_state(seed)
        train, test = (
            data.load(EXAMPLES / "data" / f"japanese_vowels_{part}.npz", source) for part in ("train", "test")
        )
        for target in ("nir-norse", "nir-spikingjelly"):
            built = neurodeploy.compile(source, target, train, **KNOBS)
            net = SpikingNet.from_bytes(built.artifact.files["net.npz"])
            x = quantize(test.inputs["x"], input_type(net))
            active = np.arange(x.shape[1]) < np.asarray(test.lengths)[:, None]
            dialect = target.removeprefix("nir-")
            ours = simulate(net, x, active, raster=True).raster
            theirs = nir_run.simulate(net, built.artifact.files["network.nir"], dialect, x, active, raster=True).raster
            apart = ours != theirs
            rows.append(
                (str(seed), dialect, f"{ours.sum():,}", str(apart.sum()), f"{apart.any(axis=(1, 2)).sum()} of {len(x)}")
            )
    table("Each file in its simulator (measured)", ("seed", "simulator", "spikes", "differ", "in samples"), rows)
    rows = []
    ours = simulate(net, x, active, raster=True).raster
    for dialect in ("norse", "spikingjelly", "nir"):
        file = nir_write.to_bytes(net, dialect, "benchmark")
        fed = nir_write.feed(net, dialect, x)
        for reader in ("norse", "spikingjelly", "snntorch", "nir"):
            try:
                fired = nir_run.run(file, reader, net.dt_s, fed) & np.repeat(active, net.ticks, axis=1)[..., None]
                words = f"{(fired & ours).sum() / (fired | ours).sum():.4f}"
            except NeurodeployError as error:
                words = str(error)[:60]
            rows.append((dialect, reader, words))
    table("Share of spikes that both have, of those that either has", ("dialect", "read by", "share"), rows)


if __name__ == "__main__":
    main()
