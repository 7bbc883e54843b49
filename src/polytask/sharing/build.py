"""A method from a config: the one place where options, tasks, streams and backbone meet."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from polytask import backbones, registry
from polytask.backbones.staged import StagedBackbone
from polytask.batch import Input
from polytask.errors import Fault, UserError
from polytask.sharing import grouped
from polytask.sharing.method import Setting, SharingMethod
from polytask.tasks.task import Task

if TYPE_CHECKING:
    from polytask.config.models import Config, MethodEntry


def build_method(
    config: Config,
    entry: MethodEntry,
    tasks: Mapping[str, Task],
    streams: Mapping[str, Input],
    stream_of: Mapping[str, str],
    seed: int,
    start: Callable[[StagedBackbone], None] | None = None,
) -> SharingMethod:
    """Build a method of a config with the initial weights of a seed.

    Args:
        config: `backbone`, `init` and `norm` count.
        entry: the method and its options.
        tasks: by name, their classes known.
        streams: the input of each stream.
        stream_of: the stream of each task.
        seed: of the initial weights.
        start: gives every new backbone other weights to start from (`backbone.init`).

    Raises:
        UserError: the method, its options or the backbone cannot serve these tasks; every fault
            starts with its place in the config.
    """
    kind = method_class(entry)
    setting = setting_of(config, tasks, streams, stream_of, seed, start)
    with placed(config, entry):
        method = grouped.build(kind, setting, entry.options)
        if isinstance(method, str):
            raise UserError.at("", method)
    _check_trainable(config, method)
    return method


def method_class(entry: MethodEntry) -> type[SharingMethod]:
    """The class of an entry's method."""
    found: type[SharingMethod] = registry.load("sharing", entry.name, SharingMethod)
    return found


def setting_of(
    config: Config,
    tasks: Mapping[str, Task],
    streams: Mapping[str, Input],
    stream_of: Mapping[str, str],
    seed: int,
    start: Callable[[StagedBackbone], None] | None = None,
) -> Setting:
    """What a config's methods are built from; the arguments are those of `build_method`."""
    return Setting(
        tasks=dict(tasks),
        streams=dict(streams),
        stream_of=dict(stream_of),
        backbone=_maker(config, streams, start),
        seed=seed,
        init=config.init,
        norm=config.norm,
    )


def _check_trainable(config: Config, method: SharingMethod) -> None:
    """Refuse patterns by which nothing would train."""
    patterns = config.train.trainable
    names = [grouped.inner_name(name) for name, _ in method.named_parameters()]
    if isinstance(patterns, list) and not any(re.search(p, n) for p in patterns for n in names):
        raise UserError.at(
            config.place("train", "trainable"),
            f"got [{', '.join(patterns)}], which no parameter's name matches; expected patterns "
            r"such as ^heads\. or layer4.",
        )


def _maker(
    config: Config,
    streams: Mapping[str, Input],
    start: Callable[[StagedBackbone], None] | None,
) -> Callable[..., StagedBackbone]:
    chosen = config.backbone
    sizes = {(size.height, size.width) for size in streams.values()}

    def make(**options: Any) -> StagedBackbone:
        given = {
            "stem": chosen.stem,
            "width": chosen.width,
            "pretrained": chosen.pretrained,
            "weights": chosen.weights and config.folder / chosen.weights,
            "open": tuple(chosen.open),
            "size": next(iter(sizes)) if len(sizes) == 1 else None,
        }
        made = backbones.build(chosen.name, **{**given, **options})
        if start is not None:
            start(made)
        return made

    return make


@contextmanager
def placed(config: Config, entry: MethodEntry) -> Iterator[None]:
    """Faults of a method say where in the config they were written.

    A method names its own options (`exits.road`), or what else it does not fit (`backbone.width`,
    `train.epochs`); what names a file stays as it is.
    """
    try:
        yield
    except UserError as error:
        options = set(type(entry.options).model_fields)

        def place(fault: Fault) -> Fault:
            first, *rest = fault.where.split(".")
            if first in ("backbone", "image_size", "tasks", "train"):
                where = config.place(first, *rest)
            elif first in options:
                where = config.place("methods", entry.key, first, *rest)
            elif first:
                where = fault.where
            else:
                where = config.place("methods", entry.key)
            return Fault(where, fault.problem, fault.hint)

        raise type(error)([place(fault) for fault in error.faults]) from error
