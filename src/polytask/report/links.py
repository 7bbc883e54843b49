"""What columns learned about sharing: figures of a run's `plots/`, by method."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytask.report.figures.matrix import matrix_figure
from polytask.report.palette import Look

RATIOS = {
    "participation": "share of kernels in a pair, by layer and epoch",
    "compression": "share of kernels that storing shared ones once would save",
}
MATRICES = {"alpha": "stitch", "gates": "gates"}


@dataclass(frozen=True)
class RatioTable:
    """Participation / compression of every layer that may share, in percent, at the start and after
    each epoch; `rows` are (layer, its kernels in all columns, a cell an epoch)."""

    epochs: list[str]
    rows: list[tuple[str, str, list[str]]]


def ratio_table(plots: Path) -> RatioTable | None:
    """The sharing ratios of a run in numbers, layer by layer and over all kernels."""
    layers = _document(plots / "kernel_sharing.json").get("layers", {})
    shown = {name: facts for name, facts in layers.items() if facts["is_shareable"]}
    if not shown:
        return None
    kernels = {name: sum(facts["kernels"]) for name, facts in shown.items()}
    total = sum(kernels.values())
    whole = {
        key: [
            sum(kernels[name] * facts[key][epoch] for name, facts in shown.items()) / total
            for epoch in range(len(next(iter(shown.values()))[key]))
        ]
        for key in RATIOS
    }
    rows = [
        (name, f"{count:,}", _cells(facts))
        for (name, facts), count in zip(
            [*shown.items(), ("all layers", whole)], [*kernels.values(), total], strict=True
        )
    ]
    return RatioTable([str(epoch) for epoch in range(len(rows[0][2]))], rows)


def shared_kernels(plots: Path, units: Iterable[str]) -> dict[str, float]:
    """The share of each unit's kernels that were in a pair at the end, of units that may share."""
    layers = _document(plots / "kernel_sharing.json").get("layers", {})
    found = {}
    for unit in units:
        inside = [facts for name, facts in layers.items() if f"{name}.".startswith(f"{unit}.")]
        kernels = [sum(facts["kernels"]) for facts in inside]
        shares = [f["participation"][-1] if f["is_shareable"] else 0.0 for f in inside]
        paired = sum(count * share for count, share in zip(kernels, shares, strict=True))
        if paired:
            found[unit] = paired / sum(kernels)
    return found


def _cells(facts: Mapping[str, list[float]]) -> list[str]:
    pairs = zip(facts["participation"], facts["compression"], strict=True)
    return [f"{100 * shared:.1f} / {100 * saved:.1f}" for shared, saved in pairs]


def link_figures(plots: Path, look: Look) -> Iterator[tuple[str, str]]:
    """(what it shows, SVG) for stitch matrices, gates and sharing ratios of one run."""
    for path in sorted(plots.glob("links*.json")):  # one a network, where tasks are in groups
        yield from _matrices(_document(path), look)
    layers = _document(plots / "kernel_sharing.json").get("layers", {})
    for key, words in RATIOS.items():
        shown = {name: facts[key] for name, facts in layers.items() if facts["is_shareable"]}
        if shown:
            epochs = [str(epoch) for epoch in range(len(next(iter(shown.values()))))]
            title, ratios = f"{key}: {words}", list(shown.values())
            yield title, matrix_figure(list(shown), epochs, ratios, look, title, most=1.0)


def _matrices(links: Mapping[str, Any], look: Look) -> Iterator[tuple[str, str]]:
    columns = links.get("columns", [])
    for key, word in MATRICES.items():
        for place, matrix in links.get(key, {}).items():
            mean = _mean_over_channels(matrix)
            if len(mean) == len(columns) and all(len(row) == len(columns) for row in mean):
                rows = [f"{column} takes" for column in columns]
                title = f"{word} after {place}"
                yield title, matrix_figure(rows, columns, mean, look, title)


def _document(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _mean_over_channels(matrix: Any) -> list[list[float]]:
    """[N, N] as it is; of [C, N, N], one matrix for every channel, the mean."""
    if matrix and isinstance(matrix[0][0], list):
        size = len(matrix)
        pairs = [zip(*rows, strict=True) for rows in zip(*matrix, strict=True)]
        return [[sum(values) / size for values in row] for row in pairs]
    return list(matrix)
