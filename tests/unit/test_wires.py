"""IR drop against nodal analysis of the same circuit."""

import numpy as np
import pytest

from neurodeploy.descriptions_crossbar import Wires

pytest.importorskip("numba")
sparse = pytest.importorskip("scipy.sparse")
linalg = pytest.importorskip("scipy.sparse.linalg")



def made(**values):
    return Wires(**{"row_ohm": 1.0, "column_ohm": 1.0, "source": "a test", **values})


def nodal(g, wires):
    """Every Kirchhoff equation of the array, one sparse solve for each input."""
    rows, columns = g.shape
    count = 2 * rows * columns
    word = np.arange(rows * columns).reshape(rows, columns)
    bit = word + rows * columns
    matrix, driven = sparse.lil_matrix((count, count)), np.zeros((count, rows))

    def connect(a, b, conductance):
        matrix[a, a] += conductance
        matrix[b, b] += conductance
        matrix[a, b] -= conductance
        matrix[b, a] -= conductance

    for i in range(rows):
        for j in range(columns):
            connect(word[i, j], bit[i, j], g[i, j])
            if j:
                connect(word[i, j], word[i, j - 1], 1 / wires.row_ohm)
            if i:
                connect(bit[i, j], bit[i - 1, j], 1 / wires.column_ohm)
    drive, sense = 1 / (wires.row_ohm + wires.driver_ohm), 1 / (wires.column_ohm + wires.sense_ohm)
    inputs = [word[:, 0], word[:, -1]][: 1 if wires.driven == "one end" else 2]
    outputs = [bit[0], bit[-1]][: 1 if wires.sensed == "one end" else 2]
    for nodes in inputs:
        for i, node in enumerate(nodes):
            matrix[node, node] += drive
            driven[node, i] += drive
    for nodes in outputs:
        for node in nodes:
            matrix[node, node] += sense
    volts = linalg.splu(matrix.tocsc()).solve(driven)
    return np.sum([sense * volts[nodes] for nodes in outputs], axis=0).T


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 1), (9, 7), (33, 20), (20, 45)])
@pytest.mark.parametrize(
    "wires",
    [
        made(),
        made(row_ohm=1000.0, column_ohm=0.1),
        made(driver_ohm=100.0, sense_ohm=30.0),
        made(driver_ohm=10.0, driven="both ends"),
        made(sense_ohm=10.0, sensed="both ends"),
        made(driven="both ends", sensed="both ends"),
    ],
)
def test_currents_are_those_of_nodal_analysis(shape, wires):
    g = np.random.default_rng(0).uniform(1e-6, 1e-4, shape)
    found, expected = wires_module.effective(g, wires), nodal(g, wires)
    assert np.abs(found / expected - 1).max() < 1e-11
