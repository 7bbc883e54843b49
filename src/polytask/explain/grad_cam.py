"""Grad-CAM: where a task's path looks when it answers.

Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", ICCV 2017, eq. 1 and 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polytask.errors import UserError, unknown

NO_CLASS, NO_MAP = "chooses no class", "has no map to look at"
SIDE = 4  # cells; deeper maps of small images are too coarse to show a place


State = tuple[Tensor, ...]


@dataclass(frozen=True)
class Heat:
    """How much each cell of a unit's map speaks for the answer: `cells` [h, w] in [0, 1]."""

    unit: str
    cells: Tensor

    def over(self, pixels: np.ndarray) -> np.ndarray:
        """The heat as a red veil over an image [H, W, 3]; both uint8."""
        size = (pixels.shape[0], pixels.shape[1])
        fine = F.interpolate(self.cells[None, None], size, mode="bilinear", align_corners=False)
        share = 0.6 * fine[0, 0].numpy()[..., None]
        mixed = (1 - share) * pixels + share * np.array([255, 30, 0])
        drawn: np.ndarray = mixed.round().astype(np.uint8)
        return drawn


def score_of(prediction: Any) -> Tensor | None:
    """What speaks for the answer, a scalar; `None` where no class is chosen.

    Logits [1, K]: the largest. Logits [1, K, H, W]: the largest of every pixel that is not of
    class 0, added up, as Vinogradova et al. (AAAI 2020) do for segmentation.
    """
    if not isinstance(prediction, Tensor) or prediction.ndim not in (2, 4):
        return None
    best, chosen = prediction.max(dim=1)
    return best.sum() if prediction.ndim == 2 else best[chosen > 0].sum()


def grad_cam(path: nn.Module, images: Tensor, unit: str | None = None) -> Heat | str:
    """The heat of one image [1, C, H, W] in a task's path, or in words why there is none.

    Args:
        path: what `SharingMethod.path` gives.
        images: a single prepared image.
        unit: the part of the path whose map is looked at; by default the deepest below the head
            whose map has `SIDE` cells a side or more.

    Raises:
        UserError: there is no such unit, or it gives no map.
    """
    parts: Mapping[str, nn.Module] = path.parts()  # type: ignore[operator]
    states: dict[str, State] = {}
    hooks = [part.register_forward_hook(_keeping(states, name)) for name, part in parts.items()]
    try:
        with torch.enable_grad():
            score = score_of(path(images.clone().requires_grad_()))
    finally:
        for hook in hooks:
            hook.remove()
    if score is None:
        return NO_CLASS
    if not states:
        return NO_MAP
    if unit is not None and unit not in states:
        raise UserError(unknown("--unit", "unit with a map", unit, list(states)))
    maps = {name: _map_of(path, state) for name, state in states.items()}
    inner = [name for name in maps if name != "head"] or list(maps)  # a map of scores explains none
    large = [name for name in inner if min(maps[name].shape[2:]) >= SIDE]
    chosen = unit or (large or inner)[-1]
    seen, *rest = states[chosen]
    (slope,) = torch.autograd.grad(score, seen, allow_unused=True)
    if slope is None:
        raise UserError.at("--unit", f'got "{chosen}", on which the answer does not depend')
    weight = _map_of(path, (slope, *rest)).mean(dim=(2, 3), keepdim=True)
    heat = (weight * maps[chosen]).sum(dim=1)[0].clamp(min=0).detach()
    return Heat(chosen, heat / heat.max().clamp(min=1e-12))


def _keeping(states: dict[str, State], name: str) -> Callable[..., None]:
    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        """The signature is a forward hook's; the first entry of a state is its map or tokens."""
        del module, inputs
        first, *rest = output if isinstance(output, tuple | list) and output else (output,)
        is_kept = isinstance(first, Tensor) and first.requires_grad
        if is_kept and (first.ndim == 4 or (first.ndim == 3 and rest)):
            states[name] = (first, *rest)

    return keep


def _map_of(path: nn.Module, state: State) -> Tensor:
    """The map [1, C, h, w] of a state, tokens [1, N, C] folded as the path folds them."""
    found: Tensor = state[0] if state[0].ndim == 4 else path.feature(state)  # type: ignore[operator]
    return found
