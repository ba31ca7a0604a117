"""The project that comes with a build: what a firmware with TFLite Micro in it takes to run the network.

Generated are the models as arrays, the resolver with exactly the operators used and the arenas; the rest
(``firmware/tflm``) is the same for every network. TFLM's own sources come from the user's tree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neurodeploy.backends.c_emit_constants import identifier
from neurodeploy.backends.tflite.project_arena import Arena
from neurodeploy.backends.tflite.project_facts import FileFacts, facts_of
from neurodeploy.errors import UnsupportedError

FOLDER = "tflm"
#: Files of the project that are the same for every network, in folders of ``firmware/``.
FIXED = {
    "tflm": (
        "CMakeLists.txt", "idf_component.yml", "main.cc", "nd_port.h", "nd_tflm.cc", "nd_tflm.h", "port.cc", "tflm.ino",
    ),
    "core": ("nd_link.c", "nd_link.h"),
    "ports/resident": ("nd_resident.h",),
}  # fmt: skip
#: Methods of MicroMutableOpResolver without their "Add" (tensorflow/lite/micro/micro_mutable_op_resolver.h). Such a
#: name is the schema's in other letters: CONV_2D is Conv2D.
METHODS = (
    "Abs Add AddN ArgMax ArgMin AssignVariable AveragePool2D BatchMatMul BatchToSpaceNd BroadcastArgs BroadcastTo "
    "CallOnce Cast Ceil Concatenation Conv2D Cos CumSum DepthToSpace DepthwiseConv2D Dequantize Div "
    "DynamicUpdateSlice Elu EmbeddingLookup Equal Exp ExpandDims Fill Floor FloorDiv FloorMod FullyConnected Gather "
    "GatherNd Greater GreaterEqual HardSwish If L2Normalization L2Pool2D LeakyRelu Less LessEqual Log LogSoftmax "
    "LogicalAnd LogicalNot LogicalOr Logistic MaxPool2D Maximum Mean Minimum MirrorPad Mul Neg NotEqual Pack Pad PadV2 "
    "Prelu Quantize ReadVariable ReduceAll ReduceMax ReduceMin Relu Relu6 Reshape ResizeBilinear "
    "ResizeNearestNeighbor ReverseV2 Round Rsqrt SelectV2 Shape Sin Slice Softmax SpaceToBatchNd SpaceToDepth Split "
    "SplitV Sqrt Square SquaredDifference Squeeze StridedSlice Sub Sum Svdf Tanh Transpose TransposeConv "
    "UnidirectionalSequenceLSTM Unpack VarHandle While ZerosLike"
)
_METHOD_OF = {method.lower(): method for method in METHODS.split()}


@dataclass(frozen=True)
class Model:
    """One stage as the templates see it: ``name`` is its C name, ``file`` its ``.tflite`` file."""

    stage: str
    name: str
    file: str
    data: bytes
    facts: FileFacts
    arena: Arena

    @property
    def rows(self) -> list[str]:
        """The file's bytes as lines of a C array."""
        return c_rows(self.data)


def c_rows(data: bytes) -> list[str]:
    """Bytes as the lines of a C array."""
    return ["0x" + data[at : at + 16].hex(",").replace(",", ",0x") + "," for at in range(0, len(data), 16)]


def c_string(text: str) -> str:
    """Text as a C string literal."""
    plain = "".join(
        chr(b) if chr(b).isascii() and (chr(b).isalnum() or b in b" _.-/") else f"\\{b:03o}" for b in text.encode()
    )
    return f'"{plain}"'


def add_method(op: str) -> str:
    """The resolver's method for an operator of the schema. Raises :class:`UnsupportedError` for one TFLM lacks."""
    method = _METHOD_OF.get(op.replace("_", "").lower())
    if method is None:
        raise UnsupportedError(f"TFLite Micro has no operator {op}.", hint="Leave it out of the network.")
    return f"Add{method}"


def model_hash(artifact_files: Mapping[str, bytes], stages: Mapping[str, Any]) -> bytes:
    """The 16 bytes by which a firmware says which models it holds."""
    return hashlib.sha256(b"".join(artifact_files[stage["file"]] for stage in stages.values())).digest()[:16]


def project(
    name: str, files: Mapping[str, bytes], stages: Mapping[str, Any], arenas: Mapping[str, Arena]
) -> dict[str, bytes]:
    """The project's files, ``tflm/...`` -> bytes.

    ``files`` holds the ``.tflite`` files, ``stages`` is the manifest's layout of the stages, ``arenas`` says what each
    takes. Raises :class:`UnsupportedError` for an operator that TFLM's resolver has no method for.
    """
    from neurodeploy.hardware import data_folder

    prefix = identifier(name)
    models = []
    for stage, layout in stages.items():
        data = files[layout["file"]]
        called = prefix if len(stages) == 1 else f"{prefix}_{identifier(stage)}"
        models.append(Model(stage, called, layout["file"], data, facts_of(data), arenas[stage]))
    ops = sorted({op for model in models for op in model.facts.ops})
    firmware = data_folder("firmware")
    made = {file: (firmware / folder / file).read_bytes() for folder, names in FIXED.items() for file in names}
    words = {
        "name": name,
        "models": models,
        "total": sum(len(model.data) for model in models),
        "methods": [add_method(op) for op in ops],
        "model_hash": c_rows(model_hash(files, stages))[0],
        "c_rows": c_rows,
        "c_string": c_string,
        "most": {
            role: max(getattr(model.facts, f"{role}_bytes") for model in models) for role in ("in", "out", "state")
        },
    }
    for file in ("model_data.h", "model_data.cc", "op_resolver.h", "README.md"):
        made[file] = _render(file, words)
    digest = hashlib.sha256(b"".join(made[file] for file in sorted(made) if file != "README.md")).digest()[:16]
    made["model_data.cc"] = made["model_data.cc"].replace(b"PROJECT_HASH", c_rows(digest)[0].encode())
    return {f"{FOLDER}/{file}": made[file] for file in sorted(made)}


def _render(file: str, words: Mapping[str, Any]) -> bytes:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("neurodeploy.backends.tflite"), trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, undefined=jinja2.StrictUndefined, autoescape=False,
    )  # fmt: skip
    return environment.get_template(f"{file}.j2").render(words).encode()
