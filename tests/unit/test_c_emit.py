"""Builds of the C backend: files, layout, figures, what is refused, how small and how fast to make."""

import json
import subprocess
import sys

import numpy as np
import pytest

from neurodeploy import hardware
from neurodeploy.artifact import Artifact
from neurodeploy.backends import backend, c_build
from neurodeploy.backends.c import CBackend, model_sources
from neurodeploy.compiler import compile
from neurodeploy.errors import TargetError
from neurodeploy.ir import text
from neurodeploy.ir.build import Builder
from neurodeploy.ir.fixed import lut_table
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import Quant, TensorType


def gru(inputs=8, units=32, name="gru"):
    """A gated cell in native numerics, its shape that of a GRU with both biases."""
    rng = np.random.default_rng(0)
    unit = 1 / 32768
    b = Builder()
    x = b.input("x", (inputs,), "i16", Quant(unit))
    h = b.state("h", TensorType((units,), "i16", Quant(unit)))

    def weights(stem, rows, columns):
        return b.param(stem, rng.integers(-127, 128, (rows, columns)).astype(np.int8))

    def bias(rows):
        return b.param("bias", rng.integers(-100000, 100000, rows).astype(np.int32))

    def scaled(y, pre):
        return b("requantize", y, b.param("m", rng.integers(2**21, 2**22, y.shape).astype(np.int32)), pre=pre, to="i16")

    sigmoid = b.param("sigmoid_table", lut_table(lambda v: 1 / (1 + np.exp(-v)), 8 / 32768, unit))
    tanh = b.param("tanh_table", lut_table(np.tanh, 8 / 32768, unit))
    (rz,) = b.call("affine", weights("W", 2 * units, inputs), x, weights("U", 2 * units, units), h, bias(2 * units))
    r, z = b("lut", scaled(rz, 3), sigmoid).split(2)
    (n,) = b.call("affine", weights("W_n", units, inputs), x, bias(units))
    (u,) = b.call("affine", weights("U_n", units, units), h, bias(units))
    gated = b("requantize", r * scaled(u, 2), b.const(1 << 17, "i32"), to="i16")
    new = b("lut", b("requantize", scaled(n, 2) + gated, b.const(1 << 30, "i32"), pre=2, to="i16"), tanh)
    mixed = (b.const(32767, "i32") - z) * new + z * h
    following = b("requantize", mixed, b.const(1 << 17, "i32"), to="i16", quant=Quant(unit))
    b.next(h, following)
    b.output("y", following)
    graph = b.graph()
    stage = Stage("step", graph, inputs_from={"x": Ref("x")})
    meta = {"labels": ["one", "two"], "normalisation": {"mean": [0.5], "std": [2.0]}}
    return Program(name, {"x": ProgramInput(graph.inputs["x"])}, (stage,), {"y": Ref("y", "step")}, "native", meta)


def compiled(target="mps2-an386", **more):
    return backend("c").compile(gru(**more), hardware.find(target))


def figures(artifact):
    return {f.name: f.value for f in backend("c").resources(artifact)}


def test_the_files_of_a_build(tmp_path):
    artifact = compiled()
    assert {"gru.c", "gru.h", "gru_run.c", "gru_run.h", "gru_image.c", "main.c", "README.md", "nd_affine.c", "nd_affine.h",
            "nd_fixed.h", "nd_math.h", "nd_tables.c", "nd_tables.h", "program.nd", "program.npz", "source.nd", "source.npz"} == set(artifact.files)  # fmt: skip
    assert "gru_image.c" not in compiled("host").files
    again = Artifact.load(artifact.save(tmp_path / "gru"))
    assert again.files == artifact.files and again.manifest == artifact.manifest
    assert text.print_program(text.from_files(artifact.files, "program")) == text.print_program(gru())
    assert compiled().files == artifact.files  # the same in, the same out
    json.dumps(artifact.manifest)


def test_the_layout_tells_every_field():
    layout = compiled().manifest["layout"]["step"]
    assert layout["prefix"] == "gru"
    assert layout["state"] == {"bytes": 80, "fields": [{"name": "h", "offset": 0, "dtype": "i16", "shape": [32]}]}
    odd = compiled(inputs=7, units=31).manifest["layout"]["step"]
    assert (odd["in"]["bytes"], odd["state"]["bytes"]) == (16, 80)  # h, and room for x


def test_the_readme_tells_what_an_engineer_needs():
    readme = compiled().files["README.md"].decode()
    for words in ("gru_reset(&state)", "gru_step(&state, &in, &out)", "gru_quantize_x(real)", "gru_dequantize_y(raw)", "memcpy",
                  "one", "two", "mean: [0.5]", "256 B", "gru_run.h", "nd_affine.c"):  # fmt: skip
        assert words in readme, words


def test_the_readme_of_several_stages_tells_how_they_hang_together():
    b = Builder()
    x = b.input("x", (2,))
    h = b.state("h", TensorType((2,)))
    b.next(h, x + h)
    b.output("y", x + h)
    graph = b.graph()
    first = Stage("back", graph, Drive("reverse"), {"x": Ref("x")})
    second = Stage("on", graph, inputs_from={"x": Ref("y", "back", "last")})
    program = Program("two", {"x": ProgramInput(TensorType((2,)))}, (first, second), {"y": Ref("y", "on")})
    readme = compile(program, "mps2-an386", numerics="float", costs=False).artifact.files["README.md"].decode()
    assert "Steps from the last row of its series inputs to the first; `in.x` is `x`." in readme
    assert "`in.x` is `back.y@last`" in readme
    assert "SMLAD" not in readme and "SMLAD" in compiled().files["README.md"].decode()


def test_pinned_sizes():
    """Exact ones exactly; code may not grow unnoticed."""
    found = figures(compiled())
    assert found["ram_state"] == 80 and found["ram_scratch"] == 256 and found["macs"] == 3840
    assert found["flash_weights"] == 5120 and found["flash_tables"] == 2 * 1026 + 3 * 24
    if "gcc" in c_build.toolchains("mps2-an386"):
        exact = {f.name: f for f in CBackend().resources(compiled(), "gcc")}
        assert (exact["flash_code"].value or 0) <= 3000 and "gcc" in exact["flash_code"].source


def test_nothing_but_memcpy_and_memset_and_no_globals():
    sizes = c_build.section_sizes(model_sources(compiled()), "mps2-an386")
    assert (sizes.data, sizes.bss) == (0, 0)
    assert all(name in ("memcpy", "memset") or name.startswith("__aeabi_mem") for name in sizes.undefined)


@pytest.mark.parametrize("target", ["host", "mps2-an386", "mps2-an385"])
def test_the_example_and_the_whole_run_compile(target):
    artifact = compiled(target)
    files = {n: d for n, d in artifact.files.items() if n.endswith((".c", ".h")) and not n.endswith("_image.c")}
    assert c_build.section_sizes(files, target).symbols.keys() >= {"main", "gru_run", "gru_step", "gru_reset"}


def test_two_models_side_by_side():
    a, b = (model_sources(compiled("host", units=u, name=n)) for u, n in ((4, "left"), (6, "right")))
    symbols = c_build.section_sizes({**a, **b}, "host").symbols
    assert {"left_step", "right_step", "left_reset", "right_reset"} <= symbols.keys()


def test_a_table_is_there_once_and_tanhs_is_the_cores():
    source = compiled().files["gru.c"].decode()
    assert source.count("[513] =") == 1 and "nd_lut_of(nd_tanh_table)" in source
    assert compiled().files["nd_tables.c"].count(b"[513] =") == 1


def test_refusals():
    board = hardware.find("mps2-an386")
    with pytest.raises(TargetError, match="is no board"):
        backend("c").compile(gru(), hardware.find("pcm-128"))
    with pytest.raises(TargetError, match=r"mps2-an386: the model needs \d+ B of flash .*; there are 2097152"):
        backend("c").compile(gru(inputs=700, units=1000), board)


def test_a_guarded_region_shows_in_the_figures():
    b = Builder()
    x, go, h = b.input("x", (8,), "i16"), b.input("go", (), "bool"), b.state("h", (4,), None, "i16")
    (acc,) = b.call("affine", b.param("w", np.ones((4, 8), np.int8)), x, b.param("bias", np.zeros(4, np.int32)))
    b.next(h, b("cast", acc, to="i16"), go)
    b.output("y", h)
    graph = b.graph()
    inputs = {n: ProgramInput(t) for n, t in graph.inputs.items()}
    stage = Stage("step", graph, inputs_from={n: Ref(n) for n in inputs})
    found = figures(
        backend("c").compile(Program("g", inputs, (stage,), {"y": Ref("y", "step")}, "native"), hardware.find("host"))
    )
    assert (found["macs"], found["macs_always"]) == (32, 0)


BIG = """
import sys, time
import numpy as np
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Ref, Stage
rng = np.random.default_rng(0)
b = Builder()
x, h, c = b.input("x", (64,)), b.state("h", (128,)), b.state("c", (128,))
w = [b.param(n, rng.normal(size=s).astype(np.float32)) for n, s in (("W", (512, 64)), ("U", (512, 128)), ("b", (512,)))]
h2, c2 = b.call("lstm", x, h, c, *w)
b.next(h, h2), b.next(c, c2), b.output("y", h2)
g = b.graph()
program = Program("lstm", {"x": ProgramInput(g.inputs["x"])}, (Stage("s", g, inputs_from={"x": Ref("x")}),), {"y": Ref("y", "s")})
start = time.perf_counter()
from neurodeploy.backends.c_emit import emit
size = len(emit(program).files["lstm.c"])
print(size, time.perf_counter() - start, any(m in sys.modules for m in ("torch", "tensorflow", "scipy")))
"""


def test_a_large_model_is_written_quickly():
    done = subprocess.run(
        [sys.executable, "-c", BIG],
        capture_output=True,
        text=True,
        check=True,
        cwd=hardware.data_folder("firmware").parent,
    )
    size, seconds, heavy = done.stdout.split()
    assert int(size) > 1_000_000 and float(seconds) < 2 and heavy == "False"
