"""From a file, bytes or an array to uint8 pixels, whatever the file's mode; and resizing.

What training sees is 8 bits, grey or RGB. Files that hold something else are brought to that form,
and `Decoded.changes` says how, so that `polytask check` can tell:

- CMYK, YCbCr, palette and the like become RGB; 1-bit becomes grey 0 or 255;
- 16-bit grey is scaled (65535 becomes 255), never clipped; 32-bit pixels, whose range is unknown,
  are refused;
- transparent pixels are laid on white;
- of several frames or pages the first is taken;
- the rotation that a camera wrote into EXIF is applied: labels refer to the upright picture.

Masks are pictures whose pixels are numbers of classes: they keep every value as it is written.

An NPY file does for each of them: an image of uint8, or of floats from 0 to 1; a mask of whole
numbers, −1 where a pixel is ignored.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeGuard, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.Image import Resampling, Transpose

from polytask.data.images import Image as ImageLike
from polytask.errors import DataError

T = TypeVar("T")

# Below Pillow's own threshold, so that one limit rules; 9504 × 6336 of a 61-megapixel camera fits.
MAX_PIXELS = 80_000_000
warnings.simplefilter("error", Image.DecompressionBombWarning)

ORIENTATION = 0x0112
ROUNDING = 1e-3  # by which floats of 0 to 1 may miss their range
UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Decoded:
    """`pixels` is uint8 [H, W, C] with C 1 or 3; `changes` is what was done to the file's own."""

    pixels: np.ndarray
    changes: tuple[str, ...] = ()


def read_image(image: ImageLike, place: str) -> np.ndarray:
    """Decode an image to uint8 [H, W, C], C 1 or 3.

    Args:
        image: an array, the path of a file, or a file's bytes.
        place: where the image comes from, as an error names it.

    Raises:
        DataError: the image is missing, empty, truncated, huge, or no image; the reason is named.
    """
    return decode(image, place).pixels


def decode(image: ImageLike, place: str) -> Decoded:
    """Decode as `read_image` does, and say what was changed."""
    if isinstance(image, np.ndarray):
        return Decoded(_as_pixels(image, place))
    if is_npy(image):
        values = read_npy(image, place)
        changes = () if values.dtype == np.uint8 else ("0 to 1 scaled to 8 bits",)
        return Decoded(_as_pixels(_in_8_bits(values, place), place), changes)
    return _from_file(image, place, _decode)


def read_mask(mask: ImageLike | Callable[[], np.ndarray], place: str) -> np.ndarray:
    """Decode the classes of pixels, uint8 [H, W]: grey values or palette entries as they stand.

    Some sources give masks that are drawn when they are read.

    Raises:
        DataError: the mask can't be read, or its pixels are no numbers from 0 to 255.
    """
    if callable(mask):
        return mask()
    if is_npy(mask):
        mask = _ignoring(read_npy(mask, place))
    if isinstance(mask, np.ndarray):
        try:
            return _as_classes(mask)
        except _Refused as error:
            raise DataError.at(place, f"the mask {error}") from None
    return _from_file(mask, place, _decode_mask)


def read_values(values: ImageLike | Callable[[], np.ndarray], place: str) -> np.ndarray:
    """Decode the numbers of pixels as they are written: [H, W], or [H, W, 3] of a colour file.

    Some sources give values that are computed when they are read.

    Raises:
        DataError: the file can't be read, or has neither one number a pixel nor three.
    """
    if callable(values):
        return values()
    if is_npy(values):
        return read_npy(values, place)
    return values if isinstance(values, np.ndarray) else _from_file(values, place, _decode_values)


def is_npy(image: object) -> TypeGuard[Path | bytes]:
    """Whether it is the path, or the bytes, of an array that NumPy wrote."""
    if isinstance(image, bytes):
        return image.startswith(b"\x93NUMPY")
    return isinstance(image, Path) and image.suffix.lower() == ".npy"


def read_npy(npy: Path | bytes, place: str) -> np.ndarray:
    """The numbers of an NPY file, [H, W] or [H, W, 3]; a last axis of one number is dropped.

    Raises:
        DataError: it can't be read, is too large, or holds something else.
    """
    path = "the array" if isinstance(npy, bytes) else npy
    try:  # a pickle could run code
        if isinstance(npy, bytes):
            values = np.load(io.BytesIO(npy), allow_pickle=False)
        else:
            values = np.load(npy, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        # NumPy takes what it does not know for a pickle, and says how to run it.
        reason = "it holds something else" if "pickle" in str(error) else error
        raise DataError.at(place, f"{path} is no NPY array of numbers: {reason}") from error
    if values.dtype.kind not in "biuf" or values.ndim not in (2, 3):
        problem = f"{path} is an array of {values.dtype} {list(values.shape)}"
        raise DataError.at(place, f"{problem}; expected numbers [H, W] or [H, W, 3].")
    if values.size > 3 * MAX_PIXELS:
        raise DataError.at(place, f"{path} is too large: {list(values.shape)}")
    read = np.array(values)
    return read[..., 0] if read.ndim == 3 and read.shape[2] == 1 else read


def _in_8_bits(values: np.ndarray, place: str) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if values.dtype.kind != "f" or not (low >= -ROUNDING and high <= 1 + ROUNDING):
        problem = f"an array of {values.dtype} from {low:g} to {high:g}"
        raise DataError.at(place, f"got {problem}; expected uint8, or floats from 0 to 1.")
    return np.asarray((values * 255).round().clip(0, 255), np.uint8)


def _ignoring(values: np.ndarray) -> np.ndarray:
    """Whole numbers as integers, and −1 as 255, which both say that a pixel is ignored."""
    whole = values.round() if values.dtype.kind == "f" else values
    if not np.array_equal(whole, values):
        return values
    wide = whole.astype(np.int64)
    return np.where(wide == -1, 255, wide)


def _from_file(image: Path | bytes, place: str, read: Callable[[IO[bytes]], T]) -> T:
    """What `read` makes of an open file; a `DataError` says in plain words why it can't."""
    subject = "the image" if isinstance(image, bytes) or str(image) in place else str(image)
    try:
        with io.BytesIO(image) if isinstance(image, bytes) else Path(image).open("rb") as stream:
            return read(stream)
    # A damaged file can raise anything from Pillow's decoders: struct.error, KeyError, SyntaxError…
    except Exception as error:
        raise DataError.at(place, f"{subject} {_reason(error)}") from error


class _Refused(ValueError):
    """The file is sound, but training can't use it."""


def _reason(error: Exception) -> str:
    text = str(error)
    if isinstance(error, _Refused):
        return text
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, (PermissionError, IsADirectoryError)):
        return f"can't be opened: {error.strerror}"
    if isinstance(error, (Image.DecompressionBombWarning, Image.DecompressionBombError)):
        return f"is too large: more than {MAX_PIXELS / 1e6:.0f} million pixels; make it smaller"
    if isinstance(error, UnidentifiedImageError):
        return "has no known image format, or is damaged; save it as JPEG or PNG"
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return "is truncated: the file ends before the picture does"
    return f"is damaged: {text or type(error).__name__}"


def _decode(stream: IO[bytes]) -> Decoded:
    picture = _open(stream)
    # MPO is a photograph with a preview behind it.
    animated = getattr(picture, "is_animated", False) and picture.format != "MPO"
    turn = UPRIGHT.get(_orientation(picture))
    plain, changes = _to_8_bits(picture)
    if animated:
        changes = [*changes, "first of several frames taken"]
    if turn is not None:
        plain = plain.transpose(turn)
        changes = [*changes, "turned upright as EXIF says"]
    pixels = np.array(plain)
    return Decoded(pixels if pixels.ndim == 3 else pixels[..., None], tuple(changes))


def _decode_mask(stream: IO[bytes]) -> np.ndarray:
    picture = _open(stream)
    turn = UPRIGHT.get(_orientation(picture))
    if picture.mode not in ("1", "L", "P") and not picture.mode.startswith("I"):
        raise _Refused(f"has {picture.mode} pixels; expected one number a pixel, grey or palette")
    return _as_classes(np.array(picture if turn is None else picture.transpose(turn)))


def _decode_values(stream: IO[bytes]) -> np.ndarray:
    picture = _open(stream)
    turn = UPRIGHT.get(_orientation(picture))
    if picture.mode not in ("L", "F", "RGB") and not picture.mode.startswith("I"):
        raise _Refused(f"has {picture.mode} pixels; expected grey of any depth, or RGB")
    return np.array(picture if turn is None else picture.transpose(turn))


def _as_classes(values: np.ndarray) -> np.ndarray:
    if values.ndim != 2 or values.dtype.kind not in "biu":
        raise _Refused(
            f"is an array of {values.dtype} {list(values.shape)}; expected integers [H, W]"
        )
    if values.size and (values.min() < 0 or values.max() > 255):
        wrong = values.min() if values.min() < 0 else values.max()
        raise _Refused(f"holds the value {wrong}; expected 0 to 255")
    return values.astype(np.uint8)


def _open(stream: IO[bytes]) -> Image.Image:
    if not stream.read(1):
        raise _Refused("is empty: 0 bytes")
    stream.seek(0)
    picture = Image.open(stream)
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise _Refused(
            f"is too large: {width} × {height} pixels; the limit is "
            f"{MAX_PIXELS / 1e6:.0f} million. Make it smaller"
        )
    if picture.format == "PNG":
        picture.verify()  # Pillow checks no checksum of the pixels otherwise
        stream.seek(0)
        picture = Image.open(stream)
    return picture


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged metadata does not make the pixels unusable
        return 1


def _to_8_bits(picture: Image.Image) -> tuple[Image.Image, list[str]]:
    mode = picture.mode
    # Pillow gives 16-bit PGM, and in older versions PNG, as 32-bit integers.
    if mode.startswith("I;16") or (mode == "I" and picture.format in ("PNG", "PPM")):
        wide = np.asarray(picture).astype(np.uint32)
        scaled = ((wide * 255 + 32767) // 65535).astype(np.uint8)
        return Image.fromarray(scaled), ["16 bits scaled to 8"]
    if mode in ("I", "F"):
        raise _Refused("has 32-bit pixels, whose range is unknown; save it with 8 or 16 bits")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        return _on_white(picture)
    if mode in ("L", "RGB"):
        picture.load()
        return picture, []
    target = "L" if mode == "1" else "RGB"
    return picture.convert(target), [f"{_MODES.get(mode, mode)} converted to {_MODES[target]}"]


_MODES = {"1": "1 bit", "L": "grey", "P": "palette", "RGB": "RGB"}


def _on_white(picture: Image.Image) -> tuple[Image.Image, list[str]]:
    target = "L" if picture.mode in ("L", "LA", "La") else "RGB"
    layered = picture.convert("RGBA")
    if layered.getchannel("A").getextrema() == (255, 255):
        return layered.convert(target), []
    white = Image.new("RGBA", layered.size, "white")
    return Image.alpha_composite(white, layered).convert(target), ["transparency laid on white"]


def _as_pixels(array: np.ndarray, place: str) -> np.ndarray:
    shaped = array[..., None] if array.ndim == 2 else array
    if shaped.ndim != 3 or shaped.shape[2] not in (1, 3) or array.dtype != np.uint8:
        raise DataError.at(
            place,
            f"got an array of {array.dtype} {list(array.shape)}; "
            "expected uint8 [H, W], [H, W, 1] or [H, W, 3]",
        )
    return shaped


def resize(image: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resize uint8 [H, W, C] to [height, width, C], bilinear, antialiased where it shrinks.

    Args:
        image: what `read_image` returns.
        size: (height, width), or one number for a square.
    """
    height, width = _pair(size)
    if image.shape[:2] == (height, width):
        return image
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    resized = np.array(picture.resize((width, height), Resampling.BILINEAR))
    return resized if resized.ndim == 3 else resized[..., None]


def resize_mask(mask: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resize [H, W, …] to [height, width, …] by the nearest pixel: no value that was not there."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for old, new in zip(mask.shape[:2], _pair(size), strict=True)
    )
    return mask[np.ix_(rows, columns)]


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
