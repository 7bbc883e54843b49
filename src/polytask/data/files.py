"""Files on disk: where a path of a config leads, and which images a folder or zip archive holds."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from polytask.errors import DataError, Fault, capped, nearest

# HEIC is here although Pillow can't read it: a photograph must not be passed over in silence.
IMAGE = re.compile(
    r"\.(jpe?g|jfif|png|bmp|gif|tiff?|webp|avif|jp2|p[bgp]m|hei[cf])$", re.IGNORECASE
)
MAX_UNPACKED = 4 << 30  # bytes of a zip archive held in memory
MAX_TEXTS = 1 << 30


class Found(NamedTuple):
    """An image file: its path below the root, and the file, or its bytes in an archive."""

    below: PurePosixPath
    image: Path | bytes


def is_image(name: str) -> bool:
    """Whether a file's name says that it is an image."""
    return IMAGE.search(name) is not None


def locate(name: str, path: Path, folder: Path) -> Path:
    """Where data set `name` lies: its `path`, relative to the config's `folder`.

    Raises:
        DataError: there is nothing there; the nearest name that exists is offered.
    """
    found = Path(folder, os.path.expanduser(path))
    if os.path.exists(found):
        return found
    try:
        beside = sorted(os.listdir(found.parent))
    except OSError:
        beside = []
    problem = f"{found} does not exist; paths are relative to the config's folder."
    raise DataError.at(f"data.{name}.path", problem, nearest(found.name, beside))


def find_images(root: Path, wanted: Callable[[str], bool] = is_image) -> list[Found]:
    """Every image below a folder or in a zip archive, in the order of their paths.

    Hidden files and folders are left out, and files whose name is not `wanted`.

    Raises:
        DataError: `root` is neither, an archive is damaged or unsafe, or there is no image.
    """
    if root.is_dir():
        found = list(_in_folder(root, wanted))
    elif zipfile.is_zipfile(root):
        found = _in_archive(root, wanted)
    else:
        raise DataError.at(str(root), "is neither a folder nor a complete zip archive.")
    if not found:
        raise DataError.at(str(root), "holds no image; looked for .jpg, .png, .webp and the like.")
    return sorted(found, key=lambda f: f.below.parts)


def find_texts(root: Path, suffixes: tuple[str, ...], prefix: str = "") -> dict[PurePosixPath, str]:
    """The text files with those suffixes below a folder or in a zip archive, by their paths.

    Raises:
        DataError: one can't be read, or is not UTF-8.
    """
    if root.is_dir():
        files = (p for s in suffixes for p in root.rglob(f"{prefix}*{s}") if p.is_file())
        paths = {PurePosixPath(p.relative_to(root).as_posix()): p for p in files}
        return {
            below: read_text(paths[below])
            for below in sorted(paths)
            if not any(map(is_hidden, below.parts))
        }
    raw = _texts_of_archive(root, suffixes, prefix)
    return {
        below: _decoded(raw[below], f"{root}:{below}")
        for below in sorted(raw)
        if not any(map(is_hidden, below.parts))
    }


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        DataError: it can't be read, or is not UTF-8.
    """
    try:
        return _decoded(path.read_bytes(), str(path))
    except OSError as error:
        raise DataError.at(str(path), f"can't be opened: {error.strerror}.") from error


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError.at(f"{where}:{line}", f"is not UTF-8: {error.reason}.") from None


def _texts_of_archive(
    root: Path, suffixes: tuple[str, ...], prefix: str
) -> dict[PurePosixPath, bytes]:
    try:
        with zipfile.ZipFile(root) as archive:
            members = [
                m
                for m in archive.infolist()
                if m.filename.endswith(suffixes) and _parts(m.filename)[-1].startswith(prefix)
            ]
            if sum(member.file_size for member in members) > MAX_TEXTS:
                raise DataError.at(str(root), "holds more text than a data set's lists take.")
            return {PurePosixPath(*_parts(m.filename)): archive.read(m) for m in members}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise DataError.at(str(root), f"is a damaged archive: {error}") from error


def is_hidden(name: str) -> bool:
    """Whether a file or folder is a system's own, not the user's."""
    return name.startswith(".") or name == "__MACOSX"


def _in_folder(root: Path, wanted: Callable[[str], bool]) -> Iterator[Found]:
    seen = set()
    for folder, below, files in os.walk(root, onerror=_unreadable, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back to a folder above
            below.clear()
            continue
        seen.add(real)
        below[:] = [name for name in below if not is_hidden(name)]
        for name in files:
            if wanted(name) and not is_hidden(name):
                path = Path(folder, name)
                yield Found(PurePosixPath(path.relative_to(root).as_posix()), path)


def _unreadable(error: OSError) -> None:
    raise DataError.at(str(error.filename), f"can't be opened: {error.strerror}.")


def _in_archive(root: Path, wanted: Callable[[str], bool]) -> list[Found]:
    found, faults = [], []
    with zipfile.ZipFile(root) as archive:
        members = [
            member
            for member in archive.infolist()
            if wanted(member.filename)
            and not any(is_hidden(part) for part in _parts(member.filename) if part != "..")
        ]
        if sum(member.file_size for member in members) > MAX_UNPACKED:
            raise DataError.at(
                str(root),
                f"unpacks to more than {MAX_UNPACKED >> 30} GiB, which would be held in memory.",
                "Unpack it and give the folder.",
            )
        for member in members:
            path = PurePosixPath(*_parts(member.filename))
            where = f"{root}:{member.filename}"
            if path.is_absolute() or ".." in path.parts:
                faults.append(Fault(where, "leads out of the archive; expected a path inside it."))
                continue
            try:
                found.append(Found(path, archive.read(member)))
            except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
                faults.append(Fault(where, f"is damaged in the archive: {error}"))
            except (RuntimeError, NotImplementedError) as error:  # encrypted; rare compressions
                faults.append(Fault(where, f"can't be unpacked: {error}"))
    if faults:
        raise DataError(capped(faults))
    return found


def _parts(member: str) -> tuple[str, ...]:
    """A member's path; some Windows programs write backslashes."""
    return PurePosixPath(member.replace("\\", "/")).parts


def shown(root: Path, found: Found) -> str:
    """The image as an error names it: its path, or `archive.zip:member`."""
    return f"{root}:{found.below}" if isinstance(found.image, bytes) else str(found.image)
