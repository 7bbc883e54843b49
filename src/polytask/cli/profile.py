"""polytask profile: time and memory of a training step by part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from polytask.cli.console import show_json, show_table
from polytask.cli.options import Config, Json, Overrides, read

if TYPE_CHECKING:
    from polytask.training.profile import Profile


def profile(
    config: Config,
    overrides: Overrides = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method", metavar="NAME", help="One method; all of the config's by default."
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option("--steps", min=1, metavar="N", help="Steps to measure, after three.")
    ] = 20,
    json: Json = False,
) -> None:
    """Tell where the time and the memory of a training step go.

    trunk is the forward pass without heads; aggregation is what a balancer makes of the tasks'
    gradients. Nothing is written. What an option is worth shows beside another call:
    train.channels_last=false, train.precision=bf16.
    """
    chosen = read(config, overrides)
    from polytask.training.profile import profile as measure

    entries = chosen.methods if method is None else [chosen.method(method)]
    found = [measure(chosen, entry, chosen.seeds[0], steps) for entry in entries]
    if json:
        show_json({"methods": {each.method: each.as_dict() for each in found}})
        return
    columns = ("method", "part", "ms", "share", "peak MiB")
    show_table(columns, [row for each in found for row in _rows(each)])


def _rows(found: Profile) -> list[list[str]]:
    def row(name: str, seconds: float, peak: int) -> list[str]:
        share = f"{100 * seconds / found.step_seconds:.0f} %"
        return [found.method, name, f"{1000 * seconds:.2f}", share, f"{peak / 2**20:.1f}"]

    whole = row(f"step of {found.images} labels", found.step_seconds, found.peak_bytes)
    return [whole, *(row(n, part.seconds, part.peak_bytes) for n, part in found.parts.items())]
