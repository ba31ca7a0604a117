"""How weights are stored: every form's kernels against the golden model, exact bytes, and the rules that choose."""

from itertools import product as every
from typing import Any

import numpy as np
import pytest

import neurodeploy
from neurodeploy import hardware, passes
from neurodeploy.backends import backend, runner
from neurodeploy.backends.c_costs import ARMV7EM, ARMV7M
from neurodeploy.backends.c_layouts import PAIRS, PLAIN
from neurodeploy.backends.c_storage import Product, Rule, Stored, candidates, encode, fits_int4
from neurodeploy.data import arrange, load
from neurodeploy.deploy import emulator
from neurodeploy.errors import UsageError
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import TensorType
from tests.host_c import build
from tests.unit.test_c_kernels import SHAPES, extremes

LAYOUTS = {"plain": PLAIN, "pairs": PAIRS}


def affine(name, w, to: str | None = "i16", seed=0):
    """One product with given weights; ``to`` None leaves the sum."""
    rng = np.random.default_rng(seed)
    rows, columns = w.shape
    b = Builder()
    x = b.input("x", (columns,), "i16")
    bias = b.param("bias", rng.integers(-(1 << 24), 1 << 24, rows).astype(np.int32))
    (y,) = b.call("affine", b.param("w", w.astype(np.int8)), x, bias)
    if to is not None:
        bound = int(np.abs(w.astype(np.int64)).sum(1).max()) * 32768 + (1 << 24)
        pre = max(p for p in range(seed % 4 + 1) if bound << p < 1 << 31)
        y = b("requantize", y, b.param("m", rng.integers(1 << 20, 1 << 31, rows).astype(np.int32)), pre=pre, to=to)
    b.output("y", y)
    graph = b.graph()
    stage = Stage("main", graph, inputs_from={"x": Ref("x")})
    return Program(name, {"x": ProgramInput(graph.inputs["x"])}, (stage,), {"y": Ref("y", "main")}, "native")


def four_bits(rows, columns, seed=0):
    """Weights of 4 bits, many of them the least and the greatest."""
    rng = np.random.default_rng(seed)
    w = rng.integers(-8, 8, (rows, columns))
    w[rng.random(w.shape) < 0.3] = 7
    w[rng.random(w.shape) < 0.3] = -8
    return w


def few(rows, columns, seed=0, density=0.2):
    """Few weights, some of them neighbours; the first row empty where there are two."""
    rng = np.random.default_rng(seed)
    w = rng.integers(-128, 128, (rows, columns))
    w[rng.random(w.shape) < 0.2] = -128
    blocks = np.repeat(rng.random((rows, -(-columns // 4))) < density / 2, 4, axis=1)[:, :columns]
    w[(rng.random(w.shape) >= density) & ~blocks] = 0
    if rows > 1:
        w[0] = 0
    return w


def patterns():
    """Every pattern of zeros in up to nine columns."""
    rng = np.random.default_rng(3)
    for columns in range(1, 10):
        mask = np.array(list(every((0, 1), repeat=columns)))
        yield mask * np.where(
            rng.random(mask.shape) < 0.5, rng.integers(-128, 0, mask.shape), rng.integers(1, 128, mask.shape)
        )


def sparse_matrices():
    made = [few(*shape, seed=i) for i, shape in enumerate(SHAPES)]
    made += [few(3, columns, seed=columns, density=0.1) for columns in (255, 256, 257, 259, 260, 300, 515, 1030)]
    made += [
        np.zeros((1, 1)),
        np.zeros((5, 9)),
        np.zeros((2, 300)),
        np.full((3, 9), -128),
        np.full((2, 262), 127),
        *patterns(),
    ]
    return [m.astype(np.int64) for m in made]


def int4_matrices():
    made = [four_bits(*shape, seed=i) for i, shape in enumerate(SHAPES)]
    made += [
        np.zeros((1, 1)),
        np.array([[-8]]),
        np.array([[7]]),
        np.full((6, 5), -8),
        np.full((4, 200), 7),
        np.full((4, 400), -8),
    ]
    made += [np.array(list(every((-8, -7, -1, 0, 1, 7), repeat=4))).reshape(-1, 1)]  # four rows that share a halfword
    made += [np.array(list(every(range(-8, 8), repeat=2)))]  # two columns that share a word
    return [m.astype(np.int64) for m in made]


MATRICES = {"sparse": sparse_matrices, "i4": int4_matrices}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", MATRICES)
def test_every_form_is_exact(form, layout):
    programs = [
        affine(f"{form}_{i}_{to}", w, to, i) for i, w in enumerate(MATRICES[form]()) for to in ("i16", "i8", None)
    ]
    built = build(programs, LAYOUTS[layout], rule=Rule(form=form)).compile()
    for p in programs:
        assert [s.form for _, s in built.codes[p.name].storage.products] == [form], p.name
        x = extremes(p.inputs["x"].type.size)
        with np.errstate(all="ignore"):
            golden = interpret.run(p, {"x": x})
        np.testing.assert_array_equal(
            built.run(p.name, {"x": x}, states=False).outputs["y"], golden.outputs["y"], err_msg=p.name
        )


@pytest.mark.board
@pytest.mark.parametrize("form", MATRICES)
@pytest.mark.parametrize("board", ["mps2-an385", "mps2-an386", "mps2-an500", "mps2-an505"])
def test_every_form_is_exact_on_a_board(board, form):
    """The assembly, where a family has it: every end of the unrolled loops, and shapes that are no multiples."""
    if not emulator.available(board):
        pytest.skip("no emulator is installed")
    shapes = [(5, 7), (31, 39), (8, 8), (7, 12), (4, 300 if form == "sparse" else 44), (1, 1), (33, 20), (2, 530)]
    make = few if form == "sparse" else four_bits
    singles = np.tril(np.ones((21, 80), int))[:, ::4] * np.arange(1, 21)  # 0 to 20 singles in a row
    wide = np.zeros((21, 80), int)
    wide[:, ::4] = np.where(np.arange(21)[:, None] > np.arange(20), singles, 0)
    matrices = [make(*shape, seed=i) for i, shape in enumerate(shapes)] + ([wide] if form == "sparse" else [])
    tos = ["i16", "i16", None, "i8", "i16", "i8", None, "i16", "i16"]
    parts = [affine(f"p{i}", w, to, i) for i, (w, to) in enumerate(zip(matrices, tos, strict=False))]
    for first in range(0, len(parts), 8):
        check_on_board(board, parts[first : first + 8], form)


def check_on_board(board, parts, form):
    inputs = {f"x{i}": p.inputs["x"] for i, p in enumerate(parts)}
    stages = tuple(Stage(f"s{i}", p.stages[0].graph, inputs_from={"x": Ref(f"x{i}")}) for i, p in enumerate(parts))
    program = Program("kernels", inputs, stages, {f"y{i}": Ref("y", f"s{i}") for i in range(len(parts))}, "native")
    artifact = backend("c").compile(program, hardware.find(board), storage=form)  # type: ignore[call-arg]
    assert {p["form"] for p in artifact.manifest["storage"]["products"]} == {form}
    data = {f"x{i}": extremes(p.inputs["x"].type.size, i, 4) for i, p in enumerate(parts)}
    golden = runner("golden").run(artifact, data)
    found = runner("board").run(artifact, data)
    for name, array in golden.outputs.items():
        np.testing.assert_array_equal(found.outputs[name], array, err_msg=name)


# -- bytes and rules ---------------------------------------------------------------------------------------------------


def as_product(w, mult=True):
    w = np.asarray(w)
    numbers = np.ones(len(w), np.int32)
    return Product(
        "p", w.astype(np.int8 if np.abs(w).max(initial=0) < 128 else np.int16), numbers, numbers if mult else None, 0
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bytes_of_candidates_are_exact(layout):
    order, costs = LAYOUTS[layout], ARMV7M
    for w in [*sparse_matrices(), *int4_matrices()]:
        w = np.pad(w, ((0, 0), (0, -w.shape[1] % order.columns)))
        for mult in (True, False):
            product = as_product(w, mult)
            for c in candidates(product, order, costs):
                assert encode(Stored(product, c.form, ()), order).nbytes == c.nbytes, (c, w.shape)


def test_pinned_bytes():
    """Weights, 32 biases and 32 multipliers of a matrix of 32 x 40 with 128 weights, 32 of them in 8 tiles."""
    w = np.zeros((32, 40), int)
    w[:8, 4:8] = 1
    w[8:, 0:40:10] = 2
    found = {n: {c.form: c.nbytes for c in candidates(as_product(w), order, ARMV7M)} for n, order in LAYOUTS.items()}
    sparse = 2 * 32 + 5 * 8 + 2 * 96 + 256
    assert found["plain"] == {"i8": 1280 + 256, "i4": 640 + 256, "sparse": sparse}
    assert found["pairs"] == {"i8": 1280 + 8 * 40, "i4": 640 + 256, "sparse": sparse}


def test_int4_is_refused_where_its_kernels_sums_could_leave_32_bits():
    w = np.full((4, 480), -8)
    assert fits_int4(w, PAIRS) and (8 + 16 * 8) * 480 == 65280
    w = np.full((4, 484), -8)
    assert not fits_int4(w, PAIRS) and fits_int4(w, PLAIN)
    w[1] = 7  # 8 + 112 for every column
    assert fits_int4(w, PAIRS)
    assert not fits_int4(np.array([[8]]), PLAIN) and not fits_int4(np.array([[-9]]), PAIRS)


def test_int4_sums_are_exact_at_their_limit():
    parts = [
        affine(f"limit_{i}", w)
        for i, w in enumerate([np.full((4, 480), -8), np.tile([[7], [7], [-8], [-8]], (1, 544))])
    ]
    built = build(parts, PAIRS, rule=Rule(form="i4")).compile()
    for p in parts:
        assert [s.form for _, s in built.codes[p.name].storage.products] == ["i4"]
        x = extremes(p.inputs["x"].type.size)
        found = built.run(p.name, {"x": x}, states=False).outputs["y"]
        np.testing.assert_array_equal(found, interpret.run(p, {"x": x}).outputs["y"])


def forms(board, matrices, optimize="balanced"):
    parts = [affine(f"p{i}", np.asarray(w)) for i, w in enumerate(matrices)]
    inputs = {f"x{i}": p.inputs["x"] for i, p in enumerate(parts)}
    stages = tuple(Stage(f"s{i}", p.stages[0].graph, inputs_from={"x": Ref(f"x{i}")}) for i, p in enumerate(parts))
    program = Program("rules", inputs, stages, {f"y{i}": Ref("y", f"s{i}") for i in range(len(parts))}, "native")
    artifact = backend("c").compile(program, hardware.find(board), optimize=optimize)  # type: ignore[call-arg]
    return [p["form"] for p in artifact.manifest["storage"]["products"]], artifact


DENSE = np.random.default_rng(0).integers(-127, 128, (128, 128))
FEW = few(64, 64, density=0.05).clip(-127)
HALF = np.where(np.isin(np.arange(128) % 8, (0, 2, 4)), 99, 0) * np.ones((100, 1), int)  # 48 singles a row
FOUR = four_bits(64, 64)


def test_the_rules():
    board = "mps2-an386"
    for optimize in ("balanced", "speed", "size"):
        assert forms(board, [DENSE, FEW], optimize)[0] == ["i8", "sparse"]
    assert forms(board, [FOUR, FOUR])[0] == ["i4", "i4"]
    assert forms(board, [FOUR], "size")[0] == ["i4"]
    assert forms(board, [FOUR], "speed")[0] == ["i8"]  # the kernel of 4 bits is a little slower
    chosen = [forms(board, [HALF], optimize)[0] for optimize in ("balanced", "speed", "size")]
    assert chosen == [["i8"], ["i8"], ["sparse"]]  # smaller, but slower by more than a quarter


def test_a_kernel_that_one_small_product_would_bring_along_counts():
    small = few(8, 24, density=0.05).clip(-127)
    (sparse,) = [c for c in candidates(as_product(small), PAIRS, ARMV7EM) if c.form == "sparse"]
    dense = candidates(as_product(small), PAIRS, ARMV7EM)[0]
    assert sparse.nbytes < dense.nbytes < sparse.nbytes + ARMV7EM.forms["sparse"].code
    assert forms("mps2-an386", [DENSE, small])[0] == ["i8", "i8"]
    assert forms("mps2-an386", [DENSE, FEW, small])[0] == ["i8", "sparse", "sparse"]


def test_the_build_tells_what_was_chosen_and_why():
    (_, sparse), artifact = forms("mps2-an386", [DENSE, FEW])
    row = artifact.manifest["storage"]["products"][1]
    assert (row["shape"], row["nonzero"], sparse) == ([64, 64], int(np.count_nonzero(FEW)), "sparse")
    assert set(row["candidates"]) == {"i8", "sparse"} and artifact.manifest["storage"]["optimize"] == "balanced"
    bytes_of = [p["candidates"][p["form"]]["bytes"] for p in artifact.manifest["storage"]["products"]]
    (weights,) = [f["value"] for f in artifact.manifest["figures"] if f["name"] == "flash_weights"]
    assert weights == sum(bytes_of)
    readme = artifact.files["README.md"].decode()
    assert f"| rows without zeros | {row['candidates']['sparse']['bytes']} |" in readme and "mps2-an386" in readme


def test_bad_options_are_refused():
    with pytest.raises(UsageError, match="optimize is 'fast'; needed: balanced, speed, size"):
        forms("host", [DENSE], "fast")
    with pytest.raises(UsageError, match="storage is 'i5'"):
        Rule(form="i5")


# -- networks ----------------------------------------------------------------------------------------------------------


def reservoir(units, inputs, density, seed):
    """An echo state network with random sparse weights in native numerics, calibrated on noise."""
    rng = np.random.default_rng(seed)
    recurrent = rng.normal(size=(units, units)) * (rng.random((units, units)) < density)
    recurrent *= 0.9 / max(0.1, np.abs(recurrent).sum(1).max())
    b = Builder()
    x, h = b.input("x", (inputs,)), b.state("h", (units,))
    weights = [b.param("W_in", rng.normal(size=(units, inputs)).astype(np.float32)),
               b.param("W", recurrent.astype(np.float32)), b.param("bias", rng.normal(size=units).astype(np.float32))]  # fmt: skip
    (new,) = b.call("leaky", x, h, *weights, b.param("leak", np.float32(0.5)))
    b.next(h, new)
    b.output("h", new)
    stage = Stage("main", b.graph(), inputs_from={"x": Ref("x")})
    program = Program(f"esn_{seed}", {"x": ProgramInput(TensorType((inputs,)))}, (stage,), {"h": Ref("h", "main")})
    samples = rng.normal(size=(3, 12, inputs)).astype(np.float32)
    data = arrange(samples, program)
    return passes.run(program, passes.pipeline("c", "native", data=data), progress=lambda _: None), samples


@pytest.mark.parametrize("layout", LAYOUTS)
def test_random_reservoirs_are_exact(layout):
    made = [reservoir(units, inputs, density, seed) for seed, (units, inputs, density) in enumerate(
        [(30, 3, 0.1), (41, 5, 0.05), (64, 1, 0.2), (25, 7, 0.0), (270, 2, 0.02)])]  # fmt: skip
    rule = Rule("size", ARMV7EM if layout == "pairs" else ARMV7M)
    built = build([p for p, _ in made], LAYOUTS[layout], rule=rule).compile()
    for program, samples in made:
        assert "sparse" in [s.form for _, s in built.codes[program.name].storage.products], program.name
        golden = interpret.run(program, {"x": samples})
        found = built.run(program.name, {"x": samples})
        np.testing.assert_array_equal(found.outputs["h"], golden.outputs["h"], err_msg=program.name)


@pytest.fixture(scope="module")
def vowels():
    """The example echo state net with a few utterances to calibrate and run."""
    root = hardware.data_folder("firmware").parent / "examples"
    if not root.is_dir():
        pytest.skip("the examples are in the repository only")
    program = neurodeploy.load(root / "models" / "vowels_esn.npz")
    return program, load(root / "data" / "japanese_vowels_train.npz", program).first(20)


@pytest.mark.board
@pytest.mark.parametrize("board", ["mps2-an385", "mps2-an386"])
def test_the_example_reservoir_is_smaller_and_faster(vowels, board):
    """Bytes exactly; on a Cortex-M4 7,488 B of flash instead of 16,024 when this was written (gcc -O2)."""
    program, data = vowels
    counts = {}
    options: dict[str, Any]
    for option, value in (("storage", "i8"), ("optimize", "balanced"), ("optimize", "speed")):
        options = {option: value}
        built = neurodeploy.compile(program, board, data, costs=False, **options)
        products = built.artifact.manifest["storage"]["products"]
        assert products[0]["form"] == ("i8" if option == "storage" else "sparse")
        bytes_of = [{form: c["bytes"] for form, c in p["candidates"].items()} for p in products]
        assert [each["sparse"] for each in bytes_of] == [2 * 100 + 5 * 301 + 2 * 987 + 800, 1215]
        if board == "mps2-an386":  # rows in fours, ten words of biases and multipliers
            assert [each["i8"] for each in bytes_of] == [25 * 4 * (112 + 10), 3 * 4 * (100 + 10)]
        weights = sum(each[p["form"]] for each, p in zip(bytes_of, products, strict=True))
        assert {f["name"]: f["value"] for f in built.artifact.manifest["figures"]}["flash_weights"] == weights
        if not emulator.available(board):
            continue
        sample = data.first(1)
        trace = runner("board").run(built.artifact, dict(sample.inputs), sample.lengths)
        golden = runner("golden").run(built.artifact, dict(sample.inputs), sample.lengths)
        np.testing.assert_array_equal(trace.outputs["y"], golden.outputs["y"])
        counts[value] = next(iter(trace.counters.values())).max()
    assert not counts or (counts["speed"] < 0.9 * counts["i8"] and counts["balanced"] <= counts["i8"])


@pytest.mark.board
@pytest.mark.parametrize("board", ["mps2-an385", "mps2-an386", "microbit", "rv32-virt", "mps3-an547"])
def test_estimates_are_near_what_is_counted(board):
    """Costs that no longer fit their kernels would choose wrongly: count them anew with benchmarks/storage_costs.py."""
    if not emulator.available(board):
        pytest.skip("no emulator is installed")
    for form, w in (("i8", DENSE), ("i4", FOUR), ("sparse", FEW), ("sparse", HALF)):
        program = affine("one", w)
        artifact = backend("c").compile(program, hardware.find(board), storage=form)  # type: ignore[call-arg]
        (row,) = artifact.manifest["storage"]["products"]
        trace = runner("board").run(artifact, {"x": extremes(w.shape[1], samples=2)})
        counted = trace.counters["main.instructions"].max()
        assert row["form"] == form
        assert row["candidates"][form]["instructions"] == pytest.approx(counted, rel=0.1), (form, counted)
