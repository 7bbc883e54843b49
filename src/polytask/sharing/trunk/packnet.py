"""PackNet: tasks are packed into one trunk one after another, each into weights of its own.

Source: Mallya and Lazebnik, "PackNet: Adding Multiple Tasks to a Single Network by Iterative
Pruning", CVPR 2018; the capacities for 3 and 5 tasks are those of Park, Lee, Kim, IEEE Access 2022.

Task after task, in the order of the config: train all weights that are free yet, prune the smallest
of each layer until the task's capacity is reached, retrain what is left, and freeze it. A task runs
on its own weights and on those of earlier tasks. Only convolutions and linear layers are packed;
what else the trunk has (biases) trains with the first task.

The phases of a task share the epochs that other methods train for. A mask saves nothing in a dense
kernel: costs are told dense, and effective with masked weights left out.

Differs from the paper: every task has batch norms of its own by default, which start from those of
the task before (`bn: first_task` trains them with the first task alone, as the paper does); exactly
the wanted number of weights is pruned, ties broken by position.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Hashable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polytask.backbones.norm import BatchNorm
from polytask.errors import UserError
from polytask.phase import ParameterGroup, Phase, Schedule
from polytask.sharing.masking import Layer, Substituted, buffer_name, layers_of
from polytask.sharing.trunk import Trunk, TrunkOptions

CAPACITIES = {3: [0.5, 0.8, 1.0], 5: [0.4, 0.6, 0.7, 0.8, 1.0]}
FREE = 0

Share = Annotated[float, Field(gt=0, le=1)]


class PackNetOptions(TrunkOptions):
    """How much of the trunk each task gets, and how it trains."""

    capacities: list[Share] | None = Field(
        None,
        description="share of each layer's weights in use after each task, ascending; by default "
        "the published ones for 3 and 5 tasks, else equal steps",
    )
    bn: Literal["per_task", "first_task"] = Field(
        "per_task", description="batch norms of each task, or those of the first for all"
    )
    retrain: float = Field(1 / 3, ge=0, lt=1, description="share of the epochs after pruning")
    retrain_lr: float = Field(0.1, gt=0, description="factor of the learning rate after pruning")


class PackNet(Trunk):
    """`owner@…` holds for every weight the number of the task that owns it, 0 while it is free."""

    Options = PackNetOptions
    options: PackNetOptions

    def prepare(self) -> None:
        self.order = {task: i for i, task in enumerate(self.tasks, start=1)}
        self.capacities = [0.0, *self._capacities()]
        self.affine_per_key = self.options.bn == "per_task"
        for name in self.backbone.names:
            for inside, layer in layers_of(self.backbone.unit(name)):
                owner = torch.full_like(layer.weight, FREE, dtype=torch.uint8)
                self.register_buffer(buffer_name("owner", name, inside), owner)
        self.packed_tasks = 0  # as a number of the host, which reading costs no wait for a device
        self.register_load_state_dict_post_hook(_count_tasks)  # type: ignore[no-untyped-call]
        self._held: tuple[str, list[tuple[Tensor, Tensor, Tensor]]] = ("", [])

    def _capacities(self) -> list[float]:
        count, given = len(self.tasks), self.options.capacities
        if given is None:
            return CAPACITIES.get(count, [(i + 1) / count for i in range(count)])
        if len(given) != count:
            problem = f"got {len(given)} entries; expected one for each of {count} tasks"
            raise UserError.at("capacities", problem)
        if any(later <= earlier for earlier, later in pairwise(given)):
            problem = f"got {given}; expected shares in use so far, each above the one before"
            raise UserError.at("capacities", problem)
        return given

    # The trunk as a task sees it.

    def layers(self, name: str) -> Iterator[tuple[str, Layer, Tensor]]:
        """(name inside the unit, layer, owners of its weights) of a unit."""
        for inside, layer in layers_of(self.backbone.unit(name)):
            yield inside, layer, self.get_buffer(buffer_name("owner", name, inside))

    def unit(self, task: str, name: str) -> nn.Module:
        unit = self.backbone.unit(name)
        if self.order[task] >= self.packed_tasks:
            return unit
        return Substituted(unit, lambda: self._visible(task, name))

    def _visible(self, task: str, name: str) -> dict[str, Tensor]:
        return {
            f"{inside}.weight": layer.weight.masked_fill(owner > self.order[task], 0)
            for inside, layer, owner in self.layers(name)
        }

    def path_unit(self, task: str, name: str) -> nn.Module:
        made = copy.deepcopy(self.backbone.unit(name))
        layers = dict(layers_of(made))
        for inside, _, owner in self.layers(name):
            layer = layers[inside]
            layer.weight.data = layer.weight.data.masked_fill(owner > self.order[task], 0)
            kept = round(self.capacities[self.order[task]] * owner.numel())
            layer.kept = kept  # type: ignore[assignment]
        return made

    def key(self, task: str, name: str) -> Hashable:
        del name
        return task

    def norm_keys(self, streams: tuple[str, ...]) -> tuple[str, ...]:
        del streams
        return tuple(self.tasks) if self.affine_per_key else ()

    def norm_key(self, task: str, stream: str, unit: str) -> str:
        del stream, unit
        return task

    def _same(self, one: str, other: str, name: str) -> bool:
        del one, other, name
        return True

    # Training.

    def plan(self, schedule: Schedule) -> list[Phase]:
        phases = []
        for task, number in self.order.items():
            is_pruned = self.capacities[number] < 1
            retrain = round(schedule.epochs * self.options.retrain) if is_pruned else 0
            phase = Phase(
                f"train_{task}",
                schedule.epochs - retrain,
                tasks=(task,),
                joint_pace=schedule.match == "samples",
                trainable=self._trainable(task),
            )
            phases.append(phase)
            if retrain:
                slower = (ParameterGroup("", lr=self.options.retrain_lr),)
                phases.append(replace(phase, name=f"retrain_{task}", epochs=retrain, groups=slower))
        return phases

    def _trainable(self, task: str) -> tuple[str, ...]:
        """The exact names of what trains for a task; what is common trains with the first."""
        view = self.view(task)
        if self.order[task] > 1:
            weights = {layer.weight for n in self.backbone.names for _, layer, _ in self.layers(n)}
            firsts = self.view(next(iter(self.tasks)))
            view = {p for p in view if p in weights or p not in firsts}
        return tuple(f"^{re.escape(n)}$" for n, p in self.named_parameters() if p in view)

    def _all_layers(self) -> Iterator[tuple[Layer, Tensor]]:
        for name in self.backbone.names:
            for _, layer, owner in self.layers(name):
                yield layer, owner

    def on_phase_start(self, run: Any) -> None:
        if not run.phase.name.startswith("train_"):
            return
        number = self.order[run.phase.tasks[0]]
        for _, owner in self._all_layers():
            owner[owner == FREE] = number
        self.packed_tasks = number
        if number > 1 and self.affine_per_key:
            before = list(self.tasks)[number - 2]
            for norm in (m for m in self.backbone.modules() if isinstance(m, BatchNorm)):
                norm.copy_bank(before, run.phase.tasks[0])

    def on_phase_end(self, run: Any) -> None:
        self._held = ("", [])
        if run.phase.name.startswith("train_"):
            self.prune(self.order[run.phase.tasks[0]])

    @torch.no_grad()
    def prune(self, number: int) -> None:
        """Free the smallest weights of task `number` in every layer until its capacity is kept."""
        before, after = self.capacities[number - 1 : number + 1]
        for layer, owner in self._all_layers():
            kept = round(after * owner.numel()) - round(before * owner.numel())
            free_smallest(layer.weight, owner, number, kept)
            layer.weight.masked_fill_(owner == FREE, 0)

    def _others(self, run: Any) -> list[tuple[Tensor, Tensor, Tensor]]:
        """(weight, what of it is not the task's, its values), for layers with such weights."""
        if self._held[0] != run.phase.name:
            number = self.order[run.phase.tasks[0]]
            masks = [(layer.weight, owner != number) for layer, owner in self._all_layers()]
            held = [(w, others, w.detach().clone()) for w, others in masks if bool(others.any())]
            self._held = run.phase.name, held
        return self._held[1]

    def after_backward(self, run: Any) -> None:
        """Note other tasks' weights; they have no part in a norm that gradients are clipped by."""
        for weight, others, _ in self._others(run):
            if run.train.clip is not None and weight.grad is not None:
                weight.grad.masked_fill_(others, 0)

    @torch.no_grad()
    def after_step(self, run: Any) -> None:
        """Put other tasks' weights back, which gradients, decay and momentum have moved."""
        for weight, others, values in self._others(run):
            weight.copy_(torch.where(others, values, weight))

    def explained(self) -> dict[str, Any]:
        owned = {
            f"{name}.{inside}": [int((owner == number).sum()) for number in self.order.values()]
            for name in self.backbone.names
            for inside, _, owner in self.layers(name)
        }
        return {"packnet": {"tasks": list(self.order), "weights": owned}}


def free_smallest(weight: Tensor, owner: Tensor, number: int, kept: int) -> None:
    """Free all but the `kept` largest weights of an owner; of equal ones the first are kept."""
    flat = owner.flatten().clone()
    own = (flat == number).nonzero().squeeze(1)
    order = weight.flatten()[own].abs().argsort(descending=True, stable=True)
    flat[own[order[kept:]]] = FREE
    owner.copy_(flat.view(owner.shape))


def _count_tasks(method: nn.Module, _: object) -> None:
    assert isinstance(method, PackNet)
    method.packed_tasks = max(int(owner.max()) for _, owner in method._all_layers())
