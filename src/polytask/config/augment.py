"""What changes training images at random, as a config says it; presets have the papers' names."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from polytask.errors import nearest, one_of

Share = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(gt=0, le=10)]
Degrees = Annotated[float, Field(ge=-180, le=180)]

PRESETS: dict[str, dict[str, Any]] = {
    "none": {},
    # He et al., CVPR 2016, §4.2, for CIFAR.
    "cifar": {"flip": True, "crop": 4},
    # Szegedy et al., CVPR 2015, §6.
    "imagenet": {"flip": True, "scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3)},
    # Crops at 1 to 1.5 times the size, as usual for NYUv2 and Cityscapes.
    "scenes": {"flip": True, "scale": (1 / 1.5**2, 1.0)},
    # The auxiliary encoders' pre-training on pets; there labels stayed where they were.
    "pets_auxiliary": {"perspective": 0.9, "rotate": (0.0, 30.0), "chance": 0.4},
    # Chen and He, CVPR 2021, without blur, greying and hue.
    "simsiam": {"flip": True, "scale": (0.2, 1.0), "ratio": (3 / 4, 4 / 3), "jitter": 0.4},
}


class Augment(BaseModel):
    """Random changes of training images, drawn from (seed, epoch, index); a preset by its name.

    Masks, boxes, depths and normals go with their image; what leaves the image is ignored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    flip: bool = Field(False, description="mirror left and right, half of the time")
    crop: int = Field(0, ge=0, le=64, description="pad by so many pixels and crop at random")
    scale: tuple[Share, Share] | None = Field(
        None, description="crop so large a share of the image, and enlarge it to the whole"
    )
    ratio: tuple[Ratio, Ratio] = Field(
        (1.0, 1.0), description="width over height of those crops, times the image's"
    )
    rotate: tuple[Degrees, Degrees] = Field(
        (0.0, 0.0), description="turn by degrees in this range; 10 is [-10, 10]"
    )
    perspective: float = Field(
        0.0, ge=0, lt=1, description="move corners inwards by up to this share of half a side"
    )
    chance: float = Field(1.0, gt=0, le=1, description="of being turned and tilted at all")
    jitter: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="change brightness, contrast and saturation by up to this share",
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value not in PRESETS:
            hint = nearest(value, PRESETS)
            raise ValueError(f"expected {one_of(PRESETS)}, or options. {hint}".strip())
        return PRESETS[value]

    @field_validator("rotate", mode="before")
    @classmethod
    def _both_ways(cls, rotate: Any) -> Any:
        is_number = isinstance(rotate, int | float) and not isinstance(rotate, bool)
        return (-rotate, rotate) if is_number else rotate

    @field_validator("scale", "ratio", "rotate")
    @classmethod
    def _rising(cls, bounds: tuple[float, float] | None) -> tuple[float, float] | None:
        if bounds is not None and bounds[0] > bounds[1]:
            raise ValueError("expected the smaller number first")
        return bounds

    @property
    def warps(self) -> bool:
        """Whether pixels move by more than whole steps."""
        return self.scale is not None or self.rotate != (0.0, 0.0) or self.perspective > 0
