"""Weights to start from: the backbone of a finished run (`backbone.init`, `transfer`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from polytask.errors import ConfigError
from polytask.sharing.method import SharingMethod
from polytask.training.routes import check
from polytask.training.source import Source, read_source

if TYPE_CHECKING:
    from polytask.config.models import Config, MethodEntry


NONE: Mapping[str, Source] = {}


def start_of(
    config: Config, entry: MethodEntry, untrained: Mapping[str, Source] = NONE
) -> Source | None:
    """The run whose backbone a new one starts from, if any.

    `untrained` stands in for runs of the section `pretraining` that are still to come, by name.

    Raises:
        ConfigError: two runs are given.
        RunError: the folder holds no finished run, or not one backbone.
    """
    transfer = entry.options.transfer
    is_tuned = transfer is not None and transfer.by == "fine_tune"
    if not is_tuned:
        if config.backbone.init is None:
            return None
        return read_source(config.folder / config.backbone.init, config.place("backbone", "init"))
    if config.backbone.init is not None:
        raise ConfigError.at(
            config.place("backbone", "init"),
            f"given together with a transfer of {entry.key}; the weights have one origin.",
            "Leave one of the two out.",
        )
    return source_of(config, entry, untrained)


def source_of(config: Config, entry: MethodEntry, untrained: Mapping[str, Source] = NONE) -> Source:
    """The run that a method's `transfer` learns from.

    Raises:
        ConfigError: it names none.
        RunError: the folder holds no finished run, or not one backbone.
    """
    transfer = entry.options.transfer
    assert transfer is not None
    if transfer.run is None and transfer.pretraining is not None and untrained:
        return untrained[transfer.pretraining]
    if transfer.run is None:
        raise ConfigError.at(
            config.place("methods", entry.key, "transfer"),
            "no run; expected a run folder to learn from.",
            "Set run: FOLDER, or use polytask transfer RUN CONFIG.",
        )
    place = config.place("methods", entry.key, "transfer", "run")
    return read_source(config.folder / transfer.run, place)


def check_transfer(
    config: Config,
    entry: MethodEntry,
    method: SharingMethod,
    untrained: Mapping[str, Source] = NONE,
) -> None:
    """Refuse a transfer that cannot be made, before anything is written.

    Raises:
        UserError: with the reason.
    """
    transfer = entry.options.transfer
    if transfer is not None:
        place = config.place("methods", entry.key, "transfer")
        check(method, source_of(config, entry, untrained), transfer, place)
