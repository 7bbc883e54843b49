"""Metric regularisation: the channels of every task's features are used like a prior says.

Source: Kim, Lee, Song, ICCV Workshops 2019, eq. 1 and 3: Ω = D(v ‖ v_p) for the channel
distribution v of the shared encoder's last map, added to the loss of each task.
Differs from the paper: the prior, which it does not define, is uniform by default.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from polytask.balancing import Processes
from polytask.batch import Batch
from polytask.loss import Term
from polytask.randomness import stable_hash
from polytask.regularize.divergences import DIVERGENCES
from polytask.tasks.task import FeatureShape


class ChannelPriorOptions(BaseModel):
    """Which measure, to which prior, with what weight."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["kl", "reverse_kl", "jsd", "hellinger", "jeffrey", "chi2", "wasserstein"] = Field(
        "kl", description="the measure D"
    )
    prior: Literal["uniform", "gaussian", "previous"] = Field(
        "uniform",
        description="all channels alike; a fixed random draw; or the mean of the last epoch",
    )
    weight: float = Field(1.0, ge=0, description="factor of Ω in every task's loss")


class ChannelPrior(nn.Module):
    """v = softmax over channels of Σ_hw a_hw z_chw, and its divergence from the prior.

    `a` is a softmax over the cells of the map, from learned numbers that start at 0: the mean. Maps
    of different sizes have different ones, maps of different channels (a decoder's and those of its
    encoder) different priors. Features of several views are averaged over them.

    The prior `previous` is the mean v of all images of the last epoch, uniform in the first.
    """

    def __init__(
        self, options: ChannelPriorOptions, features: Iterable[FeatureShape], seed: int = 0
    ) -> None:
        super().__init__()
        self.options = options
        shapes = sorted({(f.channels, f.height, f.width) for f in features})
        self.cells = nn.ParameterDict(
            {_key(h, w): nn.Parameter(torch.zeros(h, w)) for _, h, w in shapes}
        )
        counts = sorted({channels for channels, _, _ in shapes})
        self.learned = counts if options.prior == "previous" else []  # channels of what changes
        self.step: dict[int, Tensor] = {}  # what this process adds to the totals in a step
        for channels in counts:
            start = torch.zeros(channels)
            if options.prior == "gaussian":
                generator = torch.Generator().manual_seed(stable_hash("channel_prior", seed))
                start = torch.randn(channels, generator=generator)
            self.register_buffer(f"prior_{channels}", start.softmax(0))
            self.register_buffer(f"total_{channels}", torch.zeros(channels))

    def prior(self, channels: int) -> Tensor:
        """The distribution [C] that maps of so many channels are held to."""
        return self.get_buffer(f"prior_{channels}")

    def total(self, channels: int) -> Tensor:
        """The sum [C] of v over the epoch's images so far."""
        return self.get_buffer(f"total_{channels}")

    def forward(self, maps: Tensor) -> Tensor:
        """The channel distribution [R, C] of maps [R, C, H, W] or [R, V, C, H, W]."""
        logits = self.cells[_key(maps.shape[-2], maps.shape[-1])]
        attention = logits.flatten().softmax(0).view_as(logits)
        weighted = (maps * attention).sum((-2, -1))
        v: Tensor = (weighted if weighted.ndim == 2 else weighted.mean(1)).softmax(-1)
        return v

    def omega(self, maps: Tensor) -> Tensor:
        """Weighted Ω of each image, [R]."""
        v = self(maps)
        channels = v.shape[1]
        if self.training and self.learned:
            self.step[channels] = v.detach().sum(0) + self.step.get(channels, 0)
        prior = self.prior(channels).expand_as(v)
        return self.options.weight * DIVERGENCES[self.options.name](v, prior)

    def terms(self, batch: Batch, features: dict[str, Tensor]) -> list[Term]:
        """Ω for every task of a batch, from the features that its head reads."""
        return [
            Term("omega", task, self.omega(features[task]))
            for task in batch.tasks
            if len(features[task])
        ]

    def after_step(self, processes: Processes) -> None:
        """Count the images that all processes have seen in a step."""
        for channels in self.learned:
            total = self.total(channels)
            seen = self.step.pop(channels, torch.zeros_like(total))
            total.add_(processes.sum(seen))

    def on_epoch_end(self) -> None:
        """Let the prior `previous` be the mean of the epoch."""
        for channels in self.learned:
            prior, total = self.prior(channels), self.total(channels)
            if bool(total.any()):
                prior.copy_(total / total.sum())
            total.zero_()


def _key(height: int, width: int) -> str:
    return f"cells_{height}x{width}"
