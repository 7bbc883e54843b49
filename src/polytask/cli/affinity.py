"""polytask affinity: which tasks help which, and which to train together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polytask.cli.console import say, show, show_json, show_table
from polytask.cli.options import Config, Json, Overrides, read

if TYPE_CHECKING:
    from polytask.search.affinity import Affinity


def affinity(
    config: Config,
    overrides: Overrides = None,
    networks: Annotated[
        int, typer.Option(min=1, metavar="N", help="The most groups of tasks to propose.")
    ] = 2,
    every: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="STEPS",
            help="Steps between measurements; 10, or fewer for 30 measurements in all.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="K", help="The seed of the run.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Write affinity.json and affinity.html into a folder, or a file named .json and "
            "the page beside it.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure which tasks help which, and propose groups.

    One network learns them all meanwhile. A row says what a step for its task alone does to the
    loss of each other task: down (+) or up (-), in percent, on average over the measured steps and
    ± 1.96 standard errors; cosines are those of the tasks' gradients. The last line is for a
    config: the proposed groups as those that share kernels, and as a network each.
    """
    chosen = read(config, overrides)
    from polytask.config.groups import FILE
    from polytask.search.affinity import measure_affinity

    found = measure_affinity(
        chosen, networks, every, seed, lambda epoch: say(f"epoch {epoch} of {chosen.train.epochs}")
    )
    groups = ", ".join("[" + ", ".join(group) + "]" for group in found.groups)
    method = (
        f"methods: [{{kernel_sharing: {{groups: [{groups}]}}}}, "
        f"{{hard: {{groups: [{groups}], as: hard_groups}}}}]"
    )
    if out is not None:
        from polytask.report.affinity import affinity_page
        from polytask.training.checkpoint import write_json, write_text

        file = out if out.suffix == ".json" else out / FILE
        page = file.with_suffix(".html")
        write_json(file, found.as_dict())
        write_text(page, affinity_page(found.as_dict(), found.certainty, method))
        say(f"page: {page}")
        say(f"a method's option takes the proposal up: groups: {file}")
    if json:
        show_json(found.as_dict())
        return
    columns = ("a step for", *(f"changes {task}" for task in found.tasks))
    show_table(columns, _effects(found))
    show("")
    cosines = zip(found.tasks, found.cosine, strict=True)
    show_table(
        ("cosine", *found.tasks), [[task, *(f"{c:+.3f}" for c in row)] for task, row in cosines]
    )
    show("")
    show(found.certainty)
    show(f"groups for {networks} networks or fewer: {groups}")
    show(method)


def _effects(found: Affinity) -> list[list[str]]:
    rows = []
    for task, means, margins in zip(found.tasks, found.look_ahead, found.margin, strict=True):
        pairs = zip(means, margins, strict=True)
        rows.append(
            [task, *(f"{100 * mean:+.2f} ± {100 * margin:.2f} %" for mean, margin in pairs)]
        )
    return rows
