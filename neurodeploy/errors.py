"""Every error that neurodeploy raises on purpose.

::

    NeurodeployError            exit status 1: the work failed
    ├── UsageError              exit status 2: the request can't be met as it was asked
    │   ├── ModelError          a model file or module can't be read or imported
    │   │   └── UnsupportedError  it was understood, but a part of it isn't supported there
    │   ├── DataError           input data of the wrong kind, shape or value
    │   ├── TargetError         a target that doesn't exist, or a description that is broken
    │   └── MissingExtraError   a package or tool that isn't installed
    ├── IRError                 a program that breaks the rules of the IR
    │   └── TextError           .nd text that can't be parsed
    ├── NumericsError           an integer left its proven range
    ├── BuildError              a compiler or linker failed
    └── DeviceError             a board, port or emulator failed
        └── LinkError           a frame was lost, damaged or refused

A message gives the place, what was found, what was needed and what to do:
``place: found; needed. remedy``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NeurodeployError(Exception):
    """Root of the tree.

    ``place`` says where (a file, a node, a value); ``hint`` says what to do about it.
    ``str()`` joins them on one line.
    """

    exit_status = 1

    def __init__(self, message: str, *, place: str = "", hint: str = "") -> None:
        self.message, self.place, self.hint = message, place, hint
        text = f"{place}: {message}" if place else message
        super().__init__(f"{text} {hint}" if hint else text)


class UsageError(NeurodeployError):
    """The request can't be met as it was asked."""

    exit_status = 2


class ModelError(UsageError):
    """A model file or module can't be read or imported."""


class UnsupportedError(ModelError):
    """Understood, but not supported there; the message names the node or op and the remedy."""


class DataError(UsageError):
    """Input data of the wrong kind, shape or value."""


class TargetError(UsageError):
    """A target that doesn't exist, or whose description is broken."""


class MissingExtraError(UsageError):
    """A package or tool that isn't installed; the hint names the command that gets it."""


class IRError(NeurodeployError):
    """A program that breaks the rules of the IR."""


class TextError(IRError):
    """``.nd`` text that can't be parsed; the place is ``file:line``."""


class NumericsError(NeurodeployError):
    """An integer left the range that was proved for it."""


class BuildError(NeurodeployError):
    """A compiler or linker failed; the message holds its own first words."""


class DeviceError(NeurodeployError):
    """A board, port or emulator failed."""


class LinkError(DeviceError):
    """A frame was lost, damaged or refused."""


def nearest(word: object, known: Iterable[str]) -> str:
    """A hint that names the nearest known word, or lists a few known ones; ``word`` may be no word at all."""
    names = sorted(known)
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"Known: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}." if names else ""


def require(module: str, extra: str, why: str):  # noqa: ANN201 - a module
    """Import ``module`` now, or raise :class:`MissingExtraError` naming the extra to install."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{why} needs the package '{module.split('.')[0]}' ({error}).",
            hint=f"Install it: pip install 'neurodeploy[{extra}]'",
        ) from error
