"""polytask export: tasks as files that run without polytask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polytask.cli.console import show
from polytask.cli.options import Method, Run, Seed, Tasks
from polytask.errors import UserError, unknown

FORMATS = ("onnx", "torch")


def export(
    run: Run,
    task: Tasks = None,
    method: Method = None,
    seed: Seed = None,
    format: Annotated[
        str, typer.Option(metavar="onnx|torch", help="The format of the files.")
    ] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder to write; export in the run's by default."),
    ] = None,
    shared: Annotated[
        bool, typer.Option("--shared", help="One file of all tasks, every kernel in it once.")
    ] = False,
) -> None:
    """Write tasks as files that run without polytask.

    With --shared it is one file for polytask predict, in which no kernel stands twice. Otherwise
    each holds the weights of its task's path alone; a description in JSON is written beside it.
    """
    if format not in FORMATS:
        raise UserError(unknown("--format", "format", format, FORMATS))
    from polytask.deploy import load
    from polytask.deploy.export import export as write

    model = load(run, method, seed)
    if shared:
        from polytask.deploy.shared import export_shared

        one = export_shared(model, task or model.tasks, out or model.folder / "export")
        show(
            f"{one.file}: {one.bytes / 1e6:.2f} MB; {one.stored} of {one.kernels} rows stored, "
            f"{one.weights / 1e6:.3f} MB of weights instead of {one.separate / 1e6:.3f} MB "
            f"({1 - one.weights / one.separate:.1%} less)"
        )
        return
    for name in task or model.tasks:
        made = write(model, name, out or model.folder / "export", format)  # type: ignore[arg-type]
        show(
            f"{made.file}: {made.bytes / 1e6:.2f} MB, weights {made.weights / 1e6:.2f} MB "
            f"({made.params} parameters), differs by {made.difference:.1e} at most"
        )
