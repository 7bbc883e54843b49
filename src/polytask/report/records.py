"""The files of runs and comparisons as the report reads them (INTERFACE, Files)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, Field, FiniteFloat, NonNegativeInt

Number = float | None
Colour = Annotated[str, Field(pattern="^#[0-9a-f]{6}$")]


class Spread(BaseModel):
    """A metric over seeds; a seed that failed has no number."""

    mean: Number = None
    std: Number = None
    per_seed: list[Number] = []


class Gain(BaseModel):
    """Δm: the mean relative gain over single-task networks, in percent; a seed that failed, of the
    method or of single-task, has none."""

    mean: Number = None
    ci95: tuple[Number, Number] | None = None
    per_seed: list[Number] = []


class Judgement(BaseModel):
    """A verdict and why."""

    value: Literal["helps", "hurts", "unclear"] = "unclear"
    reason: str = ""


class Verdict(BaseModel):
    """The verdict on a method, and on each of its tasks."""

    overall: Judgement = Judgement()
    tasks: dict[str, Judgement] = {}


class Unit(NamedTuple):
    """A unit of a task's path; `owner` is `shared`, a task, or a group's tasks."""

    name: str
    owner: str
    params: NonNegativeInt
    macs: NonNegativeInt


class Size(BaseModel):
    """Parameters and multiply–accumulates for one image."""

    params: NonNegativeInt
    macs: NonNegativeInt


class PathCost(Size):
    """What one task's path costs, unit by unit where known; `own` is what it adds to others',
    `effective` without masked weights, `latency_ms` as measured for one image."""

    own_params: NonNegativeInt | None = None
    effective_params: NonNegativeInt | None = None
    effective_macs: NonNegativeInt | None = None
    latency_ms: Number = None
    units: list[Unit] = []


class Cost(BaseModel):
    """What a method costs: everything once, and each task's path."""

    total: Size | None = None
    tasks: dict[str, PathCost] = {}


class How(BaseModel):
    """How a method ran: which images columns are fed, which tasks have a network together."""

    feed: Literal["same", "paired"] | None = None
    groups: list[list[str]] | None = None


class Failure(BaseModel):
    """A run that did not finish, in `results.json`."""

    seed: int
    reason: str = ""


class MethodResult(BaseModel):
    """A method in `results.json`."""

    tasks: dict[str, dict[str, Spread]] = {}
    delta_m: Gain | None = None
    validation_delta_m: Number = None
    verdict: Verdict | None = None
    cost: Cost | None = None
    health: dict[str, str] = {}
    how: How = How()
    train_seconds: Number = None
    failed: list[Failure] = []

    def score(self, task: str, metric: str) -> Spread:
        """A metric of a task over seeds, empty where there is none."""
        return self.tasks.get(task, {}).get(metric) or Spread()


class TaskFacts(BaseModel):
    """What all runs of a comparison say alike about a task."""

    primary: str | None = None
    chance: Number = None


class Results(BaseModel):
    """`results.json` of a comparison."""

    methods: dict[str, MethodResult]
    tasks: dict[str, TaskFacts] = {}
    config: Any = None
    versions: dict[str, Any] = {}


class SplitCounts(BaseModel):
    """A split of a data set: how many images it has, and how many are labelled for each task."""

    images: int = 0
    labels: dict[str, int] = {}


class RunDescription(BaseModel):
    """`tasks.json` of a run, which is there from its first step on."""

    method: str
    seed: int


class RunResult(BaseModel):
    """`result.json` of a run."""

    method: str = ""
    seed: int = 0
    tasks: dict[str, dict[str, Number]] = {}
    val: dict[str, dict[str, Number]] = {}
    chance: dict[str, Number] = {}
    health: dict[str, str] = {}
    how: How = How()
    samples: dict[str, int] = {}
    extra_samples: int = 0
    train_seconds: Number = None
    waited_seconds: Number = None
    normalisation: Any = None
    primary: dict[str, str] = {}
    labels: dict[str, dict[str, SplitCounts]] = {}
    skipped: dict[str, list[str]] = {}
    versions: dict[str, Any] = {}
    probe: dict[str, dict[str, Number]] = {}

    def training_labels(self, task: str) -> int | None:
        """The training images that are labelled for a task."""
        counts = [splits["train"].labels for splits in self.labels.values() if "train" in splits]
        return next((labels[task] for labels in counts if task in labels), None)


class Histogram(BaseModel):
    """Counts of gate values in equal bins of [0, 1]."""

    counts: list[NonNegativeInt] = Field(min_length=1)
    mean: Number = None


class FilterRecord(BaseModel):
    """A feature filter after training: α and β per channel, and what its gate does to images."""

    alpha: list[FiniteFloat] = Field(min_length=1)
    beta: list[FiniteFloat] = Field(min_length=1)
    gates: Histogram


class Filters(BaseModel):
    """`plots/filters.json`: the filters of each task, one per tapped map."""

    tasks: dict[str, list[FilterRecord]]


class TaskAnswer(BaseModel):
    """What a task says of an image, and what would have been right, in words."""

    label: str = ""
    answer: str = ""
    loss: Number = None


class Picture(BaseModel):
    """Files of an image with its labels and with the answers drawn on it; `of` names a map."""

    of: str = ""
    label: str
    answer: str | None = None


class Example(BaseModel):
    """An image that was scored."""

    data: str = ""
    place: str = ""
    tasks: dict[str, TaskAnswer] = {}
    pictures: list[Picture] = []


class Answers(BaseModel):
    """`plots/answers.json`: images spread over a split, and those of the highest loss by task."""

    split: str = ""
    colours: dict[str, dict[str, Colour | None]] = {}  # of the classes of tasks with masks
    shown: list[Example] = []
    worst: dict[str, list[Example]] = {}


class Counts(BaseModel):
    """How often each true class (row) was taken for each class."""

    classes: list[str]
    counts: list[list[NonNegativeInt]]


class Confusion(BaseModel):
    """`plots/confusion.json`: a confusion matrix for every task that has one."""

    split: str = ""
    tasks: dict[str, Counts] = {}


class Figure(BaseModel):
    """A published number, or the mean of measured ones."""

    mean: Number = None
    std: Number = None


class Measured(BaseModel):
    """A gain over the table's first row, and on which side of the published one it lies."""

    published_gain: Number = None
    gain: Number = None
    ci95: tuple[Number, Number] | None = None
    verdict: str | None = None


class PublishedRow(Measured):
    """A method and task of a paper's table."""

    row: str
    method: str | None
    task: str
    published: Figure
    measured: Figure


class Reproduction(BaseModel):
    """`reproduction.json`: an experiment of a paper, published and measured."""

    paper: str
    table: str
    scale: str
    seeds: list[int]
    date: str
    standing_in: dict[str, str] = {}
    claim: str
    verdict: str
    methods: dict[str, Measured] = {}
    rows: list[PublishedRow] = []
