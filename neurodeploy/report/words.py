"""How a report spells numbers, units, accuracies and comparisons; one spelling for Markdown and HTML."""

from __future__ import annotations

from neurodeploy.artifact import Figure
from neurodeploy.report.figures import METRICS
from neurodeploy.report.schema import Accuracy, Agreement, Build, FirstDifference, Score
from neurodeploy.report.schema_crossbar import Measured, Repaired, Spread

MINUS = "\N{MINUS SIGN}"
UNKNOWN = "unknown"


def number(value: float) -> str:
    """Whole numbers in full with thousands separated; others to four significant digits (``14,512``, ``0.0312``)."""
    if float(value).is_integer() and abs(value) < 1e15:
        text = f"{int(value):,}"
    elif abs(value) >= 1000:
        text = f"{value:,.1f}"
    else:
        text = f"{value:.4g}"
    return text.replace("-", MINUS, 1) if value < 0 else text


def quantity(value: float, unit: str) -> str:
    """A number with its unit; from 10 KiB on, bytes as KiB or MiB (``18,432 B`` is ``18.0 KiB``)."""
    return amount(value, unit) if unit == "B" else f"{number(value)} {unit}".strip()


def amount(value: float, unit: str) -> str:
    """:func:`quantity` with the unit only where it is short: bytes."""
    if unit == "B" and abs(value) >= 10 * 1024:
        return f"{value / 1024:,.1f} KiB" if abs(value) < 10 * 1024**2 else f"{value / 1024**2:,.1f} MiB"
    return f"{number(value)} B" if unit == "B" else number(value)


def figure_text(figure: Figure) -> str:
    """A figure's value with its unit, or ``unknown``."""
    return UNKNOWN if figure.value is None else f"{number(figure.value)} {figure.unit}".strip()


def cell(figures: tuple[Figure, ...]) -> list[tuple[str, Figure]]:
    """A table's cell: each figure with its number, ``unknown``, or both ends of a range as one, ``12 to 34``."""
    told: list[tuple[str, Figure]] = []
    for figure in figures:
        if figure.value is None:
            told.append((UNKNOWN, figure))
        elif figure.name.endswith(".high") and told and told[-1][1].name == f"{figure.name[:-5]}.low":
            told[-1] = (f"{told[-1][0]} to {number(figure.value)}", told[-1][1])
        else:
            told.append((number(figure.value), figure))
    return told


def score_text(score: Score | None, metric: str) -> str:
    """An accuracy as ``97.57 %`` or ``93.20 ± 0.81 %``; ``unknown`` where there is none."""
    if score is None:
        return UNKNOWN
    return f"{plain_score(score, metric)} {METRICS[metric].unit}".strip()


def absent(part: str, build: Build) -> str:
    """What stands for an accuracy that a build hasn't: a float program has no quantized one, others are unknown."""
    return "none" if part == "Quantized" and build.numerics == "float" else UNKNOWN


def plain_score(score: Score, metric: str) -> str:
    """:func:`score_text` without the unit."""
    text = scaled(score.value, metric)
    return text if score.sd is None else f"{text} ± {scaled(score.sd, metric)}"


def scaled(value: float, metric: str) -> str:
    """A value in the metric's shown unit: percents with two decimals, others with four significant digits."""
    known = METRICS[metric]
    if known.unit == "%":
        text = f"{value * known.factor:.2f}"
    else:
        text = f"{value * known.factor:.4g}"
    return text.replace("-", MINUS, 1)


def change_text(accuracy: Accuracy, score: Score | None) -> str:
    """What the score changed against float: ``+0.27 points``, ``−0.004``; empty where one of both is unknown."""
    if score is None or accuracy.float_ is None:
        return ""
    known = METRICS[accuracy.metric]
    change = (score.value - accuracy.float_.value) * known.factor
    text = f"{change:+.2f} points" if known.unit == "%" else f"{change:+.3g}"
    if text.strip("+-").startswith("0.00 ") or change == 0:
        text = "±0.00 points" if known.unit == "%" else "±0"
    return text.replace("-", MINUS, 1)


def agreement_text(agreement: Agreement) -> str:
    """``10,656 of 10,656 steps bit-exact against golden``, or whether a looser equality holds."""
    if agreement.equality.startswith("statistical"):
        return f"{agreement.equality} against {agreement.against}: {verdict(agreement)}"
    if agreement.equality.startswith("close"):
        return f"all within {difference_text(agreement)} of {agreement.against}: {verdict(agreement)}"
    return f"{exact_text(agreement)} against {agreement.against}"


def exact_text(agreement: Agreement) -> str:
    """``10,656 of 10,656 steps bit-exact``."""
    return f"{agreement.bit_exact:,} of {agreement.compared:,} {agreement.per}s bit-exact"


def verdict(agreement: Agreement) -> str:
    """Whether the promised equality holds: ``holds``, ``broken`` or ``not judged``."""
    return "not judged" if agreement.holds is None else "holds" if agreement.holds else "broken"


def difference_text(agreement: Agreement) -> str:
    """The largest difference with its unit."""
    if agreement.max_difference is None:
        return "not finite"
    return f"{number(agreement.max_difference)} {'LSB' if agreement.difference_unit == 'LSB' else ''}".strip()


def first_text(first: FirstDifference | None) -> str:
    """``none``, or where the runs first differ and both values."""
    if first is None:
        return "none"
    step = "" if first.step is None else f"step {first.step}, "
    return f"sample {first.sample}, {step}{first.tensor}[{first.index}]: {first.value} instead of {first.reference}"


def duration(seconds: float) -> str:
    """``1 s``, ``1 h``, ``1 day``, ``1 year``: a drift time."""
    for size, unit in ((31_536_000, "year"), (86_400, "day"), (3600, "h"), (60, "min")):
        if seconds >= size:
            count = f"{seconds / size:.3g}"
            return f"{count} {unit}{'s' if unit in ('year', 'day') and count != '1' else ''}"
    return f"{seconds:.3g} s"


def over_chips(spread: Spread, metric: str) -> str:
    """``93.20 ± 0.81 %``: mean and standard deviation over chips."""
    return f"{scaled(spread.mean, metric)} ± {scaled(spread.sd, metric)} {METRICS[metric].unit}".strip()


def repaired(found: Repaired) -> str:
    """What was done to the chips, by what, and what it takes."""
    columns = "every tile's outputs have a factor and a term of the chip's own"
    readout = "readouts are refitted to the chip's own states and computed digitally"
    done = {"columns": columns, "readout": readout, "both": f"{columns}, and {readout}"}.get(found.kind, found.kind)
    about = f"Repaired at every age ({found.kind}): {done}, by {found.samples:,} samples of "
    cost = ""
    if found.digital_macs_per_step:
        cost = (
            f" Refitted readouts take {found.digital_macs_per_step:,} digital multiply-accumulates a step and "
            f"{found.numbers_per_chip:,} numbers a chip."
        )
    told = "The same chips before and after; sweeps and effects are those of the chips before."
    return f"{about}{found.data}. {told}{cost}"


def age(seconds: float) -> str:
    """``at the first read``, or ``1 day after the first read``."""
    return f"{duration(seconds)} after the first read" if seconds else "at the first read"


def measured_text(told: Measured, metric: str) -> str:
    """The score of a set of effects, as an accuracy is told."""
    return score_text(Score(value=told.score or 0.0, sd=told.score_sd, how="simulated", where=""), metric)


def percent(share: float) -> str:
    """A share as a percentage of three significant digits: ``1.23 %``; ``below 0.001 %`` for rounding errors."""
    return "below 0.001 %" if 0 < share < 1e-5 else f"{100 * share:.3g} %"


def span(ends: tuple[float, float]) -> str:
    """Both ends of a range to four significant digits, or the one value: ``12.5 to 34``."""
    return " to ".join(dict.fromkeys(number(float(f"{end:.4g}")) for end in ends))
