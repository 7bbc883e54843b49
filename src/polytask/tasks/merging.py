"""Metrics of several processes, each of which saw some of the images, as if one had seen all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from polytask.batch import moved

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

Gather = Callable[[Any], list[Any]]


def alone(metrics: MetricCollection) -> MetricCollection:
    """The metrics, which from now on do not talk to other processes on their own: they would wait
    for one that has no image of their task."""
    for metric in _members(metrics):
        metric.distributed_available_fn = _never
    return metrics


def _never() -> bool:
    return False


def merge(metrics: MetricCollection, gather: Gather) -> bool:
    """Take in what the processes have seen, in the order of their ranks; whether it is anything."""
    members = [metric for metric in _members(metrics) if metric.metric_state]
    own = [moved(dict(m.metric_state), "cpu") for m in members]
    found = gather((own, any(m.update_called for m in members)))
    metrics.reset()
    for states, has_seen in found:
        for metric, state in zip(members, states, strict=True) if has_seen else ():
            metric.merge_state(moved(state, metric.device))
            metric._update_count += 1  # which `merge_state` leaves at 0, so that `compute` warns
    return any(has_seen for _, has_seen in found)


def _members(metrics: MetricCollection) -> list[Any]:
    from torchmetrics import Metric

    return [
        part
        for _, metric in metrics.items()  # not `modules`: metrics of one group share their states
        for part in metric.modules()
        if isinstance(part, Metric)
    ]
