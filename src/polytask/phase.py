"""A phase of training as plain data: what trains, on what, for how long, by which update rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import nn

    from polytask.batch import Batch
    from polytask.loss import Term
    from polytask.sharing.method import Outputs, SharingMethod

Forward: TypeAlias = "Callable[[SharingMethod, Batch], Outputs]"
TermMaker: TypeAlias = "Callable[[Batch, Outputs], list[Term]]"


@dataclass(frozen=True)
class Schedule:
    """What a method's plan may rely on: the budget that all its phases share.

    `epochs` are passes over the largest data set; `match` is `samples` or `epochs`, the budget of
    single-task networks; `samples` counts the training images of each data set and `data_of` names
    the data set of each task. `single_paths` gives the finished single-task networks of the same
    config and seed, by task, which are trained first where they are not there yet.
    """

    epochs: int
    match: str = "samples"
    samples: Mapping[str, int] = field(default_factory=dict)
    data_of: Mapping[str, str] = field(default_factory=dict)
    single_paths: Callable[[], dict[str, nn.Module]] = dict


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters whose name matches `pattern` (a regular expression) and how they differ.

    `lr` multiplies the phase's learning rate; `None` keeps what the config says; `optimizer` is a
    mapping as in `train.optimizer`. The first matching group wins.
    """

    pattern: str
    lr: float = 1.0
    weight_decay: float | None = None
    optimizer: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Phase:
    """One phase. Frozen parameters get no gradient, no decay, and their batch norm stays in eval.

    `tasks`: those whose losses count, `None` for all, `()` for none.
    `data`: the data sets to draw from, `None` for those of the phase's tasks.
    `part`: the share of the training images, [start, stop) of a fixed order of each data set.
    `joint_pace`: an epoch has the steps, and a step the images of a task, that joint training of
    all tasks would give; so phases of one task see as much of it (`match: samples`).
    `trainable`: regular expressions over parameter names.
    `until`: ends the phase early when true after an epoch; it must depend on checkpointed state.
    `modules`: teachers and adapters: kept in `state/`, never in path, cost or model file; their
    parameters train when `trainable` matches `modules.<name>…`.
    `keep_balancer`: go on with the balancer's state of the phase before.
    `forward`: runs in place of the method, whose own losses then do not count and which is not
    scored: what a teacher learns before its student, or maps that are matched without labels.
    `extra`: the samples of this phase are beyond the common budget and reported as such.
    """

    name: str = "joint"
    epochs: int = 1
    tasks: tuple[str, ...] | None = None
    data: tuple[str, ...] | None = None
    part: tuple[float, float] = (0.0, 1.0)
    joint_pace: bool = False
    trainable: tuple[str, ...] = (r"^(?!modules\.)",)
    groups: Sequence[ParameterGroup] = ()
    update: str | Mapping[str, Any] = "joint"
    terms: Sequence[TermMaker] = ()
    modules: Mapping[str, nn.Module] = field(default_factory=dict)
    forward: Forward | None = None
    until: Callable[[Any], bool] | None = None
    train: Mapping[str, Any] = field(default_factory=dict)  # overrides of the config's `train`
    keep_balancer: bool = False
    extra: bool = False
