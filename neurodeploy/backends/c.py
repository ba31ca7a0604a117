"""The C backend: a program as readable C99 with its small core, for boards and for the host."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from neurodeploy.artifact import SCHEMA_VERSION, Artifact, Figure, Resources
from neurodeploy.backends import Capability, c_build, c_toolchain
from neurodeploy.backends.c_costs import costs_of
from neurodeploy.backends.c_emit import Code, emit, manifest_types, model_name
from neurodeploy.backends.c_emit_docs import example, readme
from neurodeploy.backends.c_emit_loop import LOOP_OPS
from neurodeploy.backends.c_emit_run import describe_run, emit_run
from neurodeploy.backends.c_layouts import layout_of
from neurodeploy.backends.c_ops import EXPRESSIONS
from neurodeploy.backends.c_ops_calls import CALLS
from neurodeploy.backends.c_sizes import linked_sizes, roots
from neurodeploy.backends.c_storage import Rule, manifest_rows
from neurodeploy.backends.c_tflite import RULES, TABLES
from neurodeploy.errors import BuildError, MissingExtraError, TargetError, UsageError, nearest
from neurodeploy.hardware import Board, built_for
from neurodeploy.ir import text
from neurodeploy.ir.cost import stage_cost
from neurodeploy.ir.graph import DRIVES, Program
from neurodeploy.ir.ops import OPS

if TYPE_CHECKING:
    from neurodeploy.hardware import Target

#: Primitives that are only another way to look at memory, or a constant.
SEEN = frozenset({"slice", "reshape", "transpose", "broadcast", "const"})
#: How a step uses memory: ``fast`` keeps what it needs, ``small`` computes in pieces for some more instructions.
RAM = ("fast", "small")
DTYPES = frozenset({"f32", "i8", "i16", "i32", "i64", "bool"})


class CBackend:
    """Compiles float programs, and integer ones of ``native`` and ``tflite`` numerics."""

    name = "c"

    def accepts(self, target: Target) -> Capability:
        """Every primitive, every drive; an integer program's bits are the golden model's."""
        return Capability(
            frozenset(OPS) & {*EXPRESSIONS, *LOOP_OPS, *CALLS, *SEEN, *RULES, *TABLES},
            DTYPES,
            frozenset(DRIVES),
            frozenset({"affine"}),
            "exact",
        )

    def compile(
        self,
        program: Program,
        target: Target,
        *,
        source: Program | None = None,
        data: Any = None,
        name: str | None = None,
        ram: str = "fast",
        optimize: str = "balanced",
        storage: str | None = None,
    ) -> Artifact:
        """The C files of a program, the core that they include, an example, a README and the programs themselves.

        ``ram``: ``fast`` or ``small``, which takes less RAM for some more instructions. ``optimize``: how weights are
        stored, ``balanced``, ``speed`` or ``size``; ``storage``: the form of every product that has it, ``i8``, ``i4``
        or ``sparse`` (see :mod:`~neurodeploy.backends.c_storage`).
        Raises :class:`UnsupportedError` naming the value that has no C, :class:`TargetError` for a target that is no
        board or too small.
        """
        if not isinstance(target, Board):
            raise TargetError("is no board; C is compiled for one.", place=target.name, hint="Take 'host'.")
        if ram not in RAM:
            raise UsageError(f"ram is '{ram}'; needed: {' or '.join(RAM)}.", hint=nearest(ram, RAM))
        rule = Rule(optimize, costs_of(target), storage)
        code = emit(program, layout_of(target), model_name(name or program.name), small=ram == "small", rule=rule)
        programs = {**text.to_files(program, "program"), **text.to_files(source or program, "source")}
        digest = hashlib.sha256(programs["program.nd"] + programs["program.npz"]).digest()
        files = dict(c_build.with_core(code.files, target))
        runs, _ = emit_run(program, code)
        files |= {**runs, "main.c": example(program, code).encode()}
        if target.resident and len(code.stages) <= c_build.MAX_STAGES:
            prefixes = [stage.prefix for stage in code.stages]
            files[f"{code.name}_image.c"] = c_build.image_table(prefixes, [f"{code.name}.h"], digest[:16])
        inputs = {n: (i.type, i.kind) for n, i in program.inputs.items()}
        manifest: dict[str, Any] = {
            "schema": SCHEMA_VERSION,
            "name": name or program.name,
            "backend": self.name,
            "target": target.name,
            "numerics": program.numerics,
            "equality": "close(1e-4)" if program.numerics == "float" else "exact",
            "inputs": manifest_types(inputs),
            "outputs": manifest_types({n: (t, "output") for n, t in program.output_types().items()}),
            "labels": program.meta.get("labels"),
            "normalisation": program.meta.get("normalisation"),
            "layout": code.layout,
            "run": describe_run(program, code),
            "hashes": {
                "model": hashlib.sha256(programs["source.nd"] + programs["source.npz"]).hexdigest(),
                "program": digest.hex(),
                "calibration": getattr(data, "sha256", None),
            },
            "storage": manifest_rows(code.storage, [stage.name for stage in program.stages]),
            "compiler": {"name": "neurodeploy c", "weights": layout_of(target).name},
            "warnings": list(program.meta.get("warnings", [])),
        }
        figures = _figures(code)
        _check_fit(target, figures)
        files["README.md"] = readme(program, code, manifest, figures, sorted(files)).encode()
        manifest["figures"] = [vars(figure) for figure in figures]
        return Artifact(name or program.name, self.name, target.name, {**files, **programs}, manifest)

    def resources(self, artifact: Artifact, tool: str | None = None) -> Resources:
        """Flash, RAM and multiply-accumulates; the code's size from the compiler that builds for the target."""
        known = {f["name"]: Figure(**f) for f in artifact.manifest["figures"]}
        tool = tool or artifact.manifest.get("toolchain")
        constants = sum(int(known[n].value or 0) for n in ("flash_weights", "flash_tables"))
        try:
            board = built_for(artifact, Board)
            compiler = c_toolchain.toolchain(board, tool)
            sources, linked = model_sources(artifact), board.core.isa != "host"
            if linked:
                sizes = linked_sizes(sources, board, roots(artifact), compiler.name)
            else:  # a host's own linker decides
                sizes = c_build.section_sizes(sources, board, compiler.name)
        except (MissingExtraError, BuildError) as error:
            unknown = [Figure.unknown(n, "B", str(error)) for n in ("flash", "flash_code")]
            return (*unknown, *known.values())
        source = f"{'linked with what it calls' if linked else 'objects before linking'}, {compiler.label} -O2"
        total = sizes.text + sizes.rodata + sizes.data
        return (
            Figure("flash", total, "B", "compiled", source),
            Figure("flash_code", total - constants, "B", "compiled", f"{source}, without the model's constants"),
            *known.values(),
        )


def model_sources(artifact: Artifact) -> dict[str, bytes]:
    """The C sources of a build that make the model, without example, image and whole runs."""
    others = ("_image.c", "_run.c", "_run.h")
    return {
        name: data
        for name, data in artifact.files.items()
        if name.endswith((".c", ".h")) and name != "main.c" and not name.endswith(others)
    }


def _figures(code: Code) -> Resources:
    """What is exact before any compiler has run."""
    weights = sum(n for name, n in code.constants.items() if name in code.weights)
    tables = sum(code.constants.values()) - weights
    state = sum(stage.structs["state"].nbytes for stage in code.stages)
    ports = sum(stage.structs[role].nbytes for stage in code.stages for role in ("in", "out"))
    scratch = max(stage.plan.scratch_bytes for stage in code.stages)
    costs = [stage_cost(stage.stage.graph) for stage in code.stages]
    macs, always = sum(c.macs for c in costs), sum(c.macs_always for c in costs)
    shapes = "shapes of the products"
    rows = [
        Figure("flash_weights", weights, "B", "compiled", "the products' weights, biases and multipliers"),
        Figure("flash_tables", tables, "B", "compiled", "every other constant"),
        Figure("ram", state + ports + scratch, "B", "compiled", "state, in, out and scratch, without saved registers"),
        Figure("ram_state", state, "B", "compiled", "sizeof the state structures"),
        Figure("ram_ports", ports, "B", "compiled", "sizeof the in and out structures"),
        Figure("ram_scratch", scratch, "B", "compiled", "the largest step's scratch, on the stack"),
        Figure("macs", macs, "MAC/step", "compiled", f"{shapes}; every guarded region runs"),
    ]
    if always != macs:
        rows.append(Figure("macs_always", always, "MAC/step", "compiled", f"{shapes}; no guarded region runs"))
    return tuple(rows)


def _check_fit(board: Board, figures: Resources) -> None:
    """Refuse what can't fit, whatever the compiler makes of it. Raises :class:`TargetError`."""
    sizes = {f.name: int(f.value or 0) for f in figures}
    flash = sizes["flash_weights"] + sizes["flash_tables"]
    for kind, needed, room in (("flash", flash, board.flash_bytes), ("RAM", sizes["ram"], board.ram_bytes)):
        if room is not None and needed > room:
            raise TargetError(
                f"the model needs {needed} B of {kind} for its data alone; there are {room}.",
                place=board.name,
                hint="Take a smaller model or a larger board.",
            )
