"""polytask list: every name that a config may use."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from polytask.cli.console import show_json, show_table
from polytask.cli.options import Json
from polytask.errors import UserError, one_of, unknown

WHAT = ("methods", "backbones", "tasks", "balancers", "sources", "examples")
KINDS = {"methods": "sharing", "balancers": "balancing"}  # named otherwise in the registry


def list_names(
    what: Annotated[str, typer.Argument(metavar="WHAT", help=f"{one_of(WHAT).capitalize()}.")],
    json: Json = False,
) -> None:
    """List the names that a config may use."""
    if what not in WHAT:
        raise UserError(unknown("polytask list", "listing", what, WHAT))
    listed = _rows(what)
    if json:
        show_json({what: listed})
    else:
        columns = [c for c in ("name", "family", "summary") if c in listed[0]]
        show_table(columns, [[row[c] for c in columns] for row in listed])


def _rows(what: str) -> list[dict[str, Any]]:
    if what == "examples":
        from polytask.examples import bundled

        return [{k: v for k, v in asdict(e).items() if k != "path"} for e in bundled()]
    from polytask import registry

    keys = ["name", "summary", "source"] + (["family"] if what == "methods" else [])
    entries = registry.entries(KINDS.get(what, what)).values()
    return [{key: getattr(entry, key) for key in keys} for entry in entries]
