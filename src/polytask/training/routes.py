"""Transfer: the phases by which a method learns from the backbone of a finished run.

Source: Hinton, Vinyals, Dean 2015 (soft targets); Yim et al., CVPR 2017
(FSP, in two stages); as Kim, Lee, Song use them for encoders that were trained without labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from polytask.backbones.norm import sum_over_processes
from polytask.backbones.staged import StagedBackbone
from polytask.batch import Batch
from polytask.config.train import TrainConfig
from polytask.config.transfer import TransferOptions
from polytask.data.prepare import Normalisation
from polytask.distill.fsp import Adapters, fsp_loss, taps_for
from polytask.distill.soft_answers import SOFT
from polytask.distill.soft_targets import latent_loss
from polytask.errors import UserError, one_of
from polytask.loss import Term
from polytask.phase import Phase
from polytask.sharing.columns import Columns
from polytask.sharing.method import Outputs, SharingMethod
from polytask.sharing.trunk import Trunk
from polytask.tasks.task import FeatureShape, Task
from polytask.training.source import Source
from polytask.training.teacher import Teacher, maps_of

ENCODERS = (r"^(backbone|columns)\.", r"^modules\.adapters\.")
CLIP = 1.0
HEADERS = (r"^modules\.headers\.",)


def transferred(
    phases: Sequence[Phase],
    method: SharingMethod,
    source: Source,
    options: TransferOptions,
    train: TrainConfig,
    normalisation: Normalisation,
) -> list[Phase]:
    """The phases of a method with what they take over from a run.

    Args:
        phases: the method's own plan.
        method: the student.
        source: the run; of its teachers nothing gets into the student's path, cost or model file.
        options: the route and its numbers; `check` has accepted them.
        train: its epochs are those of the first phase unless the options say otherwise.
        normalisation: of the images that the student sees.
    """
    if options.by == "fine_tune":
        return list(phases)
    teacher = Teacher(method, source, normalisation)
    epochs = options.epochs or train.epochs
    if options.by == "fsp":
        return [_matching(method, teacher, options, epochs, train.clip), *phases]
    if options.latent:
        return _with_latents(phases, method, teacher, options)
    with_header, headers = _with_header(method, teacher, options, epochs)
    return [with_header, *(_softened(p, method, teacher, headers, options) for p in phases)]


def check(method: SharingMethod, source: Source, options: TransferOptions, place: str) -> None:
    """Refuse what cannot be transferred, before anything is written.

    Raises:
        UserError: the route does not serve the method or a task, or the run has no one backbone;
            `place` is where the transfer was asked for.
    """
    if options.by == "fine_tune":
        return
    for task in method.tasks:
        size = method.setting.input_of(task)
        source.encoder((size.height, size.width)).shapes(3, size.height, size.width)
    others = [f"{name} ({t.kind})" for name, t in method.tasks.items() if t.kind not in SOFT]
    if options.by == "soft_targets" and others and not options.latent:
        raise UserError.at(
            place,
            f"soft_targets serves {one_of(SOFT)}; got {', '.join(others)}.",
            "Use fine_tune, fsp, or soft_targets with latent: true.",
        )
    if options.by == "soft_targets" and options.latent and not isinstance(method, Trunk):
        raise UserError.at(place, "latent reads the last map of a trunk; the method has none.")
    if options.by == "fsp" and any(encoder_of(method, task) is None for task in method.tasks):
        raise UserError.at(
            place, "fsp relates the maps of a task's one backbone; here it has several."
        )


def encoder_of(method: SharingMethod, task: str) -> StagedBackbone | None:
    """The backbone that a task of a method runs, `None` where it runs no one of its own."""
    if isinstance(method, Trunk):
        return method.backbone
    if isinstance(method, Columns) and method.column_of(task) in method.columns:
        return method.column(method.column_of(task))
    return None


# FSP: stage a matches maps without labels; the method's own phases follow.


def _matching(
    method: SharingMethod,
    teacher: Teacher,
    options: TransferOptions,
    epochs: int,
    clip: float | None,
) -> Phase:
    adapters = nn.ModuleDict()
    students, taps = {}, {}
    for task, made in method.tasks.items():
        student = encoder_of(method, task)
        assert student is not None
        students[task] = student
        ends, taught = (b.ends_until(b.end(made.is_dense)) for b in (student, teacher.encoder))
        taps[task] = own, theirs = taps_for(ends, taught, options.pairs)
        with method.setting.seeded("adapters", task):
            adapters[task] = Adapters(
                [student.info[unit].channels for unit in own],
                [teacher.encoder.info[unit].channels for unit in theirs],
            )

    def relate(batch: Batch, outputs: Outputs) -> list[Term]:
        del outputs
        terms = []
        for task, group, target in batch:
            own, theirs = taps[task]
            _set_stream(method, task, group.stream)
            images = target.labelled(group.images)
            maps = adapters[task](maps_of(students[task], images, own))
            wanted = teacher.maps(images, theirs)
            loss = fsp_loss(maps, wanted, options.scale == "relative", over_processes())
            terms.append(Term("fsp", task, loss))
        return terms

    # A product of maps grows with the fourth power of them: the first steps would go too far.
    return Phase(
        name="fsp",
        epochs=epochs,
        train={} if clip else {"clip": CLIP},
        trainable=ENCODERS,
        terms=(relate,),
        modules={"teacher": teacher, "adapters": adapters},
        forward=lambda method, batch: Outputs(),
        extra=True,
    )


def over_processes() -> Callable[[Tensor], Tensor]:
    """Adds up what the processes of a run have, all of which come to a term equally often."""
    is_joined = torch.distributed.is_available() and torch.distributed.is_initialized()
    return sum_over_processes if is_joined else Tensor.clone


def _set_stream(method: SharingMethod, task: str, stream: str) -> None:
    """Let the student's batch norms use the statistics of a stream."""
    if isinstance(method, Trunk):
        method.current.key = method.norm_key(task, stream, method.backbone.last)
    elif isinstance(method, Columns):
        method.current.key = stream


# Latent soft targets: the teacher's own channels teach, without a header.


def _with_latents(
    phases: Sequence[Phase], method: SharingMethod, teacher: Teacher, options: TransferOptions
) -> list[Phase]:
    assert isinstance(method, Trunk)
    projections, theirs = nn.ModuleDict(), {}
    for name, task in method.tasks.items():
        (theirs[name],) = teacher.last(1, task.is_dense)
        *_, own = method.features(name)  # the task's map, which may be narrower than the trunk's
        with method.setting.seeded("projection", name):
            projections[name] = nn.Linear(own.channels, teacher.encoder.info[theirs[name]].channels)

    def resemble(batch: Batch, outputs: Outputs) -> list[Term]:
        terms = []
        for name, group, target in batch:
            if name not in outputs.features or target.value is None:
                continue
            (maps,) = teacher.maps(target.labelled(group.images), [theirs[name]])
            own = projections[name](outputs.features[name].mean((2, 3)))
            apart = latent_loss(own, maps.mean((2, 3)), options.temperature)
            terms.append(Term("latent", name, options.weight * apart))
            loss, weight = method.tasks[name].loss(outputs.predictions[name], target.value)
            terms.append(Term("latent", name, -options.weight * loss, weight))
        return terms

    return [
        replace(
            phase,
            terms=[*phase.terms, resemble],
            modules={**phase.modules, "teacher": teacher, "projections": projections},
            trainable=(*phase.trainable, r"^modules\.projections\."),
        )
        if phase.forward is None
        else phase
        for phase in phases
    ]


# Soft targets: a header on the fixed backbone learns the task first, then teaches it.


def _with_header(
    method: SharingMethod, teacher: Teacher, options: TransferOptions, epochs: int
) -> tuple[Phase, nn.ModuleDict]:
    headers = nn.ModuleDict()
    for name, task in method.tasks.items():
        with method.setting.seeded("header", name):
            features = teacher.features(method, name, teacher.last(task.taps, task.is_dense))
            size = method.setting.input_of(name)
            headers[name] = _header(task, features, (size.height, size.width), options.hidden)

    def answer(method: SharingMethod, batch: Batch) -> Outputs:
        return Outputs(
            {t: _taught(method, teacher, headers, t, to.labelled(g.images)) for t, g, to in batch}
        )

    modules = {"teacher": teacher, "headers": headers}
    header = Phase("header", epochs, trainable=HEADERS, modules=modules, extra=True, forward=answer)
    return header, headers


def _header(
    task: Task, features: list[FeatureShape], size: tuple[int, int], hidden: Sequence[int]
) -> nn.Module:
    """The task's head on the teacher's maps; classes are told behind the paper's hidden layers."""
    if task.kind not in ("classification", "multilabel"):
        return task.head(features, size)
    layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(1)]
    channels = features[-1].channels
    for width in hidden:
        layers += [nn.Conv2d(channels, width, 1), nn.ReLU(inplace=True)]
        channels = width
    return nn.Sequential(*layers, task.head([FeatureShape(channels, 1, 1)], size))


def _taught(
    method: SharingMethod, teacher: Teacher, headers: nn.ModuleDict, task: str, images: Tensor
) -> Tensor:
    taught = method.tasks[task]
    maps = teacher.maps(images, teacher.last(taught.taps, taught.is_dense))
    answer: Tensor = headers[task](maps[0] if taught.taps == 1 else maps)
    return answer


def _softened(
    phase: Phase,
    method: SharingMethod,
    teacher: Teacher,
    headers: nn.ModuleDict,
    options: TransferOptions,
) -> Phase:
    def soften(batch: Batch, outputs: Outputs) -> list[Term]:
        terms = []
        for name, group, target in batch:
            if name not in outputs.predictions or target.value is None:
                continue
            task, student = method.tasks[name], outputs.predictions[name]
            assert isinstance(student, Tensor)
            with torch.no_grad():
                taught = _taught(method, teacher, headers, name, target.labelled(group.images))
            soft = SOFT[task.kind](task, student, taught, target.value, options.temperature)
            own, weight = task.loss(student, target.value)
            # With the task's own loss beside it: (1 − w) · own + w · soft.
            terms.append(Term("soft_targets", name, options.weight * (soft - own), weight))
        return terms

    modules = {**phase.modules, "teacher": teacher, "headers": headers}
    return replace(phase, terms=[*phase.terms, soften], modules=modules)
