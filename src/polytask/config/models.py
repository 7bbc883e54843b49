"""What a config says, resolved: every default filled in, every part of its own type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from polytask.config.augment import Augment
from polytask.config.nodes import Key, Node
from polytask.config.sampling import Balanced, Sampling
from polytask.config.search import SearchConfig
from polytask.config.train import Section, TrainConfig, name_alone
from polytask.config.transfer import TransferOptions

if TYPE_CHECKING:  # data reads configs, so that a config only holds its sources
    from polytask.data.source import Source
else:
    Source = BaseModel

MOST_SEEDS = 1000
LONGEST_NAME = 200  # bytes; file systems take 255, and temporary files add some
FORBIDDEN = set('/\\:*?"<>|')
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Pixels = Annotated[int, Field(ge=1, le=4096)]


class TaskOptions(BaseModel):
    """What every task has in a config; a kind adds its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    kind: str = Field(description="the kind of task")
    data: str | None = Field(None, description="the data set of its images")
    label: str | list[str] | None = Field(None, description="column or columns of its labels")
    classes: list[str] | int | None = Field(None, description="class names in order, or how many")
    augment: Augment | None = Field(
        None, description="random changes of its training images, in place of the data set's"
    )

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: list[str] | int | None) -> list[str] | int | None:
        if isinstance(classes, int) and not 1 <= classes <= 1_000_000:
            raise ValueError("expected 1 class or more")
        if isinstance(classes, list) and (not classes or len(set(classes)) < len(classes)):
            raise ValueError("expected one name or more, each once")
        return classes


class MethodOptions(BaseModel):
    """Options of a method in a config, with documented defaults; `as` names it in the results."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    transfer: TransferOptions | None = Field(None, description="a finished run to learn from")

    balancing: str | dict[str, Any] | None = Field(
        None, description="how this method's task losses are combined, in place of the config's"
    )
    groups: list[list[str]] | None = Field(
        None,
        description="tasks that share with one another, a network a group (kernel_sharing: kernels "
        "inside a group); or the folder or file that polytask affinity wrote. A task in none "
        "stands alone",
    )

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = dump(self)
        for name in ("transfer", "balancing", "groups"):
            if getattr(self, name) is None:
                values.pop(name, None)
        return values


class UncheckedTask(TaskOptions):
    """A task before its kind is imported: its own options are kept as they were written."""

    model_config = ConfigDict(extra="allow")


class UncheckedOptions(MethodOptions):
    """Options of a method or balancer before it is imported, as they were written."""

    model_config = ConfigDict(extra="allow")


class MethodEntry(Section):
    """A method to compare: `key` names it in results and folders."""

    name: str
    key: str
    options: SerializeAsAny[MethodOptions]

    def written(self) -> str | dict[str, Any]:
        """The entry as a config writes it, defaults included."""
        options = self.options.model_dump(mode="json", by_alias=True)
        alias = {"as": self.key} if self.key != self.name else {}
        return {self.name: {**options, **alias}} if options or alias else self.name


class BackboneConfig(Section):
    """The network that the tasks share."""

    name: str = Field("resnet18", description="see polytask list backbones")
    stem: Literal["imagenet", "small"] = Field("imagenet", description="small: for 32×32 images")
    width: float = Field(1.0, gt=0, le=16, description="factor of all channel counts")
    pretrained: bool = Field(False, description="start from the source library's weights")
    weights: Path | None = Field(None, description="file with weights to start from")
    init: Path | None = Field(None, description="run whose backbone to start from, over all else")
    open: list[str] = Field([], description="blocks to open into their convolutions")

    @field_validator("weights")
    @classmethod
    def _one_start(cls, weights: Path | None, info: ValidationInfo) -> Path | None:
        if weights is not None and info.data.get("pretrained"):
            raise ValueError("expected one start; pretrained gives another")
        return weights


def _as_list(seeds: Any) -> Any:
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        return list(range(min(seeds, MOST_SEEDS + 1)))
    if not isinstance(seeds, list | tuple):
        raise ValueError("expected a whole number or a list of them")
    return seeds


@dataclass
class Origin:
    """The nodes a config was read from, which are no part of its value."""

    root: Node = field(default=Node({}), compare=False)


class Config(Section):
    """A comparison: data, tasks, the network they share, methods, and how they are trained."""

    name: str = Field("config", description="name of the run folder; the file's name by default")
    folder: Path = Field(Path(), description="where relative paths start; the file's folder")
    data: dict[str, SerializeAsAny[Source]] = Field({}, description="each data set once")
    tasks: dict[str, SerializeAsAny[TaskOptions]] = Field({}, description="what to predict")
    mixing: Literal["integrated", "multi_input"] = Field(
        "integrated", description="multi_input: one batch per task, sizes free"
    )
    sampling: Sampling = Field(
        Balanced(),
        description="how often each data set is drawn from: balanced, size, "
        "{name: temperature, temperature: 2} or {name: ratios, ratios: {photos: 2, shelf: 1}}",
    )
    norm: Literal["mixed", "per_data"] = Field(
        default_factory=lambda known: (
            "mixed" if known.get("mixing") == "integrated" else "per_data"
        ),
        description="batch-norm statistics over all data sets, or per data set",
    )
    image_size: Pixels | None = Field(None, description="side in pixels where no data set fixes it")
    backbone: Annotated[BackboneConfig, BeforeValidator(name_alone)] = Field(
        BackboneConfig(), description="the network that the tasks share"
    )
    methods: list[MethodEntry] = Field([], description="what to compare; single is always in")
    balancing: str | dict[str, Any] = Field("equal", description="how task losses are combined")
    match: Literal["samples", "epochs"] = Field(
        "samples", description="what single-task networks see as much of as the sharing methods"
    )
    init: Literal["common", "independent"] = Field(
        "common", description="whether all backbones of a seed start from the same weights"
    )
    train: TrainConfig = Field(TrainConfig(), description="the training of every method and seed")
    seeds: Annotated[list[Seed], BeforeValidator(_as_list)] = Field(
        [0, 1, 2], description="how many runs of each method (3 is 0, 1, 2), or a list"
    )
    pretraining: dict[str, Config] = Field(
        {},
        description="runs made first, once a seed, which methods learn from (transfer: "
        "{pretraining: NAME}): tasks, a method (hard), and what else differs from this config",
    )
    search: SearchConfig | None = Field(None, description="what polytask search tries")
    on_bad_image: Literal["error", "skip"] = Field(
        "error", description="an image that cannot be read"
    )

    _origin: Origin = PrivateAttr(default_factory=Origin)

    @field_validator("name")
    @classmethod
    def _can_name_a_folder(cls, name: str) -> str:
        is_long = len(name.encode()) > LONGEST_NAME
        if not name.strip() or name.startswith(".") or is_long or FORBIDDEN & set(name):
            raise ValueError("expected a name that a folder can have")
        return name

    @field_validator("norm")
    @classmethod
    def _fits_mixing(cls, norm: str, info: ValidationInfo) -> str:
        if norm == "mixed" and info.data.get("mixing") == "multi_input":
            raise ValueError(
                "expected per_data with mixing: multi_input, because running statistics common to "
                "separate passes fit none of them and break evaluation"
            )
        return norm

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if not 1 <= len(seeds) <= MOST_SEEDS:
            raise ValueError(f"expected 1 to {MOST_SEEDS} runs")
        if len(set(seeds)) < len(seeds):
            raise ValueError("expected each seed once")
        return seeds

    def method(self, key: str) -> MethodEntry:
        """The entry of that key, or the method of that name with its default options.

        Raises:
            ConfigError: there is neither; the nearest valid name is given.
        """
        from polytask.config.methods import default_entry

        listed = {entry.key: entry for entry in self.methods}
        return listed.get(key) or default_entry(key, list(listed))

    def place(self, *key: str | int) -> str:
        """Where a key was written, as errors name it: `shop.yaml:12 methods.1.multi_exit.exits`.

        A method may be named by its key in the results in place of its position.
        """
        steps: Key = key
        if len(key) > 1 and key[0] == "methods" and isinstance(key[1], str):
            steps = (*self._path_of(key[1]), *key[2:])
        return self._origin.root.nearest_mark(steps).at(steps)

    def _path_of(self, method: str) -> Key:
        listed = self._origin.root.child("methods")
        for i, entry in enumerate(listed.plain() if listed is not None else []):
            name, options = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
            if method == (options or {}).get("as", name):
                return ("methods", i) if isinstance(entry, str) else ("methods", i, name)
        return ("methods", method)

    def data_dict(self) -> dict[str, Any]:
        """Every value, defaults included, as plain data that reads back to this config."""
        values = self.model_dump(mode="json", by_alias=True, exclude={"pretraining"})
        values["methods"] = [entry.written() for entry in self.methods]
        return {**values, "pretraining": {n: self._part(n, values) for n in self.pretraining}}

    def _part(self, name: str, whole: Mapping[str, Any]) -> dict[str, Any]:
        """What a pretraining has of its own."""
        part = self.pretraining[name]
        (entry,) = part.methods
        without = ("methods", "pretraining", "seeds", "search")
        own = {k: v for k, v in part.data_dict().items() if k not in without and v != whole[k]}
        method = entry.model_copy(update={"key": entry.name}).written()
        return {"tasks": part.data_dict()["tasks"], **own, "method": method}

    def dump(self) -> str:
        """The resolved config as YAML, which reads back to an equal config from anywhere."""
        from polytask.config.writing import to_yaml

        return to_yaml(self.data_dict())

    def difference(self, other: Config) -> list[str]:
        """What differs in `other`, a line a key: `train.epochs: 30 -> 5`.

        Names, folders, threads and loggers do not count: a comparison may be moved.
        """
        from polytask.config.writing import differences

        return differences(self, other)
