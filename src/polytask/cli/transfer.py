"""polytask transfer: train on new labels with what a finished run has learned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polytask.cli.console import show
from polytask.cli.options import (
    Config,
    Devices,
    Method,
    Out,
    Overrides,
    Overwrite,
    Resume,
    Run,
    Seed,
    check_start,
    read,
    refuse_torchrun,
)
from polytask.errors import UserError, unknown

ROUTES = ("fine_tune", "soft_targets", "fsp")


def transfer(
    run: Run,
    config: Config,
    by: Annotated[
        str, typer.Option("--by", metavar="|".join(ROUTES), help="The route of what was learned.")
    ],
    overrides: Overrides = None,
    method: Method = None,
    seed: Seed = None,
    out: Out = None,
    devices: Devices = 1,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train new tasks with what a run has learned.

    fine_tune starts from the weights of RUN's backbone; soft_targets learns from the answers of a
    header trained on it; fsp first learns to relate its maps as RUN does. It trains the first
    method of CONFIG besides single, with its first seed. To compare with training from scratch
    over seeds, give methods of a config `transfer: {run: RUN, by: ROUTE}` and use polytask compare.
    """
    if by not in ROUTES:
        raise UserError(unknown("--by", "route", by, ROUTES))
    check_start(resume, overwrite)
    refuse_torchrun("transfer")
    chosen = read(config, overrides)
    from polytask import training
    from polytask.deploy.run_folder import find_run
    from polytask.report import page_of
    from polytask.report.records import RunResult
    from polytask.report.wording import probe_lines, run_headline
    from polytask.training.display import display
    from polytask.training.progress import Progress

    source = find_run(run, method, seed)
    folder = out or Path("runs") / chosen.name
    with display() as shown:
        result = training.transfer(
            source,
            chosen,
            by,
            out=folder,
            resume=resume,
            overwrite=overwrite,
            devices=devices,
            progress=Progress(shown),
        )
    found = RunResult.model_validate(result)
    show(run_headline(found))
    for line in probe_lines(found):
        show(line)
    show(f"report: {page_of(folder)}")
