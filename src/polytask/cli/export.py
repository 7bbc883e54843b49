"""polytask export: tasks as files that run without polytask."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from polytask.cli.console import show


class Format(str, Enum):
    """The formats of a file."""

    onnx = "onnx"
    torch = "torch"


def export(
    run: Annotated[Path, typer.Argument(help="A run folder or a comparison folder.")],
    task: Annotated[
        list[str] | None, typer.Option("--task", help="A task to export (repeat); all by default.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Of a comparison: the method; the best by default.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of a comparison: the seed; the first by default.")
    ] = None,
    format: Annotated[Format, typer.Option(help="The format of the files.")] = Format.onnx,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write to; RUN/export by default.")
    ] = None,
) -> None:
    """Write tasks as files that run without polytask.

    Each holds the weights of its task's path alone; a description in JSON is written beside it.
    """
    from polytask.deploy import load
    from polytask.deploy.export import export as write

    model = load(run, method, seed)
    for name in task or model.tasks:
        made = write(model, name, out or run / "export", format.value)
        show(
            f"{made.file}: {made.bytes / 1e6:.2f} MB, weights {made.weights / 1e6:.2f} MB "
            f"({made.params} parameters), differs by {made.difference:.1e} at most"
        )
