"""``neurodeploy doctor``."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

from neurodeploy import hardware
from neurodeploy.cli.output import out, print_json, table
from neurodeploy.deploy import emulator_qemu


@dataclass(frozen=True)
class Part:
    """Something that neurodeploy can use: ``version`` is None where it isn't installed, then ``get`` says how."""

    name: str
    what: str
    version: str | None
    get: str


_PACKAGES = (
    # module, distribution, what for, extra
    ("onnx", "onnx", "import of ONNX", ""),
    ("ziglang", "ziglang", "C compiler for boards and the host", ""),
    ("unicorn", "unicorn", "emulated Cortex-M boards", ""),
    ("serial", "pyserial", "serial lines", ""),
    ("torch", "torch", "import of PyTorch modules", "torch"),
    ("onnxruntime", "onnxruntime", "the numerical check of ONNX imports", "dev"),
    ("tflite_micro", "tflite-micro", "TFLite Micro's own interpreter", "tflite"),
    ("ai_edge_litert", "ai-edge-litert", "LiteRT, the interpreter of phones and computers", "tflite"),
    ("flatbuffers", "flatbuffers", "writing .tflite", "tflite"),
    ("brian2", "brian2", "spiking simulation, as a script of its own", "spiking"),
    ("snntorch", "snntorch", "spiking simulation as a torch module, fine-tuning", "spiking"),
    ("numba", "numba", "spiking simulation in compiled loops, wires of crossbars", "spiking"),
    ("nir", "nir", "reading and writing NIR files", "spiking"),
    ("norse", "norse", "running NIR files: nir-norse", "nir"),
    ("spikingjelly", "spikingjelly", "running NIR files: nir-spikingjelly", "nir"),
)
_PROGRAMS = (
    # command, what for, how to get it
    ("arm-none-eabi-gcc", "C compiler for boards", "Debian: apt install gcc-arm-none-eabi libnewlib-arm-none-eabi"),
    ("gcc", "C compiler for the host", "Debian: apt install gcc (zig serves without it)"),
    ("clang", "C compiler for the host", "Debian: apt install clang (zig serves without it)"),
    ("riscv64-unknown-elf-gcc", "C compiler for RISC-V boards", "Debian: apt install gcc-riscv64-unknown-elf"),
    ("qemu-system-arm", "emulated boards with real board models", "Debian: apt install qemu-system-arm"),
    ("qemu-system-riscv32", "emulated RISC-V boards", "Debian: apt install qemu-system-misc"),
)


def main(json: bool) -> None:
    """Print what is there, what it makes available, and how to get what isn't."""
    parts = [_package(*entry) for entry in _PACKAGES] + [_program(*entry) for entry in _PROGRAMS]
    have = {part.name for part in parts if part.version}
    targets = [_target(name, have) for name in hardware.names()]
    if json:
        system = {"python": platform.python_version(), "system": platform.platform()}
        print_json({**system, "parts": [asdict(p) for p in parts], "targets": targets})
        return
    out.print(f"Python {platform.python_version()} on {platform.platform()}", markup=False)
    rows = [(p.name, p.version or "missing", p.what, "" if p.version else p.get) for p in parts]
    table("installed", ("part", "version", "for", "to get it"), rows)
    out.print()
    rows = [(t["name"], t["title"], t["runs"]) for t in targets]
    table("targets", ("target", "title", "runs on"), rows)


def _package(module: str, name: str, what: str, extra: str) -> Part:
    get = f"pip install 'neurodeploy[{extra}]'" if extra else f"pip install {name}"
    if importlib.util.find_spec(module) is None:
        return Part(name, what, None, get)
    try:
        return Part(name, what, version(name), get)
    except PackageNotFoundError:
        return Part(name, what, "unknown", get)


def _program(name: str, what: str, get: str) -> Part:
    path = shutil.which(name)
    if path is None:
        return Part(name, what, None, get)
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return Part(name, what, None, f"it does not run; {get}")
    return Part(name, what, said[0].strip() if said else "unknown", get)


def _target(name: str, have: set[str]) -> dict[str, str]:
    """Where a target's builds can run with what is installed."""
    target = hardware.find(name)
    if isinstance(target, hardware.Board):
        if name == "host":
            runs = "this machine"
        elif not target.resident:
            runs = "library only"
        else:
            needs = {"unicorn": "unicorn", "qemu": emulator_qemu.program(target)}
            emulators = [e for e, need in needs.items() if need in have and getattr(target.emulators, e)]
            runs = ", ".join([*(f"emulated ({e})" for e in emulators), "a real board on --port"])
    elif isinstance(target, hardware.Crossbar):
        runs = "simulated here"
    else:
        package = getattr(target, "package", "").replace("_", "-")
        runs = "this machine" if package in have else f"nowhere: {package} is missing"
    return {"name": name, "kind": target.kind, "title": target.title, "runs": runs}
