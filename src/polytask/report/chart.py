"""A matplotlib figure as a piece of SVG that belongs to the page around it.

Text stays text in the page's font, colours become CSS variables, so that one figure serves light
and dark, marks carry a tooltip, and nothing in it names another place. Figures are drawn at the
width of a phone (360 units) and are laid out side by side on wider screens.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from polytask.report.palette import SENTINELS

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

WIDTH = 360
FONT = 11
INK, MUTED, GRID, SURFACE = (SENTINELS[r] for r in ("ink", "muted", "grid", "surface"))
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "polytask",
    "text.parse_math": False,  # a "$" in a class name is a dollar
    "font.size": FONT,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.labelsize": FONT,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "xtick.major.pad": 5,
    "ytick.major.pad": 5,
    "lines.solid_capstyle": "round",
}
SENTINEL = {colour: f"var(--{role})" for role, colour in SENTINELS.items()}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the report's style, whatever the user's own matplotlib settings are."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        # matplotlib warns of letters that its own font lacks; the browser's fonts have them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


class Chart:
    """A figure of `width` × `height` units, one unit being one pixel on a phone."""

    def __init__(self, height: float, width: float = WIDTH) -> None:
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        self.tips: list[str] = []

    def axes(self, left: float, top: float, right: float, bottom: float, **options: Any) -> Axes:
        """Axes with the given margins, in units."""
        box = (
            left / self.width,
            bottom / self.height,
            (self.width - left - right) / self.width,
            (self.height - top - bottom) / self.height,
        )
        return self.figure.add_axes(box, **options)

    def tip(self, artist: Artist, text: str) -> None:
        """Give an artist a tooltip."""
        artist.set_gid(f"tip:{len(self.tips)}")
        self.tips.append(plain(text))

    def svg(self, label: str) -> str:
        """The figure as an `<svg>` element; `label` says in words what it shows."""
        file = io.StringIO()
        self.figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        return _belonging(file.getvalue(), plain(label), self.tips)


def plain(text: str) -> str:
    """Text that any font and XML can hold: no control characters, no halves of a pair."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in str(text))


def shorten(text: str, length: int) -> str:
    """Text of at most `length` characters, cut in the middle, where names tend to be alike."""
    text = plain(text)
    if len(text) <= length:
        return text
    head = length // 2
    return f"{text[:head]}…{text[len(text) - (length - head - 1) :]}"


def padded(values: Sequence[float], least: float = 0.0, by: float = 0.08) -> tuple[float, float]:
    """Limits around values, `least` units apart, with some air."""
    low, high = min(values), max(values)
    middle = max(least - (high - low), 0) / 2
    air = (high - low + 2 * middle or 1.0) * by
    return low - middle - air, high + middle + air


def _belonging(document: str, label: str, tips: Sequence[str]) -> str:
    root = ElementTree.fromstring(document)
    for element in root.iter():
        element.tag = element.tag.rsplit("}", 1)[-1]
        # Inline SVG needs no namespaces, and without them the page names no address at all.
        attributes = {k.rsplit("}", 1)[-1]: v for k, v in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update(attributes)
    for child in [e for e in root if e.tag == "metadata" or e.find("style") is not None]:
        root.remove(child)
    prefix = "c" + hashlib.sha256(document.encode()).hexdigest()[:8] + "-"
    for element in root.iter():
        _restyle(element, prefix, tips)
    width, height = (root.attrib.pop(side).removesuffix("pt") for side in ("width", "height"))
    root.attrib.pop("version", None)
    root.attrib |= {"class": "chart", "role": "img", "aria-label": label}
    root.attrib["style"] = f"--w:{float(width):g}px;aspect-ratio:{width}/{height}"
    return re.sub(r">\s+<", "><", ElementTree.tostring(root, encoding="unicode"))


def _restyle(element: ElementTree.Element, prefix: str, tips: Sequence[str]) -> None:
    attributes = element.attrib
    if "style" in attributes:
        text = re.sub(r"font-family:[^;]*(; )?", "", attributes["style"])
        text = re.sub(r"#0000[0-9a-f]{2}", lambda m: SENTINEL.get(m[0], m[0]), text)
        attributes["style"] = text.replace(": ", ":").replace("; ", ";").rstrip(";")
    if "d" in attributes:
        numbers = re.sub(r"\d+\.\d+", lambda m: f"{float(m[0]):.2f}", attributes["d"])
        attributes["d"] = " ".join(numbers.split())
    if attributes.get("transform", "").startswith("rotate(-0 "):
        del attributes["transform"]
    for key in ("href", "clip-path"):
        if key in attributes:
            attributes[key] = attributes[key].replace("#", "#" + prefix)
    name = attributes.pop("id", "")
    if name.startswith("tip:"):
        attributes["class"] = "mark"
        title = ElementTree.Element("title")
        title.text = tips[int(name[4:])]
        element.insert(0, title)
    elif element.tag in ("path", "clipPath") and name:
        attributes["id"] = prefix + name
