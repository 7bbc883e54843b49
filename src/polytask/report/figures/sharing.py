"""The picture of sharing: which units each task runs, and which of them serve several tasks."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from polytask.report import numbers
from polytask.report.chart import FONT, INK, MUTED, SURFACE, Chart, plain, shorten, style
from polytask.report.palette import Look
from polytask.report.records import PathCost, Unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABEL, TOP, ROW = 86, 40, 19
SHARED = "shared"
LINKS = "links"
OWN = ("tail", "filter", "head")  # what a task has of its own after it has left the backbone


@dataclass
class Box:
    """A unit at one place of the picture, and the tasks whose paths run it."""

    unit: Unit
    row: str
    lanes: list[str]
    users: list[str] = field(default_factory=list)


@dataclass
class Picture:
    """Lanes side by side (tasks, then columns that belong to none), rows in running order."""

    lanes: list[str]
    rows: list[str]
    boxes: list[Box]
    exits: dict[str, str]


def picture(paths: Mapping[str, PathCost]) -> Picture:
    """Arrange the units of every task's path.

    A unit `column/unit` stands in that column's lane, any other in the lane of every task that
    runs it: one box over neighbouring lanes where it is shared.
    """
    placed: dict[tuple[str, str], Box] = {}
    units = {task: _with_rest(task, path) for task, path in paths.items()}
    lanes, rows = list(paths), _rows(units)
    for task, parts in units.items():
        for unit in parts:
            column, row = _split(unit.name)
            if unit.owner == SHARED or column in ("", LINKS):
                key = (unit.name, LINKS if column == LINKS and unit.owner in paths else unit.owner)
                lane = task
            else:
                key, lane = (unit.name, column), column
                if lane not in lanes:
                    lanes.append(lane)
            box = placed.setdefault(key, Box(unit, row, []))
            box.users.append(task)
            if lane not in box.lanes:
                box.lanes.append(lane)
    exits = {
        task: next((_split(u.name)[1] for u in reversed(parts) if u.name not in OWN), "")
        for task, parts in units.items()
    }
    return Picture(lanes, rows, list(placed.values()), exits)


def _split(name: str) -> tuple[str, str]:
    """(column, row) of a unit's name; a link's row is told from that of the unit it follows."""
    column, _, unit = name.rpartition("/")
    return column, f"⇄ {unit}" if column == LINKS else unit


def _with_rest(task: str, path: PathCost) -> list[Unit]:
    """The path's units, and what it holds beyond them: filter and head in one."""
    params = path.params - sum(unit.params for unit in path.units)
    macs = path.macs - sum(unit.macs for unit in path.units)
    rest = [Unit("head", task, max(params, 0), max(macs, 0))] if params > 0 or macs > 0 else []
    return [*path.units, *rest]


def _rows(units: Mapping[str, Sequence[Unit]]) -> list[str]:
    """All units in one list that keeps every task's own order."""
    merged: list[str] = []
    for parts in units.values():
        at = 0
        for unit in parts:
            column, row = _split(unit.name)
            if row in merged:
                at = max(at, merged.index(row) + 1)
            elif column == LINKS:
                before = [
                    i for i, name in enumerate(merged) if row.endswith(name.replace(".", "_"))
                ]
                merged.insert(before[-1] + 1 if before else at, row)
                at += 1
            else:
                merged.insert(at, row)
                at += 1
    return [row for row in merged if row not in OWN] + [row for row in OWN if row in merged]


def sharing_figure(
    paths: Mapping[str, PathCost], look: Look, kernels: Mapping[str, float] | None = None
) -> str:
    """Filled boxes serve several tasks, outlined ones a single task; a bar marks an early exit.

    `kernels` says which share of the kernels of a column's unit, named without the column, is
    another column's as well: so far is its box filled, palely.
    """
    shown = picture({task: path for task, path in paths.items() if path.units})
    width = 74 if len(shown.lanes) <= 3 else max(34, 264 // len(shown.lanes))
    with style():
        chart = Chart(TOP + ROW * len(shown.rows) + 4, width=LABEL + width * len(shown.lanes) + 4)
        axes = chart.axes(0, 0, 0, 0, xlim=(0, chart.width), ylim=(chart.height, 0))
        axes.set_axis_off()
        for i, lane in enumerate(shown.lanes):
            name = "\n".join(_wrapped(lane, width))
            axes.text(LABEL + (i + 0.5) * width, TOP - 7, name, ha="center", va="bottom",
                      size=FONT - 1, linespacing=1.15)  # fmt: skip
        for i, row in enumerate(shown.rows):
            axes.text(LABEL - 8, TOP + (i + 0.5) * ROW, shorten(row, 15), ha="right", va="center",
                      size=FONT - 1, color=MUTED)  # fmt: skip
        for i, lane in enumerate(shown.lanes):
            _line(chart, axes, shown, lane, LABEL + (i + 0.5) * width)
        for box in shown.boxes:
            for first, last in _runs([shown.lanes.index(lane) for lane in box.lanes]):
                x, y = LABEL + first * width + 3, TOP + shown.rows.index(box.row) * ROW + 2
                share = (kernels or {}).get(box.row, 0.0) if box.unit.owner != SHARED else 0.0
                _draw(chart, axes, box, (x, y, (last - first + 1) * width - 6), look, share)
        return chart.svg("Units by task. " + "; ".join(_said(shown, task) for task in shown.exits))


def _runs(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Neighbouring places as (first, last)."""
    ordered = sorted(places)
    first = ordered[0]
    for here, following in zip(ordered, [*ordered[1:], None], strict=True):
        if following != here + 1:
            yield first, here
            first = following if following is not None else first


def _line(chart: Chart, axes: Axes, shown: Picture, lane: str, x: float) -> None:
    """The way through a lane: a line behind its boxes, and a bar where the task leaves early."""
    at = [shown.rows.index(box.row) for box in shown.boxes if lane in box.lanes]
    if not at:
        return
    ends = [TOP + (min(at) + 0.5) * ROW, TOP + (max(at) + 0.5) * ROW]
    axes.plot([x, x], ends, color=MUTED, lw=1, zorder=1)
    trunk = [row for row in shown.rows if row not in OWN]
    exit_row = shown.exits.get(lane, "")
    if exit_row in trunk and exit_row != trunk[-1]:
        y = TOP + (shown.rows.index(exit_row) + 1) * ROW + 2
        (bar,) = axes.plot([x - 16, x + 16], [y, y], color=INK, lw=2, zorder=3)
        label = axes.text(x, y + 3, "exit", ha="center", va="top", size=FONT - 1.5, zorder=3)
        label.set_bbox({"facecolor": SURFACE, "edgecolor": "none", "pad": 1})
        for artist in (bar, label):
            chart.tip(artist, f"{lane} leaves after {exit_row}")


def _draw(
    chart: Chart,
    axes: Axes,
    box: Box,
    place: tuple[float, float, float],
    look: Look,
    share: float,
) -> None:
    from matplotlib.patches import FancyBboxPatch, Rectangle

    x, y, width = place
    several = len(box.users) > 1
    rounded = FancyBboxPatch(
        (x, y),
        width,
        ROW - 4,
        boxstyle="round,pad=0,rounding_size=3",
        facecolor=look.colour if several else SURFACE,
        edgecolor=look.colour,
        lw=1.4,
        zorder=2,
    )
    axes.add_patch(rounded)
    unit = box.unit
    whose = "runs for " + ", ".join(box.users) if several else f"only {box.users[0]}"
    cost = f"{numbers.count(unit.params)} parameters, {numbers.count(unit.macs)} MACs"
    tip = f"{unit.name}: {whose}; {cost}"
    if share and not several:
        part = Rectangle((x, y), share * width, ROW - 4, color=look.colour, alpha=0.4, lw=0)
        part.set_zorder(2)
        axes.add_patch(part)
        part.set_clip_path(rounded)
        tip += f"; {100 * share:.0f} % of the kernels of this layer are shared between columns"
        chart.tip(part, tip)
    chart.tip(rounded, tip)


def _wrapped(name: str, width: int) -> list[str]:
    letters = max(3, int(width / 6.4))
    name = plain(name)
    words = name.replace("_", "_ ").replace("-", "- ")
    lines = [line.replace("_ ", "_").replace("- ", "-") for line in textwrap.wrap(words, letters)]
    if len(lines) <= 2:
        return lines
    return [lines[0], shorten(name[len(lines[0]) :], letters)]


def _said(shown: Picture, task: str) -> str:
    several = sum(task in box.users and len(box.users) > 1 for box in shown.boxes)
    alone = sum(box.users == [task] for box in shown.boxes)
    return f"{task}: {several} shared and {alone} own, leaves after {shown.exits[task]}"
