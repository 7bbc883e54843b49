"""One group's network in a phase: what of a phase, a batch and a run is its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from polytask.batch import Batch
from polytask.loss import Term
from polytask.phase import ParameterGroup, Phase, Schedule, TermMaker
from polytask.sharing.method import Outputs, SharingMethod


@dataclass(frozen=True)
class Part:
    """One group's network in a phase, and the phase as that network planned it."""

    at: int
    method: SharingMethod
    phase: Phase

    def runs(self, pattern: str) -> str:
        """A pattern of the network's parameter names as one of the whole method's."""
        own = [n for n, _ in self.method.named_parameters() if re.search(pattern, n)]
        inside = [f"groups.{self.at}.{name}" for name in own]
        for module, found in self.phase.modules.items():
            names = [n for n, _ in found.named_parameters()]
            kept = [n for n in names if re.search(pattern, f"modules.{module}.{n}")]
            inside += [f"modules.{self.named(module)}.{n}" for n in kept]
        return f"^(?:{'|'.join(map(re.escape, inside))})$" if inside else "(?!)"

    def named(self, module: str) -> str:
        """What a module of the phase is called beside those of other groups."""
        return f"{module}_{self.at}"

    def modules(self) -> dict[str, nn.Module]:
        """The phase's modules by those names."""
        return {self.named(name): module for name, module in self.phase.modules.items()}

    def parameter_groups(self) -> list[ParameterGroup]:
        """The phase's groups of parameters."""
        return [replace(g, pattern=self.runs(g.pattern)) for g in self.phase.groups]

    def trainable(self) -> list[str]:
        """What the phase trains."""
        return [self.runs(pattern) for pattern in self.phase.trainable]

    def terms(self) -> list[TermMaker]:
        """The phase's terms, which see the group's part of a batch."""
        return [self._seeing_own(make) for make in self.phase.terms]

    def _seeing_own(self, make: TermMaker) -> TermMaker:
        def made(batch: Batch, outputs: Outputs) -> list[Term]:
            return make(batch.of(self.method.tasks), own_outputs(outputs, self.method))

        return made

    def update(self) -> str | Mapping[str, Any]:
        """The phase's update rule; one that goes by names of parameters goes by the method's."""
        if isinstance(self.phase.update, str):
            return self.phase.update
        ((name, options),) = self.phase.update.items()
        if "members" in options:
            options = {**options, "members": list(map(self.runs, options["members"]))}
        return {name: options}


class Run:
    """A run as the hooks of one group's network see it."""

    def __init__(self, run: Any, part: Part) -> None:
        self._run = run
        self.method, self.phase = part.method, part.phase
        self.modules = part.phase.modules

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)


def own_outputs(outputs: Outputs, method: SharingMethod) -> Outputs:
    """What of the outputs concerns the tasks of one network."""
    return Outputs(
        {task: value for task, value in outputs.predictions.items() if task in method.tasks},
        {task: value for task, value in outputs.features.items() if task in method.tasks},
    )


def own_schedule(schedule: Schedule, method: SharingMethod) -> Schedule:
    """What of the common budget and teachers concerns the tasks of one network."""
    return replace(
        schedule,
        data_of={t: data for t, data in schedule.data_of.items() if t in method.tasks},
        single_paths=lambda: {
            t: path for t, path in schedule.single_paths().items() if t in method.tasks
        },
    )
