"""What the manifest of a crossbar's build says: the target as it was, the matrices on its arrays, what is left out."""

from __future__ import annotations

import json

import numpy as np

from neurodeploy.artifact import Artifact
from neurodeploy.crossbar.effects import present
from neurodeploy.crossbar.mapping.tiles import Matrix
from neurodeploy.descriptions_crossbar import Crossbar

#: Effect that a target may lack -> in words.
ABSENT = {
    "wires": "IR drop along word and bit lines",
    "stuck": "stuck devices",
    "nonlinear": "nonlinear current-voltage curves",
    "thermal noise": "thermal noise of a read",
}


def described(artifact: Artifact) -> tuple[Crossbar, tuple[Matrix, ...]]:
    """The target as it was when the artifact was compiled, and its matrices."""
    target = Crossbar.model_validate_json(json.dumps(artifact.manifest["crossbar"]))
    return target, tuple(Matrix.from_json(m) for m in artifact.manifest["layout"]["matrices"])


def drive_of(artifact: Artifact) -> dict[tuple[str, str], np.ndarray] | None:
    """Mean square of every word line's drive over full scale on the calibration data; None without them."""
    found = artifact.manifest["layout"].get("drive")
    return {(m["stage"], m["value"]): np.array(m["mean_square"]) for m in found} if found else None


def not_modelled(target: Crossbar) -> list[str]:
    """What a simulation of this target leaves out, in words."""
    there = present(target)
    absent = [words for effect, words in ABSENT.items() if effect not in there]
    if target.adc.errors is None:
        absent.append("noise and mismatch of the converters")
    return [*absent, "device-to-device correlation"]
