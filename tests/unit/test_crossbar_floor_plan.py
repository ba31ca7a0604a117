"""What the floor plan says and shows of a build."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from neurodeploy import hardware
from neurodeploy.artifact import Artifact
from neurodeploy.backends.crossbar import CrossbarBackend
from neurodeploy.crossbar.manifest import described
from neurodeploy.crossbar.mapping import floor_plan, floor_plan_svg, tiles
from neurodeploy.crossbar.mapping.floor_plan_svg import svg
from neurodeploy.descriptions_crossbar import Crossbar
from tests.families import CASES

IDEAL = hardware.find("ideal-128", Crossbar)


def with_array(**changes: Any) -> Crossbar:
    return IDEAL.model_copy(update={"array": IDEAL.array.model_copy(update=changes)})


def drawn(target: Crossbar = IDEAL, **options: Any) -> Artifact:
    case = CASES["gru_reset_after"]
    return CrossbarBackend().compile(case.program, target, **options)


def test_the_floor_plan_says_which_weights_sit_where():
    files = drawn(with_array(rows=12, columns=40)).files
    assert files["floor_plan.txt"].decode() == PLAN


PLAN = """\
ideal-128: 2 arrays of 12 word lines by 40 bit lines; a weight is a pair of devices on two bit lines
41.2 % of the devices in use

array 0: 65.0 % in use
  word lines  bit lines  weights         rows  driven by  matrix
  0:4         0:12       W[12:18] (n)    all   x          gru.matmul_3.stack
  0:4         12:36      W[0:12] (r, z)  all   x          gru.matmul_3.stack
  4:10        12:36      U[0:12] (r, z)  all   h          gru.matmul_3.stack
  4:10        36:40      U[12:18] (n)    0:2   h          gru.matmul_3.stack

array 1: 17.5 % in use
  word lines  bit lines  weights         rows  driven by  matrix
  0:6         0:8        U[12:18] (n)    2:6   h          gru.matmul_3.stack
  0:6         8:14       V               all   gru        matmul
"""


def numbers(element: ElementTree.Element) -> tuple[float, ...]:
    return tuple(float(element.attrib[key]) for key in ("x", "y", "width", "height"))


def test_the_drawing_is_to_scale_and_holds_every_weight():
    """Areas of the coloured parts over those of the arrays are the share of devices in use."""
    for changes in ({}, {"rows": 12, "columns": 40}, {"rows": 10, "columns": 31, "encoding": "one-sided"}):
        target = with_array(**changes)
        root = ElementTree.fromstring(drawn(target).files["floor_plan.svg"])
        kinds: dict[str, list[tuple[float, ...]]] = {}
        for rect in root.iter("{http://www.w3.org/2000/svg}rect"):
            kinds.setdefault(rect.attrib["class"], []).append(numbers(rect))
        _, matrices = described(drawn(target))
        assert len(kinds["array"]) == tiles.arrays(matrices)
        assert len(kinds["part"]) == len(floor_plan.regions(matrices))
        area = {kind: sum(w * h for *_, w, h in found) for kind, found in kinds.items()}
        share = sum(floor_plan.used(matrices, target).values()) / tiles.arrays(matrices)
        assert area["part"] / area["array"] == pytest.approx(share, rel=0.02)
        for x, y, w, h in kinds["part"] + kinds["tile"]:
            assert any(
                a - 0.1 <= x and b - 0.1 <= y and x + w <= a + c + 0.1 and y + h <= b + d + 0.1
                for a, b, c, d in kinds["array"]
            ), "outside of every array"
        titles = [t.text or "" for t in root.iter("{http://www.w3.org/2000/svg}title")]
        assert any(t.startswith("U[0:12] (r, z)") and "on h" in t for t in titles)


def test_a_drawing_of_many_arrays_stops_and_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(floor_plan_svg, "MOST", 5)
    files = drawn(with_array(rows=3, columns=8)).files
    count = files["floor_plan.txt"].count(b"\narray ")
    assert count > 5
    words = files["floor_plan.svg"].decode()
    assert words.count('class="array"') == 5
    assert f"{count - 5} more arrays stand in floor_plan.txt" in words


def test_names_are_escaped():
    matrix, *_ = described(drawn())[1]
    odd = replace(matrix, parts=tuple({**part, "weight": "<W&\"'>"} for part in matrix.parts))
    words = svg([odd], IDEAL)
    assert "<W&" not in words
    ElementTree.fromstring(words)
