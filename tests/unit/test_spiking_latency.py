"""Accuracy against time, by hand."""

import numpy as np
import pytest

from neurodeploy import hardware
from neurodeploy.artifact import Figure, Trace
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Ref, Stage
from neurodeploy.spiking import latency

LABELS = np.array([0, 1, 0])
#: Largest scores after each frame: 1, 0, 0 / 1, 1 / 1, 0, 1 (the padding of sample 1 is not looked at).
WINNERS = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 1]])
TRACE = Trace(
    outputs={}, series={"rnn.y": np.eye(2, dtype=np.int32)[WINNERS]}, steps={"rnn": np.array([3, 2, 3])},
    counters={"spikes": np.array([[1, 2, 3], [4, 5, 0], [0, 0, 7]])},
)  # fmt: skip


def program(drive: str = "forward") -> Program:
    b = Builder()
    x = b.input("x", (2,))
    b.output("y", x * x)
    stage = Stage("rnn", b.graph(), Drive(drive), {"x": Ref("x")})
    return Program("p", {"x": ProgramInput(stage.graph.inputs["x"])}, (stage,), {"y": Ref("y", "rnn", "last")})


def test_decisions_by_hand():
    found = latency.decision(program(), TRACE, LABELS)
    assert found == {
        "frame": [1, 2, 3],
        "accuracy": [pytest.approx(1 / 3), 1.0, pytest.approx(2 / 3)],  # sample 1 has decided at its end
        "spikes": [pytest.approx(5 / 3), pytest.approx(12 / 3), pytest.approx(22 / 3)],
        "steps": [1.0, 2.0, pytest.approx(8 / 3)],
    }
    assert found is not None
    figure = latency.settled(found)
    assert (figure.value, figure.unit) == (2, "frames") and "4 spikes by then" in figure.source


def test_settled_is_for_good():
    run = {"frame": [1, 2, 3, 4], "accuracy": [0.9, 0.5, 0.896, 0.9], "spikes": [1.0, 2.0, 3.0, 4.0]}
    assert latency.settled(run).value == 3
    assert latency.settled({**run, "accuracy": [0.9] * 4}).value == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"counters": {}},
        {"series": {}},
        {"series": {"rnn.y": TRACE.series["rnn.y"][:, :1]}},
        {"series": {"rnn.y": TRACE.series["rnn.y"][..., :1]}},
    ],
    ids=["no spikes", "no scores", "one frame", "one score"],
)
def test_where_time_is_no_question(changes: dict):
    assert latency.decision(program(), Trace(**{**vars(TRACE), **changes}), LABELS) is None


def test_labels_and_drives_that_have_no_decision():
    assert latency.decision(program(), TRACE, None) is None
    assert latency.decision(program(), TRACE, LABELS.astype(float)) is None
    assert latency.decision(program("reverse"), TRACE, LABELS) is None


def test_energy_until_a_frame_takes_updates_by_steps_and_the_rest_by_spikes():
    update = hardware.find_chip("loihi").energy.neuron_update
    assert update is not None
    clocked = [1000 * joule * 1e9 for joule in update.joule]
    unit = "nJ/inference"
    figures = [
        Figure("energy.loihi.low", 100 + clocked[0], unit, "estimated", ""),
        Figure("energy.loihi.high", 300 + clocked[1], unit, "estimated", ""),
        Figure("energy.dense", 7.0, unit, "estimated", ""), Figure("energy.cmos-45nm", 9.0, unit, "estimated", ""),
        Figure.unknown("energy.loihi-2", unit, "nothing published"),
        Figure("NeuronUpdates", 1000, "updates/inference", "simulated", ""),
    ]  # fmt: skip
    run = {"frame": [1, 2], "accuracy": [0.5, 0.5], "spikes": [10.0, 40.0], "steps": [1.0, 2.0]}
    found = latency.energies(run, figures)
    assert set(found) == {"loihi"}
    assert found["loihi"][0] == pytest.approx((25 + clocked[0] / 2, 75 + clocked[1] / 2))
    assert found["loihi"][1] == pytest.approx((100 + clocked[0], 300 + clocked[1]))
    assert latency.energies({**run, "spikes": [0.0, 0.0]}, figures) == {}
