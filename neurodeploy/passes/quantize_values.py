"""Integers with a scale and proven bounds, and how one is brought to another's scale.

Every integer that the quantizer emits is a :class:`Fixed`: it knows the least and the greatest value that it can take
whatever the inputs are, computed from the bounds of its arguments. Nothing is emitted whose bounds leave its dtype.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurodeploy.errors import IRError, NumericsError
from neurodeploy.ir.build import Builder, Sym
from neurodeploy.ir.fixed import lut_ends, multiplier
from neurodeploy.ir.graph import Param
from neurodeploy.ir.types import Quant, TensorType, int_range

I32_MAX = 2**31 - 1
_SHIFT_FIRST = 2**14
Scale = float | np.ndarray
Bound = int | np.ndarray


@dataclass(frozen=True, eq=False)
class Fixed:
    """A real tensor as integers: ``real = integer * scale``.

    ``scale`` is one number, or one for each index of axis 0 (an accumulator's rows). ``lo`` and ``hi`` are proven
    bounds of the integer, of the same form. ``want`` is the scale at which it is narrowed to i16 where it must be.
    """

    sym: Sym
    scale: Scale
    lo: Bound
    hi: Bound
    want: float

    @property
    def rows(self) -> bool:
        """Whether every row has its own scale."""
        return isinstance(self.scale, np.ndarray)

    @property
    def dtype(self) -> str:
        return self.sym.type.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.sym.shape

    @property
    def size(self) -> int:
        """The greatest magnitude of the integer."""
        return int(np.max(np.maximum(np.abs(self.lo), np.abs(self.hi))))

    @property
    def real(self) -> float:
        """The greatest magnitude of the real value that the bounds allow."""
        return float(np.max(np.maximum(np.abs(self.lo), np.abs(self.hi)) * self.scale))

    @property
    def finest(self) -> float:
        return float(np.min(self.scale))

    @property
    def coarsest(self) -> float:
        return float(np.max(self.scale))

    def times(self, factor: Scale) -> Fixed:
        """The same integers standing for ``factor > 0`` times the real value."""
        scale = self.scale * factor
        if isinstance(scale, np.ndarray) and not self.rows:
            ones = np.ones(len(scale), np.int64)
            return replace(self, scale=scale, lo=self.lo * ones, hi=self.hi * ones)
        return replace(self, scale=scale)


@dataclass(frozen=True, eq=False)
class Const:
    """Real numbers known at compile time, not yet given a scale."""

    data: np.ndarray

    @property
    def uniform(self) -> float | None:
        """The one number that all elements are, if they are."""
        flat = self.data.reshape(-1)
        return float(flat[0]) if flat.size and bool(np.all(flat == flat[0])) else None

    @property
    def top(self) -> float:
        return float(np.max(np.abs(self.data))) if self.data.size else 0.0


@dataclass(frozen=True, eq=False)
class Plain:
    """A bool or a whole number: it has no scale."""

    sym: Sym


def is_power_of_two(x: float) -> bool:
    """Whether x is 2^k exactly."""
    return x > 0 and math.frexp(x)[0] == 0.5


def same_scale(a: Scale, b: Scale) -> bool:
    """Whether two scales are the same but for float64 rounding."""
    one, other = np.asarray(a), np.asarray(b)
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=1e-12, atol=0))


class Emitter:
    """Emits integer values into a builder, each with its bounds checked."""

    def __init__(self, builder: Builder) -> None:
        self.b = builder
        self._made: dict[Any, Fixed] = {}
        self._luts: dict[str, tuple[tuple[Sym, Sym], dict[str, Any], np.ndarray]] = {}  # value -> how it was read

    def emit(
        self, op: str, args: tuple[Sym, ...], scale: Scale, lo: Bound, hi: Bound, want: float, name: str, **attrs: Any
    ) -> Fixed:
        """One value. Raises :class:`NumericsError` if its bounds leave its dtype."""
        quant = None if isinstance(scale, np.ndarray) else Quant(float(scale))
        sym = self.b(op, *args, name=name, quant=quant, **attrs)
        low, high = int_range(sym.type.dtype)
        if int(np.min(lo)) < low or int(np.max(hi)) > high:
            raise NumericsError(
                f"its integers could reach {int(np.min(lo))}..{int(np.max(hi))}, {sym.type.dtype} holds {low}..{high}.",
                place=f"%{sym.name} ({op})",
                hint="Compile with --numerics float, or report this network.",
            )
        return Fixed(sym, scale, lo, hi, want)

    def integers(self, data: np.ndarray, dtype: str, stem: str, scale: Scale | None = None) -> Sym:
        """Whole numbers as a constant (scalars) or a param."""
        low, high = int_range(dtype)
        whole = np.asarray(data, dtype=np.int64)
        if whole.size and (whole.min() < low or whole.max() > high):
            raise NumericsError(f"a constant reaches {whole.min()}..{whole.max()}, {dtype} holds {low}..{high}.")
        if whole.shape == ():
            return self.b.const(int(whole), dtype=dtype, name=stem)
        quant = None if scale is None or isinstance(scale, np.ndarray) else Quant(float(scale))
        type_ = TensorType(whole.shape, dtype, quant)
        key = ("param", dtype, str(quant), whole.shape, whole.tobytes())
        if key not in self._made:
            sym = self.b.param(stem, Param(type_, whole.astype(type_.numpy)))
            self._made[key] = Fixed(sym, 1.0, 0, 0, 1.0)
        return self._made[key].sym

    def constant(
        self, const: Const, scale: Scale, dtype: str, stem: str, want: float, rounding: Any = np.rint
    ) -> Fixed:
        """Real constants at a scale, saturating to the dtype."""
        low, high = int_range(dtype)
        divisor = np.asarray(scale)
        if divisor.shape:
            divisor = divisor.reshape(-1, *(1,) * max(const.data.ndim - 1, 0))
        with np.errstate(divide="ignore", invalid="ignore"):
            q = np.where(divisor > 0, const.data / np.where(divisor > 0, divisor, 1.0), 0.0)
        q = np.clip(rounding(q), low, high).astype(np.int64)
        sym = self.integers(q, dtype, stem, scale)
        if isinstance(scale, np.ndarray):
            ones = np.ones(len(scale), np.int64)
            return Fixed(sym, scale, q.min() * ones, q.max() * ones, want)
        return Fixed(sym, scale, int(q.min()), int(q.max()), want)

    # -- scales -------------------------------------------------------------------------------------------------------

    def rescale(self, x: Fixed, scale: Scale, dtype: str = "i16", name: str | None = None) -> Fixed:
        """``x`` at another scale and dtype: one rounding; it saturates to i8 and i16, and is proved to fit i32.

        ``scale`` may be one for each row of a vector whose rows have their own already.
        """
        key = (x.sym.name, np.asarray(x.scale).tobytes(), np.asarray(scale).tobytes(), dtype)
        if key not in self._made:
            self._made[key] = self._rescaled(x, scale, dtype, name or f"{x.sym.name}.{dtype}")
        return replace(self._made[key], want=x.want)

    def _rescaled(self, x: Fixed, scale: Scale, dtype: str, name: str) -> Fixed:
        low, high = int_range(dtype)
        factor = x.scale / scale
        if isinstance(scale, np.ndarray) and not x.rows:
            raise AssertionError("rows of one scale are rescaled together")
        if not x.rows and abs(float(factor) - 1) < 1e-12:
            if x.dtype == dtype:
                return replace(x, scale=scale)
            return self.emit("cast", (x.sym,), scale, max(int(x.lo), low), min(int(x.hi), high), x.want, name, to=dtype)
        if (
            not x.rows
            and dtype == "i32"
            and factor > 1
            and is_power_of_two(float(factor))
            and max(x.size, 1) * factor <= I32_MAX
        ):
            return self.shifted(x, int(factor), name)
        finer = self._finer_lut(x, factor, dtype)
        if finer is not None:
            return self._shifted_lut(x, finer, name)
        top = float(np.max(factor))
        if top >= _SHIFT_FIRST and dtype != "i32":
            # Out of reach of one multiplier: each step of x is many steps of the result.
            by = np.where(np.asarray(factor) >= _SHIFT_FIRST, _SHIFT_FIRST, 1)
            x = self.shifted(self._clamped(x, np.asarray(factor), high, dtype), by if x.rows else _SHIFT_FIRST)
            return self._rescaled(x, scale, dtype, name)
        _, pre = multiplier(top)
        mult = np.minimum(np.rint(np.asarray(factor) * 2.0 ** (32 - pre)), I32_MAX).astype(np.int64)
        if x.size << pre > I32_MAX:
            x = self._clamped(x, np.asarray(factor), high, dtype)
        if x.size << pre > I32_MAX:
            # Rows whose factors lie far apart: the large factors need the shift, the large integers can't take it.
            by = np.array([1 << multiplier(float(f))[1] for f in x.scale / scale])  # type: ignore[union-attr]
            return self._rescaled(self.shifted(x, by), scale, dtype, name)
        lo, hi = ((np.asarray(v, np.int64) << pre) * mult + (1 << 31) >> 32 for v in (x.lo, x.hi))
        if dtype != "i32":
            lo, hi = np.clip(lo, low, high), np.clip(hi, low, high)
        sym = self.integers(self._by_row(mult, x), "i32", f"{name}.mult")
        if not isinstance(scale, np.ndarray):
            lo, hi = int(np.min(lo)), int(np.max(hi))
        return self.emit("requantize", (x.sym, sym), scale, lo, hi, x.want, name, pre=pre, to=dtype)

    def _finer_lut(self, x: Fixed, factor: Scale, dtype: str) -> int | None:
        """By how many bits more a table's result can be shifted down to get to a coarser scale, if that is all."""
        made = self._luts.get(x.sym.name)
        if made is None or dtype != "i16" or x.rows or made[1].get("half") or factor >= 1:
            return None
        bits = -math.log2(float(factor))
        return round(bits) if is_power_of_two(float(factor)) and bits + made[1].get("shift", 0) <= 15 else None

    def _shifted_lut(self, x: Fixed, bits: int, name: str) -> Fixed:
        """The table read again at a coarser scale: one rounding, where a rescale behind it would be a second."""
        args, attrs, table = self._luts[x.sym.name]
        more = {**attrs, "shift": attrs.get("shift", 0) + bits}
        return self.emit("lut", args, float(x.scale) * 2**bits, *lut_ends(table, more), x.want, name, **more)

    def lut(self, x: Sym, table: np.ndarray, stem: str, scale: float, want: float, name: str, **attrs: Any) -> Fixed:
        """A table's values between its knots; a rescale by a power of two behind it becomes part of it."""
        args = (x, self.integers(table, "i16", stem))
        made = self.emit("lut", args, scale, *lut_ends(table, attrs), want, name, **attrs)
        self._luts[made.sym.name] = (args, attrs, table)
        return made

    def reaches(self, x: Fixed, scale: float) -> bool:
        """Whether ``x`` can be rescaled to i32 at that scale in one rounding multiply."""
        factor = x.coarsest / scale
        if not x.rows and is_power_of_two(factor) and factor >= 1:
            return max(x.size, 1) * factor <= I32_MAX
        try:
            _, pre = multiplier(factor)
        except IRError:
            return False
        return x.size << pre <= I32_MAX

    def _by_row(self, data: np.ndarray, x: Fixed) -> np.ndarray:
        return data.reshape(-1, *(1,) * (len(x.shape) - 1)) if data.shape else data

    def _clamped(self, x: Fixed, factor: np.ndarray, high: int, dtype: str) -> Fixed:
        """Cut off what would saturate anyway, so that the shift before the multiplication fits."""
        if dtype == "i32":
            raise NumericsError("a rescale to i32 could overflow.", place=f"%{x.sym.name}")
        with np.errstate(divide="ignore"):
            limit = np.minimum(np.ceil((high + 2) / factor), 2.0**31 - 1).astype(np.int64)
        limit = np.minimum(limit, x.size)
        top = self.integers(self._by_row(limit, x), "i32", f"{x.sym.name}.limit")
        bottom = self.integers(self._by_row(-limit, x), "i32", f"{x.sym.name}.limit")
        wide = x if x.dtype == "i32" else self._widened(x)
        lo, hi = np.clip(x.lo, -limit, limit), np.clip(x.hi, -limit, limit)
        if not x.rows:
            lo, hi = int(lo), int(hi)
        cut = self.emit(
            "min",
            (wide.sym, top),
            x.scale,
            np.minimum(x.lo, limit),
            np.minimum(x.hi, limit),
            x.want,
            f"{x.sym.name}.cut",
        )
        return self.emit("max", (cut.sym, bottom), x.scale, lo, hi, x.want, f"{x.sym.name}.cut")

    def _widened(self, x: Fixed) -> Fixed:
        """The same integers in 32 bits."""
        key = ("widened", x.sym.name, np.asarray(x.scale).tobytes())
        if key not in self._made:
            self._made[key] = self.emit("cast", (x.sym,), x.scale, x.lo, x.hi, x.want, f"{x.sym.name}.i32", to="i32")
        return self._made[key]

    def shifted(self, x: Fixed, by: int | np.ndarray, name: str | None = None) -> Fixed:
        """The same real value at a scale ``by`` times finer (one number, or one a row): exact."""
        key = ("shift", x.sym.name, np.asarray(x.scale).tobytes(), np.asarray(by).tobytes())
        if key not in self._made:
            number = self.integers(self._by_row(np.asarray(by), x), "i32", f"{x.sym.name}.by" if x.rows else "const")
            self._made[key] = self.emit(
                "mul", (x.sym, number), x.scale / by, x.lo * by, x.hi * by, x.want,
                name or f"{x.sym.name}.shifted",
            )  # fmt: skip
        return replace(self._made[key], want=x.want)

    def narrow(self, x: Fixed) -> Fixed:
        """``x`` in 16 bits (or as it is, if it is no wider)."""
        if x.dtype in ("i8", "i16") and not x.rows:
            return x
        return self.rescale(x, x.want, "i16")

    def single(self, x: Fixed) -> Fixed:
        """``x`` with one scale for all rows."""
        return self.narrow(x) if x.rows else x

    def align(self, a: Fixed, b: Fixed, goal: float) -> tuple[Fixed, Fixed]:
        """Two values at one scale, fine enough for a result at scale ``goal``, whose sum fits i32.

        In order of preference: as they are; the coarser shifted up (exact); one of them rescaled; a row-wise
        accumulator narrowed to 16 bits; both rescaled; both narrowed.
        """

        def fits(scale: float, *moved: Fixed) -> bool:
            return (a.real + b.real) / scale + 4 <= I32_MAX and all(self.reaches(x, scale) for x in moved)

        if same_scale(a.scale, b.scale) and a.size + b.size <= I32_MAX:
            return a, b
        if not a.rows and not b.rows:
            swap = a.coarsest < b.coarsest
            coarse, fine = (b, a) if swap else (a, b)
            ratio = coarse.coarsest / fine.coarsest
            if is_power_of_two(ratio) and max(coarse.size, 1) * ratio + fine.size <= I32_MAX:
                coarse = self.shifted(coarse, int(ratio)) if ratio > 1 else coarse
                return (fine, coarse) if swap else (coarse, fine)
            if fits(coarse.coarsest, fine):
                fine = self.rescale(fine, coarse.coarsest, "i32")
                return (fine, coarse) if swap else (coarse, fine)
        elif a.rows != b.rows:
            rows, one = (a, b) if a.rows else (b, a)
            if fits(one.coarsest, rows) and (one.coarsest <= goal / 4 or one.coarsest >= rows.coarsest):
                rows = self.rescale(rows, one.coarsest, "i32")
                return (rows, one) if a.rows else (one, rows)
            if rows.want <= goal:
                return self.align(self.single(a), self.single(b), goal)
        scale = 2.0 ** math.ceil(math.log2((a.real + b.real) / 2.0**29))
        if scale <= goal / 16 and fits(scale, a, b):
            return self.rescale(a, scale, "i32"), self.rescale(b, scale, "i32")
        return self.align(self.narrow(a), self.narrow(b), goal)

    def weights(self, whole: np.ndarray, dtype: str, stem: str, quant: Quant) -> Sym:
        """Whole weights with their scales, kept once."""
        type_ = TensorType(whole.shape, dtype, quant)
        data = np.array(whole, type_.numpy, order="C")
        key = ("weights", dtype, data.shape, data.tobytes(), quant)
        if key not in self._made:
            sym = self.b.param(stem, Param(type_, data))
            self._made[key] = Fixed(sym, 1.0, 0, 0, 1.0)
        return self._made[key].sym
