"""What a method costs: MACs, parameters, bytes and latency of each task's path and of the whole."""

from __future__ import annotations

from polytask.cost.count import Convention
from polytask.cost.model import Cost, TaskCost, TotalCost, UnitCost, measure
from polytask.cost.of_config import cost_of_config, latencies_of_config
from polytask.cost.timing import latencies, latency

__all__ = [
    "Convention",
    "Cost",
    "TaskCost",
    "TotalCost",
    "UnitCost",
    "cost_of_config",
    "latencies",
    "latencies_of_config",
    "latency",
    "measure",
]
