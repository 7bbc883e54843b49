"""A page of its own for measured affinities: who helps whom, and which tasks to group."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from polytask.report.figures.matrix import matrix_figure
from polytask.report.palette import looks

STYLE = Path(__file__).parent / "page.css"
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Affinity of {tasks}</title>
<style>
{style}
</style>
</head>
<body>
<header>
<h1>Which tasks help which</h1>
<p class="headline">Train together: {groups}</p>
<p class="lead">One network that learns all tasks, {certainty}.</p>
</header>
<main>
<section>
<div class="figures">
<figure><figcaption>Look-ahead <span class="of">percent of a column's loss that a step for the row
takes away; below 0 it harms</span></figcaption>{look_ahead}</figure>
<figure><figcaption>Cosine <span class="of">of the gradients of two tasks</span></figcaption>
{cosine}</figure>
</div>
<pre tabindex="0" style="white-space: pre-wrap">{method}</pre>
</section>
</main>
</body>
</html>
"""


def affinity_page(found: Mapping[str, Any], certainty: str, method: str) -> str:
    """The page as HTML.

    Args:
        found: what `polytask affinity --json` prints.
        certainty: how much of it can be told from chance.
        method: the line of a config that takes the proposal up.
    """
    tasks = list(found["tasks"])
    look = looks(["affinity"])["affinity"]
    percent = [[100 * value for value in row.values()] for row in found["look_ahead"].values()]
    cosine = [list(row.values()) for row in found["cosine"].values()]
    return PAGE.format(
        tasks=escape(", ".join(tasks)),
        style=STYLE.read_text("utf-8"),
        groups=escape("; ".join(" + ".join(group) for group in found["groups"])),
        certainty=escape(certainty),
        look_ahead=matrix_figure(tasks, tasks, percent, look, "Look-ahead affinity", " %"),
        cosine=matrix_figure(tasks, tasks, cosine, look, "Cosine of gradients"),
        method=escape(method),
    )
