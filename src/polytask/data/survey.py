"""Looking at a user's files: how to read them, and which tasks their labels could train."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytask.data.files import find_images
from polytask.data.images import ImageSet
from polytask.data.sources.folder import Folder
from polytask.data.sources.manifest import Manifest
from polytask.data.sources.unlabelled import Unlabelled
from polytask.data.table import CSV, PARQUET, read_table
from polytask.errors import DataError, Fault, UserError

MOST_CLASSES = 200
FEWEST = 3  # training images of a class; splits can then be made
SAMPLED = 50  # files opened to learn their sizes; a look takes no longer for a large data set
CORNERS = ("x0", "y0", "x1", "y1")
IGNORED = 255  # of a mask
MAPS = {"depth": "depths", "normals": "normals"}
# As multilabel tasks read them, whose module would import torch.
YES, NO = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}


@dataclass(frozen=True)
class Proposal:
    """A task that some labels could train, what was seen of them, and what may stand against it."""

    name: str
    kind: str
    label: str | list[str] | None
    seen: str
    classes: list[str] | None = None
    problem: str = ""


@dataclass(frozen=True)
class Survey:
    """A data set that was found: its name and source, what was seen, and its possible tasks.

    `side` is the median of the images' larger sides, in pixels, from a sample.
    """

    path: Path
    name: str
    source: str
    images: int
    side: int
    seen: str
    tasks: list[Proposal]


def look_at(paths: Sequence[Path]) -> list[Survey]:
    """Survey folders of images and tables of labels.

    Raises:
        DataError: a path holds no data set, or a damaged one; the faults of all paths at once.
    """
    found: list[Survey] = []
    faults: list[Fault] = []
    for path in paths:
        try:
            found += _look(path)
        except UserError as error:
            faults += error.faults
    if faults:
        raise DataError(faults)
    return found


def _look(path: Path) -> Iterator[Survey]:
    if not path.exists():
        raise DataError.at(
            str(path), "does not exist; expected a folder, a zip archive or a table."
        )
    tables = sorted(filter(_is_table, path.iterdir() if path.is_dir() else [path]))
    manifests = [t for t in tables if t == path or _names_images(t)]
    for table in manifests:
        yield _survey(table, Manifest(source="manifest", path=table.resolve()))
    if manifests:
        return
    note = f"no column image in {', '.join(t.name for t in tables)}" if tables else ""
    whole = path.resolve()
    if any(len(image.below.parts) > 1 for image in find_images(path)):
        yield _survey(path, Folder(source="folder", path=whole), note)
    else:
        yield _survey(path, Unlabelled(source="unlabelled", path=whole), note)


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in (*CSV, *PARQUET)


def _names_images(table: Path) -> bool:
    """Whether a table is a manifest; others list classes and the like."""
    try:
        return "image" in read_table(table).columns
    except UserError:
        return False


def _survey(path: Path, source: Folder | Manifest | Unlabelled, note: str = "") -> Survey:
    name = _word(path.resolve().stem)
    images = source.read(name, Path.cwd())
    sizes = list(_sizes(list(images.images)))
    tasks = list(_proposals(images))
    used = {c for t in tasks for c in ([t.label] if isinstance(t.label, str) else t.label or [])}
    left = [c for c in images.columns if c not in used and c != images.default_label]
    splits = Counter({split: len(rows) for split, rows in images.splits.items()})
    seen = [
        f"{len(images)} images",
        _spread(sizes),
        f"splits: {_counts(splits)}" if splits else "",
        f"no task for the columns {', '.join(left)}" if left else "",
        "" if images.columns else "no labels",
        note,
    ]
    side = sorted(max(size) for size in sizes)[len(sizes) // 2] if sizes else 0
    return Survey(
        path, name, source.source, len(images), side, "; ".join(filter(None, seen)), tasks
    )


def _proposals(images: ImageSet) -> Iterator[Proposal]:
    """One task a column, but one for all yes/no columns and one for each four corners of a box."""
    left = {n: [c for c in cells if c is not None] for n, cells in images.columns.items()}
    for corners in _boxes(left):
        stem = corners[0].removesuffix(CORNERS[0]).strip("_ ")
        seen = f"{len(left[corners[0]])} boxes"
        yield Proposal(_word(stem or f"{images.name}_box"), "box", corners, seen)
        for column in corners:
            del left[column]
    yes = {n: _yes(cells) for n, cells in left.items() if cells and _are_flags(cells)}
    if yes:
        seen = ", ".join(f"{n} {count} of {len(left[n])}" for n, count in yes.items())
        yield Proposal(f"{images.name}_attributes", "multilabel", [*yes], f"yes: {seen}")
    for column, cells in left.items():
        if column in yes or not cells:
            continue
        if all(isinstance(cell, Path) for cell in cells):
            yield from _label_maps(column, cells)
            continue
        counts = Counter(map(str, cells))
        # A column that names nearly every row anew is an identifier or a measurement.
        if 2 <= len(counts) <= min(MOST_CLASSES, len(cells) // 2):
            yield _classification(images, column, counts)


def _classification(images: ImageSet, column: str, counts: Counter[str]) -> Proposal:
    is_default = column == images.default_label
    name = f"{images.name}_{column}" if is_default else column
    train = images.splits.get("train", range(len(images)))
    trained = Counter(str(images.columns[column][i]) for i in train)
    rare = Counter({label: trained[label] for label in counts if trained[label] < FEWEST})
    problem = f"fewer than {FEWEST} training images: {_counts(rare)}" if rare else ""
    label = None if is_default else column
    return Proposal(_word(name), "classification", label, _counts(counts), problem=problem)


def _are_flags(cells: Iterable[Any]) -> bool:
    return {str(cell).lower() for cell in cells} <= YES | NO


def _yes(cells: Iterable[Any]) -> int:
    return sum(str(cell).lower() in YES for cell in cells)


def _boxes(columns: Mapping[str, list[Any]]) -> list[list[str]]:
    """Groups of four number columns whose names end in x0, y0, x1, y1."""
    starts = [name.removesuffix(CORNERS[0]) for name in columns if name.endswith(CORNERS[0])]
    groups = [[start + corner for corner in CORNERS] for start in starts]
    return [g for g in groups if all(c in columns and _are_numbers(columns[c]) for c in g)]


def _are_numbers(cells: Iterable[Any]) -> bool:
    cells = [str(cell) for cell in cells]
    return bool(cells) and all(re.fullmatch(r"-?\d+(\.\d*)?", cell) for cell in cells)


def _label_maps(column: str, files: Sequence[Path]) -> Iterator[Proposal]:
    """The task of a column of files: masks of classes, depths or normals, by how they are kept."""
    values: set[int] = set()
    kinds: Counter[str] = Counter()
    for file in files[:SAMPLED]:
        try:
            kind, found = _map_kind(file)
        except (DataError, OSError, ValueError):
            continue  # `polytask check` tells which files are broken, and why
        kinds[kind] += 1
        values |= found
    if not kinds:
        return
    kind = kinds.most_common(1)[0][0]
    name = _word(column)
    if kind != "segmentation":
        yield Proposal(name, kind, column, f"{len(files)} maps of {MAPS[kind]}")
        return
    known = sorted(values - {IGNORED}) or [0]
    classes = [f"class_{value}" for value in range(known[-1] + 1)]
    seen = f"{len(files)} masks with the values {', '.join(map(str, known))}"
    problem = "" if len(classes) > 1 else "a mask needs two classes or more"
    yield Proposal(name, kind, column, seen, classes, problem)


def _map_kind(file: Path) -> tuple[str, set[int]]:
    """The kind of task that a map of labels is for, and the values of a mask."""
    import numpy as np
    from PIL import Image as Pillow

    from polytask.data.decode import is_npy, read_npy

    if is_npy(file):
        array = read_npy(file, str(file))
        if array.ndim == 3 and array.shape[2] == 3:
            return "normals", set()
        values = np.unique(array)
        if (values % 1).any() or values[-1] > IGNORED:
            return "depth", set()
        return "segmentation", {int(value) for value in values if value >= 0}  # some hold −1
    with Pillow.open(file) as picture:
        if picture.mode in ("RGB", "RGBA"):
            return "normals", set()
        if picture.mode.startswith(("I", "F")):
            return "depth", set()
        colours = picture.getcolors(1 << 24) or []
    return "segmentation", {colour for _, colour in colours if isinstance(colour, int)}


def _sizes(images: Sequence[Any]) -> Iterator[tuple[int, int]]:
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    for image in images[:: max(1, len(images) // SAMPLED)]:
        try:
            with Pillow.open(io.BytesIO(image) if isinstance(image, bytes) else image) as picture:
                yield picture.size
        except (OSError, UnidentifiedImageError):
            continue  # `polytask check` tells which files are broken, and why


def _spread(sizes: Sequence[tuple[int, int]]) -> str:
    if not sizes:
        return "none of a sample could be opened"
    least, most = min(sizes), max(sizes)
    one = f"{least[0]}×{least[1]}"
    return f"{one} pixels" if least == most else f"{one} to {most[0]}×{most[1]} pixels"


def _counts(counts: Counter[str], shown: int = 8) -> str:
    listed = [f"{name} {count}" for name, count in sorted(counts.items())]
    more = f", … ({len(listed)} in all)" if len(listed) > shown else ""
    return ", ".join(listed[:shown]) + more


def _word(text: str) -> str:
    """A name that a config key can have without quotes."""
    word = re.sub(r"\W+", "_", text.strip().lower()).strip("_")
    return word if word and not word[0].isdigit() else f"data_{word}".rstrip("_")
