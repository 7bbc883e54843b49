"""A dry run: two batches through a method, without a trace on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polytask.errors import RunError
from polytask.training.loop import Loop
from polytask.training.run import Run, prepare_process

if TYPE_CHECKING:
    from polytask.config.models import Config, MethodEntry


def dry_run(config: Config, entry: MethodEntry, seed: int) -> list[str]:
    """Two batches through every task of a method, without a trace on disk.

    Returns a line per task. Raises:
        Diverged: a loss is not finite.
        RunError: a trunk or column unit of a task gets no gradient.
    """
    prepare_process()
    run = Run.alone(config, entry, seed)
    first = run.plan(run.untrained_single_paths)[0]
    loop = Loop(config, run.method, run.data, run.world, first, seed, lambda _: None)
    run.method.on_phase_start(loop)
    reached: set[str] = set()
    for batch, _ in zip(loop.rule.batches(loop, 0), range(2), strict=False):
        loop.step(batch)
        loop.step_in_epoch += 1
        reached |= {n for n, p in loop.parameters.items() if p.grad is not None}
    viewed = {parameter for task in run.method.tasks for parameter in run.method.view(task)}
    unused = set(run.method.parameters()) - viewed  # weights of pairs of kernels that are none now
    idle = sorted(n for n, p in loop.parameters.items() if n not in reached and p not in unused)
    if idle:
        raise RunError.at(entry.key, f"no gradient reaches {', '.join(idle[:5])}")
    return [
        f"{entry.key}: {task} loss {loop.sums[task] / loop.counts[task]:.4f}, "
        f"{loop.images[task]} labelled images"
        for task in loop.sums
    ]
