"""Multi-task discriminant analysis: images of all tasks meet in one space where classes lie apart.

Source: Zhang and Yeung, "Multi-Task Learning in Heterogeneous Feature Spaces", AAAI 2011.

Differs from the paper: images go in as their principal components, and a class is that of the
nearest mean, which the paper that compares with MTDA leaves open. A task's transformation P·M may
be any matrix where P is free, so that the sum of the tasks' ratio traces is greatest where each is:
the optimum is found in closed form, with M the identity, and no task learns from another.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Literal

import torch
from pydantic import Field
from scipy.linalg import eigh
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.backbones.norm import bake, convert
from polytask.backbones.staged import StagedBackbone
from polytask.batch import Batch
from polytask.phase import Phase, Schedule
from polytask.sharing.method import MethodOptions, Outputs, Setting, SharingMethod

NEVER = -1e4  # logit of a class without a training image


class MtdaOptions(MethodOptions):
    """What of an image is analysed."""

    features: Literal["pixels", "cnn"] = Field(
        "pixels", description="pixels, or the last map of the trained single-task network, pooled"
    )
    side: int = Field(32, ge=1, description="pixels are those of the image at this size")
    components: int = Field(64, ge=1, description="most principal components that are kept")
    ridge: float = Field(
        1e-3, gt=0, description="added to the within-class scatter, as a share of its mean variance"
    )


def principal_components(x: Tensor, most: int) -> Tensor:
    """Orthonormal directions [D, p ≤ most] in which centred x [n, D] spreads furthest."""
    is_wide = x.shape[1] > len(x)
    product = x @ x.T if is_wide else x.T @ x
    last = len(product) - 1
    # SciPy looks for the greatest alone, which takes a third of the time of all.
    found = eigh(product.cpu().numpy(), subset_by_index=(max(0, last + 1 - most), last))
    values, vectors = (torch.from_numpy(part).to(x.device) for part in found)  # ascending
    kept = values > values[-1] * 1e-12
    values, vectors = values[kept].flip(0), vectors[:, kept].flip(1)
    basis: Tensor = x.T @ vectors / values.sqrt() if is_wide else vectors
    return basis


def scatter(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Between- and within-class scatter [d, d] of x [n, d], both divided by n."""
    classes, member, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    counts = counts[:, None].to(x.dtype)
    means = x.new_zeros(len(classes), x.shape[1]).index_add(0, member, x) / counts
    apart = (means - x.mean(dim=0)) * (counts / len(x)).sqrt()
    inside = x - means[member]
    return apart.T @ apart, inside.T @ inside / len(x)


def discriminants(between: Tensor, within: Tensor, dims: int) -> tuple[Tensor, Tensor]:
    """The `dims` greatest eigenvalues of within⁻¹·between and their vectors W [d, dims].

    Wᵀ·within·W is the identity: in this space a class spreads alike in every direction.
    """
    lower = torch.linalg.cholesky(within)
    whitened = torch.linalg.solve_triangular(lower, between, upper=False)
    whitened = torch.linalg.solve_triangular(lower, whitened.T, upper=False)
    values, vectors = torch.linalg.eigh((whitened + whitened.T) / 2)
    vectors = torch.linalg.solve_triangular(lower.T, vectors[:, -dims:], upper=True)
    return values[-dims:].flip(0), vectors.flip(1)


class NearestMean(nn.Module):
    """Features [B, D] to logits [B, classes]: −½ the squared distance to each class's mean.

    What is equal for all classes is left out of the logits, which makes them linear: `place` takes
    features to the common space, `compare` to m·z − ½‖m‖² of every class mean m.
    """

    counts: Tensor

    def __init__(self, width: int, dims: int, classes: int) -> None:
        super().__init__()
        self.place = nn.Linear(width, dims)
        self.compare = nn.Linear(dims, classes)
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.long))

    @torch.no_grad()
    def fit(self, features: Tensor, labels: Tensor, components: int, ridge: float) -> None:
        """Solve for everything from features [n, D] and labels [n]."""
        x = features.double()
        center = x.mean(dim=0)
        basis = principal_components(x - center, min(components, len(x) - 1))
        between, within = scatter((x - center) @ basis, labels)
        spread = ridge * within.diagonal().mean().clamp(min=1e-12)
        within = within + spread * torch.eye(len(within), dtype=x.dtype, device=x.device)
        _, vectors = discriminants(between, within, self.place.out_features)
        transform = F.pad(basis @ vectors, (0, self.place.out_features - vectors.shape[1]))
        self.place.weight.copy_(transform.T)
        self.place.bias.copy_(-center @ transform)
        self.counts.copy_(torch.bincount(labels, minlength=len(self.counts)))
        placed = (x - center) @ transform
        sums = placed.new_zeros(self.compare.weight.shape).index_add(0, labels, placed)
        means = sums / self.counts.clamp(min=1)[:, None]
        self.compare.weight.copy_(means)
        bias = -means.square().sum(dim=1) / 2
        self.compare.bias.copy_(bias.masked_fill(self.counts == 0, NEVER))

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.compare(self.place(features))
        return logits


class Pixels(nn.Module):
    """Images [B, C, H, W] to their pixels [B, C·side²] at one size."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images, self.side).flatten(1)


class Pooled(nn.Module):
    """Images [B, C, H, W] to the mean [B, D] of a backbone's last map."""

    def __init__(self, backbone: StagedBackbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone.feature(self.backbone(images)).mean(dim=(2, 3))


class Discriminant(nn.Module):
    """The path of a task: images [B, C, H, W] to logits."""

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features, self.head = features, head

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits

    def parts(self) -> dict[str, nn.Module]:
        """What makes the features, and the head."""
        return {"features": self.features, "head": self.head}


class Mtda(SharingMethod):
    """A discriminant analysis per task, all into as many dimensions; nothing is trained by steps.

    With `features: cnn` every task has the trained backbone of its single-task network.
    """

    family = "columns"
    Options = MtdaOptions
    options: MtdaOptions

    @classmethod
    def refuses(cls, setting: Setting, options: MethodOptions) -> str | None:
        for name, task in setting.tasks.items():
            if task.kind != "classification":
                return f"task {name} is {task.kind}; discriminants need classes that exclude others"
        return None

    def __init__(self, setting: Setting, options: MtdaOptions) -> None:
        super().__init__(setting, options)
        self.features = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        dims = max(1, min(len(task.classes) for task in self.tasks.values()) - 1)
        for name, task in self.tasks.items():
            size = setting.input_of(name)
            if options.features == "cnn":
                backbone = setting.new_backbone(column=name, channels=size.channels)
                backbone.keep(backbone.names[: backbone.position(backbone.encoder) + 1])
                self.features[name] = Pooled(backbone)
                width = backbone.info[backbone.encoder].channels
            else:
                self.features[name] = Pixels(options.side)
                width = size.channels * options.side**2
            with setting.seeded("head", name):
                self.heads[name] = NearestMean(width, dims, len(task.classes))
        convert(self)

    def forward(self, batch: Batch) -> Outputs:
        outputs = Outputs()
        for task, group, target in batch:
            images = group.images if target.rows is None else group.images[target.rows]
            outputs.predictions[task] = self.heads[task](self.features[task](images))
        return outputs

    def path(self, task: str) -> nn.Module:
        made = Discriminant(copy.deepcopy(self.features[task]), copy.deepcopy(self.heads[task]))
        bake(made)
        return made.eval()

    def view(self, task: str) -> set[nn.Parameter]:
        return {*self.features[task].parameters(), *self.heads[task].parameters()}

    def units_of(self, task: str) -> list[tuple[str, str]]:
        return [("features", task)]

    def plan(self, schedule: Schedule) -> list[Phase]:
        if self.options.features == "cnn":
            for task, path in schedule.single_paths().items():
                self._take_over(task, path)
        return [Phase(name="discriminants", epochs=1, trainable=(), update="closed_form")]

    def _take_over(self, task: str, path: nn.Module) -> None:
        features = self.features[task]
        assert isinstance(features, Pooled)
        trained: dict[str, nn.Module] = path.parts()  # type: ignore[operator]
        for name, unit in features.backbone:
            unit.load_state_dict(trained[f"{task}/{name}"].state_dict())

    @torch.no_grad()
    def fit(self, batches: Iterator[Batch]) -> None:
        """Solve for every task from the images of an epoch, each once."""
        was_training = self.training
        self.eval()
        seen: dict[str, dict[int, tuple[Tensor, Tensor]]] = {task: {} for task in self.tasks}
        for batch in batches:
            for task, group, target in batch:
                assert isinstance(target.value, Tensor)
                rows = torch.arange(len(group)) if target.rows is None else target.rows.cpu()
                features = self.features[task](group.images[rows.to(group.images.device)])
                index = group.index.cpu()[rows].tolist()
                for number, x, label in zip(index, features, target.value, strict=True):
                    seen[task].setdefault(number, (x, label))
        for task, images in seen.items():
            ordered = [images[number] for number in sorted(images)]
            features, labels = (torch.stack(part) for part in zip(*ordered, strict=True))
            head = self.heads[task]
            assert isinstance(head, NearestMean)
            head.fit(features, labels, self.options.components, self.options.ridge)
        self.train(was_training)

    def on_phase_end(self, run: Any) -> None:
        for task, head in self.heads.items():
            assert isinstance(head, NearestMean)
            run.images[task] = int(head.counts.sum())
