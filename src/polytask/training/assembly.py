"""What a run is made of: its data, its method and its phases, out of a config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from polytask import tasks as task_kinds
from polytask.backbones.norm import BatchNorm, sum_over_processes
from polytask.balancing import build as build_balancer
from polytask.data.load import load_data
from polytask.data.pipeline import Data
from polytask.phase import Phase, Schedule
from polytask.sharing.build import build_method, placed
from polytask.sharing.method import SharingMethod
from polytask.training.compiled import check_compiler, compile_units
from polytask.training.routes import transferred
from polytask.training.start import check_transfer, source_of, start_of
from polytask.training.world import World

if TYPE_CHECKING:
    from polytask.config.models import Config, MethodEntry
    from polytask.training.source import Source


@dataclass(frozen=True)
class Work:
    """What every process of a run knows of it.

    `is_teacher`: it is trained for another run, which waits for it. `untrained` stands in for runs
    of the section `pretraining`, by name, where nothing is trained in earnest.
    """

    config: Config
    entry: MethodEntry
    seed: int
    folder: Path
    comparison: Path | None = None
    stop_after: int | None = None
    is_teacher: bool = False
    untrained: Mapping[str, Source] = field(default_factory=dict)


class Parts:
    """Tasks and data of a config, read once, and the methods that are built on them.

    `untrained` stands in for runs of the section `pretraining`, by name.

    Raises:
        UserError: tasks or data are wrong.
    """

    def __init__(self, config: Config, seed: int, untrained: Mapping[str, Source]) -> None:
        self.config, self.seed, self.untrained = config, seed, untrained
        self.tasks = task_kinds.build(config.tasks)
        self.data: Data = load_data(config, self.tasks, seed)

    def start_of(self, entry: MethodEntry) -> Source | None:
        """The run that a method starts from, if any."""
        return start_of(self.config, entry, self.untrained)

    def build(self, entry: MethodEntry, source: Source | None) -> SharingMethod:
        """A method with its first weights, or those of a source."""
        start = None if source is None else source.start
        streams, stream_of = self.data.streams, self.data.stream_of
        return build_method(self.config, entry, self.tasks, streams, stream_of, self.seed, start)

    def check(self, entry: MethodEntry, method: SharingMethod, devices: int) -> None:
        """Refuse a transfer, a balancer or phases that the method cannot have.

        Raises:
            UserError: with the reason.
        """
        check_transfer(self.config, entry, method, self.untrained)
        build_balancer(entry.options.balancing or self.config.balancing, method, devices)
        self.planned(entry, method, self.untrained_single_paths)

    def planned(
        self,
        entry: MethodEntry,
        method: SharingMethod,
        single_paths: Callable[[], dict[str, nn.Module]],
    ) -> list[Phase]:
        """The phases of a method, with what its tasks need in them.

        Raises:
            UserError: they cannot share the epochs, or a task cannot be learned by them.
        """
        config, data = self.config, self.data
        schedule = Schedule(
            config.train.epochs, config.match, data.samples, data.data_of, single_paths
        )
        with placed(config, entry):
            phases = method.plan(schedule)
            for task in method.tasks.values():
                phases = task.planned(phases, method)
        return phases

    def single(self) -> tuple[MethodEntry, SharingMethod]:
        """The networks of single tasks, untrained."""
        entry = self.config.method("single")
        return entry, self.build(entry, self.start_of(entry))

    def untrained_single_paths(self) -> dict[str, nn.Module]:
        """The networks of single tasks by task, for looking at their shapes."""
        _, single = self.single()
        return {task: single.path(task) for task in self.tasks}


class Assembly(Parts):
    """Data and method of a run, the same in every process of a world.

    Raises:
        UserError: the input is wrong; nothing has been written.
    """

    def __init__(self, work: Work, world: World) -> None:
        super().__init__(work.config, work.seed, work.untrained)
        self.work, self.world, self.entry = work, world, work.entry
        config, entry = self.config, self.entry
        source = self.start_of(entry)
        if source is not None:
            self.data.normalisation = source.normalisation
        method = self.build(entry, source)
        self.check(entry, method, world.size)
        self.method: SharingMethod = method.to(world.device)
        if config.train.channels_last:
            self.method = self.method.to(memory_format=torch.channels_last)
        if world.size > 1 and config.train.sync_norm:
            for norm in (m for m in self.method.modules() if isinstance(m, BatchNorm)):
                # No compiler knows it. A decorator would have every command import the compiler.
                norm.current.sync = torch.compiler.disable(sum_over_processes)  # type: ignore[no-untyped-call]
        if config.train.compile:
            check_compiler(config.train.compile, world.device, config.place("train", "compile"))
            balancing = entry.options.balancing or config.balancing
            compile_units(self.method, config.train.compile, balancing)

    def plan(self, single_paths: Callable[[], dict[str, nn.Module]]) -> list[Phase]:
        """The phases of the run, those of its transfer included."""
        config, entry = self.config, self.entry
        phases = self.planned(entry, self.method, single_paths)
        transfer = entry.options.transfer
        if transfer is None:
            return phases
        source = source_of(config, entry, self.untrained)
        normalisation = self.data.normalisation
        return transferred(phases, self.method, source, transfer, config.train, normalisation)
