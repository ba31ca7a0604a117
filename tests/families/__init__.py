"""Every recurrent family as a small program with random weights, its inputs, and a reference in plain NumPy.

A reference runs one sample and is written from the family's equations, with no part of the IR in it.
"""

from __future__ import annotations

from tests.families import addressed, cells, driven, guarded
from tests.families.case import Case

CASES: dict[str, Case] = {case.name: case for module in (cells, driven, guarded, addressed) for case in module.cases()}
