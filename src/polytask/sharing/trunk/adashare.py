"""AdaShare: a learned policy per task says which residual blocks to run and which to skip.

Source: Sun et al., "AdaShare: Learning What To Share For Efficient Deep Multi-Task Learning",
NeurIPS 2020; facts of its training are those of the official code.

Training has three phases that share the epochs. `warm_up`: every task runs every block. `search`:
weights and policies take turns, an epoch each, on two parts of the images; a policy's choice is
relaxed by Gumbel-softmax, p·block(x) + (1 − p)·shortcut(x); blocks open to policies from the last
to the first. `retrain`: a policy is drawn once for every task, and its network trains on. Choices
depend on the seed, the phase and the step alone. A path holds no skipped block; what its shortcut
projects or pools stays.

Differs from the paper: the penalty on running blocks is the official code's, the cross-entropy of
skipping; the penalty on differing policies is the paper's (probabilities, early blocks weigh more),
or the code's with `official_code`; one drawn policy is trained, not the best of eight; weights are
trained on by default, not from their start (`restart`). A unit that several tasks run alike runs
once, and its batch-norm statistics are those of the first of them.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import combinations
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.backbones.norm import BatchNorm
from polytask.batch import Batch
from polytask.errors import UserError
from polytask.loss import Term
from polytask.phase import ParameterGroup, Phase, Schedule
from polytask.randomness import stable_hash
from polytask.sharing.method import Outputs
from polytask.sharing.trunk import Trunk, TrunkOptions

OPEN = -1
WEIGHTS, POLICIES = r"^(?!modules\.|policies\.)", r"^policies\."


class AdaShareOptions(TrunkOptions):
    """How policies are learned."""

    warm_up: float = Field(0.1, ge=0, lt=1, description="share of the epochs without policies")
    search: float = Field(0.4, gt=0, lt=1, description="share in which policies are learned")
    split: float = Field(0.8, gt=0, lt=1, description="share of images weights learn from then")
    open_every: int | None = Field(
        None,
        ge=1,
        description="turns until the next block opens; spread over the search by default",
    )
    temperature: float = Field(5.0, gt=0, description="softening of the choices, at first")
    cooling: float = Field(0.965, gt=0, le=1, description="factor of the temperature per turn")
    policy_lr: float = Field(0.01, gt=0, description="Adam's learning rate for policies")
    sparsity: float = Field(0.05, ge=0, description="weight of the penalty on running blocks")
    sharing: float = Field(0.05, ge=0, description="weight of the penalty on differing policies")
    official_code: bool = Field(False, description="penalise logits, late blocks more")
    choice: Literal["drawn", "likeliest"] = Field("drawn", description="the policy retrained")
    restart: bool = Field(False, description="retrain from the initial weights")


class Relaxed(nn.Module):
    """p·block(x) + (1 − p)·shortcut(x)."""

    def __init__(self, unit: Any, p: Tensor) -> None:
        super().__init__()
        self.unit, self.p = unit, p

    def forward(self, x: Tensor) -> Tensor:
        skipped = self.unit.shortcut(x)
        run = self.unit.activate(self.unit.residual(x) + skipped)
        return torch.lerp(skipped.to(run.dtype), run, self.p.to(run.dtype))


class AdaShare(Trunk):
    """Policies are logits [L, 2] of (run, skip); block l is open to them from the last back."""

    Options = AdaShareOptions
    options: AdaShareOptions

    def prepare(self) -> None:
        names = [n for n, u in self.backbone if getattr(u, "shortcut", None) is not None]
        if not names:
            problem = "adashare skips residual blocks; no unit of this backbone has a shortcut."
            raise UserError.at("", problem, "Choose a ResNet or MobileNetV2.")
        self.blocks = {name: i for i, name in enumerate(names)}
        size = len(self.tasks), len(names)
        self.policies = nn.ParameterDict(
            {task: nn.Parameter(torch.full((size[1], 2), 0.5)) for task in self.tasks}
        )
        self.register_buffer("opened", torch.zeros((), dtype=torch.int64))
        self.register_buffer("decisions", torch.full(size, OPEN, dtype=torch.int8))
        # The same as numbers of the host, which reading costs no wait for a device.
        self._opened = 0
        self._decided: dict[str, list[bool]] | None = None
        self._drawn: dict[str, Tensor] | None = None
        self._leaders = self._find_leaders()
        self.register_load_state_dict_post_hook(_recall)  # type: ignore[no-untyped-call]

    # The trunk as a task sees it.

    @property
    def is_searching(self) -> bool:
        """Whether policies are being learned."""
        return self._decided is None and self._opened > 0

    def is_open(self, name: str) -> bool:
        """Whether the block's choice is the policies' now."""
        return self.is_searching and self.blocks[name] >= len(self.blocks) - self._opened

    def runs(self, task: str, name: str) -> bool:
        """Whether the task runs the unit when it predicts."""
        if name not in self.blocks:
            return True
        if self._decided is not None:
            return self._decided[task][self.blocks[name]]
        if not self.is_open(name):
            return True
        run, skip = self.policies[task][self.blocks[name]].tolist()
        return bool(run >= skip)

    def unit(self, task: str, name: str) -> nn.Module:
        if self.training and self._drawn is not None and name in self.blocks and self.is_open(name):
            return Relaxed(self.backbone.unit(name), self._drawn[task][self.blocks[name]])
        return self.path_unit(task, name)

    def path_unit(self, task: str, name: str) -> nn.Module:
        unit = self.backbone.unit(name)
        return unit if self.runs(task, name) else shortcut_of(unit)

    def route(self, task: str) -> list[str]:
        taps = self.taps(task)
        return [
            name
            for name in super().route(task)
            if name in taps or self.runs(task, name) or len(shortcut_of(self.backbone.unit(name)))
        ]

    def view(self, task: str) -> set[nn.Parameter]:
        return super().view(task) | ({self.policies[task]} if self.is_searching else set())

    def key(self, task: str, name: str) -> Hashable:
        if name not in self.blocks:
            return None
        return task if self.is_open(name) else self.runs(task, name)

    def _same(self, one: str, other: str, name: str) -> bool:
        return self.runs(one, name) == self.runs(other, name)

    def norm_keys(self, streams: tuple[str, ...]) -> tuple[str, ...]:
        del streams
        return tuple(self.tasks)

    def norm_key(self, task: str, stream: str, unit: str) -> str:
        del stream
        return self._leaders.get((task, unit), task)

    def _find_leaders(self) -> dict[tuple[str, str], str]:
        """The first of the tasks that run a unit together with a task, which may be itself."""
        leaders = {}
        for task, stream in self.setting.stream_of.items():
            alike = [t for t in self.tasks if self.setting.stream_of[t] == stream]
            for name in self.backbone.names:
                alike = [t for t in alike if self.key(t, name) == self.key(task, name)]
                leaders[task, name] = alike[0]
        return leaders

    def _part_ways(self) -> None:
        """After a change of policies: tasks that now run a unit alone start from its statistics."""
        before, self._leaders = self._leaders, self._find_leaders()
        for (task, name), leader in self._leaders.items():
            if leader == task != before[task, name]:
                for norm in self.backbone.unit(name).modules():
                    if isinstance(norm, BatchNorm):
                        norm.copy_bank(before[task, name], task)

    # Training.

    def plan(self, schedule: Schedule) -> list[Phase]:
        epochs, options = schedule.epochs, self.options
        search = 2 * max(1, round(options.search * epochs / 2))
        warm_up = min(round(options.warm_up * epochs), max(0, epochs - search - 1))
        retrain = epochs - warm_up - search
        if retrain < 1:
            problem = (
                f"got {epochs}; adashare needs {search} to search policies and more to retrain"
            )
            raise UserError.at("train.epochs", problem)
        parts = [(0.0, options.split), (options.split, 1.0)]
        policies = {"name": "adam", "lr": options.policy_lr, "weight_decay": 5e-4}
        phases = [
            Phase("warm_up", warm_up, trainable=(WEIGHTS,)),
            Phase(
                "search",
                search,
                joint_pace=schedule.match == "samples",
                groups=(ParameterGroup(POLICIES, optimizer=policies),),
                update={"alternating": {"members": [WEIGHTS, POLICIES], "parts": parts}},
            ),
            Phase("retrain", retrain, trainable=(WEIGHTS,)),
        ]
        return [phase for phase in phases if phase.epochs]

    def on_phase_start(self, run: Any) -> None:
        if run.phase.name == "retrain" and self.options.restart:
            fresh = type(self)(self.setting, self.options).state_dict()
            for name, tensor in self.state_dict().items():
                if not name.startswith(("policies.", "opened", "decisions")):
                    tensor.copy_(fresh[name])

    def before_forward(self, run: Any) -> None:
        """Open the blocks that are due, and draw every task's relaxed choices."""
        if run.phase.name != "search":
            return
        turn, turns = run.epoch // 2, max(1, run.phase.epochs // 2)
        count, every = len(self.blocks), self.options.open_every
        opened = turn // every + 1 if every else -(-count * (turn + 1) // turns)
        self._open(min(count, opened))
        temperature = self.options.temperature * self.options.cooling**turn
        key = (run.seed, "policy", run.phase.name, run.epoch, run.step_in_epoch)
        noise = gumbel(self._uniform(2, *key))
        self._drawn = {
            task: ((policy + noise[i].to(policy)) / temperature).softmax(-1)[:, 0]
            for i, (task, policy) in enumerate(self.policies.items())
        }

    def after_step(self, run: Any) -> None:
        del run
        self._drawn = None

    def _uniform(self, columns: int, *key: object) -> Tensor:
        """Numbers in [0, 1) for every task and block [T, L, columns], equal on every process."""
        generator = torch.Generator().manual_seed(stable_hash(*key))
        return torch.rand(len(self.tasks), len(self.blocks), columns, generator=generator)

    def _open(self, count: int) -> None:
        if count != self._opened:
            self._opened = count
            self.get_buffer("opened").fill_(count)
            self._part_ways()

    def on_phase_end(self, run: Any) -> None:
        if run.phase.name == "search":
            self.decide(run.seed)

    def decide(self, seed: int) -> None:
        """Fix every task's policy: what the retraining and the paths run."""
        limit = self._uniform(1, seed, "policy", "decide")[..., 0]
        if self.options.choice == "likeliest":
            limit = torch.full_like(limit, 0.5)
        chances = torch.stack([self.policies[task].softmax(-1)[:, 0] for task in self.tasks])
        chosen = chances.detach().cpu() >= limit
        chosen[:, : len(self.blocks) - self._opened] = True
        self.get_buffer("decisions").copy_(chosen)
        self._decided = dict(zip(self.tasks, chosen.tolist(), strict=True))
        self._part_ways()

    def extra_losses(self, batch: Batch, outputs: Outputs) -> list[Term]:
        del batch, outputs
        if not (self.training and self.is_searching):
            return []
        first = len(self.blocks) - self._opened
        logits = list(self.policies.values())
        sparse = torch.stack([sparsity_loss(policy[first:]) for policy in logits]).sum()
        alike = sharing_loss(logits, first, self.options.official_code)
        return [
            Term("sparsity", None, sparse, self.options.sparsity),
            Term("sharing", None, alike, self.options.sharing),
        ]

    def explained(self) -> dict[str, Any]:
        tasks = {
            task: {
                "probability": policy.detach().softmax(-1)[:, 0].tolist(),
                "runs": [self.runs(task, name) for name in self.blocks],
            }
            for task, policy in self.policies.items()
        }
        return {"adashare": {"blocks": list(self.blocks), "tasks": tasks}}


def shortcut_of(unit: Any) -> nn.Sequential:
    """What is left of a block that is skipped: its pool and projection, or nothing."""
    parts = (getattr(unit, "pool", None), getattr(unit, "downsample", None))
    return nn.Sequential(*(part for part in parts if part is not None))


def gumbel(uniform: Tensor) -> Tensor:
    """Gumbel noise from uniform numbers in [0, 1)."""
    return -torch.log(-torch.log(uniform.clamp(min=1e-12)))


def sparsity_loss(logits: Tensor) -> Tensor:
    """The mean cross-entropy of skipping under logits [L, 2]."""
    return F.cross_entropy(logits, logits.new_ones(len(logits), dtype=torch.long))


def sharing_loss(policies: list[Tensor], first: int = 0, official_code: bool = False) -> Tensor:
    """Σ over pairs of tasks and blocks from `first` of how far their policies [L, 2] are apart.

    Probabilities of running, weighed (L − l)/L for l = 0, 1, …; with `official_code` the logits of
    running, weighed (l + 1)/L.
    """
    count = len(policies[0])
    places = torch.arange(count, device=policies[0].device, dtype=policies[0].dtype)
    weight = (places + 1 if official_code else count - places) / count
    runs = [policy[:, 0] if official_code else policy.softmax(-1)[:, 0] for policy in policies]
    apart = [(weight * (one - other).abs())[first:].sum() for one, other in combinations(runs, 2)]
    return torch.stack(apart).sum() if apart else weight.new_zeros(())


def _recall(method: nn.Module, _: object) -> None:
    """Read from loaded buffers what the host keeps."""
    assert isinstance(method, AdaShare)
    method._opened = int(method.get_buffer("opened"))
    table = method.get_buffer("decisions").tolist()
    is_decided = OPEN not in table[0]
    rows = [[run == 1 for run in row] for row in table]
    method._decided = dict(zip(method.tasks, rows, strict=True)) if is_decided else None
    method._leaders = method._find_leaders()
