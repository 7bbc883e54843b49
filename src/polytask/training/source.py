"""The network that a run left behind, for others to start from or to learn from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from polytask import backbones
from polytask.backbones.norm import STATISTICS
from polytask.backbones.staged import StagedBackbone
from polytask.config import read_config
from polytask.data.prepare import Normalisation
from polytask.errors import RunError
from polytask.training.output import CONFIG, DESCRIPTION, WEIGHTS

if TYPE_CHECKING:
    from polytask.config.models import BackboneConfig, Config
    from polytask.sharing.method import SharingMethod

OWNER = re.compile(r"^(backbone|columns\.[^.]+)\.(.+)$")


@dataclass(frozen=True)
class Source:
    """The backbone of a finished run as tensors, and how it saw images.

    `place` is where the run was asked for, as errors name it.
    """

    folder: Path
    place: str
    backbone: BackboneConfig
    tensors: dict[str, Tensor]
    normalisation: Normalisation

    def start(self, backbone: StagedBackbone) -> None:
        """Give a backbone the run's weights.

        Raises:
            RunError: the run's backbone has another shape.
        """
        own = backbone.state_dict()
        wanted = {name for name in own if not name.endswith(STATISTICS)}
        wrong = sorted(
            n for n in wanted if n not in self.tensors or self.tensors[n].shape != own[n].shape
        )
        if wrong:
            raise RunError.at(
                self.place,
                f"{self.folder / WEIGHTS} has no {', '.join(wrong[:3])} of this backbone's shape.",
                "Give the same backbone name, width, stem and open.",
            )
        kept = {n: t for n, t in self.tensors.items() if n in own and t.shape == own[n].shape}
        backbone.load_state_dict({**own, **kept})

    def encoder(self, size: tuple[int, int]) -> StagedBackbone:
        """The run's backbone, in eval mode, for images of `size` (height, width)."""
        chosen = self.backbone
        made = backbones.build(
            chosen.name,
            stem=chosen.stem,
            width=chosen.width,
            open=tuple(chosen.open),
            size=size,
        )
        self.start(made)
        return made.eval()


def read_source(folder: Path, place: str) -> Source:
    """The one backbone of a finished run.

    Raises:
        RunError: the folder holds no finished run, or not one backbone.
    """
    path = folder / WEIGHTS
    found = backbones_in(path, place)
    if len(found) != 1:
        raise RunError.at(
            place,
            f"{path} holds {len(found)} backbones; expected one.",
            "Give the run of a trunk method, or of a single task.",
        )
    (tensors,) = found.values()
    try:
        described = json.loads((folder / DESCRIPTION).read_bytes())["normalisation"]
        normalisation = TypeAdapter(Normalisation).validate_python(described)
    except (OSError, ValueError, LookupError, TypeError, ValidationError) as error:
        raise RunError.at(place, f"{folder / DESCRIPTION} is missing or damaged.") from error
    backbone = read_config(folder / CONFIG, options=False).backbone
    return Source(folder, place, backbone, in_common(tensors), normalisation)


def untrained_source(
    folder: Path, config: Config, method: SharingMethod, normalisation: Normalisation, place: str
) -> Source:
    """What the run of a method in `folder` will leave behind, for looking at its shapes.

    Raises:
        RunError: the method has not one backbone.
    """
    found = by_owner(method.state_dict())
    if len(found) != 1:
        problem = f"{config.methods[0].name} makes {len(found)} backbones; expected one."
        raise RunError.at(place, problem, "Choose a trunk method such as hard, or one task.")
    (tensors,) = found.values()
    return Source(folder, place, config.backbone, in_common(tensors), normalisation)


def backbones_in(path: Path, place: str) -> dict[str, dict[str, Tensor]]:
    """The tensors of each backbone in a model file, by its owner."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunError.at(
            place, f"{path} cannot be read ({error}); expected the folder of a finished run."
        ) from error
    return by_owner(tensors)


def by_owner(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The tensors of each backbone among a method's."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = OWNER.match(name)
        if match:
            found.setdefault(match[1], {})[match[2]] = tensor
    return found


def in_common(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with one set of statistics in each batch norm.

    What was kept for each of several data sets becomes what all their images have, each data set
    counting alike: the mean of the means, and their variance plus the mean of the variances. A set
    that never saw a batch (its task left earlier, or another's counted for it) is left out.
    """
    common = {name: tensor for name, tensor in tensors.items() if "@" not in name}
    kept: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if "@" in name:
            base, _, key = name.partition("@")
            kept.setdefault(base, {})[key] = tensor
    for base, of_key in kept.items():
        norm, _, kind = base.rpartition(".")
        batches = kept.get(f"{norm}.num_batches_tracked", {})
        used = [key for key in of_key if batches.get(key, 1)] or list(of_key)
        stacked = torch.stack([of_key[key] for key in used])
        common[base] = stacked.amax() if kind == "num_batches_tracked" else stacked.mean(0)
        if kind == "running_var":
            means = kept[f"{norm}.running_mean"]
            spread = torch.stack([means[key] for key in used]).var(0, correction=0)
            common[base] = common[base] + spread
    return common
