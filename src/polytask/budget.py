"""What a network may cost: `35MMAC`, `2Mparams`, `5ms`, read and held against costs.

A budget limits multiply-accumulates of one image, parameters, or milliseconds for one image on this
machine. Large units take k, M or G in front (10^3, 10^6, 10^9).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from polytask.errors import UserError

Unit = Literal["macs", "params", "ms"]

FACTORS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
PATTERN = re.compile(
    r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(?:([kMG]?)\s*(MACs?|params?)|(ms|s))\s*", re.IGNORECASE
)
WORDS: Mapping[Unit, str] = {"macs": "MAC", "params": "params", "ms": "ms"}
EXPECTED = "a number with a unit, as 35MMAC, 2Mparams or 5ms"


@dataclass(frozen=True)
class Budget:
    """At most `limit` of a unit."""

    limit: float
    unit: Unit
    text: str

    @classmethod
    def parse(cls, text: str, where: str = "--budget") -> Budget:
        """Read a budget.

        Raises:
            UserError: it is no positive number with a unit.
        """
        found = PATTERN.fullmatch(text)
        if found is None or float(found[1]) <= 0:
            raise UserError.at(where, f'got "{text}"; expected {EXPECTED}')
        number, prefix, count, time = found.groups()
        if time:
            return cls(float(number) * (1000 if time.lower() == "s" else 1), "ms", text.strip())
        unit: Unit = "macs" if count.lower().startswith("mac") else "params"
        return cls(float(number) * FACTORS[prefix.lower()], unit, text.strip())

    def used(self, cost: Mapping[str, Any], milliseconds: Callable[[], float]) -> float:
        """How much of the budget's unit a path takes, whose `cost` is that of `cost.json`.

        Time is measured only where the budget is one of time.
        """
        return milliseconds() if self.unit == "ms" else float(cost[self.unit])

    def allows(self, used: float) -> bool:
        """Whether so much of the unit is within the budget."""
        return used <= self.limit

    def say(self, used: float) -> str:
        """An amount in the budget's unit: 35.05MMAC, 1.2ms."""
        return amount(used, self.unit)


def amount(used: float, unit: Unit) -> str:
    """An amount with its unit, as a budget is written, never rounded below what it is."""
    if unit == "ms":
        return f"{used:.3g}ms"
    for prefix, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if used >= factor:
            return f"{_up(used / factor)}{prefix}{WORDS[unit]}"
    return f"{used:.0f}{WORDS[unit]}"


def _up(number: float) -> str:
    """Two decimals, rounded up, so that the figure works as a budget."""
    hundredths = -(-round(number * 1e9) // 10**7)
    return f"{hundredths / 100:.2f}".rstrip("0").rstrip(".")
