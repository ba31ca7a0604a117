"""CrossSim (Sandia) on the tiles of a build: products with the same converters, and with its model of PCM devices.

It is installed from its repository (https://github.com/sandialabs/cross-sim). What is set: balanced cores, one-sided,
on one array; sign-magnitude converters with calibrated ranges; the device model ``PCMJoshi``, whose formula is that of
pcm-joshi-128.
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
DEVICE = "pcm-joshi-128"


def compare(artifact: Artifact, *, vectors: int = 64, chips: int = 16, seed: int = 0) -> list[Compared]:
    """Every tile of a build in both simulators: codes of the converters, then errors of programmed devices.

    Devices are compared where the target is pcm-joshi-128. Raises :class:`MissingExtraError` where CrossSim can't be
    imported, and what :class:`Tiles` raises.
    """
    load()
    tiles = Tiles(artifact, vectors, seed)
    found: list[Compared] = []
    dac, adc = tiles.target.dac.bits, tiles.target.adc.bits
    if dac is not None and adc is not None:
        exact = tiles.chips(CONVERTERS, 1)
        for product, ours in tiles.products():
            theirs = _run(product, _converters(product, dac, adc))
            found.append(codes_compared(product, ours(exact)[0], theirs, adc))
    if tiles.target.name == DEVICE:
        np.random.seed(seed)
        made = tiles.chips(frozenset({"programming"}), chips)
        device = tiles.target.device
        for product, ours in tiles.products():
            params = _params()
            params.xbar.device.Rmin = 1 / device.g_max_siemens
            params.xbar.device.Rmax = 1 / device.g_min_siemens
            params.xbar.device.programming_error.enable = True
            params.xbar.device.programming_error.model = "PCMJoshi"
            theirs = np.stack([_run(product, params) for _ in range(chips)])
            found.append(errors_compared(product, "programmed", ours(made), theirs))
    return found


def load() -> Any:
    """CrossSim's package, ``simulator``; :class:`MissingExtraError` where it isn't there."""
    try:
        module = importlib.import_module("simulator")
        version("CrossSim")
        return module
    except ImportError as error:  # PackageNotFoundError is one
        raise MissingExtraError(
            f"comparing with CrossSim needs it installed ({error}).",
            hint="Clone github.com/sandialabs/cross-sim, then: pip install ./cross-sim (Python 3.10 or later)",
        ) from error


def versions() -> str:
    """``CrossSim 3.2.0``."""
    load()
    return f"CrossSim {version('CrossSim')}"


def _params() -> Any:
    params = load().CrossSimParameters()
    params.core.rows_max = params.core.cols_max = 4096
    params.core.mapping.weights.min, params.core.mapping.weights.max = -1.0, 1.0
    params.core.mapping.inputs.mvm.min, params.core.mapping.inputs.mvm.max = -1.0, 1.0
    return params


def _converters(product: Product, dac: int, adc: int) -> Any:
    params = _params()
    params.xbar.dac.mvm.model, params.xbar.dac.mvm.bits = "SignMagnitudeDAC", dac
    params.xbar.dac.mvm.signed = True
    params.xbar.adc.mvm.model, params.xbar.adc.mvm.bits = "SignMagnitudeADC", adc
    params.xbar.adc.mvm.signed = True
    option = type(params.xbar.adc.mvm.adc_range_option)
    params.xbar.adc.mvm.adc_range_option = option.CALIBRATED
    bound = product.bound * params.xbar.device.Grange_norm  # its converters see currents of g/g_max
    params.xbar.adc.mvm.calibrated_range = np.array([-bound, bound])
    return params


def _run(product: Product, params: Any) -> Array:
    """Products ``[n, outputs]`` of a core that holds the tile's relative weights."""
    core = load().AnalogCore(np.ascontiguousarray(product.weights.T), params)
    return np.asarray(core.matmat(np.ascontiguousarray(product.drives.T)), np.float64).T
