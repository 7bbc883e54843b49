"""A backbone as named units that run in order (DESIGN, StagedBackbone)."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from polytask.backbones.strided import guard
from polytask.errors import UserError, unknown

State: TypeAlias = "Tensor | tuple[Tensor, ...]"


@dataclass(frozen=True)
class UnitInfo:
    """What is known of a unit without running it: `stride` is input pixels per map cell."""

    name: str
    channels: int
    stride: int


def rows_of(value: Tensor, rows: Tensor) -> Tensor:
    """The given rows of a tensor, with a gradient in the tensor's own memory layout.

    An index alone would give maps in channels_last a gradient in the default layout, in which the
    backward pass of the units before is slower.
    """
    if _is_channels_last(value):
        return value.permute(0, 2, 3, 1)[rows].permute(0, 3, 1, 2)
    return value[rows]


def _is_channels_last(value: Tensor) -> bool:
    return value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last)


def _split(value: Tensor, sizes: list[int]) -> list[Tensor]:
    if _is_channels_last(value):  # for the gradient's layout, as above
        parts = torch.split(value.permute(0, 2, 3, 1), sizes)
        return [part.permute(0, 3, 1, 2) for part in parts]
    return list(torch.split(value, sizes))


def rows_apart(value: Tensor, places: Sequence[Tensor | None]) -> list[Tensor]:
    """The given rows of a tensor, ascending, for each of several readers; `None` for all of them.

    Where every reader has consecutive rows that no other has, they are parts of one split: nothing
    is copied, and its backward pass is one copy, where every index has a gradient as large as the
    tensor. Rows on another device are not looked at, which would wait for it.
    """
    sizes = _cut(len(value), places) if value.device.type == "cpu" else None
    if sizes is None:
        return [value if rows is None else rows_of(value, rows) for rows in places]
    parts = _split(value, [size for _, size in sizes])
    found = {reader: part for (reader, _), part in zip(sizes, parts, strict=True)}
    return [found[reader] for reader in range(len(places))]


def _cut(count: int, places: Sequence[Tensor | None]) -> list[tuple[int, int]] | None:
    """(reader, rows) of the parts of so many rows in order, reader −1 where no one reads; `None`
    where they cannot be cut so."""
    if not places:
        return None
    spans = []
    for reader, rows in enumerate(places):
        if rows is None or not len(rows):
            return None
        first, last = int(rows[0]), int(rows[-1])
        if last - first + 1 != len(rows):
            return None
        spans.append((first, last + 1, reader))
    sizes, at = [], 0
    for first, end, reader in [*sorted(spans), (count, count, -1)]:
        if first < at:
            return None
        if first > at:
            sizes.append((-1, first - at))
        if end > first:
            sizes.append((reader, end - first))
        at = end
    return sizes


class StagedBackbone(nn.Module):
    """Units mapping a state to a state; `feature` gives a state's [B, C, H, W] map.

    A state is a tensor, or a tuple whose first entry is the map (an opened residual block carries
    its shortcut's input along). `stages` maps a stage name to its last unit, `opened` the name of a
    block that was opened into several units to the last of them; such a name may be used wherever
    a unit name is. `encoder` is the unit after which tasks that answer per image leave, the last
    one unless the backbone has a decoder. Subclasses override `feature`, `replace` and `take` where
    a state is no map (tokens).
    """

    def __init__(
        self,
        units: Mapping[str, nn.Module],
        info: Sequence[UnitInfo],
        stages: Mapping[str, str],
        opened: Mapping[str, str] | None = None,
        encoder: str | None = None,
    ) -> None:
        super().__init__()
        self.names = [i.name for i in info]
        if list(units) != self.names:
            raise ValueError(f"units {list(units)} do not follow their descriptions {self.names}")
        self.info = {i.name: i for i in info}
        self.stages = dict(stages)
        self.opened = dict(opened or {})
        self.encoder = encoder or self.names[-1]
        # A module's name must not hold a dot; units keep their order and their library's names.
        self.units = nn.ModuleDict({name.replace(".", "_"): unit for name, unit in units.items()})
        guard(self)

    def unit(self, name: str) -> nn.Module:
        """The unit of that exact name."""
        return self.units[name.replace(".", "_")]

    def resolve(self, name: str, where: str = "unit") -> str:
        """A unit's name from a unit's or stage's; a `UserError` names the nearest valid one."""
        if name in self.info:
            return name
        ends = {**self.stages, **self.opened}
        if name in ends:
            return ends[name]
        raise UserError(unknown(where, "unit", name, [*ends, *self.names]))

    def position(self, name: str) -> int:
        """How many units run before the named one (unit or stage)."""
        return self.names.index(self.resolve(name))

    @property
    def can_open(self) -> bool:
        """Whether units would open into their convolutions (the option `open`)."""
        return any(hasattr(unit, "opened") for unit in self.units.values())

    @property
    def last(self) -> str:
        """The name of the last unit."""
        return self.names[-1]

    @property
    def decodes(self) -> bool:
        """Whether units of a decoder follow the encoder."""
        return self.encoder != self.last

    def end(self, is_dense: bool) -> str:
        """The last unit of a task that answers for every pixel, or per image."""
        return self.last if is_dense else self.encoder

    def ends_until(self, unit: str) -> list[str]:
        """The last units of the stages before a unit, then the unit itself."""
        before = self.names[: self.position(unit)]
        return [*(end for end in self.stages.values() if end in before), unit]

    def exits(self, is_dense: bool) -> dict[str, str]:
        """The stages after which a task may leave, with their last units: per image those of the
        encoder, for every pixel those of the decoder where there is one."""
        if not self.decodes:
            return dict(self.stages)
        inside = self.names[: self.position(self.encoder) + 1]
        return {s: end for s, end in self.stages.items() if (end not in inside) == is_dense}

    def keep(self, names: Collection[str]) -> None:
        """Let go of the modules of all units but these."""
        for name in self.names:
            if name not in names:
                self.units.pop(name.replace(".", "_"))
        self.names = [name for name in self.names if name in names]

    def feature(self, state: State) -> Tensor:
        """The [B, C, H, W] map of a state."""
        return state if isinstance(state, Tensor) else state[0]

    def replace(self, state: State, feature: Tensor) -> State:
        """The state with another map: what a link or a gate between two units hands on."""
        return feature if isinstance(state, Tensor) else (feature, *state[1:])

    def take(self, state: State, rows: Tensor) -> State:
        """The given images of a state."""
        if isinstance(state, Tensor):
            return rows_of(state, rows)
        return tuple(rows_of(part, rows) for part in state)

    def forward(self, images: Tensor, last: str | None = None) -> State:
        """The state after unit (or stage) `last`, the whole backbone by default."""
        stop = self.position(last or self.last)
        state: State = images
        for unit in list(self.units.values())[: stop + 1]:
            state = unit(state)
        return state

    def __iter__(self) -> Iterator[tuple[str, nn.Module]]:
        return iter(zip(self.names, self.units.values(), strict=True))

    def classifier(self, classes: int) -> nn.Module:
        """The source model's head on the last map: pool and one linear layer unless overridden."""
        channels = self.info[self.last].channels
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))

    def shapes(self, channels: int, height: int, width: int) -> dict[str, tuple[int, int, int]]:
        """The [C, H, W] of every unit's map for one input size, found on the meta device.

        Raises:
            UserError: the images are too small for the units' convolutions and pools.
        """
        ghost = copy.deepcopy(self).to("meta").eval()
        state: State = torch.empty(2, channels, height, width, device="meta")
        found: dict[str, tuple[int, int, int]] = {}
        for name, unit in ghost:
            try:
                state = unit(state)
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                problem = f"images of {height}×{width} pixels do not get through {name}: {reason}"
                hint = "Set a larger size, or backbone.stem: small."
                raise UserError.at("image_size", problem, hint) from None
            _, *shape = ghost.feature(state).shape
            found[name] = (shape[0], shape[1], shape[2])
        return found


def before_shrinking(backbone: StagedBackbone) -> list[nn.Conv2d]:
    """The convolutions right before the map shrinks: those that a unit's own pool follows, and of
    units after which the next one shrinks it, by a pool or a stride, the last; so of the last unit
    of an encoder too, which global pooling follows. Shortcuts do not count."""
    units = [unit for _, unit in backbone]
    strides = [backbone.info[name].stride for name in backbone.names]
    pooled = [_before_pools(unit) for unit in units]
    end = backbone.position(backbone.encoder)
    found: list[nn.Conv2d] = []
    for i, unit in enumerate(units[: end + 1]):
        shrinks_next = i == end or (strides[i + 1] > strides[i] and not pooled[i + 1])
        found += pooled[i] or (_convolutions(unit)[-1:] if shrinks_next else [])
    return found


def _convolutions(unit: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in _main_path(unit) if isinstance(layer, nn.Conv2d)]


def _before_pools(unit: nn.Module) -> list[nn.Conv2d]:
    """The convolutions of a unit that are the last before one of its pools."""
    last, found = None, []
    for layer in _main_path(unit):
        if isinstance(layer, nn.Conv2d):
            last = layer
        elif isinstance(layer, nn.MaxPool2d) and layer.stride not in (1, (1, 1)) and last:
            found.append(last)
    return found


def _main_path(unit: nn.Module) -> Iterator[nn.Module]:
    shortcuts = ("downsample", "shortcut")
    return (layer for name, layer in unit.named_modules() if not name.startswith(shortcuts))
