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
    for metric in _with_states(metrics):
        metric.sync_on_compute = False
    return metrics


def merge(metrics: MetricCollection, gather: Gather) -> bool:
    """Take in what the processes have seen, in the order of their ranks; whether it is anything."""
    members = _with_states(metrics)
    own = [{key: _on_cpu(value) for key, value in m.metric_state.items()} for m in members]
    found = gather((own, any(m.update_called for m in members)))
    metrics.reset()
    for states, has_seen in found:
        for metric, state in zip(members, states, strict=True) if has_seen else ():
            metric.merge_state({key: _on(value, metric.device) for key, value in state.items()})
            metric._update_count += 1  # which `merge_state` leaves at 0, so that `compute` warns
    return any(has_seen for _, has_seen in found)


def _with_states(metrics: MetricCollection) -> list[Any]:
    from torchmetrics import Metric

    return [
        part
        for _, metric in metrics.items()  # not `modules`: metrics of one group share their states
        for part in metric.modules()
        if isinstance(part, Metric) and part.metric_state
    ]


def _on_cpu(value: Any) -> Any:
    return _on(value, "cpu")


def _on(value: Any, device: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    return [item.to(device) for item in value]
