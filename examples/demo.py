"""The main job, end to end: two trained networks onto four kinds of hardware, and one report.

Compiles the GRU and the echo state network of ``models/`` for a Cortex-M4F board, TFLite Micro, spiking simulators and
crossbars of PCM and RRAM, runs the whole JapaneseVowels test set on each, and writes ``build/demo/report.html``. The
board is emulated; its firmware, the serial protocol and the model's code are the real ones. By hand, for one target::

    neurodeploy compile examples/models/vowels_gru.onnx -t mps2-an386 -o build/gru \\
        -d examples/data/japanese_vowels_train.npz
    neurodeploy run build/gru --data examples/data/japanese_vowels_test.npz
    neurodeploy report build/gru -o build/report.html

    python examples/demo.py [--output build/demo]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

import neurodeploy
from neurodeploy import data
from neurodeploy.errors import MissingExtraError, NeurodeployError
from neurodeploy.report import build_report
from neurodeploy.report.figures import METRICS
from neurodeploy.report.records import save_run
from neurodeploy.validate import first_difference, validate

HERE = Path(__file__).parent
INT8 = {"quantize": {"activation_dtype": "i8"}}
JOBS = (
    # folder, model, target, options of the compiler
    ("gru-board", "vowels_gru.onnx", "mps2-an386"),
    ("gru-tflm", "vowels_gru.onnx", "tflm"),
    ("gru-tflm-int8", "vowels_gru.onnx", "tflm", INT8),
    ("gru-brian2", "vowels_gru.onnx", "brian2-sigma-delta"),
    ("gru-pcm", "vowels_gru.onnx", "pcm-128"),
    ("gru-rram", "vowels_gru.onnx", "rram-hfo2-128"),
    ("esn-board", "vowels_esn.npz", "mps2-an386"),
    ("esn-tflm", "vowels_esn.npz", "tflm"),
    ("esn-brian2", "vowels_esn.npz", "brian2-lsm"),
    ("esn-snntorch", "vowels_esn.npz", "snntorch-sigma-delta"),
    ("esn-pcm", "vowels_esn.npz", "pcm-128"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("build/demo"))
    output = parser.parse_args().output
    console = Console(highlight=False)
    folders, failed = [], 0
    for number, (name, model, target, *options) in enumerate(JOBS, 1):
        start = time.perf_counter()
        with console.status(f"{number}/{len(JOBS)} {model} on {target}"):
            try:
                line = job(output / name, model, target, *options)
                folders.append(output / name)
            except MissingExtraError as error:
                line = f"left out: {error}"
            except NeurodeployError as error:
                line, failed = f"FAILED: {error}", failed + 1
        console.print(
            f"{number}/{len(JOBS)} {name}: {line} [{time.perf_counter() - start:.0f} s]", markup=False, soft_wrap=True
        )
    if folders:
        report = build_report(folders)
        report.write(output / "report.md")
        console.print(f"report: {report.write(output / 'report.html').resolve()}", markup=False, soft_wrap=True)
    return 1 if failed or not folders else 0


def job(folder: Path, model: str, target: str, options: Mapping[str, Any] | None = None) -> str:
    """Compile, run the whole test set, save both, and say in a line how it went."""
    source = neurodeploy.load(HERE / "models" / model)
    train = data.load(HERE / "data" / "japanese_vowels_train.npz", source)
    test = data.load(HERE / "data" / "japanese_vowels_test.npz", source)
    built = neurodeploy.compile(source, target, train, **(options or {})).save(folder)
    result = validate(built, test, command="examples/demo.py")
    save_run(folder, result.run)
    score = result.run.accuracy
    if score is None or score.float_ is None or score.deployed is None:
        return "ran; no labels"
    metric = METRICS[score.metric]
    words = f"{metric.factor * score.deployed.value:.1f} {metric.unit} (float {metric.factor * score.float_.value:.1f})"
    exact = first_difference(result.run).splitlines()[:1]
    return ", ".join([f"accuracy {words}", *exact])


if __name__ == "__main__":
    sys.exit(main())
