"""Weights to start from: the backbone of a finished run (`backbone.init`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from polytask.backbones.staged import StagedBackbone
from polytask.errors import RunError

if TYPE_CHECKING:
    from polytask.config.models import Config

OWNER = re.compile(r"^(backbone|columns\.[^.]+)\.(.+)$")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def start_of(config: Config) -> Callable[[StagedBackbone], None] | None:
    """What gives a new backbone the weights of the run that `backbone.init` names, if any.

    Statistics of batch norm that the run kept per data set start afresh.

    Raises:
        RunError: the folder holds no finished run, or not one backbone of this shape.
    """
    if config.backbone.init is None:
        return None
    path = config.folder / config.backbone.init / "model.safetensors"
    place = config.place("backbone", "init")
    found = backbones_in(path, place)
    if len(found) != 1:
        raise RunError.at(
            place,
            f"{path} holds {len(found)} backbones; expected one.",
            "Give the run of a trunk method, or of a single task.",
        )
    (tensors,) = found.values()

    def start(backbone: StagedBackbone) -> None:
        own = backbone.state_dict()
        wanted = {name for name in own if not name.endswith(STATISTICS)}
        wrong = sorted(n for n in wanted if n not in tensors or tensors[n].shape != own[n].shape)
        if wrong:
            raise RunError.at(
                place,
                f"{path} has no {', '.join(wrong[:3])} of this backbone's shape.",
                "Give the same backbone name, width, stem and open.",
            )
        kept = {n: t for n, t in tensors.items() if n in own and t.shape == own[n].shape}
        backbone.load_state_dict({**own, **kept})

    return start


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
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = OWNER.match(name)
        if match:
            found.setdefault(match[1], {})[match[2]] = tensor
    return found
