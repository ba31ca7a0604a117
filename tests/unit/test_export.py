"""Exports without a compiler: the files of each form, names, what is refused, and how they are written."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import neurodeploy
from neurodeploy.__main__ import run
from neurodeploy.backends import c_export
from neurodeploy.backends.c_export_model import own_core
from neurodeploy.compiler import Built
from neurodeploy.errors import UnsupportedError, UsageError
from neurodeploy.ir.text import parse_program
from tests.export_tools import build

LEAK = """program leak numerics=float {
  input NAME: series f32[2]
  stage main forward {
    from NAME = NAME
    input %NAME: f32[2]
    state %s: f32[2] next=%y
    %y: f32[2] = add(%NAME, %s)
    output y = %y
  }
  output y = main.y
}
"""


def leak(name: str) -> neurodeploy.Built:
    """A sum over time of an input of that name."""
    return neurodeploy.compile(parse_program(LEAK.replace("NAME", name), {}), "host", numerics="float", costs=False)


@pytest.fixture(scope="module")
def gru():
    return build("gru_reset_after", "mps2-an386", name="Door sensor 2")


EXPECTED = {
    "plain": {"main.c", "door_sensor_2.c", "nd_affine.c"},
    "cmake": {"CMakeLists.txt", "src/door_sensor_2.c", "example/main.c", "toolchain-mps2-an386.cmake"},
    "arduino": {
        "library.properties", "keywords.txt", "src/door_sensor_2.c", "examples/door_sensor_2/door_sensor_2.ino",
    },
    "zephyr": {
        "zephyr/module.yml", "CMakeLists.txt", "Kconfig", "src/door_sensor_2_run.c",
        *(f"samples/door_sensor_2/{name}" for name in ("CMakeLists.txt", "prj.conf", "src/main.c", "sample.yaml")),
    },
}  # fmt: skip


@pytest.mark.parametrize("form", c_export.FORMS)
def test_the_files_of_a_form(gru, form):
    files = c_export.export(gru, form)
    assert files.keys() >= EXPECTED[form] | {"README.md", c_export.MARK}
    assert not [name for name in files if name.endswith(("_image.c", ".nd", ".npz")) or "manifest" in name]
    assert c_export.export(gru, form) == files
    readme = files["README.md"].decode()
    for words in ("door_sensor_2_step(&state, &in, &out)", "Several models in one program", "Arm MPS2"):
        assert words in readme


def test_every_form_has_a_test_of_its_files():
    assert EXPECTED.keys() == c_export.FORMS.keys()


def test_library_properties_keep_to_the_specification(gru):
    """Arduino library specification, 1.5 format rev. 2.2: fields that it requires, and what they may hold."""
    lines = c_export.export(gru, "arduino")["library.properties"].decode().splitlines()
    fields = dict(line.split("=", 1) for line in lines)
    required = ["name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"]
    assert [name for name in fields if name != "includes"] == required
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}", fields["name"])
    assert not fields["name"].lower().startswith("arduino")
    assert re.fullmatch(r"\d+\.\d+\.\d+", fields["version"])
    assert fields["category"] == "Data Processing"
    assert fields["architectures"] == "*"
    files = c_export.export(gru, "arduino")
    assert all(f"src/{name}" in files for name in fields["includes"].split(","))
    rows = [r for r in files["keywords.txt"].decode().splitlines() if r and not r.startswith("#")]
    assert all(re.fullmatch(r"\w+\tKEYWORD[12]", row) for row in rows)
    assert "door_sensor_2_step\tKEYWORD2" in rows


def test_the_longest_name_fits_arduino():
    files = c_export.export(build("elman_tanh", "host", name="n" * 90), "arduino")
    sketch = next(name for name in files if name.endswith(".ino"))
    _, folder, file = sketch.split("/")
    assert folder == file.removesuffix(".ino")
    assert len(folder) <= 63
    fields = dict(line.split("=", 1) for line in files["library.properties"].decode().splitlines())
    assert len(fields["name"]) == 63


def test_module_yml_keeps_to_zephyrs_schema(gru):
    """Keys and types of METADATA_SCHEMA in Zephyr's scripts/zephyr_module.py; what they name is there."""
    yaml = pytest.importorskip("yaml")
    files = c_export.export(gru, "zephyr")
    module = yaml.safe_load(files["zephyr/module.yml"])
    assert module == {
        "name": "neurodeploy_door_sensor_2",
        "build": {"cmake": ".", "kconfig": "Kconfig"},
        "samples": ["samples"],
    }
    assert yaml.safe_load(files["samples/door_sensor_2/sample.yaml"])["sample"] == {"name": "door_sensor_2"}
    symbol = re.search(r"^config (\w+)\n\tbool ", files["Kconfig"].decode(), re.M)
    assert symbol is not None
    assert f"if(CONFIG_{symbol[1]})" in files["CMakeLists.txt"].decode()
    conf = files["samples/door_sensor_2/prj.conf"].decode()
    assert f"CONFIG_{symbol[1]}=y\n" in conf
    stack = re.search(r"^CONFIG_MAIN_STACK_SIZE=(\d+)$", conf, re.M)
    sizes = {f["name"]: f["value"] for f in gru.manifest["figures"]}
    assert stack is not None
    assert int(stack[1]) >= 2048 + sizes["ram_scratch"] + sizes["ram_ports"]


def test_a_name_that_arduino_has_taken_is_refused():
    built = leak("OUTPUT")
    with pytest.raises(
        UnsupportedError, match="^leak: has an input, output or state 'OUTPUT', which Arduino.h defines"
    ):
        c_export.export(built.artifact, "arduino")
    assert "README.md" in c_export.export(built.artifact, "cmake")


def test_names_of_cpp_are_no_names_of_fields():
    header = leak("class").artifact.files["leak.h"].decode()
    assert re.search(r"\bfloat class_\[2\]", header)
    assert 'extern "C" {' in header


def test_the_core_has_names_of_its_own_that_tell_what_it_is():
    """Equal cores have equal names, and a header that differs changes them."""
    files = {
        "m.c": b'#include "nd_a.h"\nvoid m_step(void) { nd_a(); nd_ab(); }\n',
        "nd_a.c": b'#include "nd_a.h"\nstatic int nd_own(void);\nconst int nd_table[2] = {1};\nvoid nd_a(void)\n{\n'
        b"    nd_ab();\n}\nvoid nd_ab(void)\n{\n}\n",
        "nd_a.h": b"extern const int nd_table[2];\nvoid nd_a(void);\nvoid nd_ab(void);\n",
    }
    made = own_core(files)
    names = re.findall(rb"#pragma weak (nd_\w+)_[0-9a-f]{8}\n", made["nd_a.c"])
    assert names == [b"nd_a", b"nd_ab", b"nd_table"]
    found = re.search(rb"nd_a_([0-9a-f]{8})\(\)", made["m.c"])
    assert found is not None
    digest = found[1]
    assert b"nd_ab_" + digest in made["m.c"]
    assert b"nd_own(void)" in made["nd_a.c"]
    assert made["nd_a.h"].count(digest) == 3
    assert own_core(dict(files))["nd_a.c"] == made["nd_a.c"]
    other = own_core({**files, "nd_a.h": files["nd_a.h"] + b"\n"})
    assert digest not in other["nd_a.c"]


def test_the_weights_demand_the_machine_that_they_are_laid_out_for(gru):
    source = c_export.export(gru, "plain")["door_sensor_2.c"].decode()
    assert source.startswith("#if !defined(__ARM_FEATURE_DSP) && !defined(ND_ANY_MACHINE)\n#error ")
    assert "mps2-an386" in source.splitlines()[1]
    for other in (build("gru_reset_after", "host"), build("gru_reset_after", "mps2-an386", "float")):
        files = c_export.export(other, "plain")
        assert b"ND_ANY_MACHINE" not in b"".join(data for name, data in files.items() if name.endswith(".c"))


def test_a_window_is_fed_as_given(gru):
    window = np.full((2, 4), 0.625, np.float32)
    main_c = c_export.export(gru, "plain", {"x": window}, "the first sample of t.npz")["main.c"].decode()
    assert "/* x: 2 steps of 4 values, the first sample of t.npz. Put your own here. */" in main_c
    assert main_c.count("    0.625f, 0.625f, 0.625f, 0.625f,\n") == 2
    assert ".x_steps = 2;" in main_c


@pytest.mark.parametrize("window", [{"x": np.zeros((2, 3))}, {"z": np.zeros((2, 4))}, {"x": np.full((2, 4), np.nan)}])
def test_a_window_that_does_not_fit_is_refused(gru, window):
    with pytest.raises(UsageError):
        c_export.export(gru, "plain", window)


def test_only_c_builds_are_exported(gru):
    other = replace(gru, backend="crossbar", target="pcm-128")
    with pytest.raises(
        UnsupportedError, match="is a build of the backend 'crossbar' for 'pcm-128'; needed: a C build. Compile"
    ):
        c_export.export(other, "plain")
    with pytest.raises(
        UnsupportedError, match="tflm/ is an Arduino sketch .* already. Its README.md says how to go on"
    ):
        c_export.export(replace(gru, backend="tflite", target="tflm"), "arduino")
    with pytest.raises(UsageError, match="there is no export to 'ardiuno'. Did you mean 'arduino'"):
        c_export.export(gru, "ardiuno")
    manifest = {key: value for key, value in gru.manifest.items() if key != "run"}
    with pytest.raises(UsageError, match="lacks what an export is made of .* Compile the build again"):
        c_export.export(replace(gru, manifest=manifest), "plain")


def test_an_export_replaces_an_untouched_one_only(gru, tmp_path):
    built = Built(gru)
    folder = built.export("plain", tmp_path / "out")
    assert built.export("arduino", folder) == folder
    assert (folder / "library.properties").exists()
    assert not (folder / "main.c").exists()
    (folder / "README.md").write_text("mine")
    with pytest.raises(UsageError, match="'README.md' was changed since this was exported"):
        built.export("cmake", folder)
    assert (folder / "README.md").read_text() == "mine"
    added = built.export("plain", tmp_path / "added")
    (added / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="'notes.txt' was added since"):
        built.export("plain", added)
    (added / "notes.txt").unlink()
    (added / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="'link' was added since .* Move it away"):
        built.export("plain", added)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="is no earlier export; it is left as it is"):
        built.export("plain", other)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        built.export("plain", tmp_path / "file")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["added", "file", "other", "out"]
    assert [p.name for p in other.iterdir()] == ["thesis.tex"]


def test_the_command_line(gru, tmp_path, capsys):
    Built(gru).save(tmp_path / "build")
    np.savez(tmp_path / "t.npz", x=np.full((3, 5, 4), 0.25, np.float32), lengths=np.array([2, 5, 5]))
    arguments = [str(tmp_path / "build"), "--to", "cmake", "-o", str(tmp_path / "out")]
    assert run(["export", *arguments, "--data", str(tmp_path / "t.npz"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["form"] == "cmake"
    assert sorted(said["files"]) == sorted(
        str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()
    )
    assert "x: 2 steps of 4 values, the first sample of t.npz." in (tmp_path / "out/example/main.c").read_text()
    assert run(["export", *arguments]) == 0
    assert "README.md" in capsys.readouterr().out
    assert run(["export", str(tmp_path / "build"), "--to", "make", "-o", str(tmp_path / "x")]) == 2
    assert run(["export", str(tmp_path), "--to", "cmake", "-o", str(tmp_path / "x")]) == 2
    assert not (tmp_path / "x").exists()
