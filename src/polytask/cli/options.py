"""Arguments that several commands share, and the checks that go with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polytask.errors import UserError

if TYPE_CHECKING:
    from polytask.config import models

Config = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A YAML file, or the name of a bundled example.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY.PATH=VALUE", help="Values in place of the config's."),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="DIR", help="The folder to write; runs/<config name> unless said."
    ),
]
Devices = Annotated[
    int, typer.Option("--devices", min=1, metavar="N", help="Processes of a run, one a GPU if any.")
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", min=1, metavar="N", help="Runs at once; what the machine bears."),
]
On = Annotated[
    str,
    typer.Option(
        "--on",
        metavar="WHERE",
        help="Where runs train: local, ray, or the address of a Ray cluster (ray://HOST:10001).",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on where it stopped; nothing finished is repeated.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what the folder holds of an earlier run.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Try two batches of everything and write nothing.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a comparison folder.")]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", metavar="TASK", help="A task (may be repeated); all by default."),
]
Method = Annotated[
    str | None,
    typer.Option(
        "--method", metavar="NAME", help="Of a comparison; the best on validation by default."
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="K", help="Of a comparison; the first by default."),
]
Within = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="B",
        help="The most a path may take: 35MMAC, 2Mparams, 5ms; the best on validation that fits.",
    ),
]


def read(config: str, overrides: Sequence[str] | None) -> models.Config:
    """Read a command's config: before torch is imported, so that most errors are told at once."""
    from polytask.config import read_config

    return read_config(config, overrides or ())


def check_start(resume: bool, overwrite: bool) -> None:
    """Refuse options that exclude one another."""
    if resume and overwrite:
        raise UserError.at("--overwrite", "got --resume too; expected one of the two")


def refuse_torchrun(command: str) -> None:
    """Refuse to be run several times over by torchrun."""
    from polytask.training.child import torchrun_size

    if torchrun_size() > 1:
        raise UserError.at(
            "torchrun",
            f"polytask {command} starts its own processes; expected it with polytask train alone.",
            "Use --devices.",
        )
