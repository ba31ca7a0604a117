"""Targets as data: how the TOML files under ``targets/`` are found, read and checked.

A file describes one thing: a *chip*, a *neuromorphic-chip*, a *crossbar-technology*, or a target (a *board* of a chip,
a *crossbar*, a *neuromorphic* simulator or an *interpreter*). Its name is its file name. Keys carry their unit
(``size_bytes``, ``clock_hz``, ``g_max_siemens``), a table that holds physical numbers names its ``source``, and an
unknown key is an error. The only inheritance is board to chip: a table that the board gives replaces the chip's table
of that name as a whole. What a file may say is in :mod:`neurodeploy.descriptions`.
"""

from __future__ import annotations

import functools
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import ValidationError

from neurodeploy.descriptions import (
    FOLDERS,
    KINDS,
    Board,
    Chip,
    Crossbar,
    CrossbarTechnology,
    Description,
    Interpreter,
    Neuromorphic,
    NeuromorphicChip,
    Table,
    Target,
)
from neurodeploy.errors import TargetError, nearest

if TYPE_CHECKING:
    from neurodeploy.artifact import Artifact

__all__ = [
    "Board",
    "Chip",
    "Crossbar",
    "CrossbarTechnology",
    "Description",
    "Interpreter",
    "Neuromorphic",
    "NeuromorphicChip",
    "Target",
    "built_for",
    "carried",
    "data_folder",
    "files",
    "find",
    "find_chip",
    "find_technology",
    "load",
    "names",
    "validate",
]

T = TypeVar("T", bound=Target)
#: The file of a build that describes its target, where that isn't a shipped one.
DESCRIPTION = "target.json"


def data_folder(name: str) -> Path:
    """The shipped folder ``"targets"`` or ``"firmware"``: inside an installed wheel, else at the checkout's root."""
    package = Path(__file__).resolve().parent
    for folder in (package / "_data" / name, package.parent / name):
        if folder.is_dir():
            return folder
    raise TargetError(
        f"the folder '{name}' is neither in the package ({package / '_data'}) nor beside it.",
        hint="Install neurodeploy again, or run it from a whole checkout.",
    )


def names(kind: str | None = None) -> list[str]:
    """Names of the shipped targets, or of one kind (of chips too). Raises :class:`TargetError` for another kind."""
    if kind is not None and kind not in KINDS:
        raise TargetError(f"there is no kind of target '{kind}'.", hint=nearest(kind, KINDS))
    kinds = [kind] if kind else [k for k, cls in KINDS.items() if issubclass(cls, Target)]
    return [path.stem for k in kinds for path in sorted((data_folder("targets") / FOLDERS[k]).glob("*.toml"))]


def files() -> list[Path]:
    """Every shipped file, chips included."""
    return sorted(data_folder("targets").rglob("*.toml"))


def find(name: str, of: type[T] = Target) -> T:
    """The target of that name, or of that path if it ends in ``.toml``.

    ``of`` is the class that the caller needs. Raises :class:`TargetError` that names the nearest target, or says that
    the target is of another kind.
    """
    return _of_kind(load(name) if name.endswith(".toml") else _shipped(name), of)


def find_chip(name: str) -> NeuromorphicChip:
    """The neuromorphic chip of that name, or of that path if it ends in ``.toml``.

    Raises :class:`TargetError` that names the nearest one, or says that the file describes something else.
    """
    if name.endswith(".toml"):
        return _read_chip(name)
    known = names("neuromorphic-chip")
    if name not in known:
        raise TargetError(f"there is no neuromorphic chip '{name}'.", hint=nearest(name, known))
    return _read_chip(str(data_folder("targets") / FOLDERS["neuromorphic-chip"] / f"{name}.toml"))


def _read_chip(path: str) -> NeuromorphicChip:
    described = validate(path)
    if not isinstance(described, NeuromorphicChip):
        raise TargetError(f"describes a {described.kind}, not a neuromorphic chip.", place=path)
    return described


def find_technology(name: str) -> CrossbarTechnology:
    """The technology of that name in which crossbars are priced. Raises :class:`TargetError` that names the nearest."""
    known = names("crossbar-technology")
    if name not in known:
        raise TargetError(f"there is no crossbar technology '{name}'.", hint=nearest(name, known))
    path = data_folder("targets") / FOLDERS["crossbar-technology"] / f"{name}.toml"
    described = validate(path)
    if not isinstance(described, CrossbarTechnology):
        raise TargetError(f"describes a {described.kind}, not a crossbar technology.", place=str(path))
    return described


def carried(target: Target) -> dict[str, bytes]:
    """The file with which a build carries its target's description; none for a target as it is shipped."""
    if target.name in names() and _shipped(target.name) == target:
        return {}
    return {DESCRIPTION: target.model_dump_json(indent=1).encode() + b"\n"}


def built_for(artifact: Artifact, of: type[T] = Target) -> T:
    """The target that a build was compiled for: the description that it carries, or the shipped target of that name.

    Raises :class:`TargetError` as :func:`find` does, and for a description that can't be read.
    """
    raw = artifact.files.get(DESCRIPTION)
    if raw is None:
        return _of_kind(_shipped(artifact.target), of)
    try:
        target = KINDS[json.loads(raw)["kind"]].model_validate_json(raw)
    except (ValueError, KeyError, TypeError) as error:
        raise TargetError("can't be read.", place=DESCRIPTION, hint="Compile the build again.") from error
    if not isinstance(target, Target) or target.name != artifact.target:
        raise TargetError(f"doesn't describe '{artifact.target}'.", place=DESCRIPTION, hint="Compile the build again.")
    return _of_kind(target, of)


def _of_kind(target: Target, of: type[T]) -> T:
    if not isinstance(target, of):
        wanted = [kind for kind, cls in KINDS.items() if issubclass(cls, of)]
        raise TargetError(
            f"'{target.name}' is a target of kind '{target.kind}'; needed: {' or '.join(wanted)}.",
            hint=f"There are: {', '.join(n for kind in wanted for n in names(kind))}.",
        )
    return target


@functools.cache
def _shipped(name: str) -> Target:
    for kind, cls in KINDS.items():
        if issubclass(cls, Target) and name in names(kind):
            return load(data_folder("targets") / FOLDERS[kind] / f"{name}.toml")
    if name in names("chip"):
        boards = [board for board in names("board") if find(board, Board).chip == name]
        raise TargetError(f"'{name}' is a chip, not a target.", hint=f"Boards that have it: {', '.join(boards)}.")
    if name in names("neuromorphic-chip"):
        simulators = [target for target in names("neuromorphic") if name in find(target, Neuromorphic).chips]
        hint = f"Targets that say what it would need: {', '.join(simulators)}." if simulators else ""
        raise TargetError(f"'{name}' is a neuromorphic chip, not a target.", hint=hint)
    if name in names("crossbar-technology"):
        users = [target for target in names("crossbar") if name in find(target, Crossbar).technologies]
        hint = f"Targets that are priced in it: {', '.join(users)}." if users else ""
        raise TargetError(f"'{name}' is a crossbar technology, not a target.", hint=hint)
    raise TargetError(f"there is no target '{name}'.", hint=nearest(name, names()))


def load(path: str | Path) -> Target:
    """Read and check one target's file. Raises :class:`TargetError` naming the file and the key."""
    described = validate(path)
    if not isinstance(described, Target):
        raise TargetError(
            f"describes a {described.kind}, not a target.", place=str(path), hint="Write a target that names it."
        )
    return described


def validate(path: str | Path) -> Description:
    """Read and check any file, a chip's too. Raises :class:`TargetError` naming the file and the key."""
    path = Path(path)
    data = _read(path)
    kind = data.get("kind")
    if "kind" not in data:
        raise TargetError("lacks the key 'kind'.", place=str(path), hint=f"One of: {', '.join(KINDS)}.")
    if not isinstance(kind, str) or kind not in KINDS:
        raise TargetError(f"'kind' is {kind!r}, which doesn't exist.", place=str(path), hint=nearest(str(kind), KINDS))
    _own_keys(path, KINDS[kind], data)
    if kind == "board":
        data = _with_chip(path, data)
    try:
        described = KINDS[kind].model_validate(data)
    except ValidationError as error:
        raise _explain(path, KINDS[kind], error) from None
    if isinstance(described, Neuromorphic):
        _known(path, "chips", described.chips, "neuromorphic-chip")
    if isinstance(described, Crossbar):
        _known(path, "technologies", described.technologies, "crossbar-technology")
    if described.name != path.stem:
        raise TargetError(
            f"'name' is '{described.name}', but the file is called '{path.stem}'.",
            place=str(path),
            hint="Make the two equal: a target is found by its file's name.",
        )
    return described


def _known(path: Path, key: str, given: Sequence[str], kind: str) -> None:
    known = names(kind)
    for name in given:
        if name not in known:
            hint = nearest(name, known)
            raise TargetError(f"'{key}' names '{name}', which doesn't exist.", place=str(path), hint=hint)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        raise TargetError("there is no such file.", place=str(path), hint="See: neurodeploy targets list") from None
    except OSError as error:
        raise TargetError(f"can't be read ({error.strerror}).", place=str(path)) from None
    except UnicodeDecodeError as error:
        raise TargetError(f"is not UTF-8 text (byte {error.start}).", place=str(path)) from None
    except tomllib.TOMLDecodeError as error:
        raise TargetError(f"is not TOML: {error}.", place=str(path)) from None
    except RecursionError:
        raise TargetError("is nested too deeply to be a target.", place=str(path)) from None


def _own_keys(path: Path, model: type[Table], data: dict[str, Any]) -> None:
    """Refuse unknown top-level keys before a chip is merged in, so that the message is about this very file."""
    for key in data:
        if key not in model.model_fields:
            raise _unknown(path, key, model, key)


def _with_chip(path: Path, board: dict[str, Any]) -> dict[str, Any]:
    """The board's tables over its chip's, which lies beside the board's file or among the shipped ones."""
    name = board.get("chip")
    if not isinstance(name, str):
        return board  # the schema says what is wrong with it
    known = names("chip")
    beside = path.parent / f"{name}.toml"
    if name != path.stem and beside.is_file():
        chip_path = beside
    elif name in known:
        chip_path = data_folder("targets") / FOLDERS["chip"] / f"{name}.toml"
    else:
        raise TargetError(f"'chip' is '{name}', which doesn't exist.", place=str(path), hint=nearest(name, known))
    chip = validate(chip_path)
    if not isinstance(chip, Chip):
        raise TargetError(f"'chip' is '{name}', which is a {chip.kind}.", place=str(path), hint=nearest(name, known))
    inherited = _read(chip_path)
    return {key: value for key, value in inherited.items() if key in Board.model_fields} | board


# --------------------------------------------------------------------------------------------------------- errors


def _unknown(path: Path, key: str, model: type[Table], dotted: str) -> TargetError:
    return TargetError(f"has an unknown key '{dotted}'.", place=str(path), hint=nearest(key, model.model_fields))


def _explain(path: Path, model: type[Table], error: ValidationError) -> TargetError:
    """One line for the first thing that is wrong: its dotted key, what was found, what was needed."""
    # A misspelt key is also a missing one: name the spelling, which leads to the other.
    first, *more = sorted(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
    dotted = ".".join(str(part) for part in first["loc"])
    rest = f" (and {len(more)} more)" if more else ""
    if first["type"] == "extra_forbidden":
        return _unknown(path, str(first["loc"][-1]), _model_at(model, first["loc"][:-1]), dotted)
    if first["type"] == "missing":
        is_source = first["loc"][-1] == "source"
        return TargetError(
            f"lacks the key '{dotted}'.{rest}",
            place=str(path),
            hint="Say where the numbers beside it come from." if is_source else "Add it.",
        )
    reason = first["msg"].removeprefix("Value error, ")
    for wording in ("Input should be", "Input should have", "String should have", "String should", "Tuple should have"):
        reason = reason.replace(wording, "needed:", 1)
    if first["type"] in ("model_type", "tuple_type"):
        reason = "needed: a table" if first["type"] == "model_type" else "needed: a list"
    if first["type"] == "value_error":
        text = f"'{dotted}': {reason}" if dotted else reason
    else:
        text = f"'{dotted}' is {first['input']!r}; {reason}"
    return TargetError(f"{text}.{rest}", place=str(path))


def _model_at(model: type[Table], loc: tuple[int | str, ...]) -> type[Table]:
    """The model of the table at a location, found through optional and repeated tables."""
    for part in loc:
        if isinstance(part, int):
            continue
        model = _table_in(model.model_fields[part].annotation)
    return model


def _table_in(annotation: Any) -> type[Table]:
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return annotation
    for inner in get_args(annotation):
        try:
            return _table_in(inner)
        except LookupError:
            continue
    raise LookupError(f"no table in {annotation}")
