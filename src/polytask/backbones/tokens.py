"""Vision transformers as units: tokens, and what every block needs beside them."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from polytask.backbones.staged import StagedBackbone, State, UnitInfo
from polytask.errors import UserError

PARTS = 4


class TokenBackbone(StagedBackbone):
    """Units `patch_embed`, `blocks.0`, …; the final norm belongs to the last one.

    A state is (tokens [B, N, C], grid [H, W, 0]) and, where blocks add it to their attention, a
    table of rotary or relative positions. The empty grid says how the tokens fold into a map; only
    the tokens have an axis of images. The stages `stage1` … `stage4` end at the quarters of the
    depth, where dense heads tap a ViT.

    Args:
        model: a ViT of timm without its classifier; its modules are taken over.
        is_fixed: positions are made for one size of images; other sizes are refused.
    """

    def __init__(self, model: Any, is_fixed: bool) -> None:
        # The norm behind global pooling is the classifier's: kept where it is no submodule.
        pooled_norm = partial(copy.deepcopy, model.fc_norm)
        blocks, norm = list(model.blocks), model.norm
        has_own_tables = getattr(model, "rope_mixed", False)
        embedding = PatchEmbedding(model, is_fixed)
        units: dict[str, nn.Module] = {"patch_embed": embedding}
        for i, block in enumerate(blocks):
            final = norm if i == len(blocks) - 1 else None
            own = i if has_own_tables else None
            units[f"blocks.{i}"] = TokenBlock(block, final, embedding.argument, own)
        stride = max(model.patch_embed.feat_ratio(as_scalar=False))
        info = [UnitInfo(name, model.embed_dim, stride) for name in units]
        ends = [-(-len(blocks) * part // PARTS) for part in range(1, PARTS + 1)]
        stages = {f"stage{i}": f"blocks.{end - 1}" for i, end in enumerate(ends, start=1)}
        super().__init__(units, info, stages)
        self.prefix: int = model.num_prefix_tokens
        self.pooled_norm = pooled_norm

    def feature(self, state: State) -> Tensor:
        """The tokens of the patches as a map [B, C, H, W]."""
        tokens, grid = state[0], state[1]
        patches = tokens[:, self.prefix :].transpose(1, 2)
        return patches.reshape(*patches.shape[:2], *grid.shape[:2])

    def replace(self, state: State, feature: Tensor) -> State:
        """The state with another map; prefix tokens stay."""
        patches = feature.flatten(2).transpose(1, 2)
        return torch.cat([state[0][:, : self.prefix], patches], dim=1), *state[1:]

    def take(self, state: State, rows: Tensor) -> State:
        """The given images of a state."""
        return state[rows] if isinstance(state, Tensor) else (state[0][rows], *state[1:])

    def classifier(self, classes: int) -> nn.Module:
        """Mean of the patches, timm's norm behind it where the model has one, one linear layer."""
        channels = self.info[self.last].channels
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(*pool, self.pooled_norm(), nn.Linear(channels, classes))


class PatchEmbedding(nn.Module):
    """Images to the first tokens: all that timm's model does before its blocks."""

    def __init__(self, model: Any, is_fixed: bool) -> None:
        super().__init__()
        self.rotary: Any = getattr(model, "rope", None)
        self.relative: Any = getattr(model, "shared_rel_pos", None)
        self.argument = "rope" if self.rotary else "shared_rel_pos" if self.relative else None
        self.cell: tuple[int, int] = tuple(model.patch_embed.feat_ratio(as_scalar=False))
        self.size: tuple[int, int] | None = model.patch_embed.img_size if is_fixed else None
        model.rope = model.shared_rel_pos = model.attn_pool = None
        model.blocks = nn.Sequential()
        model.norm = model.fc_norm = model.head = nn.Identity()
        self.embed = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """[B, C, H, W] to (tokens, grid) or (tokens, grid, table of positions).

        Raises:
            UserError: the images have another size than the model is made for, or one that its
                patches do not divide.
        """
        height, width = images.shape[-2:]
        rows, columns = height // self.cell[0], width // self.cell[1]
        if self.size and self.size != (height, width):
            problem = f"got {height}×{width} pixels; the positions are made for {self.size}."
            raise UserError.at("image_size", problem, "Give all images that size.")
        if (rows * self.cell[0], columns * self.cell[1]) != (height, width):
            problem = f"got {height}×{width} pixels; expected multiples of {self.cell} patches."
            raise UserError.at("image_size", problem)
        # Views inside timm are ambiguous for no images: embed one and take none of it.
        some = images if len(images) else images.new_zeros(1, *images.shape[1:])
        tokens: Tensor = self.embed.forward_features(some)[: len(images)]
        grid = tokens.new_empty(rows, columns, 0)
        if self.rotary is not None:
            return tokens, grid, self.rotary.get_embed(shape=[rows, columns])
        if self.relative is not None:
            return tokens, grid, self.relative.get_bias()
        return tokens, grid


class TokenBlock(nn.Module):
    """A block of timm on the tokens of a state; the last one has the final norm behind it.

    Args:
        block: takes tokens, and a table of positions as `argument` if that is given.
        own: the entry of the table that is this block's, where blocks have their own.
    """

    def __init__(
        self, block: nn.Module, norm: nn.Module | None, argument: str | None, own: int | None
    ) -> None:
        super().__init__()
        self.block = block
        self.norm = norm
        self.argument = argument
        self.own = own

    def forward(self, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """(tokens, grid, …) to the same with new tokens."""
        tokens, *rest = state
        positions = {}
        if self.argument:
            table = rest[1]
            positions[self.argument] = table if self.own is None else table[self.own]
        tokens = self.block(tokens, **positions)
        if self.norm is not None:
            tokens = self.norm(tokens)
        return tokens, *rest
