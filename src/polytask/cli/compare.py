"""polytask compare: the main job, methods × seeds on the same tasks."""

from __future__ import annotations

import shlex
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from polytask.cli.console import say, show, show_json
from polytask.cli.options import (
    Config,
    Devices,
    DryRun,
    Jobs,
    Json,
    On,
    Out,
    Overrides,
    Overwrite,
    Resume,
    check_start,
    read,
    refuse_torchrun,
)

if TYPE_CHECKING:
    from polytask.compare.results import Results


def compare(
    config: Config,
    overrides: Overrides = None,
    out: Out = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, metavar="N", help="Runs of each method.")
    ] = None,
    jobs: Jobs = None,
    devices: Devices = 1,
    on: On = "local",
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Compare ways of sharing with single-task networks.

    Trains every method with every seed on the same tasks and tells who won, by how much, how surely
    and at what cost. A run that fails is told and the others go on; the exit code is then 1.
    """
    check_start(resume, overwrite)
    refuse_torchrun("compare")
    changes = [*(overrides or ()), *([f"seeds={seeds}"] if seeds is not None else ())]
    chosen = read(config, changes)
    from polytask.compare import compare as run_all
    from polytask.compare import dry_run as try_all
    from polytask.training.display import display

    if dry_run:
        for line in try_all(chosen):
            show(line)
        return
    with display() as shown:
        results = run_all(
            chosen,
            out,
            jobs=jobs,
            devices=devices,
            on=on,
            resume=resume,
            overwrite=overwrite,
            progress=shown,
        )
    if json:
        show_json(results.data)
    else:
        _show(results)
    if results.failures:
        failed = ", ".join(run.label for run in results.failures)
        say(f"failed: {failed}; error.txt in a run's folder tells why")
        raise typer.Exit(1)


def _show(results: Results) -> None:
    from polytask.errors import RunError
    from polytask.report import plain_table
    from polytask.report.records import Results as Record
    from polytask.report.wording import headline, how

    if sys.stdout.isatty():
        from rich import print as show_rich

        show_rich(results)
    else:
        show(plain_table(results.data))
    methods = Record.model_validate(results.data).methods
    for name, found in methods.items():
        for said in how(found):
            show(f"{name}: {said}")
    show(headline(methods, len(results.data["seeds"])))
    for line in results.health:
        show(f"health: {line}")
    show(f"report: {results.path / 'report.html'}")
    with suppress(RunError):  # no run has finished
        method, seed = results.best
        chosen = ["--method", method, "--seed", str(seed)]
        show("export: " + shlex.join(["polytask", "export", str(results.path), *chosen]))
