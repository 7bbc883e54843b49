"""How networks are trained, the same for every method of a comparison."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

Rate = Annotated[float, Field(gt=0, le=100)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A part of a config: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def name_alone(value: Any) -> Any:
    """A bare name stands for a mapping that holds nothing else."""
    return {"name": value} if isinstance(value, str) else value


def _optimizer(value: Any) -> Any:
    value = name_alone(value)
    return {"name": "sgd", **value} if isinstance(value, dict) else value


class SGD(Section):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    lr: Rate = Field(0.05, description="learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="share of the last step that is kept")
    nesterov: bool = Field(False, description="look ahead along the momentum")
    weight_decay: float = Field(1e-4, ge=0, le=1, description="decay of weights, in the gradient")

    @field_validator("nesterov")
    @classmethod
    def _needs_momentum(cls, nesterov: bool, info: ValidationInfo) -> bool:
        if nesterov and info.data.get("momentum") == 0:
            raise ValueError("expected momentum above 0 with it")
        return nesterov


class Adam(Section):
    """Adam; the decay is part of the gradient."""

    name: Literal["adam"] = "adam"
    lr: Rate = Field(1e-3, description="learning rate")
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="decay of the two moments")
    weight_decay: float = Field(0.0, ge=0, le=1, description="decay of weights, in the gradient")


class AdamW(Section):
    """Adam with the decay apart from the gradient."""

    name: Literal["adamw"] = "adamw"
    lr: Rate = Field(1e-3, description="learning rate")
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="decay of the two moments")
    weight_decay: float = Field(0.01, ge=0, le=1, description="decay of weights")


class Constant(Section):
    """The same learning rate throughout."""

    name: Literal["constant"] = "constant"


class Cosine(Section):
    """From the learning rate to zero along half a cosine."""

    name: Literal["cosine"] = "cosine"


class Step(Section):
    """The learning rate times `gamma` after each milestone."""

    name: Literal["step"]
    milestones: list[Annotated[int, Field(ge=1)]] = Field(
        min_length=1, description="epochs after which the rate falls, in order"
    )
    gamma: float = Field(0.1, gt=0, le=1, description="factor of each fall")

    @field_validator("milestones")
    @classmethod
    def _ascend(cls, milestones: list[int]) -> list[int]:
        if sorted(set(milestones)) != milestones:
            raise ValueError("expected epochs in ascending order")
        return milestones


class Plateau(Section):
    """The learning rate times `factor` when the training loss stops falling."""

    name: Literal["plateau"]
    patience: int = Field(5, ge=1, description="epochs without progress before a fall")
    factor: float = Field(0.1, gt=0, lt=1, description="factor of each fall")


class EarlyStop(Section):
    """Stop when validation has not improved for a while."""

    patience: int = Field(ge=1, description="evaluations without progress before the end")


class TensorBoard(Section):
    """Event files in the run folder's `tensorboard/`."""

    name: Literal["tensorboard"] = "tensorboard"


class Wandb(Section):
    """Weights & Biases, offline: `wandb sync` uploads what the run folder's `wandb/` holds."""

    name: Literal["wandb"]
    project: str | None = Field(None, description="the config's name unless said")
    entity: str | None = Field(None, description="user or team to upload to")


class MLflow(Section):
    """MLflow, in the run folder's `mlruns/` or where `uri` says."""

    name: Literal["mlflow"]
    uri: str | None = Field(None, description="tracking server or database, as MLflow writes it")
    experiment: str | None = Field(None, description="the config's name unless said")


Optimizer = Annotated[
    Annotated[SGD | Adam | AdamW, Field(discriminator="name")], BeforeValidator(_optimizer)
]
Schedule = Annotated[
    Annotated[Constant | Cosine | Step | Plateau, Field(discriminator="name")],
    BeforeValidator(name_alone),
]
Logger = Annotated[
    Annotated[TensorBoard | Wandb | MLflow, Field(discriminator="name")],
    BeforeValidator(name_alone),
]

# What of `train` decides no result: left out of a run's hash, free to change on resume.
NO_RESULT = ("workers", "loggers")


class TrainConfig(Section):
    """The training of every method and seed."""

    epochs: int = Field(30, ge=1, le=100_000, description="passes over the largest data set")
    batch: int = Field(
        64,
        ge=1,
        le=1_000_000,
        description="images a step over all devices; a task with multi_input",
    )
    optimizer: Optimizer = Field(SGD(), description="sgd, adam or adamw, with its options")
    schedule: Schedule = Field(
        Cosine(),
        description="constant, cosine, {name: step, milestones: [60, 80]} or {name: plateau}",
    )
    warmup: float = Field(0.0, ge=0, description="epochs in which the learning rate rises from 0")
    clip: float | None = Field(None, gt=0, description="largest norm of the gradient")
    precision: Literal["32", "bf16"] = Field("32", description="32 or bf16 (mixed)")
    early_stop: EarlyStop | None = Field(None, description="{patience: 10}: stop without progress")
    select: Literal["last", "best"] = Field(
        "last", description="the epoch whose weights are kept; best by validation"
    )
    trainable: Literal["all", "heads", "filters"] | list[str] = Field(
        "all",
        description="all; heads; filters (with adapters and heads); or regular expressions over "
        "parameter names",
    )
    loss: Literal["task_mean", "sample_mean"] = Field(
        "task_mean",
        description="mean over a task's own images, summed over tasks; or over all images",
    )
    evaluate_every: int = Field(1, ge=1, description="epochs between evaluations")
    workers: int | None = Field(
        None,
        ge=1,
        le=64,
        description="threads that read images; a core each, at most 8, unless said",
    )
    memory: float = Field(
        2.0, ge=0, description="GiB of decoded images to keep; beyond, they are read when drawn"
    )
    loggers: list[Logger] = Field(
        [],
        description="where rows go besides metrics.jsonl: tensorboard, {name: wandb, project: x}, "
        "{name: mlflow, uri: x}",
    )
    sync_norm: bool = Field(
        True, description="batch norm over the images of all devices; false: of each device"
    )
    channels_last: bool = Field(
        True, description="the memory layout that is fastest on most devices"
    )
    compile: bool | Literal["inductor", "aot_eager", "eager"] = Field(
        False,
        description="torch.compile of the backbones' units; true is its backend inductor, which "
        "needs a C++ compiler on CPUs and Triton on GPUs",
    )

    @field_validator("warmup")
    @classmethod
    def _shorter_than_training(cls, warmup: float, info: ValidationInfo) -> float:
        epochs = info.data.get("epochs", warmup)
        if warmup > epochs:
            raise ValueError(f"expected at most the {epochs} epochs of training")
        return warmup

    @field_validator("precision", mode="before")
    @classmethod
    def _number_as_text(cls, precision: Any) -> Any:
        return "32" if precision == 32 else precision

    @field_validator("loggers")
    @classmethod
    def _distinct(cls, loggers: list[Logger]) -> list[Logger]:
        if len({logger.name for logger in loggers}) < len(loggers):
            raise ValueError("expected each logger once")
        return loggers

    @field_validator("trainable")
    @classmethod
    def _compile(cls, trainable: str | list[str]) -> str | list[str]:
        for pattern in [] if isinstance(trainable, str) else trainable:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"expected regular expressions: {pattern!r}: {error}") from error
        if trainable == []:
            raise ValueError("expected at least one pattern")
        return trainable
