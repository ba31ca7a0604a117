"""A crossbar's build in another simulator, tile by tile: codes of the converters, errors of the devices.

Run by the interpreter that has the peer (and neurodeploy's own packages; docs/crossbar/peers.md). Without a build, a
GRU of 70 units and random weights (seed 0) on pcm-128, or for CrossSim on pcm-joshi-128, whose devices it has.

    PYTHON -m benchmarks.crossbar_peers aihwkit|crosssim [BUILD] [--chips 16]
"""

from __future__ import annotations

import argparse
import importlib

import numpy as np

from neurodeploy import hardware
from neurodeploy.artifact import Artifact
from neurodeploy.backends.crossbar import CrossbarBackend
from neurodeploy.crossbar.adapters.products import Compared
from neurodeploy.data import Data
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage

TARGETS = {"aihwkit": "pcm-128", "crosssim": "pcm-joshi-128"}
UNITS, INPUTS = 70, 40


def gru() -> Program:
    """A GRU with a readout, its weights random."""
    normal = np.random.default_rng(0).normal
    b = Builder()
    x, h = b.input("x", (INPUTS,)), b.state("h", (UNITS,))
    shapes = {"W": (3 * UNITS, INPUTS), "U": (3 * UNITS, UNITS), "b": (3 * UNITS,), "u": (UNITS,)}
    (new,) = b.call("gru", x, h, *(b.param(name, 0.4 * normal(size=shape)) for name, shape in shapes.items()))
    b.next(h, new)
    (y,) = b.call("affine", b.param("V", normal(size=(3, UNITS))), new, b.param("c", normal(size=3)))
    b.output("y", y)
    stage = Stage("s", b.graph(), inputs_from={"x": Ref("x")})
    return Program("gru", {"x": ProgramInput(x.type)}, (stage,), {"y": Ref.parse("s.y@last")})


def random_build(target: str) -> Artifact:
    """That GRU on a target, its ranges from normal inputs."""
    x = np.random.default_rng(1).normal(size=(12, 7, INPUTS)).astype(np.float32)
    return CrossbarBackend().compile(
        gru(), hardware.find(target, Crossbar), data=Data({"x": x}, None, None, "normal", "0" * 64)
    )


def line(found: Compared) -> str:
    if found.same is not None:
        return f"{found.where:44} {found.what:12} {100 * found.same:6.2f} % same codes, worst {found.worst:g}"
    ours, theirs = 100 * (found.ours or 0), 100 * (found.theirs or 0)
    return f"{found.where:44} {found.what:12} RMS error {ours:6.2f} % here, {theirs:6.2f} % there"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=TARGETS)
    parser.add_argument("build", nargs="?", help="a build's folder")
    parser.add_argument("--chips", type=int, default=16)
    options = parser.parse_args()
    adapter = importlib.import_module(f"neurodeploy.crossbar.adapters.{options.peer}")
    artifact = Artifact.load(options.build) if options.build else random_build(TARGETS[options.peer])
    compared = adapter.compare(artifact, chips=options.chips)
    print(f"{artifact.name} on {artifact.target}; {adapter.versions()}, NumPy {np.__version__}; {options.chips} chips")
    for found in compared:
        print(line(found))


if __name__ == "__main__":
    main()
