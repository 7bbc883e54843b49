"""A data set of Hugging Face's library `datasets`: from disk, from Parquet files, or from the Hub.

Source: Lhoest et al., "Datasets: A Community Library for Natural Language Processing", EMNLP 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from polytask.data.files import locate
from polytask.data.images import SPLITS, ImageSet, consecutive
from polytask.data.source import Source
from polytask.errors import DataError, MissingExtra, unknown

SPLIT_OF = {"train": "train", "validation": "val", "valid": "val", "val": "val", "test": "test"}


class Hf(Source):
    """Every column that is no image of the data set itself is a label; class numbers become their
    names, −1 means not labelled; columns of images are masks or other label maps.
    """

    path: Path | None = Field(
        None, description="folder of save_to_disk, or a Parquet file or folder of such files"
    )
    hub: str | None = Field(None, description="name on the Hub, in place of path")
    subset: str | None = Field(None, description="configuration of a data set on the Hub")
    download: bool = Field(
        False, description="fetch from the Hub; else only what was fetched before"
    )
    images: str = Field("image", description="column of the images")
    lists: dict[str, str] = Field(
        {}, description="which of the data set's splits is train, val and test, if not of that name"
    )

    @model_validator(mode="after")
    def _one_place(self) -> Hf:
        if (self.path is None) == (self.hub is None):
            raise ValueError("expected path or hub, one of the two")
        if not set(self.lists) <= set(SPLITS):
            raise ValueError(f"lists: expected splits {', '.join(SPLITS)}")
        return self

    def read(self, name: str, folder: Path) -> ImageSet:
        parts = self._parts(name, folder)
        wanted = self._wanted(name, parts)
        tables = {split: self._table(name, parts[theirs]) for split, theirs in wanted}
        counts = {split: len(table[self.images]) for split, table in tables.items()}
        joined = {
            column: [cell for table in tables.values() for cell in table[column]]
            for column in next(iter(tables.values()))
        }
        images = joined.pop(self.images)
        places = [f"{name}[{split}:{i}]" for split, count in counts.items() for i in range(count)]
        blank = [place for place, image in zip(places, images, strict=True) if image is None]
        if blank:
            raise DataError.at(blank[0], f"{self.images}: blank; expected an image.")
        only = next(iter(joined)) if len(joined) == 1 else None
        default = "label" if "label" in joined else only
        given = consecutive(counts) if set(counts) != {"train"} else {}
        return ImageSet(name, images, joined, given, places, default, self._classes(parts))

    def _parts(self, name: str, folder: Path) -> dict[str, Any]:
        """The data set's own splits."""
        try:
            import datasets
        except ImportError as error:
            raise MissingExtra(f"data.{name}", "hf") from error
        where, at = f"data.{name}.{'hub' if self.hub else 'path'}", None
        try:
            if self.hub is not None:
                mode = datasets.DownloadConfig(local_files_only=not self.download)
                found = datasets.load_dataset(self.hub, self.subset, download_config=mode)
            else:
                assert self.path is not None
                at = locate(name, self.path, folder)
                found = _from_disk(at)
        except (DataError, MemoryError):
            raise
        except Exception as error:  # the library raises errors of a dozen other libraries
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError.at(where, f"{at or self.hub} can't be read: {reason}") from error
        return dict(found) if isinstance(found, dict) else {"train": found}

    def _wanted(self, name: str, parts: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """Our splits and theirs, in the order train, val, test."""
        named = {SPLIT_OF[theirs]: theirs for theirs in parts if theirs in SPLIT_OF}
        chosen = {**named, **self.lists}
        for split, theirs in self.lists.items():
            if theirs not in parts:
                raise DataError(unknown(f"data.{name}.lists.{split}", "split", theirs, parts))
        if "train" not in chosen:
            raise DataError(unknown(f"data.{name}.lists.train", "split", "train", parts))
        yield from ((split, chosen[split]) for split in SPLITS if split in chosen)

    def _table(self, name: str, part: Any) -> dict[str, list[Any]]:
        """The columns of a split as label cells, and the images' files."""
        import datasets

        features = part.features
        if self.images not in features:
            raise DataError(unknown(f"data.{name}.images", "column", self.images, features))
        if not isinstance(features[self.images], datasets.Image):
            problem = f"{self.images} is {features[self.images]}; expected a column of images."
            raise DataError.at(f"data.{name}.images", problem)
        for column, feature in features.items():
            if isinstance(feature, datasets.Image):
                part = part.cast_column(column, datasets.Image(decode=False))
        cells = part[:]
        return {column: _cells(cells[column], features[column]) for column in features}

    def _classes(self, parts: dict[str, Any]) -> dict[str, list[str]]:
        features = next(iter(parts.values())).features
        return {c: list(f.names) for c, f in features.items() if hasattr(f, "names")}


def _from_disk(at: Path) -> Any:
    import datasets

    if at.is_file() or (at.is_dir() and any(at.rglob("*.parquet"))):
        files = [at] if at.is_file() else sorted(at.rglob("*.parquet"))
        # A file is of the split that its name starts with, as on the Hub: test-00000-of-00001.
        by_split: dict[str, list[str]] = {}
        for file in files:
            word = file.stem.split("-")[0] if len(files) > 1 else "train"
            by_split.setdefault(word if word in SPLIT_OF else "train", []).append(str(file))
        return {split: datasets.Dataset.from_parquet(names) for split, names in by_split.items()}
    return datasets.load_from_disk(str(at))


def _cells(column: list[Any], feature: Any) -> list[Any]:
    names = getattr(feature, "names", None)
    if names is not None:
        return [None if k is None or k < 0 else names[k] for k in column]
    if type(feature).__name__ == "Image":
        return [_file(cell) for cell in column]
    return [cell if cell != "" else None for cell in column]


def _file(cell: dict[str, Any] | None) -> Path | bytes | None:
    if cell is None:
        return None
    content, path = cell["bytes"], cell["path"]
    return content if content is not None else Path(path)
