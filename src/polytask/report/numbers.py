"""How numbers are written, the same in the terminal, the page and the figures."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from polytask.compare.verdict import number, percent

# Names of errors in a unit of their own, less is better, third parties' too. Everything else
# (accuracy, miou, iou, map, nmi, …) lies in [0, 1], more is better, and is written in percent.
ERROR = re.compile(r"(error|angle|distance|loss|mae|mse|ncut)$")
ABSENT = "–"


def known(value: float | None) -> bool:
    """Whether there is a finite number to write."""
    return value is not None and math.isfinite(value)


def is_percent(metric: str) -> bool:
    """Whether a metric is a share, written in percent."""
    return ERROR.search(metric) is None


def scaled(metric: str, value: float) -> float:
    """A metric's value in the unit it is written in."""
    return 100 * value if is_percent(metric) else value


def label(metric: str) -> str:
    """A metric's name with its unit, and its direction where less is better."""
    words = metric.replace("_", " ")
    return f"{words}, %" if is_percent(metric) else f"{words}, lower is better"


def score(metric: str, value: float | None) -> str:
    """A metric's value: one decimal of a percent, or three digits."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return f"{scaled(metric, value):.{_decimals(metric, value)}f}"


def mean_std(
    metric: str, mean: float | None, std: float | None, per_seed: Sequence[float | None]
) -> str:
    """`93.4 ± 0.6`; the mean alone where fewer than two seeds leave no spread to speak of."""
    if mean is None or std is None or not known(std) or sum(map(known, per_seed)) < 2:
        return score(metric, mean)
    return f"{score(metric, mean)} ± {scaled(metric, std):.{_decimals(metric, mean)}f}"


def _decimals(metric: str, value: float) -> int:
    """One for a percentage; else what three digits take."""
    if is_percent(metric) or not value or not math.isfinite(value):
        return 1
    return min(max(2 - math.floor(math.log10(abs(value))), 0), 9)


def signed(value: float | None) -> str:
    """A gain in percent with its sign, `+1.8` or `−0.4`."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return percent(value).removesuffix(" %")


def interval(bounds: tuple[float | None, float | None] | None) -> str:
    """`[−0.4, 3.1]`, or nothing where there is no interval."""
    if bounds is None:
        return ""
    low, high = bounds
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{number(low)}, {number(high)}]"


def count(amount: float | None) -> str:
    """A count in three digits: `702 k`, `35.0 M`, `4.09 G`."""
    if amount is None or not math.isfinite(amount):
        return ABSENT
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        # 999.5 would be written as 1000 of the smaller unit.
        if abs(amount) >= 0.9995 * factor:
            share = amount / factor
            digits = 2 if abs(share) < 9.995 else 1 if abs(share) < 99.95 else 0
            return f"{share:.{digits}f}{unit}"
    return f"{amount:.0f}"


def tick(amount: float) -> str:
    """A round count at an axis: `20 M`."""
    figure, _, unit = count(amount).partition(" ")
    return f"{float(figure):g} {unit}".rstrip()


def times(ratio: float | None) -> str:
    """A multiple: `0.51×`."""
    return ABSENT if ratio is None or not math.isfinite(ratio) else f"{ratio:.2f}×"


def milliseconds(amount: float | None) -> str:
    """A latency in three digits: `0.412 ms`, `35.1 ms`."""
    if amount is None or not math.isfinite(amount):
        return ABSENT
    return f"{amount:#.3g} ms" if amount < 100 else f"{amount:.0f} ms"


def duration(seconds: float | None) -> str:
    """`0.8 s`, `48 s`, `2 min 05 s`, `1 h 12 min`."""
    if seconds is None or not math.isfinite(seconds):
        return ABSENT
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(whole / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def share(part: float | None, whole: float | None) -> str:
    """A part of a whole in percent."""
    if part is None or not whole or not known(part) or not known(whole):
        return ABSENT
    return f"{100 * part / whole:.0f} %"
