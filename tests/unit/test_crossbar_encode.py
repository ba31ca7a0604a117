"""Weights on devices: encodings, slices, exact whole numbers, empty cells, levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodeploy import hardware
from neurodeploy.backends.crossbar import CrossbarBackend
from neurodeploy.crossbar.mapping import encode, tiles
from neurodeploy.crossbar.mapping.encode import Stored, decoded, levels_needed, stored
from neurodeploy.crossbar.mapping.tiles import Matrix
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.errors import TargetError
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.passes.tiling import Tiling

IDEAL = hardware.find("ideal-128", Crossbar)
ENCODINGS = ("differential", "offset", "one-sided")
CHOICES = st.tuples(st.sampled_from(ENCODINGS), st.integers(2, 16), st.none() | st.integers(1, 8))


def target_of(encoding: str, bits: int | None = None, slices: int | None = None, levels: int | None = None) -> Crossbar:
    array = IDEAL.array.model_copy(update={"encoding": encoding, "weight_bits": bits, "slice_bits": slices,
                                           "rows": 16, "columns": 200})  # fmt: skip
    return IDEAL.model_copy(
        update={"array": array, "device": IDEAL.device.model_copy(update={"levels": levels})}
    )  # fmt: skip


def one_matrix(weight: np.ndarray, numerics: str = "float") -> Program:
    b = Builder()
    x = b.input("x", (weight.shape[1],), "f32" if numerics == "float" else "i16")
    b.output("y", b("matmul", b.param("W", weight), x))
    stage = Stage("s", b.graph(), inputs_from={"x": Ref("x")})
    return Program("net", {"x": ProgramInput(x.type)}, (stage,), {"y": Ref("y", "s")}, numerics)


def encoded(
    weight: np.ndarray, target: Crossbar, scaling: str = "output", segments: Any = None
) -> list[tuple[Matrix, tiles.Tile, Stored]]:
    program = Tiling.of(target.array)(one_matrix(weight, "native" if weight.dtype.kind == "i" else "float"))
    known = None if segments is None else {("s", "matmul"): segments}
    (matrix,) = tiles.matrices(program, target, scaling, known)
    held = tiles.weights(program, matrix)
    return [(matrix, tile, stored(matrix, tile, held)) for tile in matrix.tiles]


def weights_of(seed: int, dtype: type) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 20, 2)
    if dtype is np.float32:
        return (rng.normal(size=shape) * 10.0 ** rng.uniform(-3, 3, (shape[0], 1))).astype(np.float32)
    largest = rng.integers(1, 128, (shape[0], 1))
    return rng.integers(-largest, largest + 1, shape).astype(dtype)


def conductances(made: Stored) -> np.ndarray:
    found = [made.plus] if made.minus is None else [made.plus, made.minus]
    return np.stack(found)


@settings(max_examples=80)
@given(st.integers(0, 999), CHOICES, st.sampled_from(tiles.SCALINGS))
def test_conductances_stand_for_the_weight_rounded_to_its_grid(seed: int, choice: tuple[Any, ...], scaling: str):
    weight = weights_of(seed, np.float32)
    for matrix, tile, made in encoded(weight, target_of(*choice), scaling):
        block = weight[slice(*tile.outputs), slice(*tile.inputs)].T.astype(np.float64)
        largest = np.array(tile.weight_max)
        assert np.array_equal(largest > 0, np.abs(block).max(axis=0) > 0) or scaling == "tile"
        step = np.where(largest > 0, largest, 1.0) / (2 ** (choice[1] - 1) - 1)
        rounded = np.rint(block / step) * step
        np.testing.assert_allclose(made.weight.sum(axis=0), rounded, rtol=1e-12, atol=1e-12 * largest.max())
        np.testing.assert_allclose(decoded(made, largest), rounded, rtol=1e-9, atol=1e-12 * largest.max())
        found = conductances(made)
        assert ((found >= 0) & (found <= 1)).all()
        assert len(made.weight) == len(made.factor) == matrix.slices
        if choice[2] is None:
            apart = found * (levels_needed(choice[1], None, choice[0]) - 1)
            np.testing.assert_allclose(apart, np.rint(apart), atol=1e-9)
        each = made.factor[:, None] * largest  # every slice on its own obeys the rule
        minus = 0.0 if made.minus is None else made.minus
        by_slice = (made.plus - minus - made.constant[:, None, None]) * each[:, None]
        np.testing.assert_allclose(made.weight, by_slice, rtol=1e-9, atol=1e-12 * largest.max())


@settings(max_examples=80)
@given(st.integers(0, 999), st.sampled_from(ENCODINGS), st.integers(8, 16), st.none() | st.integers(1, 8),
       st.sampled_from(tiles.SCALINGS))  # fmt: skip
def test_whole_weights_are_exact_in_every_slice(seed: int, encoding: str, bits: int, slices: int | None, scaling: str):
    weight = weights_of(seed, np.int8)
    for _, tile, made in encoded(weight, target_of(encoding, bits, slices), scaling):
        block = weight[slice(*tile.outputs), slice(*tile.inputs)].T
        assert np.array_equal(made.weight.sum(axis=0), block), "the slices don't add up to the weight"
        np.testing.assert_array_equal(np.rint(decoded(made, np.array(tile.weight_max))), block)
        fine = np.where(np.array(tile.weight_max) > 0, (2 ** (bits - 1) - 1) / np.maximum(tile.weight_max, 1e-9), 1)
        assert np.array_equal(np.log2(fine), np.rint(np.log2(fine))), "the grid isn't one of halves of halves"
        if encoding == "differential" and scaling == "output" and slices is None:
            used = conductances(made).sum(axis=0)
            assert (used.max(axis=(0, 1)) > 0.5).all() or not block.any(axis=0).all(), "half the range is never used"


@settings(max_examples=30)
@given(st.integers(0, 999), st.sampled_from(ENCODINGS))
def test_any_conductance_without_weight_bits(seed: int, encoding: str):
    weight = weights_of(seed, np.float32)
    for _, tile, made in encoded(weight, target_of(encoding)):
        block = weight[slice(*tile.outputs), slice(*tile.inputs)].T.astype(np.float64)
        assert np.array_equal(made.weight[0], block)
        np.testing.assert_allclose(decoded(made, np.array(tile.weight_max)), block, rtol=1e-12, atol=1e-300)
        assert ((conductances(made) >= 0) & (conductances(made) <= 1)).all()


def test_the_digits_are_those_of_the_description():
    """8 bits in slices of 3: digits of 3, 3 and 1 bits; one-sided 3, 3 and 2 of the weight plus 128."""
    weight = np.array([[127, -83, 0, 5]], np.int8)  # 83 = 1 010 011, 5 = 101; 128 + w = 255, 45, 128, 133
    ((_, _, pair),) = encoded(weight, target_of("differential", 8, 3))
    assert pair.minus is not None
    assert (pair.plus[:, :, 0] * [[7], [7], [1]]).tolist() == [[7, 0, 0, 5], [7, 0, 0, 0], [1, 0, 0, 0]]
    assert (pair.minus[:, :, 0] * [[7], [7], [1]]).tolist() == [[0, 3, 0, 0], [0, 2, 0, 0], [0, 1, 0, 0]]
    assert (pair.factor * 127).tolist() == [7, 7 * 8, 64]
    ((_, _, offset),) = encoded(weight, target_of("offset", 8, 3))
    np.testing.assert_allclose(offset.plus, (1 + pair.plus - pair.minus) / 2)
    assert (offset.minus == 0.5).all()
    ((_, _, one),) = encoded(weight, target_of("one-sided", 8, 3))
    assert one.minus is None
    np.testing.assert_allclose(one.plus[:, :, 0] * [[7], [7], [3]], [[7, 5, 0, 5], [7, 5, 0, 0], [3, 0, 2, 2]])
    np.testing.assert_allclose(one.constant, [0, 0, 2 / 3])


def test_a_segment_with_a_smaller_range_is_stored_smaller():
    weight = np.array([[0.5, 1.0, -1.0, 0.25]], np.float32)
    ((matrix, tile, made),) = encoded(weight, target_of("differential"), segments=((0, 2, 4.0), (2, 4, 1.0)))
    assert matrix.segments == ((0, 2, 4.0), (2, 4, 1.0))
    assert tile.weight_max == (1.0,)
    assert made.minus is not None
    np.testing.assert_allclose((made.plus - made.minus)[0, :, 0], [0.5, 1.0, -0.25, 0.0625])


@pytest.mark.parametrize("encoding", ["differential", "one-sided"])
def test_empty_cells_have_no_device_and_no_weight(encoding: str):
    b = Builder()
    x, h = b.input("x", (3,)), b.input("h", (4,))
    w = np.random.default_rng(0).normal(size=(9, 7)).astype(np.float32)
    b.output("a", b.param("A", w[:4, :3]) @ x + b.param("B", w[:4, :4]) @ h)
    b.output("b", b.param("C", w[4:6, :3]) @ x)
    b.output("c", b.param("D", w[6:, :4]) @ h)
    refs = {n: Ref(n, "s") for n in "abc"}
    stage = Stage("s", b.graph(), inputs_from={"x": Ref("x"), "h": Ref("h")})
    program = Program("net", {"x": ProgramInput(x.type), "h": ProgramInput(h.type)}, (stage,), refs)
    target = target_of(encoding, 6, 2)
    tiled = Tiling.of(target.array)(program)
    (matrix,) = tiles.matrices(tiled, target)
    (tile,) = matrix.tiles
    assert tile.weights == 7 * 4 + 3 * 2 + 4 * 3
    made = stored(matrix, tile, tiles.weights(tiled, matrix))
    gone = np.isnan(made.plus)
    assert gone.any(axis=0).sum() == 7 * 9 - tile.weights
    assert np.array_equal(gone.all(axis=0), gone.any(axis=0)), "only some slices are empty"
    assert (made.weight[gone] == 0).all()
    assert (decoded(made, np.array(tile.weight_max))[gone[0]] == 0).all()
    assert made.minus is None or np.array_equal(np.isnan(made.minus), gone)


@pytest.mark.parametrize(
    ("encoding", "slices", "needed"),
    [("differential", None, 128), ("differential", 3, 8), ("offset", None, 255), ("offset", 3, 15),
     ("one-sided", None, 256), ("one-sided", 3, 8), ("differential", 8, 128)],
)  # fmt: skip
def test_a_device_must_hold_the_levels_of_a_digit(encoding: str, slices: int | None, needed: int):
    assert levels_needed(8, slices, encoding) == needed
    encode.check(target_of(encoding, 8, slices, needed))
    program = one_matrix(np.eye(3, dtype=np.float32))
    with pytest.raises(TargetError) as error:
        CrossbarBackend().compile(program, target_of(encoding, 8, slices, needed - 1))
    what = f"'slice_bits' {slices}" if slices else "'weight_bits' 8 unsliced"
    assert str(error.value) == (
        f"ideal-128: {what} with encoding '{encoding}' needs {needed} levels, more than the device holds "
        f"('device.levels' is {needed - 1}). Cut weights into smaller slices: 'array.slice_bits'."
    )
