"""Gradient aggregation: the tasks' gradients over what they share become one, by torchjd's rules.

Source: torchjd 0.18 (Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", 2024),
which implements the paper of each rule.

Differs from the papers: the Jacobian has a row for each present task whose gradient is finite and a
column for each parameter that two tasks or more share; a parameter of one task gets that task's
plain gradient, and a step with one row, or in a phase that trains nothing shared, is a plain one. A
rule with a memory keeps one for each set of present tasks. Where a rule gives no finite answer the
rows are added up. Scales are torchjd's: `mgda`, `upgrad`, `dualproj`, `aligned_mtl` and `cagrad`
average rows where `equal` adds them. Left out are torchjd's rules that weigh rows without looking
at them (`equal`, `fixed` and `random` do), those against malicious clients, and those that need
several batches a step.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from polytask.balancing import ALONE, Balancer, BalancerOptions, Processes, global_values, run_back
from polytask.balancing.jacobian import Cut, Rows
from polytask.errors import MissingExtra, UserError

if TYPE_CHECKING:
    from polytask.sharing.method import SharingMethod

NAMES = {
    "pcgrad": "PCGrad: each gradient loses its part against the others' (Yu 2020).",
    "mgda": "MGDA: the shortest convex combination of the gradients (Désidéri 2012, Sener 2018).",
    "cagrad": "CAGrad: best for the worst task within a ball around the mean (Liu 2021).",
    "imtl_g": "IMTL-G: equal projections on every task's gradient (Liu 2021).",
    "nash_mtl": "Nash-MTL: the bargaining solution between tasks (Navon 2022).",
    "aligned_mtl": "Aligned-MTL: gradients made orthogonal and equally long (Senushkin 2023).",
    "upgrad": "UPGrad: each gradient projected so that it hurts no task (Quinton 2024).",
    "graddrop": "GradDrop: each entry keeps one sign, drawn by its purity (Chen 2020).",
    "fairgrad": "FairGrad: α-fair gains between tasks (Ban 2024).",
    "gradvac": "GradVac: gradients kept as similar as they usually are (Wang 2021).",
    "dualproj": "DualProj: the mean projected so that it hurts no task (Lopez-Paz 2017).",
    "config": "ConFIG: a direction with equal cosines to all gradients (Liu 2024).",
    "excess_mtl": "ExcessMTL: weights by estimated excess risk (He 2024).",
    "pcd": "PCD: the first task first, a share of progress for the others (2026).",
}


class AggregationOptions(BalancerOptions):
    """What the gradients are taken of."""

    on: Literal["parameters", "representation"] = Field(
        "parameters",
        description="representation: gradients by the features that all tasks read, then one pass",
    )


class Aggregation(Balancer):
    """A backward pass per task gives the rows; `rule` names torchjd's class, `memory` what it
    remembers between steps."""

    Options = AggregationOptions
    options: AggregationOptions
    name: ClassVar[str] = ""
    rule: ClassVar[str] = ""
    memory: ClassVar[tuple[str, ...]] = ()

    def __init__(self, tasks: Sequence[str], options: AggregationOptions) -> None:
        super().__init__(tasks, options)
        self.key = 0
        self.cut: Cut | None = None
        self._rules: dict[tuple[str, ...], Any] = {}
        self._restored: dict[tuple[str, ...], dict[str, Any]] = {}
        self._make(len(self.tasks))

    def arguments(self, rows: int) -> dict[str, Any]:
        """What torchjd's class is built with."""
        del rows
        return self.options.model_dump(exclude={"on"})

    def _make(self, rows: int) -> Any:
        from torchjd import aggregation

        try:
            return getattr(aggregation, self.rule)(**self.arguments(rows))
        except ImportError as error:
            raise MissingExtra(f"balancing.{self.name}", "balance") from error

    def check(self, method: SharingMethod) -> None:
        if self.options.on == "representation" and _representation(method) is None:
            raise UserError.at(
                f"balancing.{self.name}.on",
                f"{type(method).__name__} has no representation that all tasks read; "
                "expected on: parameters.",
            )

    def check_processes(self, size: int) -> None:
        from torchjd.aggregation import GramianWeightedAggregator

        asks_products_alone = isinstance(self._make(len(self.tasks)), GramianWeightedAggregator)
        if size > 1 and self.options.on == "representation" and not asks_products_alone:
            raise UserError.at(
                f"balancing.{self.name}.on",
                "representation runs in one process with this rule, which reads single entries "
                "of the gradients, and each process has those of other images.",
                "Use on: parameters.",
            )

    def weights(self, losses: Mapping[str, float]) -> Mapping[str, Tensor | float]:
        return dict.fromkeys(losses, 1.0)

    def on_step(self, key: int, method: SharingMethod) -> None:
        self.key = key
        if self.options.on == "representation":
            module = _representation(method)
            assert module is not None
            self.cut = Cut(module)

    def backward(
        self,
        losses: Mapping[str, Tensor],
        method: SharingMethod,
        penalty: Tensor | None = None,
        processes: Processes = ALONE,
        values: Mapping[str, float] | None = None,
    ) -> None:
        if values is None:
            values = global_values(losses, self.tasks, processes)
        present = list(values)
        leaves = self._leaves(method)
        # Parameters are those of all processes, features those of other images.
        rows = Rows(leaves, ALONE if self.cut is None else processes)
        for task in present:
            if task in losses:
                run_back(losses[task], keep=task != present[-1] or penalty is not None)
            rows.take(task)
        for leaf, gradient in zip(leaves, self.aggregate(rows, processes), strict=True):
            leaf.grad = gradient
        if self.cut is not None:
            self.cut.run_back(keep=penalty is not None)
            self.cut = None
        run_back(penalty)

    def _leaves(self, method: SharingMethod) -> list[Tensor]:
        if self.cut is not None:
            return self.cut.leaves
        shared = method.shared()
        return [p for p in method.parameters() if p in shared and p.requires_grad]

    @torch.no_grad()
    def aggregate(self, rows: Rows, processes: Processes = ALONE) -> list[Tensor | None]:
        """This process's part of each leaf's gradient; the parts of all are added up later.

        A leaf that no row reaches has none. Leaves that other processes do not have get the whole.
        """
        if not rows.leaves:  # nothing that tasks share is trained in this phase
            return []
        if rows.others.size == 1:
            rows.sum_over(processes)
        finite = rows.finite()
        # Where no row is finite the step is a plain one, which tells that training diverged.
        chosen = rows.only(finite) if finite else rows
        ruled = self._ruled(tuple(finite), chosen) if len(finite) > 1 else None
        found = chosen.weighted([1.0] * len(chosen.by_task)) if ruled is None else ruled
        if processes.size == 1 or rows.others.size > 1:
            return found
        return [None if gradient is None else gradient / processes.size for gradient in found]

    def _ruled(self, tasks: tuple[str, ...], rows: Rows) -> list[Tensor | None] | None:
        """What the rule makes of rows, `None` where that is not finite."""
        from torchjd.aggregation import GramianWeightedAggregator

        if tasks not in self._rules:
            self._rules[tasks] = self._make(len(tasks))
            if tasks in self._restored:
                self.restore(self._rules[tasks], self._restored.pop(tasks))
        rule = self._rules[tasks]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.key)
            if rows.device.type != "cpu":
                torch.get_device_module(rows.device).manual_seed(self.key)
            if isinstance(rule, GramianWeightedAggregator):  # no Jacobian in one piece
                weights = rule.gramian_weighting(rows.gramian()).tolist()
                return rows.weighted(weights) if all(map(math.isfinite, weights)) else None
            vector = rule(rows.jacobian())
        return rows.split(vector) if math.isfinite(vector.norm()) else None

    # The memory of rules, by the tasks that were present.

    def restore(self, rule: Any, state: Mapping[str, Any]) -> None:
        """Give a fresh rule the memory of another."""
        weighting = _weighting(rule)
        for name, value in state.items():
            fresh = getattr(weighting, name, None)
            setattr(weighting, name, value.numpy() if isinstance(fresh, np.ndarray) else value)

    def get_extra_state(self) -> dict[str, Any]:
        if not self.memory:
            return {}
        state = {"\n".join(tasks): found for tasks, found in self._restored.items()}
        for tasks, rule in self._rules.items():
            known = {name: getattr(_weighting(rule), name) for name in self.memory}
            state["\n".join(tasks)] = {
                name: torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
                for name, value in known.items()
            }
        return state

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self._rules = {}
        self._restored = {tuple(tasks.split("\n")): found for tasks, found in state.items()}


def _representation(method: SharingMethod) -> nn.Module | None:
    """The module whose outputs all tasks read, if the method has one."""
    found = getattr(method, "representation", None)
    return found() if callable(found) else None


def _weighting(rule: Any) -> Any:
    """The part of a torchjd rule that remembers."""
    return getattr(rule, "gramian_weighting", None) or rule.weighting


class PCGrad(Aggregation):
    name, rule = "pcgrad", "PCGrad"


class MGDAOptions(AggregationOptions):
    """The solver's precision."""

    epsilon: float = Field(0.001, gt=0, description="stop when the step is smaller than this")
    max_iters: int = Field(100, ge=1, description="most Frank-Wolfe steps")


class MGDA(Aggregation):
    name, rule, Options = "mgda", "MGDA", MGDAOptions


class CAGradOptions(AggregationOptions):
    """The ball around the mean gradient."""

    c: float = Field(0.5, ge=0, description="radius over the mean's length; 0 is the mean")


class CAGrad(Aggregation):
    name, rule, Options = "cagrad", "CAGrad", CAGradOptions


class IMTLG(Aggregation):
    name, rule = "imtl_g", "IMTLG"


class NashMTLOptions(AggregationOptions):
    """How often and how long tasks bargain."""

    max_norm: float = Field(1.0, ge=0, description="longest update; 0 for no limit")
    update_weights_every: int = Field(1, ge=1, description="steps between two bargains")
    optim_niter: int = Field(20, ge=1, description="most iterations of one")


class NashMTL(Aggregation):
    name, rule, Options = "nash_mtl", "NashMTL", NashMTLOptions
    memory = ("prvs_alpha", "normalization_factor", "step")

    def arguments(self, rows: int) -> dict[str, Any]:
        return {"n_tasks": rows, **super().arguments(rows)}

    def _ruled(self, tasks: tuple[str, ...], rows: Rows) -> list[Tensor | None] | None:
        with warnings.catch_warnings():
            # How torchjd states the problem, and divisions on the way to it, are no one's concern.
            warnings.filterwarnings("ignore", "You are solving a parameterized problem")
            warnings.filterwarnings("ignore", category=RuntimeWarning)
            try:
                return super()._ruled(tasks, rows)
            except ValueError:  # all gradients are 0, and with them what the problem is scaled by
                return None

    def restore(self, rule: Any, state: Mapping[str, Any]) -> None:
        super().restore(rule, state)
        if state["step"]:  # which otherwise makes the problem in its first step
            rule.weighting._init_optim_problem()


class AlignedMTLOptions(AggregationOptions):
    """The common length of the aligned gradients."""

    scale_mode: Literal["min", "median", "rmse"] = Field(
        "min", description="which singular value they all get"
    )


class AlignedMTL(Aggregation):
    name, rule, Options = "aligned_mtl", "AlignedMTL", AlignedMTLOptions


class UPGrad(Aggregation):
    name, rule = "upgrad", "UPGrad"


class GradDrop(Aggregation):
    name, rule = "graddrop", "GradDrop"


class FairGradOptions(AggregationOptions):
    """The kind of fairness."""

    alpha: float = Field(1.0, ge=0, description="0: the mean; 1: proportional; larger: max-min")


class FairGrad(Aggregation):
    name, rule, Options = "fairgrad", "FairGrad", FairGradOptions


class GradVacOptions(AggregationOptions):
    """The usual similarity."""

    beta: float = Field(0.5, ge=0, le=1, description="share of the newest similarity")


class GradVac(Aggregation):
    name, rule, Options = "gradvac", "GradVac", GradVacOptions
    memory = ("_phi_t", "_state_key")


class DualProj(Aggregation):
    name, rule = "dualproj", "DualProj"


class ConFIG(Aggregation):
    name, rule = "config", "ConFIG"


class ExcessMTLOptions(AggregationOptions):
    """How fast weights follow excess risks."""

    robust_step_size: float = Field(1.0, gt=0, description="step of the weights")
    n_warmup_steps: int = Field(0, ge=0, description="steps with equal weights before")


class ExcessMTL(Aggregation):
    name, rule, Options = "excess_mtl", "ExcessMTL", ExcessMTLOptions
    memory = ("_weights", "_sq_grad_sum", "_initial_w", "_warmup_w_sum", "_n_steps", "_state_key")

    def restore(self, rule: Any, state: Mapping[str, Any]) -> None:
        device = state["_state_key"][-1]
        moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in state.items()}
        super().restore(rule, moved)


class PCDOptions(AggregationOptions):
    """What the other tasks are promised; the config's first task comes first."""

    tau: float = Field(0.02, ge=0, le=1, description="share of the progress they would make alone")
    beta: float = Field(0.999, ge=0, lt=1, description="memory of the gradients' lengths")


class PCD(Aggregation):
    name, rule, Options = "pcd", "PCD", PCDOptions
    memory = ("_sq_norm_ema", "_n_steps", "_state_key")
