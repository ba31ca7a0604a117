"""The report as JSON, and the schema of that JSON."""

from __future__ import annotations

import json

from neurodeploy.report.schema import ReportData


def render(data: ReportData) -> str:
    """The report's JSON text; :func:`neurodeploy.report.read_report` gets the same report back."""
    return data.model_dump_json(indent=1, by_alias=True) + "\n"


def json_schema() -> str:
    """The JSON Schema (draft 2020-12) of the report, for readers in other languages."""
    return json.dumps(ReportData.model_json_schema(by_alias=True), indent=1) + "\n"
