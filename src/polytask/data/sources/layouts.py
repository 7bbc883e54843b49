"""Published folders whose paths say more than a class: domains, turns of an object, letters' cases.

Source: Saenko, Kulis, Fritz, Darrell, ECCV 2010 (Office-31); Venkateswara, Eusebio, Chakraborty,
Panchanathan, CVPR 2017 (Office-Home); Nene, Nayar, Murase, CUCS-006-96, 1996 (COIL-20); de Campos,
Babu, Varma, VISAPP 2009 (Chars74K).
"""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import Any

from pydantic import Field

from polytask.data.files import find_images, locate, shown
from polytask.data.images import ImageSet
from polytask.data.source import Source
from polytask.data.sources.emnist import case_of
from polytask.errors import DataError, Fault, capped

NAMES = {
    "office31": "Office-31: 4,110 objects of 31 classes, from a shop, a camera and a webcam.",
    "office_home": "Office-Home: 15,588 objects of 65 classes: art, clip art, products, photos.",
    "coil20": "COIL-20: 20 objects on a turntable, one image every 5 degrees.",
    "chars74k": "Chars74K: digits and letters in both cases, from photographs, pens and fonts.",
}
LAYOUTS = {
    "office31": "amazon/images/<class>/*.jpg, and dslr and webcam alike",
    "office_home": "Art/<class>/*.jpg, and Clipart, Product and Real World alike",
    "coil20": "obj<number>__<view>.png",
    "chars74k": "Sample001/*.png to Sample062, below GoodImg, BadImag, Hnd or Fnt if these matter",
}
PATTERNS = {
    "office31": re.compile(r"\b(?P<domain>amazon|dslr|webcam)/(?:images/)?(?P<class>[^/]+)/[^/]+$"),
    "office_home": re.compile(
        r"\b(?P<domain>Art|Clipart|Product|Real ?World)/(?P<class>[^/]+)/[^/]+$"
    ),
    "coil20": re.compile(r"obj(?P<object>\d+)__(?P<view>\d+)\.\w+$"),
    "chars74k": re.compile(
        r"(?:\b(?P<domain>GoodImg|BadImag|Hnd|Fnt)/(?:.*/)?)?Sample(?P<number>0(?!00)[0-5]\d|06[0-2])/[^/]+$"
    ),
}
CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
STEP = 5  # degrees between two views of COIL-20


class Layout(Source):
    """Columns `class` and, of Office and Chars74K, `domain`; of COIL-20 `angle` in degrees; of
    Chars74K `case`: digit, upper or lower. `only: {domain: [amazon]}` reads a part.
    """

    path: Path = Field(description="folder or zip archive")

    def read(self, name: str, folder: Path) -> ImageSet:
        root = locate(name, self.path, folder)
        # Chars74K has outlines of its characters beside them.
        found = [f for f in find_images(root) if "Msk" not in f.below.parts]
        matches = [PATTERNS[self.source].search(str(f.below)) for f in found]
        faults = [
            Fault(shown(root, f), f"is not in place; expected {LAYOUTS[self.source]}.")
            for f, match in zip(found, matches, strict=True)
            if match is None
        ]
        if faults:
            raise DataError(capped(faults))
        cells = [_cells(self.source, match.groupdict()) for match in matches if match]
        columns = {column: [row[column] for row in cells] for column in cells[0]}
        return ImageSet(
            name,
            images=[f.image for f in found],
            columns=columns,
            places=[shown(root, f) for f in found],
            default_label="class",
        )


def _cells(source: str, found: dict[str, Any]) -> dict[str, Any]:
    """What the parts of a path say, by column."""
    if source == "coil20":
        return {"class": found["object"], "angle": STEP * int(found["view"])}
    if source == "chars74k":
        character = CHARACTERS[int(found["number"]) - 1]
        return {"class": character, "case": case_of(character), "domain": found["domain"]}
    return found | {"domain": found["domain"].replace(" ", "_")}
