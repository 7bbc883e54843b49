"""Kernel sharing (MTAL): kernels of different tasks that point the same way are mixed in pairs.

Source: Feng and Chen, "Twofold heterogeneous multi-task learning by sharing similar kernel pairs",
§3, eq. 3-8.

Differs from the paper: a kernel's bank holds the pairs that it is part of (eq. 6 as printed turns a
layer into one kernel); all effective kernels are made from the same raw ones, in the forward pass,
so that gradients reach both kernels of a pair (`update: inplace` overwrites weights, as algorithm 1
does); both kernels of a pair count alike, which the paper leaves open; pairs are found anew every
`refresh_every` updates instead of every one; the L2 term is off by default (the paper: 0.1), so
that a threshold above 1 gives the single networks. Biases and norms stay with their tasks.

From a common start every kernel has a twin in each other column. Two columns move both twins by the
same gradient, so that at a threshold which links twins alone their convolutions stay those of one
trunk; three columns or more drift apart slowly. `init: independent` starts with few pairs.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from typing import Any, Literal, TypeAlias

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.func import functional_call
from typing_extensions import Self

from polytask.backbones.staged import State
from polytask.batch import Batch
from polytask.loss import Term
from polytask.phase import Phase, Schedule
from polytask.sharing.columns import Columns
from polytask.sharing.columns.kernel_bank import (
    KernelBank,
    Pairing,
    Phi,
    kernels_of_rows,
    rows_of_kernels,
)
from polytask.sharing.method import MethodOptions, Outputs, Setting

Place: TypeAlias = tuple[str, str]


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
    refresh_every: int = Field(50, ge=1, description="updates between searches for pairs")
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
        self.layers = list(self._convolutions())
        self.banks = nn.ModuleDict()
        self.samples = dict.fromkeys(self.tasks, 1)
        self.ratios: list[list[tuple[float, float]]] = []
        self._kernels: dict[Place, dict[str, Tensor]] = {}
        if options.threshold <= 1:
            group_of = self._groups()
            for layer in self.layers:
                shapes = [weight.shape for weight in self.weights(layer)]
                pairs = [
                    (i, j)
                    for i, j in combinations(range(len(shapes)), 2)
                    if group_of[i] == group_of[j] and shapes[i][1:] == shapes[j][1:]
                ]
                if pairs:
                    self.banks[_key(layer)] = KernelBank(
                        [shape[0] for shape in shapes],
                        pairs,
                        options.threshold,
                        options.pairing,
                        options.phi,
                        0.5 if options.phi_self is None else options.phi_self,
                    )
        self.refresh()

    def _convolutions(self) -> Iterator[Place]:
        """(unit, name of its weight) of every convolution."""
        for name, unit in self.column(next(iter(self.columns))):
            for path, module in unit.named_modules():
                if isinstance(module, nn.Conv2d):
                    yield name, f"{path}.weight" if path else "weight"

    def _groups(self) -> list[int]:
        """The number of each task's group; tasks in none stand alone."""
        tasks, groups = list(self.tasks), self.options.groups
        if groups is None:
            return [0] * len(tasks)
        number = {task: n for n, group in enumerate(groups) for task in group}
        return [number.get(task, -1 - i) for i, task in enumerate(tasks)]

    def weights(self, layer: Place) -> list[nn.Parameter]:
        """The raw kernels of a layer in every column, [m, C, k, k] each."""
        unit, name = layer
        return [self.column(column).unit(unit).get_parameter(name) for column in self.columns]

    def _shareable(self) -> Iterator[tuple[Place, KernelBank]]:
        """The layers in which any two columns may share, with their banks."""
        for layer in self.layers:
            if _key(layer) in self.banks:
                yield layer, self.banks[_key(layer)]  # type: ignore[misc]

    # Sharing.

    def refresh(self) -> None:
        """Find the pairs of all layers."""
        for layer, bank in self._shareable():
            bank.refresh(list(map(rows_of_kernels, self.weights(layer))))

    def effective(self) -> dict[Place, dict[str, Tensor]]:
        """By column and unit, the kernels that differ from the raw ones, by their name."""
        found: dict[Place, dict[str, Tensor]] = {}
        columns = list(self.columns)
        for (unit, name), bank in self._shareable():
            weights = self.weights((unit, name))
            if weights[0].is_meta:  # no pair is known, and a kernel's values change no count
                continue
            with torch.autocast(weights[0].device.type, enabled=False):
                kernels = bank(list(map(rows_of_kernels, weights)))
            for i, kernel in kernels.items():
                own = found.setdefault((columns[i], unit), {})
                own[name] = kernels_of_rows(kernel, weights[i])
        return found

    @contextmanager
    def _sharing(self) -> Iterator[None]:
        """Convolutions run with the effective kernels inside."""
        if self.options.update == "functional":
            self._kernels = self.effective()
        try:
            yield
        finally:
            self._kernels = {}

    @torch.no_grad()
    def _overwrite(self) -> None:
        columns = list(self.columns)
        for (column, unit), kernels in self.effective().items():
            for name, kernel in kernels.items():
                self.weights((unit, name))[columns.index(column)].copy_(kernel)

    def _measure(self) -> None:
        """Note participation and compression of every layer, by the pairs found last."""
        found = {layer: bank.ratios() for layer, bank in self._shareable()}
        self.ratios.append([found.get(layer, (0.0, 0.0)) for layer in self.layers])

    def how(self) -> dict[str, Any]:
        return {} if self.options.groups is None else {"groups": self.options.groups}

    def explained(self) -> dict[str, Any]:
        layers = {}
        shareable = {layer for layer, _ in self._shareable()}
        for at, layer in enumerate(self.layers):
            layers[".".join(layer).removesuffix(".weight")] = {
                "kernels": [len(weight) for weight in self.weights(layer)],
                "is_shareable": layer in shareable,
                "participation": [epoch[at][0] for epoch in self.ratios],
                "compression": [epoch[at][1] for epoch in self.ratios],
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

    def run(self, column: str, name: str, state: State) -> State:
        kernels = self._kernels.get((column, name))
        if kernels is None:
            return super().run(column, name, state)
        after: State = functional_call(self.column(column).unit(name), kernels, (state,))
        return after

    def path(self, task: str) -> nn.Module:
        with torch.no_grad(), self._sharing():
            return super().path(task)

    def path_unit(self, column: str, name: str) -> nn.Module:
        unit = copy.deepcopy(super().path_unit(column, name))
        for parameter, kernel in self._kernels.get((column, name), {}).items():
            unit.get_parameter(parameter).data.copy_(kernel)
        return unit

    def view(self, task: str) -> set[nn.Parameter]:
        view = super().view(task)
        if self.options.update == "inplace":
            return view
        own = list(self.columns).index(self.column_of(task))
        for layer, bank in self._shareable():
            for other in bank.partners(own):
                view.add(self.weights(layer)[other])
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
        columns = list(self.columns)
        squares = []
        for task in batch.tasks:
            own = columns.index(self.column_of(task))
            count = self.samples[task] if self.options.l2_reduction == "mean" else 1
            kernels = [self.weights(layer)[own] for layer in self.layers]
            squares += [raw.square().sum() / count for raw in kernels]
        return [Term("l2", None, torch.stack(squares).sum(), self.options.l2)]

    def on_phase_start(self, run: Any) -> None:
        self.refresh()
        if self.options.update == "inplace":
            self._overwrite()
        self._measure()

    def before_forward(self, run: Any) -> None:
        if self.options.update == "functional" and run.updates % self.options.refresh_every == 0:
            self.refresh()

    def after_step(self, run: Any) -> None:
        if self.options.update == "functional":
            return
        if (run.updates + 1) % self.options.refresh_every == 0:
            self.refresh()
        self._overwrite()

    def on_epoch_end(self, run: Any) -> None:
        self._measure()


def _key(layer: Place) -> str:
    """A layer's name as a part of a module's, which must hold no dot."""
    unit, weight = layer
    return f"{unit}.{weight}".removesuffix(".weight").replace(".", "_")
