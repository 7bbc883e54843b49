"""The contract of every sharing method (DESIGN, SharingMethod)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from polytask.backbones.staged import StagedBackbone
from polytask.batch import Batch, Value
from polytask.batch import Input as Input
from polytask.config.models import MethodOptions as MethodOptions
from polytask.loss import Term
from polytask.phase import Phase, Schedule
from polytask.randomness import stable_hash as stable_hash
from polytask.tasks.task import Task


@contextmanager
def seeded(*parts: object) -> Iterator[None]:
    """Draw torch's random numbers from `parts` inside, and leave the global state untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stable_hash(*parts))
        yield


@dataclass
class Setting:
    """What a method is built from.

    `streams` gives the input of each stream and `stream_of` the stream of each task; `backbone`
    builds a fresh one for a number of input channels, options of the config's `backbone` may be
    overridden by keyword (`open=("layer4",)`). `norm` is `mixed` or `per_data`. `network` names one
    of several networks of a method.
    """

    tasks: dict[str, Task]
    streams: dict[str, Input]
    stream_of: dict[str, str]
    backbone: Callable[..., StagedBackbone]
    seed: int = 0
    init: str = "common"
    norm: str = "mixed"
    class_counts: Mapping[str, int] = field(default_factory=dict)
    network: str = ""

    @property
    def norm_streams(self) -> tuple[str, ...]:
        """The streams whose statistics batch norms keep apart: all with `per_data`, and where some
        tasks make inputs of their own; running statistics common to separate passes fit none."""
        is_apart = self.norm == "per_data" or len(self.streams) > 1
        return tuple(self.streams) if is_apart else ()

    def input_of(self, task: str) -> Input:
        """The input of a task's stream."""
        return self.streams[self.stream_of[task]]

    def seeded(self, *names: str, column: str = "") -> Any:
        """Draw initial weights from the seed and the name inside the column."""
        own = (column,) if self.init == "independent" and column else ()
        return seeded(self.seed, *own, *names)

    def new_backbone(self, column: str = "", channels: int = 3, **options: Any) -> StagedBackbone:
        """A backbone with the weights of this seed, the same in every column (`init: common`)."""
        place = "/".join(filter(None, (self.network, column)))
        with self.seeded("backbone", column=place):
            return self.backbone(channels=channels, **options)


@dataclass
class Outputs:
    """What a forward pass gives: predictions by task, in the order of each target's rows, and the
    features that a phase's terms ask for."""

    predictions: dict[str, Value] = field(default_factory=dict)
    features: dict[str, Tensor] = field(default_factory=dict)


class SharingMethod(nn.Module, ABC):
    """Owns backbones and heads, and says which parts serve which task.

    A method is one file in `sharing/trunk`, `sharing/columns` or `sharing/experts`: the module's
    docstring is its page in the docs, `Options` its keys in a config.
    """

    family: ClassVar[str] = ""
    keeps_groups: ClassVar[bool] = False  # whether the option `groups` is the method's own affair
    Options: ClassVar[type[MethodOptions]] = MethodOptions
    heads: nn.ModuleDict

    def __init__(self, setting: Setting, options: MethodOptions) -> None:
        super().__init__()
        self.setting = setting
        self.options = options
        self.tasks = setting.tasks

    @classmethod
    def refuses(cls, setting: Setting, options: MethodOptions) -> str | None:
        """Why this method cannot serve the setting, in one sentence, or `None`."""
        del setting, options
        return None

    @classmethod
    def search_space(cls, setting: Setting, options: MethodOptions) -> dict[str, list[Any]]:
        """The values that `polytask search` tries unless told, by an option's dotted name."""
        del setting, options
        return {}

    @abstractmethod
    def forward(self, batch: Batch) -> Outputs:
        """Predictions for every target of the batch."""

    @abstractmethod
    def path(self, task: str) -> nn.Module:
        """The sub-network of one task: images [B, C, H, W] of its stream to its prediction.

        Self-contained, in eval mode, and physically only what the task needs; shares no memory
        with the method.
        """

    @abstractmethod
    def view(self, task: str) -> set[nn.Parameter]:
        """The parameters that the task's gradient may reach."""

    def shared(self) -> set[nn.Parameter]:
        """The parameters in the views of two tasks or more."""
        seen: set[nn.Parameter] = set()
        shared: set[nn.Parameter] = set()
        for task in self.tasks:
            view = self.view(task)
            shared |= seen & view
            seen |= view
        return shared

    def clip_groups(self, parameters: Mapping[str, nn.Parameter]) -> list[list[nn.Parameter]]:
        """Sets of parameters whose gradients are clipped by a common norm: one by default."""
        return [list(parameters.values())]

    def units_of(self, task: str) -> list[tuple[str, str]]:
        """(unit, owner) in the order the task's path runs them, for the report's drawing; owner is
        `shared` or a task's name; of a group's network, the names of its tasks."""
        del task
        return []

    def plan(self, schedule: Schedule) -> list[Phase]:
        """The phases of training: one joint phase unless the method needs more."""
        return [Phase(epochs=schedule.epochs)]

    def extra_losses(self, batch: Batch, outputs: Outputs) -> list[Term]:
        """Terms that belong to the method in every phase."""
        del batch, outputs
        return []

    def otherwise_in_use(self) -> list[nn.Module]:
        """The parts that run otherwise in use than in training, by gates that are drawn: before
        scores, batch norms in them learn their statistics anew in eval mode. None by default."""
        return []

    def how(self) -> dict[str, Any]:
        """What a reader of its results must know of how it ran: `feed`, `groups`; JSON-able."""
        return {}

    def explained(self) -> dict[str, Any]:
        """What it learned about sharing: JSON-able documents by name, for the run's `plots/`."""
        return {}

    # Hooks. `run` is the training run: its phase, epoch, step, method, optimizer and loaders.

    def on_phase_start(self, run: Any) -> None:
        """Runs once when a phase begins (not when it is resumed)."""

    def before_forward(self, run: Any) -> None:
        """Runs before the forward pass of every step."""

    def after_backward(self, run: Any) -> None:
        """Sees the gradients, already summed over processes."""

    def before_step(self, run: Any) -> None:
        """Sees the gradients after clipping."""

    def after_step(self, run: Any) -> None:
        """Runs after the optimizer's step."""

    def on_epoch_end(self, run: Any) -> None:
        """Runs after the last step of every epoch."""

    def on_phase_end(self, run: Any) -> None:
        """Runs once when a phase is finished; a checkpoint follows."""
