"""What tasks answer, drawn on the picture they were asked about, and in words.

An answer is what `Task.read` gives, or the part of a label that can be drawn: `mask`, `box`,
`boxes`, `depth`, `normals`. Boxes and the first mask lie on the picture; further masks, depths and
normals hide it and become pictures of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from polytask.data.overlay import FRAME, colour_of, depth_colours, draw_box, with_mask

if TYPE_CHECKING:
    from PIL.Image import Image

Answer: TypeAlias = Mapping[str, Any]
Colour = tuple[int, int, int]

TRUE = (0, 200, 255)  # the frame of a label's box
MAIN = ""  # the name of the picture itself
LEAST_SIDE = 480  # of a picture that is written for people, with words on it
MOST_LINES = 12
MOST_BOXES, MOST_TOLD = 20, 5  # of an image, the surest or largest first
LEAST_SHARE = 0.0005  # of an image that is told, a tenth of a percent when rounded


def drawn(
    pixels: np.ndarray,
    answers: Mapping[str, Answer],
    labels: Mapping[str, Answer] | None = None,
    frame: Colour = FRAME,
) -> dict[str, Image]:
    """Pictures of the answers to an image [H, W, 1 or 3], uint8, which they refer to.

    The one called `MAIN` is always there; the others have the names of their tasks. The boxes of
    `labels` are framed in blue below those of the answers.
    """
    from PIL import Image

    shown = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    first = next((name for name, answer in answers.items() if "mask" in answer), None)
    main = shown if first is None else with_mask(shown, np.asarray(answers[first]["mask"]))
    pictures = {MAIN: Image.fromarray(main)}
    for name, answer in answers.items():
        found = _map_of(shown, answer, (labels or {}).get(name, {}))
        if name != first and found is not None:
            pictures[name] = Image.fromarray(found)
    for frames, colour in ((labels or {}, TRUE), (answers, frame)):
        for answer in frames.values():
            for box in _boxes_of(answer):
                draw_box(pictures[MAIN], box, colour=colour)
    return pictures


def _map_of(pixels: np.ndarray, answer: Answer, label: Answer) -> np.ndarray | None:
    """What fills a picture, as colours; depths in the scale of the label's, where there is one."""
    if "mask" in answer:
        return with_mask(pixels, np.asarray(answer["mask"]))
    if "depth" in answer:
        depth = np.asarray(answer["depth"], float)
        return depth_colours(depth, np.asarray(label.get("depth", depth), float))
    if "normals" in answer:
        normals = np.asarray(answer["normals"], float)
        return ((normals + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    return None


def _boxes_of(answer: Answer) -> list[Sequence[float]]:
    one = [answer["box"]] if "box" in answer else []
    return one + [each["box"] for each in answer.get("boxes", ())[:MOST_BOXES]]


def in_words(answer: Answer) -> str:
    """An answer in a line; maps of numbers are left out."""
    if "class" in answer:
        return f"{answer['class']} {answer['probability']:.2f}"
    if "labels" in answer:
        return ", ".join(answer["labels"]) or "none"
    if "shares" in answer:
        largest = sorted(answer["shares"].items(), key=lambda each: -each[1])[:MOST_TOLD]
        return ", ".join(f"{name} {share:.1%}" for name, share in largest if share >= LEAST_SHARE)
    if "box" in answer:
        return ", ".join(f"{edge:.1f}" for edge in answer["box"])
    if "boxes" in answer:
        found = [f"{each['class']} {each['score']:.2f}" for each in answer["boxes"]]
        more = [f"{len(found) - MOST_TOLD} more"] if len(found) > MOST_TOLD else []
        return ", ".join(found[:MOST_TOLD] + more) or "none"
    if "values" in answer:
        return ", ".join(f"{name} {value:.4g}" for name, value in answer["values"].items())
    if "normals" in answer:
        mean = np.asarray(answer["normals"]).mean(axis=(0, 1))
        return "mean normal " + " ".join(f"{part:+.2f}" for part in mean)
    return ", ".join(
        f"{key.replace('_', ' ')} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in answer.items()
        if not isinstance(value, list | dict)
    )


def write_overlay(
    pixels: np.ndarray, answers: Mapping[str, Answer], folder: Path, name: str
) -> list[Path]:
    """Draw answers, with a legend, into `<name>.png` and further maps into `<name>-<task>.png`.

    A small picture is enlarged by a whole number, so that words fit on it.

    Raises:
        UserError: the folder cannot be written.
    """
    from PIL import Image

    from polytask.errors import UserError

    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pictures = drawn(pixels, answers)
        own = [task for task in pictures if task and "mask" in answers[task]]
        main = {task: answer for task, answer in answers.items() if task not in own}
        for task, picture in pictures.items():
            factor = ceil(LEAST_SIDE / max(picture.size))
            size = (picture.width * factor, picture.height * factor)
            large = picture.resize(size, Image.Resampling.NEAREST)
            _write_lines(large, _legend({task: answers[task]} if task else main))
            written.append(folder / (f"{name}-{task}.png" if task else f"{name}.png"))
            large.save(written[-1])
    except OSError as error:
        problem = f"{folder} cannot be written: {error.strerror or error}"
        raise UserError.at("--overlay", problem, "Give another folder.") from error
    return written


def _legend(answers: Mapping[str, Answer]) -> list[tuple[str, Colour | None]]:
    """Lines with the colour they explain: classes that a mask holds, boxes, and other answers."""
    lines: list[tuple[str, Colour | None]] = []
    for task, answer in answers.items():
        if "mask" in answer:
            shares = answer.get("shares", {}).items()
            parts = [(share, k, name) for k, (name, share) in enumerate(shares)]
            for share, number, name in sorted(parts, reverse=True):
                if number and share >= LEAST_SHARE:
                    lines.append((f"{name} {share:.1%}", colour_of(number)))
        elif "boxes" in answer:
            lines += [(f"{e['class']} {e['score']:.2f}", FRAME) for e in answer["boxes"]]
        elif "box" in answer:
            lines.append((task, FRAME))
        else:
            lines.append((f"{task}: {in_words(answer)}", None))
    return lines[:MOST_LINES]


def _write_lines(picture: Image, lines: Iterable[tuple[str, Colour | None]]) -> None:
    """Words at the left upper corner, on a dark ground."""
    from PIL import ImageDraw, ImageFont

    size = max(11, max(picture.size) // 36)
    font, step = ImageFont.load_default(size), size + 4
    pen = ImageDraw.Draw(picture, "RGBA")
    for i, (text, colour) in enumerate(lines):
        top, left = i * step, 4 if colour is None else step
        pen.rectangle((0, top, left + pen.textlength(text, font) + 4, top + step), (0, 0, 0, 170))
        if colour is not None:
            pen.rectangle((4, top + 4, step - 4, top + step - 4), (*colour, 255))
        pen.text((left, top + 1), text, fill="white", font=font)
