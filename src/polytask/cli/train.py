"""polytask train: one method with one seed into a run folder."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from polytask.cli.console import show
from polytask.cli.options import (
    Config,
    Devices,
    DryRun,
    Out,
    Overrides,
    Overwrite,
    Resume,
    check_start,
    read,
)


def train(
    config: Config,
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help="One of the config's, or any by name.")
    ],
    overrides: Overrides = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", min=0, max=2**31 - 1, metavar="K", help="The config's first unless said."
        ),
    ] = None,
    out: Out = None,
    devices: Devices = 1,
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Train one method with one seed."""
    check_start(resume, overwrite)
    chosen = read(config, overrides)
    from polytask import training

    if dry_run:
        from polytask.training.dry_run import dry_run as try_all

        entries = [chosen.method(method)]
        for line in try_all(chosen, entries, chosen.seeds[0] if seed is None else seed):
            show(line)
        return
    from polytask.report import page_of
    from polytask.report.records import RunResult
    from polytask.report.wording import run_headline
    from polytask.training.display import display
    from polytask.training.processes import is_follower
    from polytask.training.progress import Progress, ignore

    folder = out or Path("runs") / chosen.name
    follows = is_follower()
    with nullcontext(ignore) if follows else display() as shown:
        result = training.train(
            chosen,
            method,
            seed=seed,
            out=folder,
            resume=resume,
            overwrite=overwrite,
            devices=devices,
            progress=Progress(shown),
        )
    if follows:
        return
    show(run_headline(RunResult.model_validate(result)))
    show(f"report: {page_of(folder)}")
