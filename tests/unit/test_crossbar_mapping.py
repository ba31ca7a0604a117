"""Which products share a matrix, what is counted, and where tiles lie."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodeploy import compiler, hardware
from neurodeploy.backends.crossbar import CrossbarBackend
from neurodeploy.crossbar.manifest import described
from neurodeploy.crossbar.mapping import placement, tiles
from neurodeploy.crossbar.mapping.tiles import Matrix
from neurodeploy.crossbar.simulate import Chips
from neurodeploy.data import Data
from neurodeploy.deploy.crossbar import CrossbarRunner
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.errors import NeurodeployError, TargetError, UnsupportedError, UsageError
from neurodeploy.ir import interpret, text
from neurodeploy.ir.build import Builder, Sym
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage, Value
from neurodeploy.passes.tiling import OP, Tiling
from neurodeploy.passes.tiling_plan import cut, empty
from tests.families import CASES

IDEAL, PCM = hardware.find("ideal-128", Crossbar), hardware.find("pcm-128", Crossbar)


def with_array(**changes: Any) -> Crossbar:
    return IDEAL.model_copy(update={"array": IDEAL.array.model_copy(update=changes)})


def program_of(b: Builder, inputs: dict[str, Sym], outputs: str = "y", numerics: str = "float") -> Program:
    stage = Stage("s", b.graph(), inputs_from={name: Ref(name) for name in inputs})
    given_ = {name: ProgramInput(x.type) for name, x in inputs.items()}
    return Program("net", given_, (stage,), {name: Ref(name, "s") for name in outputs}, numerics)


def weight(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def held(program: Program) -> list[Value]:
    return [v for stage in program.stages for v in stage.graph.values if v.op == OP]


def names(program: Program) -> list[tuple[list[str], list[str]]]:
    """Weights and vectors of each matrix."""
    return [([p["weight"] for p in v.attrs["parts"]], [s["value"] for s in v.attrs["segments"]]) for v in held(program)]


def conversions(program: Program, target: Crossbar = IDEAL) -> tuple[int, int]:
    found = tiles.matrices(program, target)
    return sum(m.dac_conversions for m in found), sum(m.adc_conversions for m in found)


# --------------------------------------------------------------------------------------------------------- joining


def test_an_lstms_matrices_become_one():
    program = CASES["lstm"].program  # 4 inputs, 6 units, 3 outputs
    joined, apart = Tiling()(program), Tiling(join="never")(program)
    assert names(joined) == [(["W", "U"], ["x", "h"]), (["V"], ["lstm_h"])]
    assert held(joined)[0].name == "lstm.add", "the sum keeps its name"
    assert conversions(apart) == (4 + 6 + 6, 24 + 24 + 3)
    assert conversions(joined) == (4 + 6 + 6, 24 + 3)
    digital = [v.op for v in joined.stages[0].graph.values]
    assert digital.count("add") == [v.op for v in apart.stages[0].graph.values].count("add") - 1


def test_a_grus_gates_share_word_lines_and_leave_cells_empty():
    """Reset after the product: r and z need x and h, the candidate needs W x and U h apart."""
    program = CASES["gru_reset_after"].program
    joined = Tiling()(program)
    assert names(joined) == [
        (["W[12:18]", "W[0:12]", "U[0:12]", "U[12:18]"], ["x", "h"]),
        (["V"], ["gru"]),
    ]
    assert conversions(joined) == (4 + 6 + 6, 24 + 3)
    matrix, _ = tiles.matrices(joined, IDEAL)
    (tile,) = matrix.tiles
    assert tile.empty == (((0, 4), (18, 24)), ((4, 10), (0, 6)))
    assert tile.weights == 18 * 4 + 18 * 6
    data = tiles.weights(joined, matrix)
    for inputs, outputs in tile.empty:
        assert not data[slice(*outputs), slice(*inputs)].any()
    assert np.count_nonzero(data) == tile.weights
    assert conversions(Tiling(encoding="offset")(program)) == (4 + 6 + 4 + 6 + 6, 12 + 6 + 6 + 3), (
        "no empty cells there"
    )


def test_a_vector_is_converted_twice_only_where_that_saves_more():
    """Reset before the product: x drives r and z at once, the candidate when r is known."""
    for inputs, wanted, count in (
        (4, [(["W[0:12]", "U[0:12]"], ["x", "h"]), (["W[12:18]", "U[12:18]"], ["x", "gru.mul"])], 10 + 12 + 10 + 6),
        (8, [(["W[12:18]", "W[0:12]", "U[0:12]"], ["x", "h"]), (["U[12:18]"], ["gru.mul"])], 14 + 18 + 6 + 6),
    ):
        b = Builder()
        x, h = b.input("x", (inputs,)), b.state("h", (6,))
        params = [("W", (18, inputs)), ("U", (18, 6)), ("b", (18,))]
        (new,) = b.call("gru", x, h, *(b.param(n, weight(*s)) for n, s in params), reset_after=False)
        b.next(h, new)
        b.output("y", new)
        tiled = Tiling()(program_of(b, {"x": x}))
        assert names(tiled) == wanted
        assert sum(conversions(tiled)) == count


def test_sums_are_not_joined_where_nothing_is_saved():
    """100 and 100 inputs on 128 rows: two partial sums either way."""
    for inputs, joined in ((100, False), (28, True)):
        b = Builder()
        x, h = b.input("x", (inputs,)), b.input("h", (100,))
        b.output("y", b.param("W", weight(8, inputs)) @ x + b.param("U", weight(8, 100)) @ h)
        assert (len(names(Tiling()(program_of(b, {"x": x, "h": h})))) == 1) == joined


def test_what_is_used_elsewhere_or_guarded_stays_apart():
    b = Builder()
    x, h, on = b.input("x", (3,)), b.input("h", (3,)), b.input("on", (), "bool")
    first = b.param("W", weight(2, 3)) @ x
    state = b.state("s", (2,))
    b.next(state, b("tanh", b.param("A", weight(2, 3)) @ x + b.param("B", weight(2, 3)) @ h), when=on)
    b.output("y", first + b.param("U", weight(2, 3)) @ h)
    b.output("z", first)
    found = names(Tiling()(program_of(b, {"x": x, "h": h, "on": on}, "yz")))
    assert sorted(found) == [(["A", "B"], ["x", "h"]), (["U"], ["h"]), (["W"], ["x"])]


def three_terms(order: str, numerics: str = "float") -> tuple[Program, dict[str, np.ndarray]]:
    """``W x``, ``U h`` and something digital, added in the order given."""
    rng = np.random.default_rng(0)
    data: dict[str, np.ndarray]
    b = Builder()
    if numerics == "float":
        x, h, d = b.input("x", (5,)), b.input("h", (7,)), b.input("d", (6,))
        w, u = weight(6, 5), weight(6, 7)
        data = {n: rng.normal(size=(3, 4, s)).astype(np.float32) for n, s in (("x", 5), ("h", 7), ("d", 6))}
    else:
        x, h, d = b.input("x", (5,), "i16"), b.input("h", (7,), "i16"), b.input("d", (6,), "i32")
        w, u = (rng.integers(-127, 128, (6, n)).astype(np.int8) for n in (5, 7))
        data = {n: rng.integers(-32768, 32768, (3, 4, s)).astype(np.int16) for n, s in (("x", 5), ("h", 7))}
        data["d"] = rng.integers(-(2**30), 2**30, (3, 4, 6)).astype(np.int32)
    terms = {"W": b("matmul", b.param("W", w), x), "U": b("matmul", b.param("U", u), h), "d": d}
    total = terms[order[0]]
    for letter in order[1:]:
        total = b("add", total, terms[letter])
    b.output("y", total)
    return program_of(b, {"x": x, "h": h, "d": d}, numerics=numerics), data


@pytest.mark.parametrize("order", ["WUd", "WdU", "dWU"])
def test_terms_between_products_are_added_afterwards(order: str):
    program, data = three_terms(order)
    tiled = Tiling()(program)
    assert names(tiled) == [(["W", "U"], ["x", "h"])]
    found, wanted = (interpret.run(p, data).outputs["y"] for p in (tiled, program))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_integers_are_joined_only_where_no_order_of_adding_overflows():
    """An i32 of unknown size between two products can make another order overflow; next to them it can't."""
    for order, joined in (("WUd", True), ("WdU", False), ("dWU", False)):
        program, data = three_terms(order, "native")
        tiled = Tiling()(program)
        assert (len(names(tiled)) == 1) == joined
        assert np.array_equal(interpret.run(tiled, data).outputs["y"], interpret.run(program, data).outputs["y"])


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.integer and case.program.numerics == "float"])
def test_joining_keeps_every_bit_of_integers(name: str):
    case = CASES[name]
    data = Data(case.inputs, case.lengths)
    plain = compiler.prepare(case.program, "crossbar", "native", data, progress=lambda _: None)
    tiled = Tiling()(plain)
    assert text.from_files(text.to_files(tiled, "p"), "p") == tiled
    assert Tiling()(tiled) == tiled, "tiling a tiled program changes it"
    golden, found = (interpret.run(p, case.inputs, case.lengths, states=True) for p in (plain, tiled))
    for one, other in ((golden.outputs, found.outputs), (golden.states, found.states)):
        assert all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("bias", ["digital", "array"])
@pytest.mark.parametrize("name", CASES)
def test_joining_keeps_the_meaning_of_every_family(name: str, bias: str):
    case = CASES[name]
    tiled = Tiling(bias="digital" if case.program.numerics == "native" else bias)(case.program)
    golden, found = (interpret.run(p, case.inputs, case.lengths) for p in (case.program, tiled))
    for key, wanted in golden.outputs.items():
        np.testing.assert_allclose(found.outputs[key], wanted, atol=2e-6, rtol=1e-6)


def random_network(seed: int, numerics: str) -> tuple[Program, dict[str, np.ndarray]]:
    """Sums of products, constants and other values in random trees, over inputs and over what earlier sums became."""
    rng = np.random.default_rng(seed)
    whole = numerics == "native"
    b = Builder()
    sizes = rng.integers(1, 9, 3)
    inputs = {f"x{i}": b.input(f"x{i}", (int(n),), "i16" if whole else "f32") for i, n in enumerate(sizes)}
    vectors, sums = list(inputs.values()), []
    for i in range(rng.integers(2, 6)):
        outputs = int(rng.integers(1, 7))
        terms = []
        for k in range(rng.integers(1, 5)):
            x = vectors[rng.integers(len(vectors))]
            w = rng.normal(size=(outputs, x.type.shape[0]))
            terms.append(b("matmul", b.param(f"W{i}_{k}", np.rint(30 * w).astype(np.int8) if whole else w), x))
        if rng.random() < 0.5:
            c = rng.normal(size=outputs)
            terms.append(b.param(f"b{i}", np.rint(1000 * c).astype(np.int32) if whole else c))
        terms += [old for old in sums if old.type.shape == (outputs,) and rng.random() < 0.5]
        while len(terms) > 1:
            at = rng.integers(len(terms) - 1)
            terms[at : at + 2] = [b("add", terms[at], terms[at + 1])]
        sums.append(terms[0])
        new = b("requantize", terms[0], b.param(f"m{i}", np.full(outputs, 1 << 22, np.int32)), to="i16", pre=0)             if whole else b("tanh", terms[0])  # fmt: skip
        vectors.append(new)
        b.output(f"y{i}", terms[0] if rng.random() < 0.3 else new)
    shape = {n: (3, 2, x.type.shape[0]) for n, x in inputs.items()}
    data = {
        n: rng.integers(-9999, 9999, s).astype(np.int16) if whole else rng.normal(size=s).astype(np.float32)
        for n, s in shape.items()
    }
    graph = b.graph()
    stage = Stage("s", graph, inputs_from={name: Ref(name) for name in inputs})
    given_ = {name: ProgramInput(x.type) for name, x in inputs.items()}
    return Program("net", given_, (stage,), {name: Ref(name, "s") for name in graph.outputs}, numerics), data


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from(["float", "native"]), st.integers(2, 20), st.integers(3, 30),
       st.sampled_from(["differential", "offset", "one-sided"]), st.sampled_from(["digital", "array"]))  # fmt: skip
def test_random_sums_keep_their_meaning_and_never_cost_more(
    seed: int, numerics: str, rows: int, columns: int, encoding: str, bias: str
):
    program, data = random_network(seed, numerics)
    target = with_array(rows=rows, columns=columns, encoding=encoding)
    tiled = Tiling.of(target.array, bias="digital" if numerics == "native" else bias)(program)
    golden, found = interpret.run(program, data).outputs, interpret.run(tiled, data).outputs
    for name, wanted in golden.items():
        if numerics == "native":
            assert np.array_equal(found[name], wanted)
        else:
            np.testing.assert_allclose(found[name], wanted, atol=1e-4)
    assert Tiling.of(target.array)(tiled) == tiled
    apart, joined = (Tiling.of(target.array, join)(program) for join in ("never", "auto"))
    assert sum(conversions(joined, target)) <= sum(conversions(apart, target))


def test_biases_on_the_array_take_a_word_line_that_is_always_one():
    tiled = Tiling(bias="array")(CASES["elman_tanh"].program)
    assert names(tiled) == [(["W", "b", "U"], ["x", "h", "one"]), (["V", "c"], ["elman", "one"])]
    assert not any(v.op == "add" for v in tiled.stages[0].graph.values)
    first, _ = tiles.matrices(tiled, IDEAL)
    assert (first.inputs, first.outputs) == (4 + 6 + 1, 6)
    assert first.segments == ((0, 4, None), (4, 10, None), (10, 11, None))


def test_a_constant_line_links_nothing():
    """Two layers of their own vectors stay two matrices, though both have a bias on the array."""
    b = Builder()
    x, h = b.input("x", (3,)), b.input("h", (4,))
    b.output("y", b.param("W", weight(5, 3)) @ x + b.param("b", weight(5)))
    b.output("z", b.param("U", weight(6, 4)) @ h + b.param("c", weight(6)))
    found = names(Tiling(bias="array")(program_of(b, {"x": x, "h": h}, "yz")))
    assert found == [(["W", "b"], ["x", "one"]), (["U", "c"], ["h", "one"])]


def test_a_vector_that_is_concatenated_already_has_its_parts_as_segments():
    tiled = Tiling()(CASES["fully_recurrent"].program)
    assert names(tiled)[0] == (["W"], ["x", "z"])


# ---------------------------------------------------------------------------------------------------- cutting, counting

SPANS = st.tuples(st.integers(1, 30), st.integers(1, 30))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 6)), min_size=1, max_size=4), st.integers(1, 12),
       st.integers(1, 9), st.integers(1, 3), st.randoms(use_true_random=False))  # fmt: skip
def test_tiles_of_a_block_matrix_hold_every_weight_once(
    sums: list[tuple[int, int]], rows: int, outputs: int, vectors: int, random: Any
):
    """Against a mask of the weights drawn cell by cell."""
    sizes = [random.randint(1, 9) for _ in range(vectors)]
    starts = np.cumsum([0, *sizes])
    rectangles, at = [], 0
    for size, mask in sums:
        for v in range(vectors):
            if mask >> v & 1 or v == mask % vectors:
                rectangles.append(((int(starts[v]), int(starts[v + 1])), (at, at + size)))
        at += size
    wanted = np.zeros((starts[-1], at), int)
    for i, o in rectangles:
        wanted[slice(*i), slice(*o)] = 1
    found = np.zeros_like(wanted)
    for i, o in cut(rectangles, rows, outputs):
        assert i[1] - i[0] <= rows
        assert o[1] - o[0] <= outputs
        part = np.ones((i[1] - i[0], o[1] - o[0]), int)
        for a, b in empty(rectangles, (i, o)):
            part[a[0] - i[0] : a[1] - i[0], b[0] - o[0] : b[1] - o[0]] -= 1
        assert part.min() >= 0
        assert part.any(), "a tile without weights"
        assert part[0].any() and part[-1].any(), "a word line without weights at a tile's end"
        found[slice(*i), slice(*o)] += part
    assert np.array_equal(found, wanted)


def product(outputs: int, inputs: int) -> Program:
    b = Builder()
    x = b.input("x", (inputs,))
    b.output("y", b.param("W", weight(outputs, inputs)) @ x)
    return Tiling()(program_of(b, {"x": x}))


COUNTS: list[tuple[dict[str, Any], int, int, int, int, int]] = [
    # array -> tiles, DAC, ADC, devices, additions of 70 outputs over 200 inputs on 128 x 128
    ({}, 4, 200 * 2, 70 * 2, 2 * 70 * 200, 70),
    ({"encoding": "offset"}, 2, 200, 70 * 2, 70 * 200 + 200, 70),
    ({"encoding": "one-sided"}, 2, 200, 70 * 2, 70 * 200, 70 + 198 + 140),
    ({"weight_bits": 8, "slice_bits": 3}, 2 * 4, 200 * 4, 70 * 2 * 3, 2 * 3 * 70 * 200, 70 * 5),
    ({"weight_bits": 8, "slice_bits": 2, "encoding": "offset"}, 2 * 3, 200 * 3, 70 * 2 * 4, 4 * 70 * 200 + 600, 70 * 7),
    ({"weight_bits": 8, "slice_bits": 2, "encoding": "one-sided"}, 2 * 3, 200 * 3, 70 * 2 * 4, 4 * 70 * 200,
     70 * 7 + 3 * 198 + 140),
]  # fmt: skip


@pytest.mark.parametrize(("array", "count", "dac", "adc", "devices", "additions"), COUNTS)
def test_counts(array: dict[str, Any], count: int, dac: int, adc: int, devices: int, additions: int):
    (matrix,) = tiles.matrices(product(70, 200), with_array(**array))
    assert (len(matrix.tiles), matrix.reads(), matrix.reads(8)) == (count, count, 8 * count)
    assert (matrix.dac_conversions, matrix.adc_conversions) == (dac, adc)
    assert (matrix.devices, matrix.additions) == (devices, additions)
    assert Matrix.from_json(matrix.as_json()) == matrix


# ------------------------------------------------------------------------------------------------------------ placing


def areas(found: tuple[Matrix, ...]) -> dict[int, list[tuple[int, int, int, int, int]]]:
    """Array -> first and last word line and bit line of each tile, and its matrix."""
    table: dict[int, list[tuple[int, int, int, int, int]]] = {}
    for m in found:
        for t in m.tiles:
            height, width = t.inputs[1] - t.inputs[0], m.width(t.outputs[1] - t.outputs[0])
            table.setdefault(t.array, []).append((t.row, t.row + height, t.column, t.column + width, m.index))
    return table


@settings(max_examples=40)
@given(st.lists(SPANS, min_size=1, max_size=8), st.integers(3, 40), st.integers(3, 40),
       st.sampled_from(["differential", "offset", "one-sided"]))  # fmt: skip
def test_tiles_never_overlap_and_stay_on_their_array(
    sizes: list[tuple[int, int]], rows: int, columns: int, encoding: str
):
    b = Builder()
    inputs = {}
    for i, (outputs, size) in enumerate(sizes):
        inputs[f"x{i}"] = b.input(f"x{i}", (size,))
        b.output(f"y{i}", b.param(f"W{i}", weight(outputs, size)) @ inputs[f"x{i}"])
    stage = Stage("s", b.graph(), inputs_from={name: Ref(name) for name in inputs})
    program = Program("net", {n: ProgramInput(x.type) for n, x in inputs.items()}, (stage,), {"y0": Ref("y0", "s")})
    target = with_array(rows=rows, columns=columns, encoding=encoding)
    found = tiles.matrices(Tiling.of(target.array)(program), target)
    table = areas(found)
    assert sorted(table) == list(range(tiles.arrays(found)))
    for places in table.values():
        cells = np.zeros((rows, columns), int)
        for top, bottom, left, right, _ in places:
            assert bottom <= rows
            assert right <= columns
            cells[top:bottom, left:right] += 1
        assert cells.max() == 1
        assert cells[0, 0] == 1, "the best corner is free"
        assert len({m for *_, m in places}) == len(places), "two tiles of a matrix can't be read at once"
    alone = tiles.matrices(Tiling.of(target.array)(program), target, pack="never")
    assert all(len(places) == 1 for places in areas(alone).values())
    assert all(t.row == t.column == 0 for m in alone for t in m.tiles)


def test_the_tallest_tiles_are_placed_first():
    """Heights 28, 64, 64 and 100 in that order fill two arrays of 128; one after the other they would take three."""
    b = Builder()
    inputs = {}
    for i, size in enumerate((28, 64, 64, 100)):
        inputs[f"x{i}"] = b.input(f"x{i}", (size,))
        b.output(f"y{i}", b.param(f"W{i}", weight(64, size)) @ inputs[f"x{i}"])
    stage = Stage("s", b.graph(), inputs_from={name: Ref(name) for name in inputs})
    program = Program("net", {n: ProgramInput(x.type) for n, x in inputs.items()}, (stage,), {"y0": Ref("y0", "s")})
    found = tiles.matrices(Tiling()(program), IDEAL)
    assert [(m.tiles[0].array, m.tiles[0].row) for m in found] == [(0, 100), (1, 0), (1, 64), (0, 0)]


def test_an_array_without_room_is_not_asked_again(monkeypatch: pytest.MonkeyPatch):
    """Two matrices of 150 tiles each, which leave a bit line of every array: not 150 x 150 questions."""
    asked: list[tuple[int, ...]] = []
    place = placement._Array.place

    def counted(array: placement._Array, *size: int) -> tuple[int, int] | None:
        asked.append(size)
        return place(array, *size)

    monkeypatch.setattr(placement._Array, "place", counted)
    b = Builder()
    x = {f"x{i}": b.input(f"x{i}", (30,)) for i in range(2)}
    for i, vector in enumerate(x.values()):
        b.output(f"y{i}", b.param(f"W{i}", weight(30, 30)) @ vector)
    stage = Stage("s", b.graph(), inputs_from={name: Ref(name) for name in x})
    program = Program("net", {n: ProgramInput(v.type) for n, v in x.items()}, (stage,), {"y0": Ref("y0", "s")})
    target = with_array(rows=3, columns=5)
    assert tiles.arrays(tiles.matrices(Tiling.of(target.array)(program), target)) == 300
    assert len(asked) == 300 + 150


def test_small_matrices_share_an_array():
    tiled = Tiling()(CASES["multilayer_perceptron"].program)
    packed, apart = (tiles.matrices(tiled, IDEAL, pack=pack) for pack in ("auto", "never"))
    assert (tiles.arrays(packed), tiles.arrays(apart)) == (1, 3)


def test_saturated_inputs_are_counted_where_they_are_converted():
    """A vector is converted once for each tile that it drives: h for one tile more than x."""
    b = Builder()
    x, h = b.input("x", (3,)), b.input("h", (4,))
    b.output("y", b.param("W", weight(4, 3)) @ x + b.param("U", weight(4, 4)) @ h)
    b.output("z", b.param("V", weight(12, 4)) @ h)
    program = program_of(b, {"x": x, "h": h}, "yz")
    target = with_array(rows=8, columns=16)  # 8 outputs a tile: y and 4 of z on one, the others on the next
    target = target.model_copy(update={"dac": PCM.dac, "adc": PCM.adc})
    data = {"x": np.ones((2, 1, 3), np.float32), "h": np.ones((2, 1, 4), np.float32)}
    built = CrossbarBackend().compile(program, target, data=Data(data))
    (matrix,) = described(built)[1]
    assert [(t.inputs, t.outputs) for t in matrix.tiles] == [((0, 7), (0, 8)), ((3, 7), (8, 16))]
    for name, share in (("x", 3 / 11), ("h", 8 / 11)):
        trace = CrossbarRunner().run(built, {**data, name: 2 * data[name]}, chips=1, times=[0])
        assert trace.saturation["dac"][0, 0] == pytest.approx(share)


# ------------------------------------------------------------------------------------------------------------ messages


def _native() -> Program:
    return replace(three_terms("WUd")[0], numerics="native")


BAD: list[tuple[str, Any, type[NeurodeployError], str]] = [
    ("join", lambda: Tiling(join="allways")(_native()), UsageError,
     "tiling: 'join' can't be 'allways'. Known: auto, never."),
    ("bias", lambda: Tiling(bias="arrays")(_native()), UsageError,
     "tiling: 'bias' can't be 'arrays'. Did you mean 'array'?"),
    ("pack", lambda: tiles.matrices(product(2, 2), IDEAL, pack="ever"), UsageError,
     "crossbar: 'pack' can't be 'ever'. Did you mean 'never'?"),
    ("integer biases", lambda: Tiling(bias="array")(_native()), UnsupportedError,
     "net: its biases are integers of 32 bits; a device holds those of a float model only. Keep them digital "
     "(bias=digital), or compile with float numerics."),
    ("a reference column", lambda: Tiling(4, 1, encoding="offset")(_native()), TargetError,
     "tiling: a tile of 4 x 1 holds no weight; needed at least 1 row and 2 columns (a weight is 1 bit lines wide, "
     "beside a reference column)."),
    ("slices", lambda: Tiling(4, 7, slices=4)(_native()), TargetError,
     "tiling: a tile of 4 x 7 holds no weight; needed at least 1 row and 8 columns (a weight is 8 bit lines wide)."),
]  # fmt: skip


@pytest.mark.parametrize(("do", "kind", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_what_cant_be_done_is_one_clear_line(do: Any, kind: type[NeurodeployError], message: str):
    with pytest.raises(kind) as error:
        do()
    assert str(error.value) == message


def sparse(share: float) -> np.ndarray:
    kept = np.random.default_rng(5).random((30, 40)) < share
    return weight(30, 40) * kept


@pytest.mark.parametrize("slices", [{}, {"weight_bits": 8, "slice_bits": 3}])
def test_pairs_of_zeros_may_stay_unformed(slices: dict[str, Any]):
    """They conduct nothing on any chip at any age, take no device, and the others are as they would be with them."""
    b = Builder()
    x = b.input("x", (40,))
    b.output("y", b.param("W", sparse(0.2)) @ x)
    program, data = program_of(b, {"x": x}), {"x": weight(6, 1, 40, seed=2)}
    target = PCM.model_copy(update={"array": PCM.array.model_copy(update=slices)})
    held = [
        CrossbarBackend().compile(program, target, data=Data(data), zeros=zeros) for zeros in ("formed", "unformed")
    ]
    drawn = []
    for built in held:
        described_, matrices = described(built)
        chips = Chips(text.from_files(built.files, "program"), matrices, described_, range(3), 6, 1)
        chips.age(86400.0)
        (block,) = chips.analog["s"][matrices[0].value].blocks
        drawn.append(block.effective)
        assert matrices[0].devices == 2 * matrices[0].slices * (
            30 * 40 if built is held[0] else np.count_nonzero(sparse(0.2))
        )
    zero = np.tile(sparse(0.2).T == 0, (1, matrices[0].slices))
    assert (drawn[1][:, zero] == 0).all() and (drawn[0][:, zero] != 0).any()
    assert np.array_equal(drawn[0][:, ~zero], drawn[1][:, ~zero])


def test_zeros_are_conductances_in_other_encodings():
    b = Builder()
    x = b.input("x", (40,))
    b.output("y", b.param("W", sparse(0.2)) @ x)
    program = program_of(b, {"x": x})
    with pytest.raises(UsageError, match="zeros can't be left unformed with encoding 'offset'"):
        CrossbarBackend().compile(program, with_array(encoding="offset"), zeros="unformed")
    with pytest.raises(UsageError, match="'zeros' can't be 'none'"):
        CrossbarBackend().compile(program, IDEAL, zeros="none")
