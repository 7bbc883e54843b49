"""Metrics of several processes, each of which saw some of the images, as if one had seen all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

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
    own = [{key: _on_cpu(value) for key, value in m.metric_state.items()} for m in members]
    found = gather((own, any(m.update_called for m in members)))
    metrics.reset()
    for states, has_seen in found:
        for metric, state in zip(members, states, strict=True) if has_seen else ():
            metric.merge_state({key: _on(value, metric.device) for key, value in state.items()})
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


def _on_cpu(value: Any) -> Any:
    return _on(value, "cpu")


def _on(value: Any, device: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    return [item.to(device) for item in value]
