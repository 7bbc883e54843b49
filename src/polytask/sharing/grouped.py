"""Groups of tasks: a method with a network of its own for every group.

Source: Standley et al., "Which Tasks Should Be Learned Together in Multi-task Learning?", ICML
2020: several networks within a budget, each for some of the tasks. Differs from the paper: groups
do not overlap, so that a task has one path.

A task that is alone in its group has its single-task network, whatever the method; one group of
all tasks is the method itself. A method that keeps groups by itself (`kernel_sharing`) is left as
it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from polytask.batch import Batch
from polytask.loss import Term
from polytask.phase import Phase, Schedule
from polytask.sharing.columns.single import Single
from polytask.sharing.method import MethodOptions, Outputs, Setting, SharingMethod
from polytask.sharing.part import Part, Run, own_outputs, own_schedule

INSIDE = re.compile(r"^groups\.\d+\.")


def build(
    kind: type[SharingMethod], setting: Setting, options: MethodOptions
) -> SharingMethod | str:
    """The method, a network per group where its options ask for groups; or why it is refused."""
    groups = _complete(options.groups, setting)
    if options.groups is None or kind.keeps_groups or len(groups) == 1:
        reason = kind.refuses(setting, options)
        return reason if reason else kind(setting, options)
    if kind is Single:
        return "its tasks share nothing that groups could keep apart"
    parts: list[SharingMethod] = []
    for group in groups:
        own, made = _own_setting(setting, group), Single if len(group) == 1 else kind
        given = MethodOptions() if len(group) == 1 else _own_options(options, group, setting)
        reason = made.refuses(own, given)
        if reason:
            return f"in the group of {', '.join(group)}, {reason}"
        parts.append(made(own, given))
    return Grouped(setting, options, parts)


def inner_name(name: str) -> str:
    """The name of a parameter inside its group's network."""
    return INSIDE.sub("", name)


def group_name(tasks: Iterable[str]) -> str:
    """What the network of a group is called."""
    return "+".join(tasks)


def _complete(groups: list[list[str]] | None, setting: Setting) -> list[list[str]]:
    """All groups in the order of tasks, and each in it; tasks in none stand alone."""
    listed = [set(group) for group in groups or []]
    alone = [{task} for task in setting.tasks if not any(task in group for group in listed)]
    ordered = [[task for task in setting.tasks if task in group] for group in (*listed, *alone)]
    return sorted(filter(None, ordered), key=lambda group: list(setting.tasks).index(group[0]))


def _own_setting(setting: Setting, group: list[str]) -> Setting:
    stream_of = {task: setting.stream_of[task] for task in group}
    return replace(
        setting,
        tasks={task: setting.tasks[task] for task in group},
        streams={s: size for s, size in setting.streams.items() if s in stream_of.values()},
        stream_of=stream_of,
        network=group_name(group) if len(group) > 1 else "",
    )


def _own_options(options: MethodOptions, group: list[str], setting: Setting) -> MethodOptions:
    """The options without groups; of those that are given by task, what concerns the group."""
    own: dict[str, Any] = {"groups": None}
    for name in type(options).model_fields:
        value = getattr(options, name)
        if isinstance(value, dict) and value and value.keys() <= setting.tasks.keys():
            own[name] = {task: given for task, given in value.items() if task in group}
    return options.model_copy(update=own)


class Grouped(SharingMethod):
    """Networks side by side, `groups`, each a method of its own on some of the tasks.

    Where every network has one joint phase they train together, on the batches that the plain
    method would see; else one after another, each at that pace.
    """

    def __init__(
        self, setting: Setting, options: MethodOptions, parts: list[SharingMethod]
    ) -> None:
        super().__init__(setting, options)
        self.groups = nn.ModuleList(parts)
        self.of = {task: part for part in parts for task in part.tasks}
        self._running: dict[str, list[Part]] = {}
        self._at_work = parts

    @property
    def heads(self) -> nn.ModuleDict:  # type: ignore[override]
        """The heads of all tasks."""
        return nn.ModuleDict({task: self.of[task].heads[task] for task in self.tasks})

    @property
    def filters(self) -> nn.ModuleDict:
        """The feature filters of all tasks that have some."""
        found = [(task, dict(getattr(self.of[task], "filters", {}))) for task in self.tasks]
        return nn.ModuleDict({task: own[task] for task, own in found if task in own})

    def forward(self, batch: Batch) -> Outputs:
        outputs = Outputs()
        for part in self.parts():
            own = batch.of(part.tasks)
            if own.groups:
                made = part(own)
                outputs.predictions |= made.predictions
                outputs.features |= made.features
        return outputs

    def parts(self) -> list[SharingMethod]:
        """The groups' networks."""
        return list(self.groups)  # type: ignore[arg-type]

    def path(self, task: str) -> nn.Module:
        return self.of[task].path(task)

    def view(self, task: str) -> set[nn.Parameter]:
        return self.of[task].view(task)

    def last_shared(self) -> set[nn.Parameter]:
        """The deepest shared parameters of every network that has some (GradNorm)."""
        return {p for part in self.parts() for p in part.last_shared()}  # type: ignore[operator]

    def clip_groups(self, parameters: Mapping[str, nn.Parameter]) -> list[list[nn.Parameter]]:
        """The sets of every network, as it would clip them alone."""
        sets: list[list[nn.Parameter]] = []
        for at, part in enumerate(self.parts()):
            inside = f"groups.{at}."
            named = [(name, p) for name, p in parameters.items() if name.startswith(inside)]
            if named:
                sets += part.clip_groups({name.removeprefix(inside): p for name, p in named})
        beside = [p for name, p in parameters.items() if not INSIDE.match(name)]
        return [*sets, beside] if beside else sets

    def units_of(self, task: str) -> list[tuple[str, str]]:
        whose = group_name(self.of[task].tasks)
        units = self.of[task].units_of(task)
        return [(name, whose if owner == "shared" else owner) for name, owner in units]

    def how(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for part in self.parts():
            found |= part.how()
        return {**found, "groups": [list(part.tasks) for part in self.parts()]}

    def explained(self) -> dict[str, Any]:
        return {
            f"{name}_{at}": document
            for at, part in enumerate(self.parts(), start=1)
            for name, document in part.explained().items()
        }

    # Training.

    def plan(self, schedule: Schedule) -> list[Phase]:
        plans = [part.plan(own_schedule(schedule, part)) for part in self.parts()]
        if schedule.match == "samples" and all(_is_one_joint(plan, schedule) for plan in plans):
            found = [Part(i, self.parts()[i], phase) for i, (phase,) in enumerate(plans)]
            together = Phase(
                epochs=schedule.epochs,
                trainable=tuple(pattern for part in found for pattern in part.trainable()),
                groups=[group for part in found for group in part.parameter_groups()],
                terms=[term for part in found for term in part.terms()],
                modules={name: m for part in found for name, m in part.modules().items()},
            )
            self._running = {together.name: found}
            return [together]
        return self._in_turn(schedule, plans)

    def _in_turn(self, schedule: Schedule, plans: list[list[Phase]]) -> list[Phase]:
        names = [phase.name for plan in plans for phase in plan]
        is_unique = len(set(names)) == len(names)
        phases = []
        self._running = {}
        for i, (method, plan) in enumerate(zip(self.parts(), plans, strict=True)):
            for phase in plan:
                part = Part(i, method, phase)
                name = phase.name if is_unique else f"{phase.name}_{group_name(method.tasks)}"
                self._running[name] = [part]
                made = replace(
                    phase,
                    name=name,
                    tasks=tuple(method.tasks) if phase.tasks is None else phase.tasks,
                    joint_pace=phase.joint_pace or schedule.match == "samples",
                    trainable=tuple(part.trainable()),
                    groups=part.parameter_groups(),
                    update=part.update(),
                    terms=part.terms(),
                    modules=part.modules(),
                )
                phases.append(made)
        return phases

    def fit(self, batches: Iterator[Batch]) -> None:
        """Solve for the network whose phase it is (closed form)."""
        for part in self._at_work:
            part.fit(batch.of(part.tasks) for batch in batches)  # type: ignore[operator]

    def extra_losses(self, batch: Batch, outputs: Outputs) -> list[Term]:
        return [
            term
            for part in self._at_work
            for term in part.extra_losses(batch.of(part.tasks), own_outputs(outputs, part))
        ]

    def otherwise_in_use(self) -> list[nn.Module]:
        return [module for part in self.parts() for module in part.otherwise_in_use()]

    def _seen(self, run: Any) -> Iterator[tuple[SharingMethod, Run]]:
        """The networks at work in the run's phase, and the run as each sees it."""
        everyone = [Part(i, method, run.phase) for i, method in enumerate(self.parts())]
        for part in self._running.get(run.phase.name, everyone):
            yield part.method, Run(run, part)

    def on_phase_start(self, run: Any) -> None:
        for part, seen in self._seen(run):
            part.on_phase_start(seen)

    def before_forward(self, run: Any) -> None:
        self._at_work = [part for part, _ in self._seen(run)]
        for part, seen in self._seen(run):
            part.before_forward(seen)

    def after_backward(self, run: Any) -> None:
        for part, seen in self._seen(run):
            part.after_backward(seen)

    def before_step(self, run: Any) -> None:
        for part, seen in self._seen(run):
            part.before_step(seen)

    def after_step(self, run: Any) -> None:
        for part, seen in self._seen(run):
            part.after_step(seen)

    def on_epoch_end(self, run: Any) -> None:
        for part, seen in self._seen(run):
            part.on_epoch_end(seen)

    def on_phase_end(self, run: Any) -> None:
        for part, seen in self._seen(run):
            part.on_phase_end(seen)


def _is_one_joint(plan: list[Phase], schedule: Schedule) -> bool:
    """Whether a plan is one phase of all tasks together, whatever it trains and adds."""
    bare = [replace(p, trainable=(), groups=(), terms=(), modules={}) for p in plan]
    return bare == [Phase(epochs=schedule.epochs, trainable=())]
