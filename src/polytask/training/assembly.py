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


class Assembly:
    """Data and method of a run, the same in every process of a world.

    Raises:
        UserError: the input is wrong; nothing has been written.
    """

    def __init__(self, work: Work, world: World) -> None:
        self.work, self.world = work, world
        self.config, self.entry, self.seed = work.config, work.entry, work.seed
        config, entry = self.config, self.entry
        self.tasks = task_kinds.build(config.tasks)
        self.data: Data = load_data(config, self.tasks, self.seed)
        self.start_from = start_of(config, entry, work.untrained)
        if self.start_from is not None:
            self.data.normalisation = self.start_from.normalisation
        method = self._built(entry)
        check_transfer(config, entry, method, work.untrained)
        self.method: SharingMethod = method.to(world.device)
        if config.train.channels_last:
            self.method = self.method.to(memory_format=torch.channels_last)
        if world.size > 1 and config.train.sync_norm:
            for norm in (m for m in self.method.modules() if isinstance(m, BatchNorm)):
                # No compiler knows it. A decorator would have every command import the compiler.
                norm.current.sync = torch.compiler.disable(sum_over_processes)  # type: ignore[no-untyped-call]
        balancing = entry.options.balancing or config.balancing
        build_balancer(balancing, method, world.size)  # refused before anything is written
        if config.train.compile:
            check_compiler(config.train.compile, world.device, config.place("train", "compile"))
            compile_units(self.method, config.train.compile, balancing)
        planned(config, entry, self.method, self.data, self.untrained_single_paths)  # as above

    def plan(self, single_paths: Callable[[], dict[str, nn.Module]]) -> list[Phase]:
        config, data = self.config, self.data
        phases = planned(config, self.entry, self.method, data, single_paths)
        transfer = self.entry.options.transfer
        if transfer is None:
            return phases
        source = source_of(config, self.entry, self.work.untrained)
        return transferred(phases, self.method, source, transfer, config.train, data.normalisation)

    def single(self) -> tuple[MethodEntry, SharingMethod]:
        entry = next(e for e in self.config.methods if e.name == "single")
        return entry, self._built(entry)

    def _built(self, entry: MethodEntry) -> SharingMethod:
        config, data = self.config, self.data
        untrained = self.work.untrained
        source = self.start_from if entry is self.entry else start_of(config, entry, untrained)
        start = None if source is None else source.start
        return build_method(
            config, entry, self.tasks, data.streams, data.stream_of, self.seed, start
        )

    def untrained_single_paths(self) -> dict[str, nn.Module]:
        _, single = self.single()
        return {task: single.path(task) for task in self.tasks}


def planned(
    config: Config,
    entry: MethodEntry,
    method: SharingMethod,
    data: Data,
    single_paths: Callable[[], dict[str, nn.Module]],
) -> list[Phase]:
    """The phases of a method, with what its tasks need in them.

    Raises:
        UserError: they cannot share the epochs, or a task cannot be learned by them.
    """
    schedule = Schedule(config.train.epochs, config.match, data.samples, data.data_of, single_paths)
    with placed(config, entry):
        phases = method.plan(schedule)
        for task in method.tasks.values():
            phases = task.planned(phases, method)
    return phases
