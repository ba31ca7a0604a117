"""NIR files of others, read into the IR: every node by its formula, whole networks against a consumer."""

from __future__ import annotations

import numpy as np
import pytest

nir = pytest.importorskip("nir", reason="nir isn't installed")

import neurodeploy  # noqa: E402
from neurodeploy.errors import ModelError, NeurodeployError, UnsupportedError, UsageError  # noqa: E402
from neurodeploy.ir import interpret  # noqa: E402

DT, T = 1e-3, 40
RNG = np.random.default_rng(0)


def one(node, size, out, tmp_path, **options):
    """The program of a graph of one node between input [shape] and output."""
    shape = np.atleast_1d(size)
    graph = nir.NIRGraph(
        {"in": nir.Input({"input": shape}), "node": node, "out": nir.Output({"output": np.atleast_1d(out)})},
        [("in", "node"), ("node", "out")],
        type_check=False,
    )
    path = tmp_path / "one.nir"
    nir.write(path, graph)
    return neurodeploy.load(path, dt=DT, **options)


def run(program, x):
    return interpret.run(program, {"in": x.astype(np.float32)}).outputs["out"]


def series(*shape):
    return RNG.normal(0, 1, (2, T, int(np.prod(shape)))).astype(np.float32)


def euler(x, step):
    """Outputs of ``step(x_t, state) -> (output, state)`` over time, float64."""
    state, rows = None, []
    for t in range(x.shape[1]):
        y, state = step(x[:, t].astype(np.float64), state)
        rows.append(y)
    return np.stack(rows, axis=1)


P = {k: RNG.uniform(low, high, 5) for k, (low, high) in
     {"tau": (3e-3, 2e-2), "tau_syn": (3e-3, 2e-2), "r": (0.5, 2), "v_leak": (-0.2, 0.2), "w_in": (0.5, 2),
      "v_threshold": (0.2, 0.5), "v_reset": (-0.1, 0.1)}.items()}  # fmt: skip


def membrane(kind, factor, w):
    """A neuron's step, by NIR's equations and Euler's method."""

    def step(x, state):
        v, i = state if state is not None else (np.zeros_like(x), np.zeros_like(x))
        if kind.startswith("Cuba"):
            i = i + DT / P["tau_syn"] * (w * x - i)
            x = i
        u = v + (DT * P["r"] * x if kind in ("I", "IF") else DT / P["tau"] * (P["v_leak"] - v + P["r"] * x))
        if kind in ("I", "LI", "CubaLI"):
            return u, (u, i)
        z = u > P["v_threshold"] * factor
        return z.astype(float), (np.where(z, P["v_reset"], u), i)

    return step


def of(kind, **changes):
    fields = {"I": ["r"], "IF": ["r", "v_threshold", "v_reset"], "LI": ["tau", "r", "v_leak"],
              "LIF": ["tau", "r", "v_leak", "v_threshold", "v_reset"],
              "CubaLI": ["tau_syn", "tau_mem", "r", "v_leak", "w_in"],
              "CubaLIF": ["tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"]}[kind]  # fmt: skip
    values = {**P, "tau_mem": P["tau"], **changes}
    return getattr(nir, kind)(**{k: values[k].copy() for k in fields})


@pytest.mark.parametrize("kind", ["I", "LI", "CubaLI", "IF", "LIF", "CubaLIF"])
def test_neurons(kind, tmp_path):
    x = series(5) * 3
    scale = 0.02 if kind == "IF" else 0.5  # an integrator's membrane moves by dt r x
    program = one(of(kind, v_threshold=P["v_threshold"] * scale), 5, 5, tmp_path)
    wanted = euler(x, membrane(kind, scale, P["w_in"]))
    found = run(program, x)
    if kind.endswith("F"):
        assert wanted.sum() > 20 and (wanted != found).mean() < 0.01  # float32 may pass a threshold a tick apart
    else:
        assert np.abs(wanted - found).max() < 1e-5


def test_the_exponential_method_is_exact_for_held_inputs(tmp_path):
    x = np.repeat(series(5)[:, :4], 10, axis=1)
    found = run(one(of("LI"), 5, 5, tmp_path, method="exponential"), x)
    fine = euler(np.repeat(x, 200, axis=1), lambda u, v: (
        (v if v is not None else 0) + DT / 200 / P["tau"] * (P["v_leak"] - (v if v is not None else 0) + P["r"] * u),) * 2)  # fmt: skip
    assert np.abs(found - fine[:, 199::200]).max() < 1e-3


def test_subtracting_reset(tmp_path):
    x = np.full((1, T, 5), 2.0)
    by_value, by_step = (run(one(of("LIF"), 5, 5, tmp_path, reset=r), x).sum() for r in ("value", "subtract"))
    assert by_step > by_value > 0


def test_maps(tmp_path):
    x = series(5)
    W, b = RNG.normal(size=(3, 5)), RNG.normal(size=3)
    assert np.allclose(run(one(nir.Linear(W), 5, 3, tmp_path), x), x @ W.T, atol=1e-5)
    assert np.allclose(run(one(nir.Affine(W, b), 5, 3, tmp_path), x), x @ W.T + b, atol=1e-5)
    assert np.allclose(run(one(nir.Scale(P["r"]), 5, 5, tmp_path), x), x * P["r"], atol=1e-6)
    assert np.array_equal(run(one(nir.Threshold(P["r"]), 5, 5, tmp_path), x), (x > P["r"].astype(np.float32)))
    delays = np.array([0, 1, 2, 2, 7]) * DT
    found = run(one(nir.Delay(delays), 5, 5, tmp_path), x)
    for i, ticks in enumerate([0, 1, 2, 2, 7]):
        assert np.array_equal(found[:, ticks:, i], x[:, : T - ticks, i]) and not found[:, :ticks, i].any()


def test_convolutions_and_pools_equal_pytorch(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch isn't installed")
    F = torch.nn.functional
    x = series(4, 6, 7)
    image = torch.from_numpy(x.reshape(-1, 4, 6, 7))
    W, b = RNG.normal(size=(6, 2, 3, 2)).astype(np.float32), RNG.normal(size=6).astype(np.float32)
    node = nir.Conv2d((6, 7), W, (2, 1), (1, 0), (1, 2), 2, b)
    wanted = F.conv2d(image, torch.from_numpy(W), torch.from_numpy(b), (2, 1), (1, 0), (1, 2), 2)
    found = run(one(node, (4, 6, 7), wanted.shape[1:], tmp_path), x)
    assert np.allclose(found.reshape(wanted.shape), wanted.numpy(), atol=1e-4)
    wanted = F.avg_pool2d(image, (2, 3), (2, 1), (1, 0))
    found = run(
        one(nir.AvgPool2d(np.array([2, 3]), np.array([2, 1]), np.array([1, 0])), (4, 6, 7), wanted.shape[1:], tmp_path),
        x,
    )
    assert np.allclose(found.reshape(wanted.shape), wanted.numpy(), atol=1e-5)
    signal = series(2, 9)
    W1 = RNG.normal(size=(3, 2, 3)).astype(np.float32)
    wanted = F.conv1d(torch.from_numpy(signal.reshape(-1, 2, 9)), torch.from_numpy(W1), torch.from_numpy(b[:3]), 2, 1)
    found = run(one(nir.Conv1d(9, W1, 2, 1, 1, 1, b[:3]), (2, 9), wanted.shape[1:], tmp_path), signal)
    assert np.allclose(found.reshape(wanted.shape), wanted.numpy(), atol=1e-5)


def test_two_layers_are_read_as_norse_runs_them(tmp_path):
    """A file of another's making, read by Norse and by us."""
    norse = pytest.importorskip("norse.torch", reason="norse isn't installed")
    import torch

    def lif(n):
        return nir.LIF(RNG.uniform(3e-3, 2e-2, n), np.ones(n), np.zeros(n), RNG.uniform(0.2, 0.5, n))

    nodes = {"in": nir.Input({"input": np.array([5])}), "w": nir.Affine(RNG.normal(0, 1, (16, 5)), RNG.normal(0, 1, 16)),
             "a": lif(16), "u": nir.Linear(RNG.normal(0, 3, (4, 16))), "b": lif(4),
             "out": nir.Output({"output": np.array([4])})}  # fmt: skip
    path = tmp_path / "layers.nir"
    nir.write(path, nir.NIRGraph(nodes, [("in", "w"), ("w", "a"), ("a", "u"), ("u", "b"), ("b", "out")]))
    module = norse.from_nir(nir.read(path), dt=DT)
    x = np.abs(series(5)) * 3
    state, rows = None, []
    for t in range(T):
        with torch.no_grad():
            z, state = module(torch.from_numpy(x[:, t]), state)
        rows.append(z.numpy())
    found = interpret.run(neurodeploy.load(path, dt=DT), {"in": x}).outputs["out"]
    assert np.stack(rows, axis=1).sum() > 20
    assert np.array_equal(found, np.stack(rows, axis=1))


def _steps(module, x, keeps=False):
    """Spikes of a PyTorch module that takes and gives a state, or keeps its own."""
    import torch

    state, rows = None, []
    with torch.no_grad():
        for t in range(x.shape[1]):
            if not keeps:
                z, state = module(torch.from_numpy(x[:, t]), state)
            else:
                z = module(torch.from_numpy(x[:, t]))
            rows.append((z[0] if isinstance(z, tuple) else z).numpy())
    return np.stack(rows, axis=1)


def _from_norse():
    norse = pytest.importorskip("norse.torch", reason="norse isn't installed")
    import torch

    def lif(n, threshold):
        p = norse.LIFBoxParameters(torch.full((n,), 100.0), v_th=torch.full((n,), threshold), v_leak=torch.zeros(n))
        return norse.LIFBoxCell(p, dt=DT)

    net = norse.SequentialState(torch.nn.Linear(5, 16), lif(16, 0.3), torch.nn.Linear(16, 4), lif(4, 0.05))
    # Its export writes time constants times dt.
    return norse.to_nir(net, torch.zeros(1, 5)), lambda x: _steps(net, x), {"dt": DT**2}


def _from_snntorch():
    snntorch = pytest.importorskip("snntorch", reason="snnTorch isn't installed")
    import torch
    from snntorch import utils
    from snntorch.export_nir import export_to_nir

    def leaky(n, beta, **more):
        return snntorch.Leaky(beta=torch.full((n,), beta), threshold=torch.full((n,), 0.4), reset_mechanism="zero",
                              init_hidden=True, reset_delay=False, **more)  # fmt: skip

    net = torch.nn.Sequential(
        torch.nn.Linear(5, 16), leaky(16, 0.9), torch.nn.Linear(16, 4), leaky(4, 0.8, output=True)
    )
    graph = export_to_nir(net, torch.zeros(5))
    utils.reset(net)
    return graph, lambda x: _steps(net, x, keeps=True), {}


def _from_spikingjelly():
    exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange", reason="spikingjelly isn't installed")
    import torch
    from spikingjelly.activation_based import functional, layer, neuron

    net = torch.nn.Sequential(layer.Linear(5, 16), neuron.LIFNode(5.0, v_threshold=0.2, v_reset=0.0),
                              layer.Linear(16, 4), neuron.IFNode(0.2, v_reset=0.0))  # fmt: skip
    graph = exchange.export_to_nir(net, torch.zeros(1, 5), dt=DT)
    functional.reset_net(net)
    return graph, lambda x: _steps(net, x, keeps=True), {"dt": DT}


@pytest.mark.parametrize("made", [_from_norse, _from_snntorch, _from_spikingjelly])
def test_files_that_others_export_fire_as_the_exporter_does(made, tmp_path):
    """Nodes are named by numbers there, as PyTorch names layers."""
    torch = pytest.importorskip("torch", reason="PyTorch isn't installed")
    torch.manual_seed(1)
    graph, run_theirs, options = made()
    path = tmp_path / "exported.nir"
    nir.write(path, graph)
    x = np.random.default_rng(1).normal(0, 2, (8, T, 5)).astype(np.float32)
    model = neurodeploy.load(path, **options)
    (given,), (asked,) = model.inputs, model.outputs
    wanted = run_theirs(x)
    assert wanted.sum() > 30
    assert np.array_equal(interpret.run(model, {given: x}).outputs[asked], wanted)


def test_names_that_are_alike_once_they_are_words(tmp_path):
    nodes = {"0": nir.Input({"input": np.array([5])}), "a b": nir.I(np.full(5, 2 / DT)), "a_b": nir.I(np.full(5, 3 / DT)),
             "1": nir.Output({"output": np.array([5])})}  # fmt: skip
    model = neurodeploy.load(write(tmp_path, nodes, [("0", "a b"), ("a b", "a_b"), ("a_b", "1")]), dt=DT)
    assert (list(model.inputs), list(model.outputs)) == (["n_0"], ["n_1"])
    x = series(5)
    found = interpret.run(model, {"n_0": x}).outputs["n_1"]
    assert np.allclose(found, 6 * x.cumsum(axis=1).cumsum(axis=1), atol=1e-3)


def test_a_convolution_on_a_circle_knows_its_image(tmp_path):
    shape, full = (2, 4, 4), {k: np.full((2, 4, 4), v) for k, v in
                              {"tau": 0.01, "r": 10.0, "v_leak": 0.0, "v_threshold": 1.0}.items()}  # fmt: skip
    nodes = {"in": nir.Input({"input": np.array(shape)}), "z": nir.LIF(**full),
             "c": nir.Conv2d((4, 4), np.full((2, 2, 3, 3), -0.1), 1, "same", 1, 1, np.zeros(2)),
             "out": nir.Output({"output": np.array(shape)})}  # fmt: skip
    model = neurodeploy.load(write(tmp_path, nodes, [("in", "z"), ("z", "c"), ("c", "z"), ("z", "out")]), dt=DT)
    x = np.abs(series(*shape))
    v, z = np.zeros((2, *shape)), np.zeros((2, *shape))
    for t in range(T):
        padded = np.pad(z.sum(axis=1), ((0, 0), (1, 1), (1, 1)))
        back = -0.1 * sum(padded[:, i : i + 4, j : j + 4] for i in range(3) for j in range(3))
        v = 0.9 * v + x[:, t].reshape(2, *shape) + back[:, None]  # pyright: ignore[reportIndexIssue]
        z = (v > 1).astype(float)
        v = np.where(z > 0, 0, v)
        found = interpret.run(model, {"in": x[:, : t + 1]}).outputs["out"][:, -1] if t in (3, T - 1) else None
        if found is not None:
            assert z.sum() > 3 and (found.reshape(z.shape) != z).mean() < 0.05


def test_a_read_network_compiles_to_c(tmp_path):
    """A recurrent file, all the way to integer C on the host."""
    n = 8
    nodes = {"in": nir.Input({"input": np.array([5])}), "w": nir.Affine(RNG.normal(0, 2, (n, 5)), np.zeros(n)),
             "z": nir.LIF(np.full(n, 0.01), np.full(n, 10.0), np.zeros(n), np.ones(n)),
             "u": nir.Linear(RNG.normal(0, 0.3, (n, n))), "out": nir.Output({"output": np.array([n])})}  # fmt: skip
    path = tmp_path / "net.nir"
    nir.write(path, nir.NIRGraph(nodes, [("in", "w"), ("w", "z"), ("z", "u"), ("u", "z"), ("z", "out")]))
    model = neurodeploy.load(path, dt=DT)
    x = series(5)
    built = neurodeploy.compile(model, "host", x, costs=False)
    run_ = built.validate(neurodeploy.data.arrange(x, model)).run
    assert all(a.holds for a in run_.agreement)
    assert interpret.run(model, {"in": x}).outputs["out"].sum() > 20


def write(tmp_path, nodes, edges):
    path = tmp_path / "net.nir"
    nir.write(path, nir.NIRGraph(nodes, edges, type_check=False))
    return path


def test_errors(tmp_path):
    broken = tmp_path / "broken.nir"
    broken.write_bytes(b"no HDF5")
    with pytest.raises(ModelError, match=r"broken\.nir: can't be read as NIR"):
        neurodeploy.load(broken)
    ends = {"in": nir.Input({"input": np.array([5])}), "out": nir.Output({"output": np.array([5])})}
    circle = write(tmp_path, {**ends, "a": nir.Scale(np.ones(5)), "b": nir.Scale(np.ones(5))},
                   [("in", "a"), ("a", "b"), ("b", "a"), ("b", "out")])  # fmt: skip
    with pytest.raises(UnsupportedError, match="a circle of out, a, b has no neuron on it|a circle of a, b"):
        neurodeploy.load(circle)
    short = write(tmp_path, {**ends, "n": of("LI", tau=np.full(5, 1e-5))}, [("in", "n"), ("n", "out")])
    with pytest.raises(ModelError, match=r"node 'n' \(LI\): a time constant of 1e-05 s is shorter than dt"):
        neurodeploy.load(short, dt=DT)
    with pytest.raises(UsageError, match="method is 'Euler'"):
        neurodeploy.load(short, method="Euler")
    lonely = write(tmp_path, {**ends, "n": of("LI")}, [("n", "out")])
    with pytest.raises(NeurodeployError, match="nothing leads into it"):
        neurodeploy.load(lonely)


BAD = {
    "weights": (lambda: nir.Linear(np.full((5, 5), np.nan)), {}, r"node 'n' \(Linear\): weight has 25 values that are nan"),
    "threshold": (lambda: of("LIF", v_threshold=np.full(5, np.nan)), {}, "v_threshold has 5 values that are nan"),
    "axes": (lambda: nir.Flatten({"input": np.array([5])}, 3, 9), {}, "flattens axes 3 to 9"),
    "dt": (lambda: of("LI"), {"dt": "fast"}, "dt is fast; needed seconds above 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_wrong_values_are_named(case, tmp_path):
    node, metadata, words = BAD[case]
    nodes = {"in": nir.Input({"input": np.array([5])}), "n": node(), "out": nir.Output({"output": np.array([5])})}
    path = tmp_path / "bad.nir"
    nir.write(path, nir.NIRGraph(nodes, [("in", "n"), ("n", "out")], type_check=False, metadata=metadata))
    with pytest.raises(NeurodeployError, match=words):
        neurodeploy.load(path)


def test_a_pool_without_a_stride_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"stride is \[0, 0\]; needed 2 whole numbers of at least 1"):
        one(nir.SumPool2d(np.array([2, 2]), np.array([0, 0]), np.array([0, 0])), (2, 4, 4), (2, 2, 2), tmp_path)


def test_a_type_that_the_package_does_not_know_is_named(tmp_path):
    h5py = pytest.importorskip("h5py")
    ends = {"in": nir.Input({"input": np.array([5])}), "out": nir.Output({"output": np.array([5])})}
    path = write(tmp_path, {**ends, "n": of("LI")}, [("in", "n"), ("n", "out")])
    with h5py.File(path, "r+") as file:
        del file["node/nodes/n/type"]
        file["node/nodes/n/type"] = "Izhikevich"
    with pytest.raises(UnsupportedError, match="node 'n': nodes Izhikevich aren't read"):
        neurodeploy.load(path)
