"""One colour and one mark per method, the same in every figure and legend.

Colours are CSS variables with a value for light and one for dark pages (page.css); figures are
drawn in sentinel colours that stand for them. The hues are after Okabe and Ito's palette for
colour-blind readers, darkened or lightened to a contrast of 3:1; marks differ as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# matplotlib's code of each mark, and the character a legend shows.
MARKS = (("s", "■"), ("^", "▲"), ("D", "◆"), ("v", "▼"), ("P", "✚"), ("*", "★"), ("X", "✖"))
DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))
HUES = tuple(f"hue{i}" for i in range(8))
ROLES = ("ink", "muted", "grid", "surface", "baseline", *HUES)
# No colour a figure would use otherwise; black itself is matplotlib's own default.
SENTINELS = {role: f"#0000{i:02x}" for i, role in enumerate(ROLES, start=1)}


@dataclass(frozen=True)
class Look:
    """How a method is drawn: the CSS variable of its colour, its mark, its line."""

    role: str
    mark: str
    glyph: str
    dash: str | tuple[int, tuple[float, ...]] = "-"

    @property
    def colour(self) -> str:
        """The colour to draw with; it becomes `var(--role)` in the page."""
        return SENTINELS[self.role]


def looks(methods: Sequence[str]) -> dict[str, Look]:
    """A look per method; `single` is the grey baseline that the others are held against."""
    found = {}
    others = [method for method in methods if method != "single"]
    for method in methods:
        if method == "single":
            found[method] = Look("baseline", "o", "●")
            continue
        i = others.index(method)
        mark, glyph = MARKS[i % len(MARKS)]
        found[method] = Look(HUES[i % len(HUES)], mark, glyph, DASHES[i % len(DASHES)])
    return found
