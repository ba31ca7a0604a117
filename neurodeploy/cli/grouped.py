"""Help in which a command's options stand in groups."""

from __future__ import annotations

from typing import Any

import typer.core


class Grouped(typer.core.TyperCommand):
    """Help that lists options by their ``rich_help_panel``, as plain text: rich takes long to import."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, options that are in no group, and the groups in the order in which they first come."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                panel = "Arguments" if param.param_type_name == "argument" else getattr(param, "rich_help_panel", None)
                groups.setdefault(panel or "Options", []).append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
