"""aihwkit (IBM) on the tiles of a build: products with the same converters, and with its model of PCM devices.

Its wheels are for Python 3.12 and 3.13. What is set: tiles of its PyTorch kind, ``inp_res`` and ``out_res`` of
``1/(2^bits - 2)``, fixed bounds; ``PCMLikeNoiseModel`` with its own constants, which are those of pcm-128.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import Any

import numpy as np

from neurodeploy.artifact import Artifact
from neurodeploy.crossbar.adapters.products import (
    CONVERTERS,
    Compared,
    Product,
    Tiles,
    codes_compared,
    errors_compared,
)
from neurodeploy.errors import MissingExtraError

Array = np.ndarray
#: Age -> seconds since the first read.
AGES = {"programmed": 0.0, "1 hour": 3600.0, "1 day": 86400.0, "1 year": 31536000.0}
DEVICES = frozenset({"programming", "drift", "read noise"})
#: What its model has, by the names of the target's tables: pcm-128's constants (Nandakumar et al., ICECS 2019).
POLYNOMIAL = (0.26348e-6, 1.9650e-6, -1.1731e-6)


def compare(artifact: Artifact, *, vectors: int = 64, chips: int = 16, seed: int = 0) -> list[Compared]:
    """Every tile of a build in both simulators: codes of the converters, then errors of the devices by age.

    Devices are compared where the target's are those of aihwkit's model, without drift compensation on either side.
    Raises :class:`MissingExtraError` where aihwkit can't be imported, and what :class:`Tiles` raises.
    """
    torch = load()
    tiles = Tiles(artifact, vectors, seed)
    found: list[Compared] = []
    dac, adc = tiles.target.dac.bits, tiles.target.adc.bits
    if dac is not None and adc is not None:
        exact = tiles.chips(CONVERTERS, 1)
        for product, ours in tiles.products():
            theirs = _layer(product, _converters(product, dac, adc))(torch.from_numpy(product.drives))
            found.append(codes_compared(product, ours(exact)[0], theirs.detach().numpy(), adc))
    if same_devices(tiles):
        torch.manual_seed(seed)
        made = tiles.chips(DEVICES, chips)
        for what, seconds in AGES.items():
            made.age(seconds, compensate=False)
            for product, ours in tiles.products():
                found.append(errors_compared(product, what, ours(made), _aged(product, chips, seconds)))
    return found


def load() -> Any:
    """PyTorch, with aihwkit there to be used; :class:`MissingExtraError` otherwise."""
    try:
        importlib.import_module("aihwkit.nn")
        return importlib.import_module("torch")
    except ImportError as error:
        raise MissingExtraError(
            f"comparing with aihwkit needs the package 'aihwkit' ({error}).",
            hint="Install it in a Python 3.12 or 3.13, for which it has wheels: pip install aihwkit",
        ) from error


def versions() -> str:
    """``aihwkit 1.2.0, torch 2.13.0``."""
    return f"aihwkit {version('aihwkit')}, torch {load().__version__}"


def same_devices(tiles: Tiles) -> bool:
    """Whether the target's devices are those of aihwkit's PCM model."""
    device = tiles.target.device
    noise = device.programming
    return (
        device.technology == "pcm"
        and device.g_min_siemens == 0
        and noise is not None
        and tuple(getattr(noise, "sd_siemens", ())) == POLYNOMIAL
    )


def _converters(product: Product, dac: int, adc: int) -> Any:
    enums = importlib.import_module("aihwkit.simulator.parameters.enums")
    config = importlib.import_module("aihwkit.simulator.configs").TorchInferenceRPUConfig()
    forward = config.forward
    forward.inp_res, forward.out_res = 1 / ((1 << dac) - 2), 1 / ((1 << adc) - 2)
    forward.inp_bound, forward.out_bound = 1.0, product.bound
    forward.inp_noise = forward.out_noise = forward.w_noise = 0.0
    forward.noise_management = enums.NoiseManagementType.NONE
    forward.bound_management = enums.BoundManagementType.NONE
    return config


def _aged(product: Product, chips: int, seconds: float) -> Array:
    """Products of so many programmings, read at an age, ``[chips, n, outputs]``."""
    torch = load()
    config = importlib.import_module("aihwkit.simulator.configs").TorchInferenceRPUConfig()
    config.forward.is_perfect = True
    config.noise_model = importlib.import_module("aihwkit.inference").PCMLikeNoiseModel(g_max=25.0)
    config.drift_compensation = None
    found = []
    for _ in range(chips):
        layer = _layer(product, config)
        for tile in layer.analog_tiles():
            tile.program_weights()
            tile.drift_weights(seconds)
        found.append(layer(torch.from_numpy(product.drives)).detach().numpy())
    return np.stack(found).astype(np.float64)


def _layer(product: Product, config: Any) -> Any:
    """An analog layer that holds the tile's relative weights as they are, on one tile of its own."""
    torch = load()
    config.mapping.max_input_size = config.mapping.max_output_size = 0
    config.mapping.weight_scaling_omega = 0.0
    layer = importlib.import_module("aihwkit.nn").AnalogLinear(*product.weights.shape, False, config)
    layer.set_weights(torch.from_numpy(np.ascontiguousarray(product.weights.T)))
    return layer.eval()
