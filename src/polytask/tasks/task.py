"""What to predict: labels, a head, a loss per image, metrics, and what a user reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from torch import Tensor, nn

from polytask.batch import Input, Value
from polytask.config.models import TaskOptions as TaskOptions

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

    from polytask.data.images import ImageSet
    from polytask.data.making import Made, Pixels, Raw
    from polytask.phase import Phase
    from polytask.sharing.method import SharingMethod


Size: TypeAlias = tuple[int, int]  # height, width


class Pictures(NamedTuple):
    """What a pretext task made of an image, what would have been right, and the answer: [H, W, 3],
    uint8."""

    seen: np.ndarray
    right: np.ndarray
    answer: np.ndarray


@dataclass(frozen=True)
class FeatureShape:
    """The map a head reads: [B, channels, height, width]."""

    channels: int
    height: int
    width: int


@dataclass
class Labels:
    """The labels of one task for the images of a data set.

    `value` has one row an image (rows without a label hold anything); `present` [N] says which
    images are labelled; `strata` [N] is what stratified splits and fractions keep in proportion
    (−1 where unlabelled), `None` unless an image has one class; `occurs` [N, K] says which classes
    are in an image that may hold several.
    """

    value: Any
    present: np.ndarray
    strata: np.ndarray | None = None
    occurs: np.ndarray | None = None


def given_classes(options: TaskOptions) -> list[str]:
    """The classes that a config names, or numbers from 0; none where it leaves them to the data."""
    given = options.classes
    if isinstance(given, int):
        return [str(i) for i in range(given)]
    return list(given or ())


class Task(ABC):
    """One task. It holds no parameters: `head` builds them.

    Subclasses are one file each in `tasks/`, named after their kind, and set `primary` (the metric
    that decides), `higher_is_better`, `taps` (how many feature maps the head reads), `is_dense`
    (whether the answer is a map, which a backbone with a decoder gives), `chooses` (whether a
    prediction scores classes, the best of which is the answer) and `Options`.
    """

    primary: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    is_dense: ClassVar[bool] = False
    chooses: ClassVar[bool] = True
    taps: int = 1
    Options: ClassVar[type[TaskOptions]] = TaskOptions

    def __init__(self, name: str, options: TaskOptions) -> None:
        self.name = name
        self.options = options
        self.data = options.data
        self.classes: list[str] = []

    @property
    def kind(self) -> str:
        """The kind's name in a config."""
        return self.options.kind

    @property
    def views(self) -> int:
        """How many views of an image the head reads together: more than one for tiles only."""
        return 1

    def input(self, seen: Input) -> Input:
        """What the network gets of images that are `seen` at some size."""
        return seen

    @abstractmethod
    def read_labels(self, images: ImageSet) -> Labels:
        """Labels from the columns of a data set, which also fixes the task's classes.

        Raises:
            DataError: a column is missing or cells are not what the kind expects (all of them,
                each with its row).
        """

    def fit_labels(self, images: ImageSet, labels: Labels, sizes: np.ndarray, size: Size) -> Labels:
        """Bring labels that lie on the images to the size at which the network sees them.

        Their value becomes a dict that holds `mask`, `depth` [N, H, W], `normals` [N, 3, H, W] or
        `boxes` [N, 4] (x0, y0, x1, y1 in pixels of `size`), which random changes of the images then
        move along. Other labels stay. What a task learns of its training labels it learns here.

        Args:
            images: as `read_labels` saw them, with the splits that are used.
            labels: what it made of them.
            sizes: height and width of each picture as it is read, upright [N, 2]; 0 where it was
                not, so that its label is not wanted.
            size: what the network sees.

        Raises:
            DataError: labels that do not fit their images (all of them, each with its row).
        """
        del images, sizes, size
        return labels

    @abstractmethod
    def head(self, features: Sequence[FeatureShape], size: tuple[int, int]) -> nn.Module:
        """A head for the given maps of images of `size` (height, width).

        It takes one map when the task has one tap, else the list of maps, and returns a prediction:
        a tensor or a dict of tensors whose first axis follows the images.
        """

    @abstractmethod
    def loss(self, prediction: Value, target: Value) -> tuple[Tensor, Tensor]:
        """(sum of losses [R], weight [R]) of each labelled image: weight 1, valid pixels, …

        No loss is below 0: balancers take ratios and logarithms of them.
        """

    @abstractmethod
    def metrics(self) -> MetricCollection:
        """Fresh metrics by name; `update(*self.scored(prediction, target))` feeds them.

        Names that end in error, angle, distance, loss, mae, mse or ncut are written in their own
        unit, all others as shares in percent.
        """

    def scored(self, prediction: Value, target: Value) -> tuple[Any, Any]:
        """What the metrics take; the prediction and the target unless overridden."""
        return prediction, target

    @abstractmethod
    def read(self, prediction: Value, sizes: Sequence[Size]) -> list[dict[str, Any]]:
        """What a user reads, a JSON-able dict an image: probabilities, a mask, boxes in pixels.

        `sizes` are those of the pictures before they were resized: masks and boxes refer to them.
        """

    def planned(self, phases: Sequence[Phase], method: SharingMethod) -> list[Phase]:
        """The phases of a method with what the task needs in them; they are enough unless
        overridden.

        Raises:
            UserError: the task cannot be learned by them.
        """
        del method
        return list(phases)

    def captions(self, target: Value) -> list[str]:
        """A short text for each target, for contact sheets."""
        return [self.name for _ in range(len(target))]

    def confusion(self, prediction: Value, target: Value) -> Tensor | None:
        """How often each true class (row) was taken for each class (column), [K, K].

        `None` for a task that does not choose one class a case.
        """
        del prediction, target
        return None

    def tally(self, target: Value) -> Value:
        """What `chance` needs of targets: they themselves, unless less will do for large ones."""
        return target

    def chance(self, tallies: Value) -> dict[str, float]:
        """The primary metric of the best constant guess on some targets; empty when unknown."""
        del tallies
        return {}

    def describe(self) -> dict[str, Any]:
        """What `predict` needs to rebuild the task from a run folder."""
        return {**self.options.model_dump(exclude_none=True), "classes": self.classes}


class PretextTask(Task):
    """A task that needs no labels: it makes its inputs and targets from the images themselves.

    Its inputs are a stream of their own. Subclasses are one file each in `tasks/pretext/`; they
    say how many `views` they cut, how large (`input`), and `make` them. A head of several views
    gets maps [B, V, C, H, W].
    """

    chooses = False  # not of an image as it is

    @abstractmethod
    def make(self, raw: Raw) -> Made:
        """Inputs and targets from un-normalised images.

        What is made of an image depends on (seed, epoch, index) alone: random numbers come from
        `raw`, other images from the data set through `raw`, never from the rest of the batch.
        """

    def pictures(self, seen: Pixels, prediction: Any, target: Any) -> Pictures | None:
        """What people may look at of one image; nothing where pictures would tell nothing.

        Args:
            seen: the views of the image as the network got them, [V, H, W, 3].
            prediction: what the network said of it, a batch of one.
            target: what would have been right, likewise.
        """
        del seen, prediction, target
        return None

    def fit_pixels(self, pixels: np.ndarray) -> None:
        """Learn what the loss needs of some training images [N, 3, H, W], uint8."""
        del pixels

    def read_labels(self, images: ImageSet) -> Labels:
        """Every image serves."""
        return Labels(np.zeros((len(images), 0)), np.ones(len(images), bool))
