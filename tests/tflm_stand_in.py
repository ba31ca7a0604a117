"""A build's TFLM project compiled against the stand-in of TFLM's headers, and run with the wheel behind it.

The firmware's own C++ answers the link; what a step computes comes from the wheel's interpreter, which is given the
variables as inputs and gives them back as outputs: the stand-in alone keeps state.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from neurodeploy.artifact import Artifact
from neurodeploy.backends.tflite.stage import Call, stage_model
from neurodeploy.deploy.tflm import TFLMEngine
from neurodeploy.ir import text

HEADERS = Path(__file__).parent / "stand_ins" / "tflm"
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-pedantic")


def compiler() -> str | None:
    return shutil.which("g++") or shutil.which("clang++")


def unpack(artifact: Artifact, folder: Path) -> None:
    """The project's files."""
    for name, data in artifact.files.items():
        if name.startswith("tflm/"):
            (folder / Path(name).name).write_bytes(data)


def build(artifact: Artifact, folder: Path, extra: tuple[str, ...] = ()) -> Path:
    """The firmware as a program of this machine: standard input and output are its line."""
    unpack(artifact, folder)
    sources = sorted(p.name for p in folder.glob("*.cc"))
    cc, include = str(compiler()), ["-I.", f"-I{HEADERS}"]
    subprocess.run([cc, "-x", "c", "-std=c99", *WARNINGS, "-c", "nd_link.c"], cwd=folder, check=True)
    command = [cc, "-std=c++17", *WARNINGS, *include, *extra, "-o", "firmware", *sources, "nd_link.o"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "firmware"


class Wheel:
    """Answers the stand-in: the models of a build, with every variable fed and given back.

    A file whose states are inputs and outputs already, or are kept by operators, runs as it is.
    """

    def __init__(self, artifact: Artifact, facts: list) -> None:
        program = text.from_files(artifact.files, "program")
        layouts = artifact.manifest["layout"]["stages"]
        self.facts, self.engines, self.extra = facts, [], []
        for stage, fact in zip(program.stages, facts, strict=True):
            layout = layouts[stage.name]
            model = artifact.files[layout["file"]]
            if fact.variables:
                fed = replace(Call.of(layout), state="io", start=(), small=False)
                model = stage_model(stage.graph, "fed", call=fed)
            self.engines.append(TFLMEngine(model, zero=True))
            self.extra.append((stage.graph, layout))

    def describe(self, number: int) -> bytes:
        facts = self.facts[number]
        sizes = ([t.bytes for t in facts.inputs], [t.bytes for t in facts.outputs], [v.bytes for v in facts.variables])
        made = struct.pack("<I", len({op for each in self.facts for op in each.ops}))
        for group in sizes:
            made += struct.pack(f"<{1 + len(group)}I", len(group), *group)
        made += b"".join(v.initial or bytes(v.bytes) for v in facts.variables)
        for variable in facts.variables:
            made += struct.pack("<I", len(variable.name)) + variable.name.encode()
        return made

    def invoke(self, number: int, data: bytes) -> bytes:
        facts, engine, (graph, layout) = self.facts[number], self.engines[number], self.extra[number]
        arrays, at = [], 0
        for tensor in facts.inputs:
            arrays.append(np.frombuffer(data[at : at + tensor.bytes], tensor.dtype).reshape(tensor.shape))
            at += tensor.bytes
        if not facts.variables:
            return self._step(engine, arrays, len(facts.outputs))
        values = {}
        for variable in facts.variables:
            values[variable.name] = data[at : at + variable.bytes]
            at += variable.bytes
        n, outs = len(graph.inputs), len(graph.outputs)
        if layout["start"] and arrays[-1].item():
            values |= {name: array.tobytes() for name, array in zip(layout["start"], arrays[n:-1], strict=True)}
        fed = [np.frombuffer(values[s.name], s.type.numpy).reshape(1, *s.type.shape) for s in graph.states]
        for index, array in enumerate([*arrays[:n], *fed]):
            engine.set_input(array, index)
        engine.invoke()
        new = {state.name: engine.get_output(outs + i) for i, state in enumerate(graph.states)}
        if layout["steps"] == 1:
            shown = [new[name] for name in layout["expose"]]
        else:
            shown = [engine.get_output(outs + len(new) + i) for i in range(len(layout["expose"]))]
        given = [*(engine.get_output(i) for i in range(outs)), *shown, *(new[v.name] for v in facts.variables)]
        return b"".join(array.tobytes() for array in given)

    def _step(self, engine: TFLMEngine, arrays: list[np.ndarray], outputs: int) -> bytes:
        for index, array in enumerate(arrays):
            engine.set_input(array, index)
        engine.invoke()
        return b"".join(engine.get_output(i).tobytes() for i in range(outputs))

    def serve(self, read: int, write: int) -> None:
        with os.fdopen(read, "rb") as asked, os.fdopen(write, "wb", buffering=0) as told:
            while len(head := asked.read(8)) == 8:
                what, number = struct.unpack("<II", head)
                facts = self.facts[number]
                if what == 1:
                    told.write(self.describe(number))
                elif what == 2:
                    told.write(bytes(4) + self.invoke(number, asked.read(facts.in_bytes + facts.state_bytes)))
                else:
                    self.engines[number].reset()
                    told.write(bytes(4))


@contextmanager
def running(firmware: Path, wheel: Wheel, needs: int = 0) -> Iterator[str]:
    """The URL of the firmware's line; ``needs``: the bytes of arena that the stand-in asks for."""
    ask_r, ask_w = os.pipe()
    tell_r, tell_w = os.pipe()
    answering = threading.Thread(target=wheel.serve, args=(ask_r, tell_w), daemon=True)
    answering.start()
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted: list[subprocess.Popen] = []

        def accept() -> None:
            line, _ = server.accept()
            with line:
                environment = {**os.environ, "TFLM_STAND_IN": f"{tell_r},{ask_w}", "TFLM_STAND_IN_NEEDS": f"{needs}"}
                accepted.append(
                    subprocess.Popen(
                        [firmware], stdin=line.fileno(), stdout=line.fileno(), pass_fds=(tell_r, ask_w), env=environment
                    )
                )

        waiting = threading.Thread(target=accept, daemon=True)
        waiting.start()
        yield f"socket://127.0.0.1:{server.getsockname()[1]}"
        waiting.join(timeout=5)
    for process in accepted:
        process.kill()
        process.wait()
    os.close(tell_r)
    os.close(ask_w)
    answering.join(timeout=5)
