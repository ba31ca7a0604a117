"""What a model takes on a board once it is linked: its own functions and constants, and what of the runtime they call.

The sizes of objects before linking (:func:`neurodeploy.backends.c_build.section_sizes`) count functions that nothing
calls, and leave out ``memcpy`` and the compiler's runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neurodeploy import hardware
from neurodeploy.artifact import Artifact
from neurodeploy.backends import c_build
from neurodeploy.backends.c_toolchain import as_board, compile_flags, toolchain
from neurodeploy.hardware import Board

#: What a user calls of a stage.
ENTRIES = ("reset", "step")


def roots(artifact: Artifact) -> list[str]:
    """The functions of a build that a user calls."""
    return [f"{layout['prefix']}_{call}" for layout in artifact.manifest["layout"].values() for call in ENTRIES]


def linked_sizes(
    files: Mapping[str, bytes], target: str | Board, roots: Sequence[str], tool: str | None = None, opt: str = "-O2"
) -> c_build.Sizes:
    """Bytes of the functions named in ``roots`` with all that they need, linked with the memory left unlimited.

    ``files``: a model's C without its example. Raises :class:`BuildError` with the compiler's or linker's first words.
    """
    board = as_board(target)
    compiler = toolchain(board, tool)
    ports = hardware.data_folder("firmware") / "ports"
    script = (ports / "library.ld").read_text().replace("@ROOTS@", " ".join(roots))
    return c_build.link_sizes(
        dict(files) | {"nd_mem.c": (ports / "nd_mem.c").read_bytes(), "library.ld": script.encode()},
        compiler, compile_flags(compiler, board, opt), board, "library.ld",
    )  # fmt: skip
