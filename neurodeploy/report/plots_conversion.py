"""Charts of how a spiking build was made, as inline SVG: settings tried, tuning curves, decoders, spectra."""

from __future__ import annotations

from markupsafe import Markup

from neurodeploy.report import svg
from neurodeploy.report.schema_spiking import Spectrum, Tried, Tuning
from neurodeploy.report.words import number

#: Most curves drawn, and most settings named.
CURVES, FEW = 24, 8


def settings(tried: Tried) -> Markup | None:
    """Accuracy (error, where there is none) of every setting tried against its events; the chosen one ringed."""
    by_accuracy = any(t.accuracy is not None for t in tried.trials)
    found = [
        (t, t.events, 100 * t.accuracy if by_accuracy and t.accuracy is not None else t.error) for t in tried.trials
    ]
    shown = [(t, events, value) for t, events, value in found
             if events is not None and value is not None and (t.accuracy is not None) == by_accuracy]  # fmt: skip
    if not shown:
        return None
    base = [100 * tried.float_accuracy] if by_accuracy and tried.float_accuracy is not None else []
    ys = [value for *_, value in shown]
    x = svg.cost_axis([events for _, events, _ in shown])
    y = svg.linear_axis(min(ys + base), max(ys + base), svg.FLOOR, svg.BELOW_NAME, pad=0.12)
    if not by_accuracy:
        y = _from(0.0, max(ys) or 1.0)
    name = "Accuracy, %" if by_accuracy else f"Error ({tried.error or 'as stated'})"
    parts = [svg.frame(x, y, "Events of a sample" + (", logarithmic" if x.log else ""), name)]
    taken: list[svg.Box] = []
    if base:
        parts.append(svg.baseline("float", y(base[0]), taken))
    places = [(x(events), y(value)) for _, events, value in shown]
    taken += [(px - 6, py - 6, px + 6, py + 6) for px, py in places]
    for (trial, events, value), (px, py) in zip(shown, places, strict=True):
        result = f"{value:.2f} %" if by_accuracy else f"error {number(float(f'{value:.4g}'))}"
        tip = f"{trial.setting}: {result}, {number(round(events, 1))} events{' (chosen)' if trial.chosen else ''}."
        parts.append(svg.point(px, py, "spiking", tip, trial.chosen))
    for (trial, *_), place in zip(shown, places, strict=True):
        if len(shown) > FEW and not trial.chosen:
            continue  # of many settings only the chosen one is named; the others say their names themselves
        parts.append(svg.label(*place, trial.setting, taken))
    return svg.svg(f"{name} of {len(shown)} settings against their events.", "".join(parts))


def tuning_curves(tuning: Tuning) -> Markup:
    """Rates of the shown unit's neurons over the activation's argument."""
    x = _axis_of(tuning.z)
    top = max(max(curve) for curve in tuning.rates)
    y = _from(0.0, top or 1.0)
    curves = tuning.rates[:CURVES]
    parts = [svg.frame(x, y, f"z, argument of unit {tuning.unit}'s activation", "Rate, spikes a step")]
    parts += [svg.line(_points(x, y, tuning.z, curve), f"k-spiking d{i % 2}") for i, curve in enumerate(curves)]
    words = (
        f"Tuning curves of the {len(tuning.rates)} neurons of unit {tuning.unit}: rates of up to {number(top)} spikes "
        f"a step for z from {number(tuning.z[0])} to {number(tuning.z[-1])}."
    )
    return svg.svg(words, "".join(parts))


def decoded(tuning: Tuning) -> Markup:
    """The shown unit's activation (dashed) and what is decoded from its neurons' rates."""
    x = _axis_of(tuning.z)
    values = [*tuning.f, *tuning.decoded]
    y = svg.linear_axis(min(values), max(values), svg.FLOOR, svg.BELOW_NAME, pad=0.08)
    parts = [
        svg.frame(x, y, f"z, argument of unit {tuning.unit}'s activation", "Activation (dashed: wanted)"),
        svg.line(_points(x, y, tuning.z, tuning.decoded), "k-spiking"),
        svg.line(_points(x, y, tuning.z, tuning.f), "k-other d1"),
    ]
    largest = max(abs(a - b) for a, b in zip(tuning.f, tuning.decoded, strict=True))
    words = f"Decoded activation of unit {tuning.unit}: at most {number(float(f'{largest:.3g}'))} from the wanted one."
    return svg.svg(words, "".join(parts))


def decoder_errors(tuning: Tuning) -> Markup:
    """Decoding error of every unit, from the least to the largest."""
    errors = sorted(tuning.errors)
    x = svg.Axis(0, len(errors), svg.LEFT + 6, svg.WIDTH - svg.RIGHT - 6, _whole_ticks(len(errors)))
    y = _from(0.0, errors[-1] or 1.0)
    parts = [svg.frame(x, y, "Units, by error", "Decoder error, RMS")]
    for i, error in enumerate(errors):
        parts.append(f'<circle class="mark k-spiking" cx="{x(i + 0.5)}" cy="{y(error)}" r="2.2"/>')
    middle = number(float(f"{errors[len(errors) // 2]:.3g}"))
    words = f"Decoder error of {len(errors)} units: median {middle}, largest {number(float(f'{errors[-1]:.3g}'))}."
    return svg.svg(words, "".join(parts))


def spectrum(found: Spectrum) -> Markup:
    """Eigenvalues of reservoir (rings) and liquid (dots) in the complex plane, with the unit circle."""
    radius = max(1.0, *(abs(v) for pair in (*found.reservoir, *found.liquid) for v in pair)) * 1.06
    half = (svg.FLOOR - svg.BELOW_NAME) / 2
    middle = ((svg.LEFT + svg.WIDTH - svg.RIGHT) / 2, svg.BELOW_NAME + half)
    ticks = (-1.0, 0.0, 1.0)
    x = svg.Axis(-radius, radius, middle[0] - half, middle[0] + half, ticks)
    y = svg.Axis(-radius, radius, svg.FLOOR, svg.BELOW_NAME, ticks)
    parts = [svg.frame(x, y, "Real part", "Imaginary part")]
    size = x(1.0) - x(0.0)
    parts.append(f'<circle class="axis circle" cx="{x(0.0)}" cy="{y(0.0)}" r="{size:.1f}"/>')
    parts += [f'<circle class="hollow" cx="{x(a)}" cy="{y(b)}" r="3.2"/>' for a, b in found.reservoir]
    parts += [f'<circle class="mark k-spiking" cx="{x(a)}" cy="{y(b)}" r="1.8"/>' for a, b in found.liquid]
    largest = [max((a * a + b * b) ** 0.5 for a, b in pairs) for pairs in (found.reservoir, found.liquid)]
    words = (
        f"Spectra: {len(found.reservoir)} eigenvalues of the reservoir, largest {largest[0]:.3f} in size; "
        f"{len(found.liquid)} of the liquid, largest {largest[1]:.3f}."
    )
    return svg.svg(words, "".join(parts))


def _points(x: svg.Axis, y: svg.Axis, xs: list[float], ys: list[float]) -> list[tuple[float, float]]:
    return [(x(a), y(b)) for a, b in zip(xs, ys, strict=True)]


def _axis_of(values: list[float]) -> svg.Axis:
    return svg.linear_axis(min(values), max(values), svg.LEFT, svg.WIDTH - svg.RIGHT, pad=0.01)


def _from(low: float, high: float) -> svg.Axis:
    found = svg.linear_axis(low, high, svg.FLOOR, svg.BELOW_NAME, pad=0.06)
    return svg.Axis(low, found.high, svg.FLOOR, svg.BELOW_NAME, tuple(t for t in found.ticks if t >= low))


def _whole_ticks(count: int) -> tuple[float, ...]:
    step = max(1.0, svg.nice(count / 5))
    return tuple(step * i for i in range(int(count / step) + 1))
