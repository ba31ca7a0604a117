"""The command line's entry: runs it, and turns every failure into one line and an exit status."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line. Exit status: 0, 1 (failed), 2 (misuse)."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command line on ``arguments`` and return the exit status."""
    from neurodeploy.cli import app
    from neurodeploy.errors import NeurodeployError

    try:
        return app(arguments) or 0
    except NeurodeployError as error:
        _say(error.message, error.place, error.hint)
        return error.exit_status
    except KeyboardInterrupt:
        _say("interrupted.", "", "")
        return 130
    except BrokenPipeError:
        # The reader of a pipe went away; nothing is left to say, also not at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("NEURODEPLOY_DEBUG"):
            raise
        _say(
            f"internal error: {type(error).__name__}: {error}",
            "",
            "Set NEURODEPLOY_DEBUG=1 to see where, and report it.",
        )
        return 1


def _say(message: str, place: str, hint: str) -> None:
    where = f"{place}: " if place else ""
    one_line = " ".join(f"{where}{message}".split())
    sys.stderr.write(f"error: {one_line}\n")
    if hint:
        sys.stderr.write(f"  hint: {' '.join(hint.split())}\n")


if __name__ == "__main__":
    main()
