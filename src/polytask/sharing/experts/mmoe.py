"""Multi-gate mixture of experts: every task weighs the same experts by a gate of its own.

Source: Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate
Mixture-of-Experts", KDD 2018, eq. 4-6.

Differs from the paper: experts are whole backbones, and by default a gate reads what their first
units see, averaged over the image, rather than the input itself (`gate: input`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from polytask.sharing.experts import Experts
from polytask.sharing.method import MethodOptions, Setting


class MmoeOptions(MethodOptions):
    """How many experts there are, and what gates read."""

    experts: int = Field(3, ge=1, le=64, description="number of backbones")
    gate: Literal["stem", "input"] = Field(
        "stem", description="the experts' first maps, pooled, or the image itself"
    )


class Gate(nn.Module):
    """softmax(G·x): the weight of each expert for each image [B, E]."""

    def __init__(self, inputs: int, experts: int, reads_input: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, experts)
        self.reads_input = reads_input

    def forward(self, images: Tensor, stems: Tensor) -> Tensor:
        logits: Tensor = self.linear(images.flatten(1) if self.reads_input else stems)
        return logits.softmax(dim=1)


class Mmoe(Experts):
    """All experts run for every task; the gates are the tasks' own."""

    Options = MmoeOptions
    options: MmoeOptions

    def __init__(self, setting: Setting, options: MmoeOptions) -> None:
        super().__init__(setting, options, options.experts)

    def gate(self, task: str) -> nn.Module:
        size, count = self.setting.input_of(task), len(self.experts)
        if self.options.gate == "input":
            return Gate(size.channels * size.height * size.width, count, reads_input=True)
        channels, _, _ = self.shapes[task][self.names[0]]
        return Gate(channels * count, count, reads_input=False)
