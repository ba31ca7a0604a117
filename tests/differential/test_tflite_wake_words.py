"""The four streaming int8 models of pymicro-wakeword, read and run, against TFLite Micro on speech, every step.

``wake_word_features.npz`` holds the features of the twelve recordings in ``tests/`` of OHF-Voice/pymicro-wakeword at
503f1b1 (Apache-2.0), three of each wake word: what pymicro-features 2.0.2 makes of them at 16 kHz, 40 a step of 10 ms,
as whole numbers of 0.0390625. The models come from the package itself.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from neurodeploy.backends import runner
from neurodeploy.compiler import Built, compile
from neurodeploy.importers import load
from neurodeploy.ir.interpret import run

WORDS = ("alexa", "hey_jarvis", "hey_mycroft", "okay_nabu")
FEATURES = Path(__file__).with_name("wake_word_features.npz")
#: The real value of one step of a feature (pymicro-features' ``FLOAT32_SCALE``).
FEATURE_STEP = 0.0390625
FRAMES = 3


def model_file(word: str) -> Path:
    """A model of the package; skips where it isn't installed."""
    found = importlib.util.find_spec("pymicro_wakeword")
    if found is None or not found.submodule_search_locations:
        pytest.skip("pymicro-wakeword isn't installed (extra 'dev')")
    return Path(found.submodule_search_locations[0]) / "models" / f"{word}.tflite"


def clips(scale: float, zero_point: int) -> dict[str, np.ndarray]:
    """Clip -> its features as the model takes them, i8 ``[steps, 3, 40]``, quantized as the package does it."""
    found = {}
    with np.load(FEATURES) as archive:
        for name in archive.files:
            raw = archive[name]
            real = raw[: len(raw) // FRAMES * FRAMES].reshape(-1, FRAMES, 40) * FEATURE_STEP
            found[name] = np.clip(np.round(real / scale + zero_point), -128, 127).astype(np.int8)
    return found


def interpreted(path: Path, steps: np.ndarray) -> np.ndarray:
    """The uint8 output of each step, of the wheel's interpreter."""
    runtime = pytest.importorskip("tflite_micro", reason="needs the extra 'tflite'").runtime
    engine = runtime.Interpreter.from_file(str(path), arena_size=1 << 20)
    found = []
    for step in steps:
        engine.set_input(step[None], 0)
        engine.invoke()
        found.append(int(engine.get_output(0).reshape(-1)[0]))
    return np.array(found)


@pytest.mark.parametrize("word", WORDS)
def test_every_step_of_every_clip_has_the_interpreters_bits(word: str) -> None:
    path = model_file(word)
    program = load(path, check=False)
    ((name, given),) = program.inputs.items()
    assert given.type.quant is not None and isinstance(given.type.quant.scale, float)
    steps = clips(given.type.quant.scale, given.type.quant.zero_point)
    lengths = np.array([len(x) for x in steps.values()])
    batch = np.zeros((len(steps), lengths.max(), *given.type.shape), np.int8)
    for row, clip in zip(batch, steps.values(), strict=True):
        row[: len(clip)] = clip
    (found,) = run(program, {name: batch}, lengths).outputs.values()
    heard = set()
    for row, (clip, x) in zip(found, steps.items(), strict=True):
        wanted = interpreted(path, x)
        np.testing.assert_array_equal(row[: len(x)].reshape(-1).astype(np.int64) + 128, wanted, err_msg=clip)
        if wanted.max() > 0.85 * 255:
            heard.add(clip)
    assert heard == {f"{word}_{i}" for i in (1, 2, 3)}


@pytest.mark.parametrize("word", WORDS)
def test_c_has_the_golden_bits(word: str) -> None:
    """On this machine, every step of one clip; on a board: ``tests/hardware/test_wake_words.py``."""
    pytest.importorskip("ziglang", reason="needs the extra 'board'")
    built = compile(load(model_file(word), check=False), "host", costs=False)
    assert_c_is_golden(built, f"{word}_1", "host")


def test_written_again_it_has_the_same_bits_and_counts_its_convolutions() -> None:
    pytest.importorskip("tflite_micro", reason="needs the extra 'tflite'")
    built = compile(load(model_file("okay_nabu"), check=False), "tflm")
    assert_c_is_golden(built, "okay_nabu_1", "tflm", steps=60)
    figures = {f["name"]: f["value"] for f in built.artifact.manifest["figures"]}
    assert figures["macs"] == 36_480
    assert figures["tflite_bytes"] < model_file("okay_nabu").stat().st_size


def assert_c_is_golden(built: Built, clip: str, on: str, steps: int | None = None) -> None:
    """C gives what the golden model gives, on a clip or its last steps."""
    ((name, given),) = built.program.inputs.items()
    assert given.type.quant is not None and isinstance(given.type.quant.scale, float)
    x = clips(given.type.quant.scale, given.type.quant.zero_point)[clip][-(steps or 0) :][None]
    found = runner(on).run(built.artifact, {name: x}).outputs
    for output, wanted in run(built.program, {name: x}).outputs.items():
        np.testing.assert_array_equal(found[output], wanted)
