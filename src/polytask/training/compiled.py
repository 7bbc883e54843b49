"""Networks whose units are compiled: `train.compile`.

Every unit of a backbone is compiled by itself, in place: what a method does between units (rows
that leave, links, masks) runs as it is, so that every method and batch shape is served, and names
in checkpoints stay. Blocks that look alike are compiled once. Heads and tails are not compiled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from polytask.backbones.staged import StagedBackbone
from polytask.errors import UserError

if TYPE_CHECKING:
    from polytask.sharing.method import SharingMethod

INDUCTOR = "inductor"
VARIANTS = 64  # of a unit that may be compiled: by width, stream, and training or not; torch's 8


def compile_units(
    method: SharingMethod, backend: bool | str, balancing: str | Mapping[str, Any] = "equal"
) -> None:
    """Compile the units of a method's backbones, at their first pass.

    Sizes of batches and maps are variables of what is compiled: a resumed run, which meets them in
    another order, computes with the same code.

    Args:
        method: whose units they are.
        backend: of torch.compile; true for inductor.
        balancing: the balancer's entry in the config.
    """
    torch._dynamo.config.recompile_limit = VARIANTS
    # Gradient aggregation and GradNorm go back through a unit several times.
    torch._functorch.config.donated_buffer = False
    left_out = _hooked(method, balancing)
    for unit in units_of(method):
        if unit is not left_out:
            unit.compile(**arguments(backend))


def arguments(backend: bool | str) -> dict[str, Any]:
    """What torch.compile is called with."""
    found: dict[str, Any] = {"backend": INDUCTOR if backend is True else backend, "dynamic": True}
    if found["backend"] == INDUCTOR:  # random numbers are those of a run that is not compiled
        found["options"] = {"fallback_random": True}
    return found


def check_compiler(backend: bool | str, device: torch.device, place: str) -> None:
    """Compile a trifle, to learn before a run begins what a compiler lacks.

    Raises:
        UserError: with what it says; `place` is where it was asked for.
    """
    try:
        torch.compile(_trifle, **arguments(backend))(torch.ones(2, device=device))
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError.at(
            place, f"torch.compile does not work here: {reason}", "Leave it out."
        ) from error


def _trifle(x: torch.Tensor) -> torch.Tensor:
    return x * x + 1


def units_of(method: nn.Module) -> list[nn.Module]:
    """The units of all backbones inside, each once."""
    networks = [m for m in method.modules() if isinstance(m, StagedBackbone)]
    return list(dict.fromkeys(unit for network in networks for unit in network.units.values()))


def _hooked(method: SharingMethod, balancing: str | Mapping[str, Any]) -> nn.Module | None:
    """The unit at whose output aggregation on the representation parts the graph, by a hook that
    must not be compiled."""
    options = {} if isinstance(balancing, str) else next(iter(balancing.values())) or {}
    if options.get("on") != "representation" or not hasattr(method, "representation"):
        return None
    found: nn.Module | None = method.representation()  # type: ignore[operator]
    return found
