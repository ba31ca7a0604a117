"""The page and the picture of ``make bench``, from steps that nobody measured: what stands where."""

import re
import tomllib
from pathlib import Path

import pytest

from benchmarks import page, picture
from benchmarks.bench import NO_ASM, ODD, REFERENCE, SHAPE, TRACED, Product, Row, pin
from benchmarks.measure import Step
from benchmarks.networks import GATES

PEERS = tomllib.loads((Path(page.__file__).parent / "peers.toml").read_text())


def step(board, compiler, instructions):
    return Step(
        board, compiler, instructions, code=1_500, constants=1_000, weights=5_000, state=80, ports=60, stack=300
    )


def rows():
    made = []
    for compiler, base in (("gcc 1", 1_000), ("zig 2", 2_000)):
        for board in (REFERENCE, "another"):
            for i, kind in enumerate([*GATES, *TRACED]):
                for shape in (SHAPE, ODD):
                    made.append(Row(kind, shape, "", step(board, compiler, base * (i + 1) + shape[0])))
                if kind in GATES:
                    made.append(Row(kind, SHAPE, NO_ASM, step(board, compiler, base * (i + 1) + 500)))
    return made


def cells(text, *starts):
    """The rest of the table's row that starts so."""
    found = re.findall(rf"^\| {re.escape(' | '.join(starts))} \| (.*) \|$", text, re.M)
    assert len(found) == 1, (starts, found)
    return found[0].split(" | ")


def test_the_page_has_each_figure_in_its_place():
    products = [Product("core", "gcc 1", "step", 96, {8: 1.905, 256: 0.949})]
    edgemark = [
        ("gru", step(REFERENCE, "gcc 1", 22_415), (0.0271, 0.0284)),
        ("lstm", step(REFERENCE, "gcc 1", 28_861), None),
    ]
    tflite = [Row("gru, tflite int8", SHAPE, "", step(REFERENCE, "gcc 1", 4_016))]
    text = page.page(rows(), tflite, edgemark, products, PEERS, ["emulator 3"])
    assert "Versions: emulator 3." in text
    # Elman is the first of the cells: 1,008 instructions with the better compiler, 2,008 with the other.
    assert cells(text, "Elman", "neurodeploy, gcc 1") == ["1,008", "", "2,500", "440", "measured"]
    # The GRU is the second: 2,008 native, twice that with TFLite's numerics.
    assert cells(text, "GRU", "neurodeploy, gcc 1, tflite int8")[:2] == ["4,016", "2.0"]
    peer = PEERS["step"][0]
    expected = [f"{peer['instructions']['elman']:,}", f"{peer['instructions']['elman'] / 1_008:.1f}"]
    assert cells(text, "Elman", peer["engine"])[:2] == expected
    assert cells(text, "another", "zig 2", "7 x 31") == ["2,007", "4,007", "6,007", "8,007", "10,007"]
    assert cells(text, "another", "gcc 1", "GRU") == ["1,500", "1,000", "5,000", "80", "300", "380", "60"]
    assert cells(text, REFERENCE, "gcc 1", NO_ASM) == ["1,500", "380", "2,500", "380", "3,500", "380"]
    assert cells(text, "core", "gcc 1", "step", "96") == ["1.91", "0.95"]
    assert "| LSTM | neurodeploy, gcc 1 | 7,500 | 440 | 2,886,100 | unknown |" in text
    assert "| GRU | neurodeploy, gcc 1 | 7,500 | 440 | 2,241,500 | 27-28 (estimated) |" in text
    for peer in [*PEERS["step"], *PEERS["edgemark"]]:
        assert peer["source"] in text and peer["how"] in ("counted", "published")


def test_the_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib (the extra 'bench') is not installed")
    picture.draw(rows(), PEERS, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert {p["engine"] for p in PEERS["step"]} < set(picture.COLOURS)


def test_pinning_keeps_what_was_not_counted_here():
    old = {"elsewhere": {"gcc 1": {"gru": {}}}, "another": {"clang 9": {"gru": {}}, "gcc 0": {"gru": {}}}}
    made = pin(rows(), old)
    assert list(made) == ["another", "elsewhere", REFERENCE] and made["elsewhere"] == old["elsewhere"]
    assert list(made["another"]) == ["clang 9", "gcc 1", "zig 2"]  # gcc 1 in place of gcc 0
    assert set(made[REFERENCE]["gcc 1"]) == set(GATES)
    assert made[REFERENCE]["gcc 1"]["elman"] == {"instructions": 1_008, "code": 1_500, "constants": 1_000, "weights": 5_000,
                                                 "state": 80, "ports": 60, "stack": 300}  # fmt: skip
