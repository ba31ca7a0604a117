"""The version that is installed."""

from __future__ import annotations


def release() -> str:
    """The installed distribution's version; ``(not installed)`` in a bare checkout."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("neurodeploy")
    except PackageNotFoundError:
        return "(not installed)"
