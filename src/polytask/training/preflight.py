"""What can be wrong with runs of a config, found before anything is trained, written or deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from polytask.errors import UserError

if TYPE_CHECKING:
    from polytask.config import Config
    from polytask.config.models import MethodEntry
    from polytask.training.source import Source


def check(config: Config, entries: Sequence[MethodEntry] | None = None, devices: int = 1) -> None:
    """Read the data and build every method and its balancer once; those they learn from first.

    Args:
        config: the whole config.
        entries: the methods that count, all by default.
        devices: processes that each run trains in.

    Raises:
        UserError: with the faults of the data, else those of all methods.
    """
    from polytask.training import loggers
    from polytask.training.assembly import Parts
    from polytask.training.compiled import check_compiler
    from polytask.training.world import World

    loggers.check(config)
    if config.train.compile:
        device = World.of(config.train.precision).device
        check_compiler(config.train.compile, device, config.place("train", "compile"))
    chosen = config.methods if entries is None else entries
    parts = Parts(config, config.seeds[0], untrained(config, chosen))
    faults = []
    for entry in chosen:
        try:
            parts.check(entry, parts.build(entry, parts.start_of(entry)), devices)
        except UserError as error:
            faults += error.faults
    if faults:
        raise UserError(list(dict.fromkeys(faults)))  # the backbone's are those of every method


def learned_from(config: Config, entries: Sequence[MethodEntry]) -> dict[str, Config]:
    """Those of the section `pretraining` that methods learn from, by name."""
    transfers = (entry.options.transfer for entry in entries)
    named = {transfer.pretraining for transfer in transfers if transfer and transfer.run is None}
    return {name: part for name, part in config.pretraining.items() if name in named}


def untrained(config: Config, entries: Sequence[MethodEntry]) -> dict[str, Source]:
    """What stands in for the runs that methods will learn from, by name.

    Raises:
        UserError: the input of one is wrong.
    """
    return {
        name: _untrained(part, config.place("pretraining", name))
        for name, part in learned_from(config, entries).items()
    }


def _untrained(config: Config, place: str) -> Source:
    """What a pretraining will leave behind, its own input being right."""
    from polytask.training.run import Run
    from polytask.training.source import untrained_source

    run = Run.alone(config, config.methods[0], config.seeds[0])
    return untrained_source(run.folder, config, run.method, run.data.normalisation, place)
