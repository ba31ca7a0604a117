"""The command line: what it prints, its exit status, and that bad input leaves one line and nothing half-written."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurodeploy.__main__ import run

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "examples" / "models" / "vowels_gru.onnx"
TRAIN = ROOT / "examples" / "data" / "japanese_vowels_train.npz"
TEST = ROOT / "examples" / "data" / "japanese_vowels_test.npz"
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command: exit status, standard output, standard error."""

    def made(*arguments: object) -> tuple[int, str, str]:
        status = run([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return made


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of the example GRU for the host."""
    folder = tmp_path_factory.mktemp("builds") / "gru-host"
    assert run(["compile", str(MODEL), "-t", "host", "-d", str(TRAIN), "--samples", "40", "-o", str(folder)]) == 0
    return folder


def test_help_answers_without_numpy_torch_or_onnx() -> None:
    code = (
        "import sys; from neurodeploy.__main__ import run; run(['--help']); print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "compile" in done.stdout
    loaded = set(eval(done.stderr))  # noqa: S307 - our own list
    assert not loaded & {"numpy", "torch", "onnx", "pydantic", "jinja2", "rich.console"}


def test_help_of_compile_groups_options_by_target(call: Call) -> None:
    text = call("compile", "--help")[1]
    groups = dict(part.split(":\n", 1) for part in text.split("\n\n") if part.rstrip() and ":\n  " in part)
    for title, options in (
        ("Options", ("--target", "--data", "--numerics", "--quantize", "--json", "--help")),
        ("TFLite Micro", ("--state", "--steps")),
        ("C and TFLite Micro", ("--optimize", "--fused-lstm")),
        ("C (boards and the host)", ("--toolchain", "--ram")),
        ("Spikes", ("--spikes",)),
        ("Crossbars", ("--mapping",)),
    ):
        for option in options:
            assert f"{option} " in groups[title], (title, option)
            assert sum(f"{option} <" in group or f"{option}  " in group for group in groups.values()) == 1


def test_compile_imports_no_heavy_framework(tmp_path: Path) -> None:
    code = (
        "import sys; from neurodeploy.__main__ import run;"
        f"assert run(['compile', {str(MODEL)!r}, '-t', 'host', '-d', {str(TRAIN)!r}, '-o', {str(tmp_path / 'b')!r}]) == 0;"
        "bad = {'torch', 'tensorflow', 'brian2', 'snntorch'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_little_ram_and_options_that_a_backend_has_not(call: Call, tmp_path: Path) -> None:
    def compiled(target: str, *more: str) -> tuple[int, str, str]:
        return call("compile", MODEL, "-t", target, "-d", TRAIN, "--samples", "20", *more, "-o", tmp_path / "b")

    assert compiled("mps2-an386", "--ram", "small", "--no-costs")[0] == 0
    assert "static ND_NOINLINE void vowels_gru_loop" in (tmp_path / "b" / "vowels_gru.c").read_text()
    for target, more, said in (
        ("mps2-an386", ("--ram", "tiny"), "ram is 'tiny'; needed: fast or small."),
        (
            "brian2-lsm",
            ("--ram", "small"),
            "brian2-lsm: the option 'ram' is for C (boards and the host); this target is for spikes in Brian2.",
        ),
        (
            "ideal-128",
            ("--optimize", "size"),
            "the option 'optimize' is for C (boards and the host) and TFLite Micro; this target is for crossbars.",
        ),
    ):
        status, _, err = compiled(target, *more)
        assert status == 2 and said in err, (target, err)


def test_the_command_s_own_options_are_no_conversion_s(call: Call, tmp_path: Path) -> None:
    common = (MODEL, "-t", "snntorch-sigma-delta", "-d", TRAIN, "-o", tmp_path / "b")
    status, _, err = call("compile", *common, "--spikes", "max_loss=1")
    assert status != 0 and "'max_loss' isn't one" in err and "Give --max-loss" in err
    assert not (tmp_path / "b").exists()


def test_version(call: Call) -> None:
    assert call("--version")[1].startswith("neurodeploy ")


def test_compile_writes_what_an_engineer_needs(build: Path) -> None:
    names = {p.name for p in build.iterdir()}
    assert {"vowels_gru.c", "vowels_gru.h", "main.c", "README.md", "manifest.json", "program.nd", "source.nd"} <= names
    manifest = json.loads((build / "manifest.json").read_text())
    figures = {f["name"]: f for f in manifest["figures"]}
    assert figures["macs"]["value"] == 12 * 96 + 32 * 96 + 32 * 9
    assert figures["ram_state"]["value"] == 64
    assert figures["flash"]["how"] == "compiled"


def test_run_then_report(build: Path, call: Call, tmp_path: Path) -> None:
    outputs = tmp_path / "out.npz"
    status, out, _ = call("run", build, "--data", TEST, "--samples", 30, "--save", outputs, "--json")
    record = json.loads(out)
    assert status == 0
    assert record["agreement"][0]["bit_exact"] == record["agreement"][0]["compared"] > 200
    assert record["accuracy"]["float"]["value"] >= 0.9
    with np.load(outputs) as saved:
        assert saved["logits"].shape == (30, 9)
    for ending in ("html", "md", "json"):
        assert call("report", build, "-o", tmp_path / f"r.{ending}")[0] == 0
    assert "gru-host" in (tmp_path / "r.html").read_text()


def test_validate_on_golden_and_host(build: Path, call: Call) -> None:
    for where in ("golden", "host"):
        status, out, err = call("validate", build, "--data", TEST, "--on", where, "--samples", 20)
        assert status == 0, err
        assert "Classification accuracy on 20 samples" in out
    assert "bit-exact against golden" in out


def test_validate_names_the_first_difference(build: Path, call: Call, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in build.iterdir():
        if path.is_file():
            (broken / path.name).write_bytes(path.read_bytes())
    source = (broken / "vowels_gru.c").read_text().rstrip()
    assert source.endswith("}") and "vowels_gru_step(" in source[source.rindex("void ") :], (
        "the step is the last function"
    )
    (broken / "vowels_gru.c").write_text(source[:-1] + "    out->logits[4] ^= 1;\n}\n")
    status, _, err = call("validate", broken, "--data", TEST, "--on", "host", "--samples", 5)
    assert status == 1
    assert "first difference: sample 0, step 0, tensor" in err and ".logits[4]" in err


def test_json_everywhere(build: Path, call: Call) -> None:
    for arguments in (
        ["doctor", "--json"],
        ["targets", "list", "--json"],
        ["targets", "show", "pcm-128", "--json"],
        ["targets", "check", ROOT / "targets" / "boards" / "host.toml", "--json"],
        ["inspect", MODEL, "--json"],
        ["quantize", MODEL, "--data", TEST, "--samples", 20, "--json"],
        ["validate", build, "--data", TEST, "--on", "golden", "--samples", 5, "--json"],
    ):
        status, out, err = call(*arguments)
        assert status == 0, err
        json.loads(out)


def test_opt_prints_what_the_compiler_sees(call: Call, tmp_path: Path) -> None:
    passes = "simplify,calibrate{method=percentile},quantize"
    status, out, _ = call("opt", MODEL, "--passes", passes, "--data", TRAIN, "--print", "-o", tmp_path / "q.nd")
    assert status == 0
    assert "numerics=native" in out and "requantize" in out
    assert (tmp_path / "q.nd").read_text() == out
    status, again, _ = call("opt", tmp_path / "q.nd", "--passes", "simplify", "--print")
    assert status == 0 and "requantize" in again


def test_quantize_ranks_what_each_tensor_costs(call: Call) -> None:
    status, out, _ = call("quantize", MODEL, "--data", TEST, "--samples", 6, "--sensitivity")
    assert status == 0
    assert "quantized: Classification accuracy 100.00 % on 6 samples" in out
    assert "forward.gru_h" in out and "every tensor quantized: error" in out
    status, out, _ = call("quantize", MODEL, "--data", TEST, "--samples", 6, "--sensitivity", "--json")
    rows = json.loads(out)["sensitivity"]["rows"]
    assert {r["kind"] for r in rows} == {"input", "weight", "state", "activation"}
    assert rows[0]["rmse_alone"] >= rows[-1]["rmse_alone"] > 0


def test_a_target_of_ones_own_goes_with_the_build(call: Call, tmp_path: Path) -> None:
    text = (ROOT / "targets" / "boards" / "mps2-an386.toml").read_text()
    mine = tmp_path / "mine.toml"
    mine.write_text(text.replace('"mps2-an386"', '"mine"', 1).replace("0x4e440386", "0x4e440001"))
    folder = tmp_path / "a build"
    status, out, err = call("compile", MODEL, "-t", mine, "-d", TRAIN, "--samples", 5, "-o", folder)
    assert status == 0, err
    assert "flash_code" in out and f"neurodeploy run '{folder}'" in out
    mine.unlink()
    status, out, err = call("validate", folder, "--data", TEST, "--samples", 1)
    assert status == 0, err
    assert "target 0x4e440001" in out
    assert call("report", folder, "-o", tmp_path / "r.md")[0] == 0


def test_save_makes_the_folder(build: Path, call: Call, tmp_path: Path) -> None:
    saved = tmp_path / "new" / "out.npz"
    assert call("run", build, "--data", TEST, "--samples", 2, "--save", saved)[0] == 0
    assert np.load(saved)["logits"].shape == (2, 9)
    status, _, err = call("run", build, "--data", TEST, "--samples", 2, "--save", tmp_path)
    assert status == 2 and "can't be written" in err


def test_data_without_steps_are_refused(build: Path, call: Call, tmp_path: Path) -> None:
    data = _npz(tmp_path / "none.npz", x=np.zeros((3, 0, 12), np.float32))
    status, _, err = call("validate", build, "--data", data)
    assert status == 2 and "input 'x' has no steps" in err


@pytest.mark.parametrize("option", [("--port", "/dev/ttyACM0"), ("--emulator", "qemu")])
def test_a_board_s_option_for_another_runner_is_refused(option: tuple[str, str], build: Path, call: Call) -> None:
    status, _, err = call("run", build, "--data", TEST, *option)
    assert status == 2 and f"{option[0]} is for boards" in err


def test_labels_that_the_output_lacks_are_refused(build: Path, call: Call, tmp_path: Path) -> None:
    data = _npz(tmp_path / "many.npz", x=np.zeros((2, 3, 12), np.float32), y=np.array([0, 9]))
    status, _, err = call("run", build, "--data", data)
    assert status == 2 and "'y' runs 0..9; the output has 9 classes" in err


# -- bad input -----------------------------------------------------------------------------------------------------------


def _npz(path: Path, **arrays: Any) -> Path:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    path.write_bytes(buffer.getvalue())
    return path


def bad_inputs(folder: Path) -> dict[str, tuple[list[object], str]]:
    """Name -> arguments, and words that the error must hold."""
    truncated, noise, text = folder / "truncated.onnx", folder / "noise.onnx", folder / "text.onnx"
    truncated.write_bytes(MODEL.read_bytes()[:9000])
    noise.write_bytes(np.random.default_rng(0).bytes(4000))
    text.write_text("not a model\n")
    narrow = _npz(folder / "narrow.npz", x=np.zeros((3, 5, 11), np.float32))
    nan = _npz(folder / "nan.npz", x=np.full((3, 5, 12), np.nan, np.float32))
    long = _npz(folder / "long.npz", x=np.zeros((3, 5, 12), np.float32), lengths=np.array([5, 6, 5]))
    (folder / "data.npz").write_bytes(TEST.read_bytes()[:1000])
    fewer = _npz(folder / "fewer.npz", x=np.zeros((3, 5, 12), np.float32), y=np.zeros(2, int))
    parts = _npz(folder / "parts.npz", x=np.zeros((3, 5, 12), np.float32), lengths=np.array([5, 2.5, 5]))
    out = ["-o", folder / "made"]
    host = ["-t", "host", *out]
    return {
        "truncated model": (["compile", truncated, *host, "-d", TRAIN], "truncated.onnx"),
        "random bytes": (["compile", noise, *host, "-d", TRAIN], "noise.onnx"),
        "a text": (["inspect", text], "text.onnx"),
        "no file": (["inspect", folder / "none.onnx"], "none.onnx"),
        "another format": (["inspect", folder / "model.pt"], "PyTorch"),
        "no board": (["compile", MODEL, "-t", "mps2-an368", *out, "-d", TRAIN], "Did you mean 'mps2-an386'"),
        "no calibration": (["compile", MODEL, *host], "--data"),
        "wrong shape": (["compile", MODEL, *host, "-d", narrow], "needed [batch, time, 12]"),
        "NaN data": (["compile", MODEL, *host, "-d", nan], "NaN"),
        "lengths beyond": (["compile", MODEL, *host, "-d", long], "'lengths'"),
        "cut data": (["compile", MODEL, *host, "-d", folder / "data.npz"], "data.npz"),
        "fewer labels": (["compile", MODEL, *host, "-d", fewer], "samples: 'x' 3, 'y' 2; needed the same number"),
        "parts of steps": (
            ["compile", MODEL, *host, "-d", parts],
            "'lengths' is float64 [3]; needed whole numbers [3]",
        ),
        "another file": (
            ["compile", MODEL, *host, "-d", MODEL],
            "vowels_gru.onnx: is no readable .npz (but another kind",
        ),
        "minimise": (["compile", MODEL, *host, "--minimise", "ram", "-d", TRAIN], "--minimise goes with --max-loss"),
        "numerics": (["compile", MODEL, *host, "--numerics", "natve", "-d", TRAIN], "native"),
        "toolchain": (["compile", MODEL, *host, "--toolchain", "icc", "-d", TRAIN], "icc"),
        "optimize": (["compile", MODEL, *host, "--optimize", "sped", "-d", TRAIN], "Did you mean 'speed'"),
        "ram elsewhere": (
            ["compile", MODEL, "-t", "tflm", *out, "--ram", "small", "-d", TRAIN],
            "the option 'ram' is for C (boards and the host); this",
        ),
        "state elsewhere": (
            ["compile", MODEL, *host, "--state", "io", "-d", TRAIN],
            "'state' is for TFLite Micro; this target is for C",
        ),
        "steps elsewhere": (
            ["compile", MODEL, "-t", "pcm-128", *out, "--steps", "4", "-d", TRAIN],
            "'steps' is for TFLite Micro; this target is for crossbars",
        ),
        "optimize for C": (
            ["compile", MODEL, "-t", "tflm", *out, "--optimize", "speed", "-d", TRAIN],
            "speed is how C stores weights",
        ),
        "widths elsewhere": (
            ["compile", MODEL, "-t", "tflm", *out, "--max-loss", "1", "-d", TRAIN],
            "--max-loss is for C with native numerics",
        ),
        "all boards, state": (
            ["compile", MODEL, "--all-boards", "--state", "io", "-d", TRAIN],
            "--all-boards takes no --state",
        ),
        "all boards, optimize": (
            ["compile", MODEL, "--all-boards", "--optimize", "size", "-d", TRAIN],
            "--all-boards takes no --optimize",
        ),
        "state": (["compile", MODEL, "-t", "tflm", *out, "--state", "oi", "-d", TRAIN], "Did you mean 'io'"),
        "method": (["compile", MODEL, *host, "--method", "minmx", "-d", TRAIN], "minmax"),
        "no build": (["run", folder, "--data", TEST], "manifest.json"),
        "pass": (["opt", MODEL, "--passes", "simplfy"], "Did you mean 'simplify'"),
        "report ending": (["report", folder, "-o", folder / "r.pdf"], "r"),
        "target file": (["targets", "check", text], "text.onnx"),
        "command": (["complie"], "complie"),
        "option": (["inspect", MODEL, "--jsn"], "--jsn"),
    }


NAMES = [
    "truncated model", "random bytes", "a text", "no file", "another format", "no board", "no calibration", "wrong shape",
    "NaN data", "lengths beyond", "cut data", "fewer labels", "parts of steps", "another file", "minimise", "numerics", "toolchain", "optimize", "ram elsewhere", "state elsewhere", "steps elsewhere", "optimize for C",
    "widths elsewhere", "all boards, state", "all boards, optimize", "state", "method", "no build", "pass", "report ending",
    "target file", "command", "option",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_one_line_and_a_hint(name: str, call: Call, tmp_path: Path) -> None:
    arguments, words = bad_inputs(tmp_path)[name]
    before = {p.name for p in tmp_path.iterdir()}
    status, out, err = call(*arguments)
    assert status == 2, err
    assert words in err
    assert "internal error" not in err
    if err.startswith("error:"):
        assert len(err.strip().splitlines()) <= 2, err
    assert {p.name for p in tmp_path.iterdir()} == before, "something was left half-written"


def test_an_output_folder_with_other_things_is_left_alone(call: Call, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    status, _, err = call("compile", MODEL, "-t", "host", "-d", TRAIN, "--samples", 5, "-o", tmp_path)
    assert status == 2 and "left as it is" in err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_output_folder_that_cant_be_made(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    base = ("compile", MODEL, "-t", "host", "-d", TRAIN, "--samples", 5, "--no-costs", "-o")
    status, _, err = call(*base, tmp_path / "file" / "build")
    assert status == 2 and "can't be written" in err
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    status, _, err = call(*base, ".")
    assert status == 2 and "the folder that you are in" in err


def test_a_damaged_build_is_one_line(build: Path, call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(build, folder)
    (folder / "vowels_gru.c").unlink()
    status, _, err = call("run", folder, "--data", TEST, "--samples", 1)
    assert status == 1 and "the C has no 'vowels_gru_reset'" in err
    (folder / "program.npz").write_bytes((build / "program.npz").read_bytes()[:500])
    status, _, err = call("run", folder, "--data", TEST, "--samples", 1)
    assert status == 1 and "program.nd: can't be read" in err


def test_a_silent_port_is_one_line(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "board"
    assert call("compile", MODEL, "-t", "mps2-an386", "-d", TRAIN, "--samples", 5, "-o", folder)[0] == 0
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = f"socket://127.0.0.1:{server.getsockname()[1]}"
        start = time.monotonic()
        status, _, err = call("run", folder, "--data", TEST, "--port", port, "--samples", 1)
    assert status == 1 and "no answer after" in err and "powered" in err
    assert time.monotonic() - start < 30
    status, _, err = call("run", folder, "--data", TEST, "--port", "/dev/ttyNONE", "--samples", 1)
    assert status == 1 and "can't be opened" in err


def test_targets_of_one_number_a_sample_fit_an_output_of_one(call: Call, build: Path) -> None:
    from neurodeploy import compiler, validate
    from neurodeploy.data import Data

    program = compiler.load(MODEL)
    outputs = {"logits": np.arange(4.0).reshape(4, 1)}
    data = Data({"x": np.zeros((4, 5, 12), np.float32)}, labels=np.array([0.0, 1.0, 2.0, 3.5]))
    assert validate.judge(program, outputs, data)[0] == "NRMSE"


def test_a_manifest_without_its_layout_is_refused(build: Path, call: Call, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(build, tmp_path / "b")
    path = tmp_path / "b" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["layout"]
    path.write_text(json.dumps(manifest))
    status, _, err = call("run", tmp_path / "b", "--data", TEST, "--samples", 2)
    assert status == 2 and "lacks 'layout'" in err


def test_a_statistical_promise_is_judged_by_accuracy(call: Call, tmp_path: Path) -> None:
    assert call("compile", MODEL, "-t", "pcm-128", "-d", TRAIN, "--samples", 60, "-o", tmp_path / "pcm")[0] == 0
    status, out, err = call("validate", tmp_path / "pcm", "--data", TEST, "--json")
    assert status == 0, err
    record = json.loads(out)
    assert record["agreement"][0]["equality"] == "statistical(0.05)" and record["agreement"][0]["holds"] is True
    assert record["accuracy"]["deployed"]["n"] == 25 and len(record["accuracy"]["drift"]) == 5
