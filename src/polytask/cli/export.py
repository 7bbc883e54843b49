"""polytask export: tasks as files that run without polytask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polytask.cli.console import say, show
from polytask.cli.options import Method, Run, Seed, Tasks, Within
from polytask.errors import UserError, unknown

FORMATS = ("onnx", "torch")


def export(
    run: Run,
    task: Tasks = None,
    method: Method = None,
    seed: Seed = None,
    budget: Within = None,
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
    With a budget, tasks that read the same labels are alternatives (in a comparison those of all
    methods), and the best on validation data of those that fit is written.
    """
    if format not in FORMATS:
        raise UserError(unknown("--format", "format", format, FORMATS))
    from polytask.deploy import load
    from polytask.deploy.export import export as write

    if shared:
        from polytask.deploy.shared import export_shared

        if budget is not None:
            raise UserError.at("--budget", "got --shared too; expected one of the two")
        model = load(run, method, seed)
        one = export_shared(model, task or model.tasks, out or model.place / "export")
        show(
            f"{one.file}: {one.bytes / 1e6:.2f} MB; {one.stored} of {one.kernels} rows stored, "
            f"{one.weights / 1e6:.3f} MB of weights instead of {one.separate / 1e6:.3f} MB "
            f"({1 - one.weights / one.separate:.1%} less)"
        )
        return
    if budget is None:
        model = load(run, method, seed)
        chosen = [(model, name, "") for name in task or model.tasks]
    else:
        from polytask.budget import Budget
        from polytask.deploy.budget import within

        limit = Budget.parse(budget)
        found = within(run, limit, method, seed, task)
        for fault in found.refused:
            say(str(fault))
        chosen = [(c.model, c.task, f", {limit.say(c.used)}, {c.words}") for c in found.choices]
    for model, name, also in chosen:
        made = write(model, name, out or model.place / "export", format)  # type: ignore[arg-type]
        show(
            f"{made.file}: {made.bytes / 1e6:.2f} MB, weights {made.weights / 1e6:.2f} MB "
            f"({made.params} parameters), differs by {made.difference:.1e} at most{also}"
        )
