"""Passes: each a frozen dataclass, ``Program -> Program``, whose fields are its command-line options.

:func:`parse` reads ``"simplify,calibrate{method=percentile},quantize"``; :func:`pipeline` gives a backend's own list;
:func:`run` runs passes and verifies the program between every two.
"""

from __future__ import annotations

from neurodeploy.passes.pipeline import PASSES, PIPELINES, Pass, make, options, parse, pipeline, print_pass, run

__all__ = ["PASSES", "PIPELINES", "Pass", "make", "options", "parse", "pipeline", "print_pass", "run"]
