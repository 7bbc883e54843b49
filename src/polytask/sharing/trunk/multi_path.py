"""Nested multi-path network: each task runs a prefix of the trunk and learns from its own network.

Source: Park, Lee, Kim, "Resource-Efficient Multi-Task Deep Learning Using a Multi-Path Network",
IEEE Access 2022, eq. 2-5 and algorithm 1.

Differs from the paper: the loss is CE + α·KD by default (its α·CE + (1 − α)·KD with its α = 1 would
switch distillation off), KL runs from teacher to student, branches may be any unit.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from polytask.backbones.staged import StagedBackbone
from polytask.batch import Batch
from polytask.distill.soft_targets import BY_KIND, Direction
from polytask.errors import UserError, unknown
from polytask.loss import Term
from polytask.phase import Phase, Schedule, TermMaker
from polytask.sharing.method import MethodOptions, Outputs, Setting
from polytask.sharing.trunk import Trunk, TrunkOptions

Ratio = Annotated[float, Field(gt=0, le=1)]


class DistillOptions(BaseModel):
    """How a path learns from the single-task network of its task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float = Field(1.0, ge=0, description="weight of distillation (of CE when convex)")
    temperature: float = Field(2.0, gt=0, description="softening of both distributions")
    mix: Literal["additive", "convex"] = Field(
        "additive", description="CE + α·KD, or the paper's α·CE + (1 − α)·KD"
    )
    direction: Direction = Field("teacher_student", description="KL(teacher ‖ student) or reverse")
    t2: bool = Field(False, description="multiply KD by temperature²")

    @model_validator(mode="after")
    def _is_convex(self) -> DistillOptions:
        if self.mix == "convex" and self.alpha > 1:
            raise ValueError("expected alpha between 0 and 1 with mix: convex")
        return self


class MultiPathOptions(TrunkOptions):
    """Where paths branch off and how they are distilled."""

    branches: dict[str, str] | list[str] | list[Ratio] | None = Field(
        None,
        description="unit per task; or units or parameter ratios in the order of tasks; "
        "by default ratios 1/t, 2/t, … 1; of the encoder per image, of the whole for every pixel",
    )
    distill: DistillOptions | Literal[False] = Field(
        DistillOptions(), description="self-auxiliary distillation from single-task networks"
    )
    open: bool = Field(True, description="cut residual blocks into convolutions where possible")


class MultiPath(Trunk):
    """A task runs the trunk up to its branch: an earlier path is part of every later one."""

    Options = MultiPathOptions
    options: MultiPathOptions

    @classmethod
    def refuses(cls, setting: Setting, options: MethodOptions) -> str | None:
        assert isinstance(options, MultiPathOptions)
        others = [name for name, task in setting.tasks.items() if task.kind not in BY_KIND]
        if options.distill is False or not others:
            return None
        return (
            f"self-auxiliary distillation matches class probabilities, which {', '.join(others)} "
            "does not give; set distill: false"
        )

    @classmethod
    def search_space(cls, setting: Setting, options: MethodOptions) -> dict[str, list[Any]]:
        """Stages, and every unit of the last one."""
        assert isinstance(options, MultiPathOptions)
        backbone = _opened(setting, options)
        places = {}
        for name, task in setting.tasks.items():
            stages = list(backbone.exits(task.is_dense))
            inside = [n for n in backbone.names if n.startswith(f"{stages[-1]}.")]
            places[f"branches.{name}"] = [*stages[task.taps - 1 : -1], *(inside or stages[-1:])]
        return places

    def make_backbone(self) -> StagedBackbone:
        return _opened(self.setting, self.options)

    def prepare(self) -> None:
        branches = self.options.branches
        tasks = list(self.tasks)
        if branches is None:
            branches = self._steps()
        if isinstance(branches, dict):
            for task in branches:
                if task not in self.tasks:
                    raise UserError(unknown(f"branches.{task}", "task", task, tasks))
        elif len(branches) != len(tasks):
            raise UserError.at(
                "branches",
                f"got {len(branches)} entries; expected one for each of {len(tasks)} tasks",
            )
        else:
            branches = dict(zip(tasks, branches, strict=True))  # type: ignore[arg-type]
        missing = [task for task in tasks if task not in branches]
        if missing:
            raise UserError.at("branches", f"no branch for {', '.join(missing)}")
        self.branches = {
            task: place_by_ratio(self.backbone, where, self.tasks[task].is_dense)
            if isinstance(where, float)
            else self.backbone.resolve(where, f"branches.{task}")
            for task, where in branches.items()
        }

    def _steps(self) -> list[float]:
        """Equal steps in the order of tasks; where a decoder follows, those of tasks per image, and
        tasks for every pixel run to its end."""
        ends = [n for n, task in self.tasks.items() if self.backbone.decodes and task.is_dense]
        others = [name for name in self.tasks if name not in ends]
        steps = {name: (i + 1) / len(others) for i, name in enumerate(others)}
        return [steps.get(name, 1.0) for name in self.tasks]

    def taps(self, task: str) -> list[str]:
        return self.taps_until(task, self.branches[task], f"branches.{task}")

    def plan(self, schedule: Schedule) -> list[Phase]:
        options = self.options.distill
        if options is False:
            return [Phase(epochs=schedule.epochs)]
        teachers = nn.ModuleDict(
            {task: path for task, path in schedule.single_paths().items() if task in self.tasks}
        )
        term = self._self_auxiliary(teachers, options)
        return [Phase(epochs=schedule.epochs, modules={"teachers": teachers}, terms=(term,))]

    def _self_auxiliary(self, teachers: nn.ModuleDict, options: DistillOptions) -> TermMaker:
        def make(batch: Batch, outputs: Outputs) -> list[Term]:
            terms = []
            for task, group, target in batch:
                images = group.images if target.rows is None else group.images[target.rows]
                with torch.no_grad():
                    taught = teachers[task](images)
                student = outputs.predictions[task]
                assert isinstance(student, torch.Tensor)
                loss = BY_KIND[self.tasks[task].kind](
                    student, taught, options.temperature, options.direction, options.t2
                )
                own, weight = self.tasks[task].loss(student, target.value)  # type: ignore[arg-type]
                if options.mix == "convex":
                    value = (1 - options.alpha) * (loss - own)
                else:
                    value = options.alpha * loss
                terms.append(Term("self_auxiliary", task, value, weight))
            return terms

        return make


def _opened(setting: Setting, options: MultiPathOptions) -> StagedBackbone:
    """The trunk, its last stage cut into convolutions where that is asked for and possible."""
    plain = setting.new_backbone()
    if not (options.open and plain.can_open):
        return plain
    return setting.new_backbone(open=(list(plain.stages)[-1],))


def place_by_ratio(backbone: StagedBackbone, ratio: float, is_dense: bool = False) -> str:
    """The unit whose prefix holds the share of the trunk's parameters nearest to `ratio`; of its
    encoder's for a task that answers per image."""
    counts, total = [], 0
    for name, unit in backbone:
        total += sum(p.numel() for p in unit.parameters())
        counts.append(total)
        if name == backbone.end(is_dense):
            break
    nearest = min(range(len(counts)), key=lambda i: abs(counts[i] / total - ratio))
    return backbone.names[nearest]
