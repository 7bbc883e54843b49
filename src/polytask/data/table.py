"""Tables of label cells from CSV and Parquet files; every cell knows its row, as errors name it."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytask.errors import DataError, Fault, MissingExtra, capped

CSV, PARQUET = (".csv",), (".parquet", ".pq")


@dataclass
class Table:
    """Cells by column, `None` where blank; `places` names each row: `shelf.csv:14`."""

    columns: dict[str, list[Any]]
    places: list[str]


def read_table(path: Path, content: bytes | None = None) -> Table:
    """Read a table with named columns; `content` is that of a file in an archive.

    Raises:
        DataError: the file is no such table; all faulty rows at once.
        MissingExtra: a Parquet file, and pyarrow is not installed.
    """
    suffix = path.suffix.lower()
    if suffix in CSV:
        return _read_csv(path, content)
    if suffix in PARQUET:
        return _read_parquet(path, content)
    found = "a folder" if path.is_dir() else f'a "{suffix}" file'
    raise DataError.at(str(path), f"got {found}; expected a .csv or .parquet file.")


def _read_csv(path: Path, content: bytes | None) -> Table:
    rows, places, faults = _rows(path, content)
    if not rows:
        raise DataError(faults or Fault(str(path), "is empty; expected a header and rows."))
    header = [cell.strip() for cell in rows[0]]
    faults += _header_faults(places[0], header)
    for row, place in zip(rows[1:], places[1:], strict=True):
        if len(row) != len(header):
            faults.append(
                Fault(place, f"has {len(row)} cells; expected {len(header)}, as the header has.")
            )
    if faults:
        raise DataError(capped(faults))
    if len(rows) == 1:
        raise DataError.at(str(path), "has a header and no rows.")
    cells = [[cell.strip() or None for cell in column] for column in zip(*rows[1:], strict=True)]
    return Table(dict(zip(header, cells, strict=True)), places[1:])


def _rows(path: Path, content: bytes | None) -> tuple[list[list[str]], list[str], list[Fault]]:
    """Every row that is not blank, with its place, up to the first that csv can't parse."""
    rows: list[list[str]] = []
    places: list[str] = []
    reader = csv.reader(io.StringIO(_text(path, content), newline=""), strict=True)
    while True:
        place = f"{path}:{reader.line_num + 1}"
        try:
            row = next(reader, None)
        except csv.Error as error:
            return rows, places, [Fault(place, f"is not CSV: {error}.", "Look for a lone quote.")]
        if row is None:
            return rows, places, []
        if any(cell.strip() for cell in row):
            rows.append(row)
            places.append(place)


def _text(path: Path, content: bytes | None) -> str:
    try:
        raw = path.read_bytes() if content is None else content
    except OSError as error:
        raise DataError.at(str(path), f"can't be opened: {error.strerror}") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError.at(
            f"{path}:{line}",
            f"byte 0x{raw[error.start]:02x} is not UTF-8.",
            "Save the file as UTF-8 (in a spreadsheet: CSV UTF-8).",
        ) from None
    if "\0" in text:
        raise DataError.at(str(path), "holds zero bytes, so it is not a text file.")
    return text


def _header_faults(place: str, header: list[str]) -> list[Fault]:
    faults = [
        Fault(place, f'column "{name}" is there {n} times; expected each name once.')
        for name, n in Counter(header).items()
        if n > 1 and name
    ]
    faults += [
        Fault(place, f"column {k} has no name.") for k, name in enumerate(header, 1) if not name
    ]
    if len(header) == 1 and any(separator in header[0] for separator in ";\t|"):
        faults.append(
            Fault(place, f'got one column, "{header[0]}"; expected commas between cells.')
        )
    return faults


def _read_parquet(path: Path, content: bytes | None) -> Table:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtra(f"Reading {path}", "parquet") from error
    try:
        file = path if content is None else io.BytesIO(content)
        table = parquet.ParquetFile(file).read()
    except (arrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError.at(str(path), f"is not a complete Parquet file: {reason}") from error
    faults = _header_faults(str(path), table.column_names)
    if not faults and not table.num_rows:
        faults = [Fault(str(path), "has columns and no rows.")]
    if faults:
        raise DataError(capped(faults))
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    places = [f"{path}:{row}" for row in range(1, table.num_rows + 1)]
    return Table({name: [said(c) for c in cells] for name, cells in columns.items()}, places)


def said(cell: Any) -> Any:
    """A cell without spaces around; `None` where it is blank or NaN."""
    if isinstance(cell, str):
        return cell.strip() or None
    return None if isinstance(cell, float) and math.isnan(cell) else cell
