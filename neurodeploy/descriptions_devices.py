"""What a file may say about memristive devices: noise, drift, faults, non-linearity; every number with its source.

An absent table means that this effect is not modelled. Conductances in siemens, times in seconds. What the numbers mean
is written where they are used: :mod:`neurodeploy.crossbar.devices` and the modules beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from neurodeploy.tables import Finite, NonNegative, Positive, Sourced

Polynomial = Annotated[tuple[Finite, ...], Field(strict=False, min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]
_CHECKED = 256  # conductances between g_min and g_max at which no standard deviation may be negative


def polynomial(coefficients: Sequence[float], x: float) -> float:
    """``sum_k coefficients[k] x^k``."""
    result = 0.0
    for coefficient in reversed(coefficients):
        result = result * x + coefficient
    return result


class ProgrammingNoise(Sourced):
    """Standard deviation of a programmed conductance: ``sum_k sd_siemens[k] (g/reference)^k``.

    ``reference_siemens`` is what the source divides a conductance by: g_max where it is left out, 1e-6 for a polynomial
    in microsiemens.
    """

    sd_siemens: Polynomial
    reference_siemens: Positive | None = None


class WriteVerify(Sourced):
    """Write and verify: pulse, read, and again, until within ``tolerance_siemens`` or after ``max_pulses``.

    Every pulse leaves a conductance with the spread of ``[device.programming]``, which must then be that of one pulse.
    A verifying read has the error ``read_sd_siemens``. Without ``pulse_joule`` a pulse's energy is unknown.
    """

    tolerance_siemens: Positive
    max_pulses: Annotated[int, Field(ge=1, le=1000)]
    read_sd_siemens: NonNegative = 0.0
    pulse_joule: Positive | None = None


class Stuck(Sourced):
    """Shares of devices that take no programming: stuck at ``on_siemens`` (g_max) or at ``off_siemens`` (g_min)."""

    on_share: Share
    off_share: Share
    on_siemens: NonNegative | None = None
    off_siemens: NonNegative | None = None

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.on_share + self.off_share > 1:
            raise ValueError(f"on_share {self.on_share} and off_share {self.off_share} are more than all devices")
        return self


class Drift(Sourced):
    """``g(t) = g0 ((t + t0)/t0)^-nu``; nu is normal, its mean and standard deviation clipped lines in ln r.

    ``mean = clip(nu_mean_slope ln r + nu_mean_offset, nu_mean_min, nu_mean_max)``, and so for ``sd``. No units but
    ``t0_s``, in seconds.
    """

    t0_s: Positive
    nu_mean_slope: Finite
    nu_mean_offset: Finite
    nu_mean_min: NonNegative
    nu_mean_max: NonNegative
    nu_sd_slope: Finite
    nu_sd_offset: Finite
    nu_sd_min: NonNegative
    nu_sd_max: NonNegative


class Spread(Sourced):
    """Standard deviation from the target, measured at some times after programming; the first is the first read.

    ``sd_siemens[i]`` is a polynomial as in :class:`ProgrammingNoise`, ``times_s[i]`` after programming. Between them it
    is a line in ln t; later it stays what it was last.
    """

    times_s: Annotated[tuple[Positive, ...], Field(strict=False, min_length=2)]
    sd_siemens: Annotated[tuple[Polynomial, ...], Field(strict=False, min_length=2)]
    reference_siemens: Positive | None = None

    @model_validator(mode="after")
    def _times(self) -> Self:
        if len(self.times_s) != len(self.sd_siemens):
            raise ValueError(f"{len(self.times_s)} times and {len(self.sd_siemens)} polynomials; needed: one each")
        if any(a >= b for a, b in zip(self.times_s, self.times_s[1:], strict=False)):
            raise ValueError(f"times_s {list(self.times_s)} don't rise")
        return self


class Relaxation(Sourced):
    """Shift and spread after programming, whatever the conductance: polynomials in ln(t / 1 s), t from programming."""

    t0_s: Positive
    mean_siemens: Polynomial
    sd_siemens: Polynomial


class ReadNoise(Sourced):
    """1/f noise: ``sd(t) = g Q sqrt(ln((t + t_read)/(2 t_read)))``, ``Q = min(q_scale / r^q_exponent, q_max)``."""

    q_scale: NonNegative
    q_exponent: Finite
    q_max: NonNegative
    t_read_s: Positive


class ThermalNoise(Sourced):
    """Johnson noise of the devices at this temperature, white and new at every read."""

    temperature_kelvin: Positive


class Nonlinear(Sourced):
    """``I = g V + a2 V^2 + a3 V^3``; a2 and a3 are polynomials in log10(g / 1 S), g the conductance at 0 V.

    Fitted between ``fitted_min_siemens`` and ``fitted_max_siemens``, and up to ``max_volts``; outside, a2/g and a3/g
    stay what they are at the end.
    """

    a2: Polynomial
    a3: Polynomial
    fitted_min_siemens: Positive
    fitted_max_siemens: Positive
    max_volts: Positive

    @model_validator(mode="after")
    def _fitted(self) -> Self:
        if self.fitted_min_siemens >= self.fitted_max_siemens:
            raise ValueError(
                f"fitted_min_siemens {self.fitted_min_siemens} is not below fitted_max_siemens "
                f"{self.fitted_max_siemens}"
            )
        return self


class Device(Sourced):
    """The memristive device; an absent table means that this effect is not modelled.

    ``levels``: how many conductances from g_min to g_max, evenly spaced, it can be told to take; without it, any.
    ``drift``, ``spread`` and ``relaxation`` are three laws of ageing; a device has one at most.
    """

    technology: Literal["pcm", "rram", "ideal"]
    g_min_siemens: NonNegative
    g_max_siemens: Positive
    levels: Annotated[int, Field(ge=2)] | None = None
    programming: ProgrammingNoise | None = None
    write_verify: WriteVerify | None = None
    stuck: Stuck | None = None
    drift: Drift | None = None
    spread: Spread | None = None
    relaxation: Relaxation | None = None
    read_noise: ReadNoise | None = None
    thermal_noise: ThermalNoise | None = None
    nonlinear: Nonlinear | None = None

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.g_min_siemens >= self.g_max_siemens:
            raise ValueError(f"g_min_siemens {self.g_min_siemens} is not below g_max_siemens {self.g_max_siemens}")
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        ageing = [name for name in ("drift", "spread", "relaxation") if getattr(self, name) is not None]
        if len(ageing) > 1:
            raise ValueError(f"'{ageing[0]}' and '{ageing[1]}' both say how it ages; needed: one of them")
        if self.write_verify is not None and self.programming is None:
            raise ValueError("'write_verify' repeats pulses; needed: '[device.programming]', the spread of one")
        if self.spread is not None and (
            self.programming is None
            or self.programming.sd_siemens != self.spread.sd_siemens[0]
            or self.programming.reference_siemens != self.spread.reference_siemens
        ):
            raise ValueError("'spread' starts at its first time; needed: the same polynomial in '[device.programming]'")
        if self.spread is not None and self.write_verify is not None:
            raise ValueError("'spread' was measured after the source's own write and verify; needed: no 'write_verify'")
        return self

    @model_validator(mode="after")
    def _deviations(self) -> Self:
        for table in ("programming", "spread"):
            noise: ProgrammingNoise | Spread | None = getattr(self, table)
            if noise is None:
                continue
            reference = noise.reference_siemens or self.g_max_siemens
            for coefficients in noise.sd_siemens if isinstance(noise, Spread) else (noise.sd_siemens,):
                for k in range(_CHECKED + 1):
                    g = self.g_min_siemens + (self.g_max_siemens - self.g_min_siemens) * k / _CHECKED
                    sd = polynomial(coefficients, g / reference)
                    if sd < 0:
                        raise ValueError(f"a standard deviation of '{table}' is {sd:.3g} S at {g:.3g} S; needed: >= 0")
        return self

    @property
    def t0_s(self) -> float:
        """When a device is first read, in seconds after programming: ages count from then; 0 where it doesn't age."""
        if self.spread is not None:
            return self.spread.times_s[0]
        return next((law.t0_s for law in (self.drift, self.relaxation) if law is not None), 0.0)

    @property
    def oldest_s(self) -> float | None:
        """The oldest age that was measured, in seconds after the first read; None where a law covers every age."""
        return None if self.spread is None else self.spread.times_s[-1] - self.spread.times_s[0]
