"""The op ``random`` in TFLite Micro: Philox 2x32-10 (:func:`neurodeploy.ir.fixed.philox`) in int32 operators.

TFLM has neither products of 64 bits nor logic on bits. A word is four bytes, whose products with a constant fit int32,
or 32 bits, whose exclusive or is NOT_EQUAL. The ten rounds are a WHILE: the file holds one.
"""

from __future__ import annotations

import numpy as np

from neurodeploy.backends.tflite.calculate import Calculator
from neurodeploy.backends.tflite.stage import StageWriter
from neurodeploy.backends.tflite.write import Model
from neurodeploy.ir.fixed import PHILOX_KEY_STEP, PHILOX_MULTIPLIER, PHILOX_ROUNDS
from neurodeploy.ir.graph import Value

DIGIT = 1 << 16
#: Words are kept as bytes, or as two digits of 16 bits; the low ones first.
BYTES, DIGITS, BITS = 4, 2, 16


def _bytes(word: int) -> np.ndarray:
    return np.array([(word >> (8 * i)) & 255 for i in range(BYTES)])


def bits(words: np.ndarray) -> np.ndarray:
    """The bits of words, ``[n, 2, 16]``."""
    places = np.arange(DIGITS * BITS, dtype=np.uint64)
    return ((np.asarray(words, np.uint64)[:, None] >> places) & np.uint64(1)).reshape(-1, DIGITS, BITS).astype(bool)


def _products() -> np.ndarray:
    """What byte i of a word adds to the four digits of its product with the multiplier, ``[4, 4]``."""
    factor, table = _bytes(PHILOX_MULTIPLIER), np.zeros((BYTES, 2 * DIGITS), np.int64)
    for i in range(BYTES):
        for j in range(BYTES):
            table[i, (i + j) // 2] += factor[j] << (8 * ((i + j) % 2))
    return table


def _rounds(model: Model, seed: int, count: int) -> tuple[int, int]:
    """The WHILE's condition and body for that many words, as indices of subgraphs."""
    shapes = {"round": (1,), "left": (count, BYTES), "right": (count, DIGITS, BITS)}
    dtypes = {"round": "i32", "left": "i32", "right": "bool"}
    condition, body = (model.subgraph(f"philox_{part}") for part in ("more", "round"))
    for part in (condition, body):
        part.inputs = [part.tensor(name, shape, dtypes[name]) for name, shape in shapes.items()]
    calc = Calculator(condition, "more")
    condition.outputs = [calc("LESS", condition.inputs[0], calc.const(PHILOX_ROUNDS), dtype="bool")]
    calc = Calculator(body, "round")
    number, left, right = body.inputs
    product = bits_of_product(calc, left, count)
    low, high = (calc.cut(product, 1, start, start + DIGITS) for start in (0, DIGITS))
    keys = bits(np.array([(seed + r * PHILOX_KEY_STEP) & 0xFFFFFFFF for r in range(PHILOX_ROUNDS)]))
    begin = calc("MUL", number, calc.const([1, 0, 0]))
    key = calc("SLICE", calc.const(keys, "bool"), begin, calc.const([1, DIGITS, BITS]), shape=(1, DIGITS, BITS))
    mixed = calc("NOT_EQUAL", calc("NOT_EQUAL", high, right), key)
    parts = calc.reshape(calc.cast(mixed, "i32"), (count, BYTES, 8))
    whole = calc.fold("ADD", calc("MUL", parts, calc.const((1 << np.arange(8))[None, None])), 2)
    body.outputs = [calc("ADD", number, calc.const(1)), calc.reshape(whole, (count, BYTES)), low]
    return model.subgraphs.index(condition), model.subgraphs.index(body)


def bits_of_product(calc: Calculator, left: int, count: int) -> int:
    """The 64 bits of words times the multiplier, ``bool[n, 4, 16]``."""
    terms = calc("MUL", calc.reshape(left, (count, BYTES, 1)), calc.const(_products()[None]))
    columns = calc.reshape(calc.fold("ADD", terms, 1), (count, 2 * DIGITS))
    digit, digits, carry = calc.const(DIGIT), [], None
    for i in range(2 * DIGITS):
        column = calc.cut(columns, 1, i, i + 1)
        column = column if carry is None else calc("ADD", column, carry)
        carry = calc("DIV", column, digit)
        digits.append(calc("SUB", column, calc("MUL", carry, digit)))
    joined = calc("CONCATENATION", *digits, shape=(count, 2 * DIGITS), axis=1)
    halved = calc("DIV", calc.reshape(joined, (count, 2 * DIGITS, 1)), calc.const((1 << np.arange(BITS))[None, None]))
    two = calc.const(2)
    odd = calc("SUB", halved, calc("MUL", calc("DIV", halved, two), two))
    return calc("NOT_EQUAL", odd, calc.const(0), dtype="bool")


def _counter(calc: Calculator, counter: int) -> int:
    """The bytes of an int32 taken for unsigned, ``[1, 4]``."""
    zero, low = calc.const(0), calc.const(-(2**31))
    negative = calc("LESS", counter, zero, dtype="bool")
    above = calc("SUB", calc("MINIMUM", counter, calc.const(-1)), low)
    rest = calc.choose(negative, above, calc("MAXIMUM", counter, zero))
    byte = calc.const(256)
    shifted = calc("DIV", calc.reshape(rest, (1, 1)), calc.const([[1 << (8 * i) for i in range(BYTES)]]))
    parts = calc("SUB", shifted, calc("MUL", calc("DIV", shifted, byte), byte))
    return calc("ADD", parts, calc("MUL", calc.cast(negative, "i32"), calc.const([[0, 0, 0, 128]])))


def random(writer: StageWriter, value: Value) -> None:
    """15 bits as int16, or 24 as float32."""
    calc, count, seed = Calculator(writer.main, value.name), value.tensor.size, value.attrs["seed"]
    left = _counter(calc, writer.at(value.args[0]))
    left = calc("BROADCAST_TO", left, calc.const([count, BYTES]), shape=(count, BYTES))
    right, number = calc.const(bits(np.arange(count)), "bool"), calc.const(0)
    condition, body = writer.once(f"philox@{seed}@{count}", lambda: _rounds(writer.model, seed & 0xFFFFFFFF, count))
    results = [calc.new(calc.shape(t), calc.dtype(t)) for t in (number, left, right)]
    writer.main.op(
        "WHILE", [number, left, right], results, "WhileOptions", condSubgraphIndex=condition, bodySubgraphIndex=body
    )
    part = [calc.cut(results[1], 1, i, i + 1) for i in range(BYTES)]
    if value.tensor.dtype == "i16":
        whole = calc("ADD", calc("MUL", part[3], calc.const(128)), calc("DIV", part[2], calc.const(2)))
        calc.cast(calc.reshape(whole, (1, *value.tensor.shape)), "i16", out=writer.out(value))
        return
    upper = calc("ADD", calc("MUL", part[3], calc.const(1 << 16)), calc("MUL", part[2], calc.const(256)))
    whole = calc.cast(calc.reshape(calc("ADD", upper, part[1]), (1, *value.tensor.shape)), "f32")
    calc("MUL", whole, calc.const(2.0**-24, "f32"), out=writer.out(value))
