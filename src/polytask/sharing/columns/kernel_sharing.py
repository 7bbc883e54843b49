"""Kernel sharing (MTAL): kernels of different tasks that point the same way are mixed in pairs.

Source: Feng and Chen, "Twofold heterogeneous multi-task learning by sharing similar kernel pairs",
§3, eq. 3-8.

Differs from the paper: a kernel's bank holds the pairs that it is part of (eq. 6 as printed turns a
layer into one kernel); all effective kernels are made from the same raw ones, in the forward pass,
so that gradients reach both kernels of a pair (`update: inplace` overwrites weights, as algorithm 1
does); both kernels of a pair count alike, which the paper leaves open; pairs are found anew every
`refresh_every` updates and every epoch instead of every update; the L2 term is off by default (the
paper: 0.1), so that a threshold above 1 gives the single networks. Biases and norms stay private.

Columns start as the config's `init` says: alike, so that a threshold above 1 gives the single
networks. Then every kernel has a twin in each other column, and keeps it: training turns kernels
little (after ten epochs on four sets of characters the twins of networks that share nothing had a
median cosine of 0.99), so that at the paper's thresholds all kernels stay shared. They learn by the
mean of the tasks' gradients, not the sum: a higher learning rate suits. From `init: independent`
hardly a kernel beyond the first layer meets another, and columns end like single networks.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from polytask.batch import Batch
from polytask.loss import Term
from polytask.phase import Phase, Schedule
from polytask.sharing.columns import Columns
from polytask.sharing.columns.kernel_bank import KernelBank, Pairing, Phi
from polytask.sharing.columns.kernel_layers import KernelLayers, Layer, convolutions, standing_in
from polytask.sharing.method import MethodOptions, Outputs, Setting


class KernelSharingOptions(MethodOptions):
    """Which kernels are shared, and how."""

    threshold: float = Field(
        0.55, description="least cosine of kernels that are shared; above 1 shares nothing"
    )
    pairing: Pairing = Field(
        "all", description="any two kernels of a layer, those of one index, or each other's nearest"
    )
    phi: Phi = Field(
        "half", description="how two kernels mix: by phi_self, learned, or by their cosine"
    )
    phi_self: float | None = Field(
        None, ge=0, le=1, description="weight of a kernel in its own pairs with phi: half; 0.5"
    )
    refresh_every: int = Field(
        50, ge=1, description="updates between searches for pairs; an epoch begins with one"
    )
    update: Literal["functional", "inplace"] = Field(
        "functional", description="mix in the forward pass, or overwrite the weights"
    )
    l2: float = Field(0.0, ge=0, description="λ of the penalty on every task's raw kernels")
    l2_reduction: Literal["mean", "literal"] = Field(
        "mean", description="λ / n with a mean loss (n images of the task), or λ as printed"
    )
    init: Literal["common", "independent"] | None = Field(
        None, description="start of the columns instead of the config's init"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.phi_self is not None and self.phi != "half":
            raise ValueError("expected phi_self with phi: half alone")
        if self.phi == "similarity" and self.threshold < 0:
            raise ValueError("expected a threshold of 0 or more with phi: similarity")
        return self


class KernelSharing(Columns):
    """Columns whose convolutions run with effective kernels instead of their own.

    With `groups` (MTAL_R) kernels are shared inside a group alone.
    """

    keeps_groups = True
    Options = KernelSharingOptions
    options: KernelSharingOptions

    @classmethod
    def refuses(cls, setting: Setting, options: MethodOptions) -> str | None:
        dense = [name for name, task in setting.tasks.items() if task.is_dense]
        others = [name for name in setting.tasks if name not in dense]
        if dense and others and setting.backbone(channels=3).decodes:
            return (
                f"the decoder of {dense[0]} finds no kernels to share with in the column of "
                f"{others[0]}, which ends at the encoder; cross_stitch links both"
            )
        return super().refuses(setting, options)

    @classmethod
    def search_space(cls, setting: Setting, options: MethodOptions) -> dict[str, list[Any]]:
        """Thresholds from 0.1 to 0.9, and one that shares nothing."""
        return {"threshold": [round(0.1 * i, 1) for i in range(1, 10)] + [1.1]}

    def __init__(self, setting: Setting, options: KernelSharingOptions) -> None:
        super().__init__(replace(setting, init=options.init or setting.init), options)
        self.layers = list(convolutions(self.column(next(iter(self.columns)))))
        self.samples = dict.fromkeys(self.tasks, 1)
        self.ratios: list[list[tuple[float, float]]] = []
        is_off = options.threshold > 1
        self.banks = KernelLayers({} if is_off else self.convolutions(), self._groups(), self._bank)
        self.refresh()

    def _bank(self, sizes: list[int], pairs: list[tuple[int, int]]) -> KernelBank:
        chosen = self.options
        own = 0.5 if chosen.phi_self is None else chosen.phi_self
        return KernelBank(sizes, pairs, chosen.threshold, chosen.pairing, chosen.phi, own)

    def _groups(self) -> list[int]:
        """The number of each task's group; tasks in none stand alone."""
        tasks, groups = list(self.tasks), self.options.groups
        if groups is None:
            return [0] * len(tasks)
        number = {task: n for n, group in enumerate(groups) for task in group}
        return [number.get(task, -1 - i) for i, task in enumerate(tasks)]

    def convolutions(self) -> dict[Layer, list[nn.Module]]:
        """A layer's convolution in every column."""
        columns = [self.column(column) for column in self.columns]
        return {
            layer: [column.unit(layer.unit).get_submodule(layer.path) for column in columns]
            for layer in self.layers
        }

    def weights(self, layer: Layer) -> list[nn.Parameter]:
        """The raw kernels of a layer in every column, [m, C, k, k] each."""
        return [module.get_parameter("weight") for module in self.convolutions()[layer]]

    # Sharing.

    def refresh(self) -> None:
        """Find the pairs of all layers."""
        self.banks.refresh(self.convolutions())

    def effective(self) -> list[tuple[nn.Module, Tensor]]:
        """The convolutions whose kernels differ from the raw ones, and what they are."""
        return self.banks.effective(self.convolutions())

    def _sharing(self) -> AbstractContextManager[None]:
        """Convolutions run with the effective kernels inside."""
        return standing_in(self.effective() if self.options.update == "functional" else [])

    @torch.no_grad()
    def _overwrite(self) -> None:
        for module, kernel in self.effective():
            module.get_parameter("weight").copy_(kernel)

    def _measure(self) -> None:
        """Note participation and compression of every layer, by the pairs found last."""
        self.ratios.append([self.banks.ratios(layer) for layer in self.layers])

    def how(self) -> dict[str, Any]:
        return {} if self.options.groups is None else {"groups": self.options.groups}

    def explained(self) -> dict[str, Any]:
        layers = {
            layer.name: {
                "kernels": [len(module.get_parameter("weight")) for module in modules],
                "is_shareable": self.banks.bank(layer) is not None,
                "participation": [epoch[at][0] for epoch in self.ratios],
                "compression": [epoch[at][1] for epoch in self.ratios],
            }
            for at, (layer, modules) in enumerate(self.convolutions().items())
        }
        return {"kernel_sharing": {"columns": list(self.columns), "layers": layers}}

    def get_extra_state(self) -> Tensor:
        """The ratios at the start and after every epoch, [epochs + 1, layers, 2]."""
        return torch.tensor(self.ratios, dtype=torch.float64).view(-1, len(self.layers), 2)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore what `get_extra_state` gave."""
        self.ratios = [[(p, c) for p, c in layers] for layers in state.tolist()]

    # The contract.

    def forward(self, batch: Batch) -> Outputs:
        with self._sharing():
            return super().forward(batch)

    def path(self, task: str) -> nn.Module:
        with torch.no_grad(), self._sharing():
            return super().path(task)

    def path_unit(self, column: str, name: str) -> nn.Module:
        unit = copy.deepcopy(super().path_unit(column, name))
        for module in unit.modules():
            kernel = module._parameters.get("weight")
            if isinstance(kernel, Tensor) and not isinstance(kernel, nn.Parameter):
                module.weight = nn.Parameter(kernel.clone())  # a view of all columns' kernels
        return unit

    def view(self, task: str) -> set[nn.Parameter]:
        view = super().view(task)
        if self.options.update == "inplace":
            return view
        own = list(self.columns).index(self.column_of(task))
        for layer, modules in self.convolutions().items():
            bank = self.banks.bank(layer)
            if bank is None:
                continue
            for other in bank.partners(own):
                view.add(modules[other].get_parameter("weight"))
                learned = bank.phi(own, other)
                if learned is not None:
                    view.add(learned)
        return view

    def plan(self, schedule: Schedule) -> list[Phase]:
        self.samples |= {task: schedule.samples[data] for task, data in schedule.data_of.items()}
        return super().plan(schedule)

    def extra_losses(self, batch: Batch, outputs: Outputs) -> list[Term]:
        del outputs
        if not self.options.l2:
            return []
        columns, layers = list(self.columns), self.convolutions().values()
        squares = []
        for task in batch.tasks:
            own = columns.index(self.column_of(task))
            count = self.samples[task] if self.options.l2_reduction == "mean" else 1
            kernels = [modules[own].get_parameter("weight") for modules in layers]
            squares += [raw.square().sum() / count for raw in kernels]
        return [Term("l2", None, torch.stack(squares).sum(), self.options.l2)]

    def on_phase_start(self, run: Any) -> None:
        self.refresh()
        if self.options.update == "inplace":
            self._overwrite()
        self._measure()

    def before_forward(self, run: Any) -> None:
        is_due = run.updates % self.options.refresh_every == 0
        if run.step_in_epoch == 0 or (is_due and self.options.update == "functional"):
            self.refresh()

    def after_step(self, run: Any) -> None:
        if self.options.update == "functional":
            return
        if (run.updates + 1) % self.options.refresh_every == 0:
            self.refresh()
        self._overwrite()

    def on_epoch_end(self, run: Any) -> None:
        self._measure()
