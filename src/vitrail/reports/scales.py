"""Scales of charts: axes, ticks, and formatted numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Limits of numbers on a logarithmic axis; on a linear one, minus and plus the second.
_SMALLEST, _LARGEST = 1e-300, 1e300
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Axis:
    """Maps values to places: `low` to `start`, `high` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool
    ticks: tuple[tuple[float, str], ...]

    def at(self, value: float) -> float:
        """The place of a value; values beyond an end are at the end."""
        value = min(max(value, self.low), self.high)
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        share = ((math.log(value) if self.log else value) - low) / (high - low)
        return self.start + share * (self.end - self.start)


def drawable(value: float, *, log: bool) -> bool:
    """Whether a number has a place on an axis: finite, and above 0 on a logarithmic axis."""
    return (_SMALLEST if log else -_LARGEST) < value < _LARGEST


def scale(values: Sequence[float], *, start: float, end: float, log: bool, outward: bool) -> Axis:
    """An axis over these values; with `outward` it ends on ticks. Equal values get some room on both sides."""
    low, high = min(values), max(values)
    if log and high / low < 1.001:
        low, high = low / 2, high * 2
    elif not log and high - low <= 1e-9 * max(abs(low), abs(high)):
        room = abs(low) / 10 or 1.0
        low, high = low - room, high + room
    ticks = _log_ticks(low, high) if log else _even_ticks(low, high)
    inside = [tick for tick in ticks if low <= tick <= high]
    if outward:
        low, high, inside = ticks[0], ticks[-1], ticks
    elif log and len(inside) < 2:
        inside = [tick for tick in _even_ticks(low, high) if low <= tick <= high]
    return Axis(low, high, start, end, log, tuple((tick, tick_text(tick)) for tick in inside))


def _even_ticks(low: float, high: float) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from at most `low` to at least `high`, some five of them."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    decimals = max(0, -math.floor(math.log10(step)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, decimals) for index in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with 2 and 5 times them where there are few, from at most `low` to at least `high`."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    if last - first > 3:
        every = math.ceil((last - first) / 8)
        first = first // every * every
        return [float(f"1e{power}") for power in range(first, last + every, every)]
    ticks = [float(f"{factor}e{power}") for power in range(first, last + 1) for factor in (1, 2, 5)]
    below = [tick for tick in ticks if tick <= low * (1 + 1e-9)]
    above = [tick for tick in ticks if tick >= high * (1 - 1e-9)]
    return [tick for tick in ticks if below[-1] <= tick <= above[0]]


def tick_text(value: float) -> str:
    """All digits of a round number; very small and very large ones as 5·10⁻⁷."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:.12g}".replace("-", "−")
    factor, power = f"{value:.2e}".split("e")
    factor = factor.rstrip("0").rstrip(".")
    raised = "10" + str(int(power)).translate(_SUPERSCRIPT)
    return (raised if factor == "1" else f"{factor}·{raised}").replace("-", "−")


def number(value: float | None) -> str:
    """A number with four significant digits; empty for a missing one."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}").replace("-", "−")
    return tick_text(value)


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """A number with its interval, where it has one, to two digits of the interval's half width: "28.1 (27.2 to 29.0)"."""
    if value is None or low is None or high is None:
        return number(value)
    if math.isfinite(high - low) and high - low > 2e-3 and max(abs(low), abs(high), abs(value)) < 1e4:
        decimals = max(0, 1 - math.floor(math.log10((high - low) / 2)))
        return f"{value:.{decimals}f} ({low:.{decimals}f} to {high:.{decimals}f})".replace("-", "−")
    return f"{number(value)} ({number(low)} to {number(high)})"


def is_numeric(cells: Sequence[str]) -> bool:
    """Whether a column has numbers, and is right-aligned."""
    return all(cell[:1] in "0123456789+−-–" for cell in cells)
