"""Reports: what a network costs on each kind of hardware, and how much accuracy it keeps.

::

    report = neurodeploy.report([built, "build/gru-m4f"])    # the module itself may be called: build_report
    report.write("report.html")                              # .json, .md or .html, by the ending
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurodeploy.report.report import Report, build_report, read_report

__all__ = ["Report", "build_report", "read_report"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: pydantic and jinja2 would slow `neurodeploy --help`.
    if name in __all__:
        from neurodeploy.report import report

        return getattr(report, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


class _Callable(ModuleType):
    """Lets ``neurodeploy.report([...])`` and ``neurodeploy.report.schema`` live under one name."""

    def __call__(self, builds: Sequence[Any]) -> Report:
        return self.build_report(builds)


sys.modules[__name__].__class__ = _Callable
