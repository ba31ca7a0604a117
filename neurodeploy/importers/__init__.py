"""Importers: from a framework's model to a program of the IR.

One importer a kind of file or of object; each is loaded when it is needed, so that no framework is imported in vain.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurodeploy.errors import ModelError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from neurodeploy.ir.graph import Program

#: A file's ending -> the function that reads it.
FILES: Mapping[str, str] = {
    ".onnx": "neurodeploy.importers.onnx:load_onnx",
    ".pt2": "neurodeploy.importers.torch:load_torch",
    ".nd": "neurodeploy.importers.native:load_native",
    ".npz": "neurodeploy.importers.numpy:load_numpy",
    ".nir": "neurodeploy.importers.nir:load_nir",
    ".tflite": "neurodeploy.importers.tflite:load_tflite",
}
#: The module and class of an object, or of one that it derives from -> the function that imports it.
OBJECTS: Mapping[str, str] = {
    "torch.nn.modules.module.Module": "neurodeploy.importers.torch:load_torch",
    "torch.export.exported_program.ExportedProgram": "neurodeploy.importers.torch:load_torch",
    "onnx.onnx_ml_pb2.ModelProto": "neurodeploy.importers.onnx:load_onnx",
}
#: Endings that are known, and how to bring them into one that is read.
ELSEWHERE: Mapping[str, str] = {
    ".pt": "Load it in PyTorch and give neurodeploy.load the module and an example input, or export it to ONNX.",
    ".pth": "Load it in PyTorch and give neurodeploy.load the module and an example input, or export it to ONNX.",
    ".ckpt": "Load it in its framework and export it to ONNX.",
    ".keras": "Export it to ONNX (tf2onnx).",
    ".h5": "Export it to ONNX (tf2onnx).",
    ".pb": "Export it to ONNX (tf2onnx).",
}


def load(source: Any, example: Any = None, **options: Any) -> Program:
    """A network as a program.

    ``source``: a path (``.onnx``; ``.pt2`` of ``torch.export``; ``.nd``; ``.npz`` of plain weights; ``.nir``;
    ``.tflite``), an ONNX
    ``ModelProto`` or a ``torch.nn.Module``, which needs an ``example`` input. Options go to the importer; all take
    ``check=False``.
    Raises :class:`ModelError`, and :class:`UnsupportedError` naming what isn't supported and what to do.
    """
    if isinstance(source, str | Path):
        given = {"example": example} if example is not None else {}
        return _load_file(Path(source), given | options)
    for kind in type(source).__mro__:
        entry = OBJECTS.get(f"{kind.__module__}.{kind.__qualname__}")
        if entry is not None:
            given = {"example": example} if entry.endswith("load_torch") else {}
            return _call(entry, source, given | options, f"a {kind.__name__}")
    raise ModelError(
        f"a {type(source).__name__} can't be imported.", hint=f"Give a file ({', '.join(FILES)}) or a torch.nn.Module."
    )


def _load_file(path: Path, options: Mapping[str, Any]) -> Program:
    ending = path.suffix.lower()
    if ending not in FILES:
        hint = ELSEWHERE.get(ending, f"Give one of {', '.join(FILES)}.")
        raise UnsupportedError(f"files ending in '{ending}' aren't read.", place=str(path), hint=hint)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "there is no such file"
        raise ModelError(f"{what}; needed a model.", place=str(path), hint=f"Give one of {', '.join(FILES)}.")
    return _call(FILES[ending], path, options, f"'{ending}' files")


def _call(entry: str, source: Any, options: Mapping[str, Any], what: str) -> Program:
    from inspect import signature

    module, _, name = entry.partition(":")
    function = getattr(import_module(module), name)
    known = [p.name for p in signature(function).parameters.values()][1:]
    for key in options:
        if key not in known:
            raise UsageError(f"the importer of {what} has no option '{key}'.", hint=f"It has: {', '.join(known)}.")
    return function(source, **options)
