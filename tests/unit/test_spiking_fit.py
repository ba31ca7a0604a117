"""Does a spiking network fit a chip: every limit hit on purpose, by hand."""

import numpy as np
import pytest

from neurodeploy import hardware
from neurodeploy.descriptions_neuromorphic import NeuromorphicChip
from neurodeploy.errors import TargetError
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import Quant, TensorType
from neurodeploy.spiking.fit import Fit, fit, fits
from neurodeploy.spiking.net import Projection, SpikingNet, make


def chip(models=("lif",), resets=("subtract",), graded=False, synapse=None, **core) -> NeuromorphicChip:
    """A chip of 4 cores; ``core`` are its limits."""
    neuron = {"models": models, "resets": resets, "graded_spikes": graded, "source": "made up"}
    limits = {"count": 4, "neurons": 1000, "source": "made up", **core}
    parts = {"neuron": neuron, "core": limits, "synapse": {"source": "made up", **(synapse or {})}}
    return NeuromorphicChip.model_validate(
        {"kind": "neuromorphic-chip", "name": "made-up", "title": "Made up", **parts}
    )


def net(weights: np.ndarray, **given) -> SpikingNet:
    n = len(weights)
    basic = {
        "ticks": 1, "dt_s": 1e-3, "beta": 0.5, "threshold": 1.0, "W_in": np.ones((n, 1)), "bias": np.zeros(n),
        "largest_input": 1.0, "projections": [Projection("rec", weights, 0.0)], "keep": 0.5,
        "populations": [("all", n)],
    }  # fmt: skip
    return make(**{**basic, **given})


DENSE = np.ones((10, 10))


def summary(found: Fit) -> tuple:
    return found.cores, found.limit, found.relays, found.fits


def test_a_small_network_needs_one_core():
    assert summary(fit(net(DENSE), chip())) == (1, "", 0, True)


def test_neurons_of_a_core():
    assert summary(fit(net(DENSE), chip(neurons=4))) == (3, "neurons", 0, True)
    found = fit(net(DENSE), chip(neurons=2))
    assert summary(found) == (5, "neurons", 0, False)
    assert found.words == found.warning() == "needs 5 cores, made-up has 4"
    with pytest.raises(TargetError, match="made-up: needs 5 cores, made-up has 4"):
        found.require()


def test_axons_of_a_core():
    # Pairs that hear each other: a core with 4 axons holds two pairs.
    pairs = np.kron(np.eye(5), 1 - np.eye(2))
    assert summary(fit(net(pairs), chip(axons=4))) == (3, "axons", 0, True)
    # Neurons that all hear the same four need these axons once.
    shared = np.zeros((10, 10))
    shared[:, :4] = 1
    assert summary(fit(net(shared), chip(axons=4))) == (1, "", 0, True)


def test_synapses_of_a_core():
    assert summary(fit(net(DENSE), chip(synapses=30))) == (4, "synapses", 0, True)


def test_synaptic_memory_of_a_core_at_the_weights_bits():
    # 1 and 3 need two bits and a sign: 12 bytes hold 32 synapses, three rows of ten.
    weights = DENSE.copy()
    weights[0] = 3
    assert summary(fit(net(weights), chip(synapse_memory_bytes=12))) == (4, "synapses", 0, True)
    # Stored at no less than 6 bits, 16 fit, so one row.
    few = chip(synapse_memory_bytes=12, synapse={"weight_bits": [6, 8]})
    assert summary(fit(net(weights), few)) == (10, "synapses", 0, False)


def test_fan_in_beyond_the_axons_is_split_into_relays():
    # Two relays of five axons for each of ten neurons; a core of ten neurons and five axons holds the ten relays of one
    # block, and two of the neurons, which hear two relays each.
    found = fit(net(DENSE), chip(axons=5, neurons=10, count=100))
    assert summary(found) == (2 + 5, "axons", 20, True)
    assert found.neurons == 30 and found.largest_fan_in == 10
    assert "a neuron has 10 sources: 20 relay neurons approximate its sum" in found.losses
    assert "20 of them relays" in found.figure().source


def test_fan_in_needs_a_tree_of_relays():
    # One neuron hears nine; with two axons a core: 5 relays, then 3, then 2, then itself.
    star = np.zeros((10, 10))
    star[9, :9] = 1
    assert fit(net(star), chip(axons=2, count=100)).relays == 5 + 3 + 2


def test_scattered_sources_are_gathered_in_turn():
    # Every source lies in a block of its own: blocks would gather nothing.
    weights = np.zeros((64, 64))
    weights[63, ::8] = 1
    assert fit(net(weights), chip(axons=4, count=100)).relays == 2


def test_outgoing_connections_of_a_core():
    # Each core of five neurons is heard by the other: five connections.
    assert summary(fit(net(DENSE), chip(neurons=5, outgoing=5))) == (2, "neurons", 0, True)
    # Eight neurons that each reach one, four further on: four connections leave a core of four, two a core of two.
    ring = np.roll(np.eye(8), 4, axis=0)
    assert summary(fit(net(ring), chip(neurons=4, outgoing=4))) == (2, "neurons", 0, True)
    assert summary(fit(net(ring), chip(neurons=4, outgoing=2))) == (4, "outgoing connections", 0, True)
    # All to all, smaller cores only have more of them.
    never = fit(net(DENSE), chip(neurons=5, outgoing=4))
    assert never.cores is None and never.fits is False and never.figure().value is None
    assert never.words == "no placement was found on made-up's 4 cores"
    assert never.lacks == ("no placement was found in which a core has at most 4 outgoing connections",)


def test_one_sign_a_source_needs_copies():
    # Neuron 0 excites neuron 1 and inhibits neuron 2: it is needed twice, and its copy hears what it hears.
    weights = np.zeros((3, 3))
    weights[1, 0], weights[2, 0], weights[0, 2] = 1, -1, 1
    found = fit(net(weights), chip(synapse={"sign_by_source": True, "weight_bits": 1}))
    assert (found.neurons, found.copies) == (4, 1)
    assert "1 of them copies for a second sign" in found.figure().source
    assert not found.losses  # a bit of size and the source's sign: +1 and -1
    assert fit(net(weights), chip()).copies == 0


def test_weights_are_rounded_and_few():
    weights = DENSE.copy()
    weights[3, :4] = 1, 2, 3, 17
    found = fit(net(weights), chip(synapse={"weight_bits": [1, 4], "weight_values": 3}))
    assert found.losses == (
        "weights need 6 bits with their sign, its synapses have 4: rounding changes spikes",
        "a neuron has up to 4 different weights, there it has 3",
    )
    assert found.fits  # rounded
    assert not fit(net(weights), chip(synapse={"weight_bits": 6, "weight_values": 4})).losses


@pytest.mark.parametrize(
    ("changes", "lack"),
    [
        ({"reset": "zero"}, "a spike sets to 0 the membrane, there it subtracts the threshold from it"),
        ({"floor": -1.0}, "membranes have limits, its neurons have none"),
        ({"projections": [Projection("p", DENSE, 0.5)]}, "synaptic currents decay, its synapses have no memory"),
        ({"projections": [Projection("p", DENSE, 0.0, 3)]}, "a synapse delays by 3 ticks, its longest delay is 2"),
        ({"projections": [Projection("p", DENSE, 0.0), Projection("q", DENSE, 0.5)]},
         "a neuron has 2 synaptic currents with decays of their own, it has one"),
    ],
)  # fmt: skip
def test_what_a_chip_cannot_do(changes: dict, lack: str):
    found = fit(net(DENSE, **changes), chip(synapse={"max_delay_ticks": 2}))
    assert lack in found.lacks
    assert found.fits is False and found.cores == 1
    figure = found.figure()
    assert figure.value is None and lack in figure.source and "by size: 1 of 4 cores" in figure.source
    with pytest.raises(TargetError, match="made-up: "):
        found.require()


def test_leaks_need_leaky_neurons_and_programs_do_all():
    assert fit(net(DENSE), chip(models=("if",))).lacks == ("membranes leak by a factor, its neurons don't",)
    assert not fit(net(DENSE, beta=1.0), chip(models=("if",))).lacks
    everything = net(DENSE, floor=-1.0, projections=[Projection("p", DENSE, 0.1), Projection("q", DENSE, 0.5)])
    assert not fit(everything, chip(models=("programmable",))).lacks
    assert not fit(net(DENSE, reset="zero"), chip(resets=())).lacks  # no source says


def _program() -> Program:
    """Twelve levels, sent into themselves and into a readout of two; a table makes them."""
    b = Builder()
    x, k = b.input("x", TensorType((3,), "i16", Quant(1.0))), b.state("k", (12,), dtype="i8")
    W, U, V = (b.param(n, np.ones(s, np.int16)) for n, s in (("W", (12, 3)), ("U", (12, 12)), ("V", (2, 12))))
    level = b("cast", b("relu", W @ x + U @ k), to="i8")
    b.next(k, level)
    b.output("y", V @ level)
    stage = Stage("rnn", b.graph(), Drive("forward"), {"x": Ref("x")})
    meta = {"spiking": {"sent": {"rnn": ["k", level.name]}}}
    inputs = {"x": ProgramInput(TensorType((3,), "i16", Quant(1.0)), "series")}
    return Program("levels", inputs, (stage,), {"y": Ref("y", "rnn", "last")}, "native", meta)


def test_a_step_program_needs_programmable_neurons_and_graded_spikes():
    """Twelve rows and two of the readout hear the same twelve values; inputs are no events."""
    right = fit(_program(), chip(models=("programmable",), graded=True, neurons=10, axons=12))
    assert summary(right) == (2, "neurons", 0, True) and right.neurons == 14 and not right.losses
    wrong = fit(_program(), chip(models=("cuba-lif",)))
    assert wrong.lacks == (
        "neurons compute 0 multiplications, 24 additions, 0 functions a step, its neurons are fixed",
    )
    assert wrong.losses == ("events are graded, its spikes are units: an event of size k would be k spikes",)


def test_loihi_2_takes_what_loihi_cannot():
    first, second = (fit(_program(), hardware.find_chip(name)) for name in ("loihi", "loihi-2"))
    assert first.fits is False and second.fits is True
    assert second.figure().value == 1 and second.words == "1 of 128 cores"


def test_a_chip_without_published_cores_is_unknown():
    found = fit(net(DENSE), hardware.find_chip("spinnaker2"))
    assert found.fits is None and found.figure().value is None
    assert found.words == "no published limits of spinnaker2's cores"
    with pytest.raises(TargetError, match="no published limits"):
        found.require()


def test_all_chips_at_once():
    chips = [hardware.find_chip(name) for name in hardware.names("neuromorphic-chip")]
    found = fits(net(DENSE), chips)
    assert {f.chip for f in found} == {c.name for c in chips} - {"cmos-45nm"}
    silent = Program("other", {}, (), {})
    assert fits(silent, chips) == []


def test_big_networks_on_truenorth_and_loihi():
    dense = net(np.ones((1000, 1000)), beta=1.0)
    small = fit(dense, hardware.find_chip("truenorth"))
    # Four blocks of 256 axons: 4 relays a neuron, four cores of 256 a block; then 1000 neurons with 4 axons each, 64 a core.
    assert (small.relays, small.limit, small.cores) == (4000, "axons", 4 * 4 + 16)
    assert fit(dense, hardware.find_chip("loihi")).cores == 2  # 2^20 bits of synapses at 2 bits: 524 neurons
