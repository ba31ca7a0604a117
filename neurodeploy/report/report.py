"""A report: builds side by side, written as JSON, Markdown or HTML."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from neurodeploy.artifact import Artifact
from neurodeploy.errors import UsageError, nearest
from neurodeploy.report.records import build_of, load_builds, write_whole
from neurodeploy.report.schema import Build, ReportData
from neurodeploy.version import release

RENDERERS: dict[str, str] = {
    ".json": "neurodeploy.report.render_json:render",
    ".md": "neurodeploy.report.render_markdown:render",
    ".html": "neurodeploy.report.render_html:render",
}


@dataclass(frozen=True)
class Report:
    """Builds side by side; ``data`` is what the JSON holds."""

    data: ReportData

    @property
    def builds(self) -> list[Build]:
        return self.data.builds

    def render(self, ending: str) -> str:
        """The report's text in the format of that ending (``.json``, ``.md`` or ``.html``)."""
        return _renderer(ending, f"report{ending}")(self.data)

    def write(self, path: str | Path) -> Path:
        """Write the report, whole or not at all; the file's ending decides on the format.

        Raises :class:`UsageError` for another ending, or where the folder doesn't exist or can't be written.
        """
        path = Path(path)
        text = _renderer(path.suffix.lower(), str(path))(self.data)
        try:
            write_whole(path, text)
        except OSError as error:
            raise UsageError(
                f"can't be written ({error.strerror}).", place=str(path), hint="Choose another -o."
            ) from error
        return path


def build_report(builds: Sequence[str | Path | Artifact | Build]) -> Report:
    """A report of build folders, artifacts or build records, in the order given.

    An artifact (or a compiled model that holds one as ``artifact``) is reported without runs unless its files hold
    run records. Raises :class:`UsageError` if nothing is given, a folder is no build, two builds have one name, or a
    run record doesn't fit its build.
    """
    if not builds:
        raise UsageError("no build was given.", place="report", hint="neurodeploy report build/* -o report.html")
    folders = iter(load_builds([b for b in builds if isinstance(b, str | Path)]) if _any_path(builds) else [])
    records = [next(folders) if isinstance(b, str | Path) else _record(b) for b in builds]
    created = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    try:
        return Report(ReportData(generator=f"neurodeploy {release()}", created=created, builds=records))
    except ValidationError as error:
        raise UsageError(
            f"{error.errors()[0]['msg']}.", place="report", hint="Give each build its own name."
        ) from error


def read_report(path: str | Path) -> Report:
    """Read a report's ``.json`` again, checked against the schema.

    Raises :class:`UsageError` if it can't be read, breaks the schema, or holds a run record that was edited.
    """
    try:
        data = ReportData.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise UsageError(f"can't be read ({error.strerror}).", place=str(path)) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "JSON"
        raise UsageError(f"is no report of this version ({where}: {first['msg']}).", place=str(path)) from error
    for build in data.builds:
        for run in build.runs:
            if not run.intact:
                raise UsageError(
                    f"run '{run.runner}' of build '{build.name}' was edited (its seal doesn't fit).",
                    place=str(path),
                )
    return Report(data)


def _record(build: Any) -> Build:
    if isinstance(build, Build):
        return build
    artifact = build if isinstance(build, Artifact) else getattr(build, "artifact", None)
    if isinstance(artifact, Artifact):
        return build_of(artifact, getattr(build, "runs", None))
    raise UsageError(
        f"a {type(build).__name__} can't be reported; needed a build folder, an artifact or a build record.",
        place="report",
    )


def _any_path(builds: Sequence[Any]) -> bool:
    return any(isinstance(build, str | Path) for build in builds)


def _renderer(ending: str, place: str) -> Callable[[ReportData], str]:
    if ending not in RENDERERS:
        raise UsageError(
            f"'{ending or 'no ending'}' is no format of a report; needed {', '.join(RENDERERS)}.",
            place=place,
            hint=nearest(ending, RENDERERS) if ending else "Name it report.html, for example.",
        )
    module, _, function = RENDERERS[ending].partition(":")
    return getattr(importlib.import_module(module), function)
