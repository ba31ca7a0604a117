"""What a crossbar build tells of its arrays, read from its files for the report."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from neurodeploy.report.schema_crossbar import Arrays

if TYPE_CHECKING:
    from neurodeploy.artifact import Artifact

FLOOR_PLAN = "floor_plan.svg"


def of_build(artifact: Artifact) -> Arrays | None:
    """The arrays of a crossbar build; None for other builds and for one without a floor plan.

    Raises :class:`TypeError` for a drawing that isn't UTF-8, pydantic's error for one that is no SVG.
    """
    if artifact.backend != "crossbar" or FLOOR_PLAN not in artifact.files:
        return None
    try:
        text = artifact.files[FLOOR_PLAN].decode("utf-8")
    except UnicodeDecodeError as error:
        raise TypeError(f"{FLOOR_PLAN} can't be read: {error}") from error
    return Arrays(floor_plan=text)


def as_image(text: str) -> str:
    """A ``data:`` address of the drawing. As an image it can neither run scripts nor load anything."""
    return f"data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode('ascii')}"
