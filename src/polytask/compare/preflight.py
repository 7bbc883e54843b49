"""What can be wrong with a comparison, found before anything is trained, written or deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polytask.errors import UserError

if TYPE_CHECKING:
    from polytask.config import Config


def check(config: Config) -> None:
    """Read the data and build every method and its balancer once.

    Raises:
        UserError: with the faults of the data, else those of all methods.
    """
    from polytask import tasks as task_kinds
    from polytask.balancing import build as build_balancer
    from polytask.data.load import load_data
    from polytask.sharing.build import build_method
    from polytask.training import loggers
    from polytask.training.start import check_transfer, start_of

    loggers.check(config)
    tasks = task_kinds.build(config.tasks)
    seed = config.seeds[0]
    data = load_data(config, tasks, seed)
    faults = []
    for entry in config.methods:
        try:
            source = start_of(config, entry)
            start = None if source is None else source.start
            method = build_method(config, entry, tasks, data.streams, data.stream_of, seed, start)
            check_transfer(config, entry, method)
            build_balancer(method.options.balancing or config.balancing, method)
        except UserError as error:
            faults += error.faults
    if faults:
        raise UserError(list(dict.fromkeys(faults)))  # the backbone's are those of every method
