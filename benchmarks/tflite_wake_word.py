"""Wake word models of others on a Cortex-M4F: our C beside the same file in TFLite Micro.

The four streaming int8 models of pymicro-wakeword (PyPI), read from their ``.tflite`` files, compiled for the emulated
``mps2-an386`` and run on speech (``tests/differential/wake_word_features.npz``). Instructions
are of one step of 30 ms, the worst of 12; flash is code, tables and weights; RAM is the model's plus its stack.
TFLite Micro's figures: ``TFLM``.

    python -m benchmarks.tflite_wake_word
"""

from __future__ import annotations

import argparse

from benchmarks.tflite_files import Cost, cost
from neurodeploy.cli.output import number, table
from neurodeploy.importers import load
from tests.differential.test_tflite_wake_words import WORDS, clips, model_file

BOARD, STEPS = "mps2-an386", 12
#: Model -> instructions of a step (the worst of 12, the first left out, which runs CALL_ONCE), bytes of flash with the
#: file, bytes of the arena. TFLite Micro of August 2026, reference kernels, arm-none-eabi-gcc 12.2: -O2 for
#: CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, CONCATENATION, STRIDED_SLICE, SPLIT_V and LOGISTIC, -Os for the rest;
#: the same board, QEMU's count of instructions. Its outputs were the golden model's on every step. With CMSIS-NN's
#: CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED (99f736a63036, -O3) okay_nabu took 263,239.
TFLM = {
    "alexa": (349_901, 129_672 - 1440, 16_532),
    "hey_jarvis": (324_834, 126_088 - 1440, 15_908),
    "hey_mycroft": (356_821, 131_064 - 1440, 17_828),
    "okay_nabu": (492_824, 154_640 - 1440, 20_852),
}


def measured(word: str) -> Cost:
    """What a word's step takes, on recorded speech."""
    program = load(model_file(word), check=False)
    ((name, spec),) = program.inputs.items()
    scale = spec.type.quant
    if scale is None or not isinstance(scale.scale, float):
        raise SystemExit(f"{word}: its input has no scale.")
    x = clips(scale.scale, scale.zero_point)[f"{word}_1"][None, -STEPS:]
    return cost(program, {name: x}, BOARD)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = []
    for word in WORDS:
        found = measured(word)
        peer, peer_flash, arena = TFLM[word]
        ratio = f"{peer / found.instructions:.1f}"
        rows.append((word, number(found.macs), number(found.instructions), number(peer), ratio, number(found.flash),
                     number(peer_flash), number(found.ram), number(arena)))  # fmt: skip
    columns = (
        "model",
        "MAC/step",
        "instructions/step",
        "TFLM's",
        "ratio",
        "flash, B",
        "TFLM's flash",
        "RAM, B",
        "arena, B",
    )
    table(f"Wake word models on {BOARD}", columns, rows, right=columns[1:])


if __name__ == "__main__":
    main()
