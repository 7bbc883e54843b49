"""A dry run: two batches through a method, or as many as show it every task; no trace on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from polytask.errors import RunError
from polytask.training.loop import Loop
from polytask.training.preflight import learned_from, untrained
from polytask.training.run import Run, prepare_process

if TYPE_CHECKING:
    from polytask.config.models import Config, MethodEntry


def dry_run(config: Config, entries: Sequence[MethodEntry], seed: int) -> Iterator[str]:
    """Two batches through each method, or as many as show it every task, without a trace on disk.

    What they learn from, of the section `pretraining`, comes first. Yields a line per task.

    Raises:
        Diverged: a loss is not finite.
        RunError: a trunk or column unit of a task gets no gradient.
    """
    prepare_process()
    for name, part in learned_from(config, entries).items():
        yield from _tried(Run.alone(part, part.methods[0], seed), f"pretraining.{name}")
    sources = untrained(config, entries)
    for entry in entries:
        yield from _tried(Run.alone(config, entry, seed, sources), entry.key)


def _tried(run: Run, label: str) -> Iterator[str]:
    first = run.plan(run.untrained_single_paths)[0]
    loop = Loop(run.config, run.method, run.data, run.world, first, run.seed, lambda _: None)
    run.method.on_phase_start(loop)
    awaited = run.method.tasks if first.tasks is None else first.tasks
    reached: set[str] = set()
    for batch in loop.rule.batches(loop, 0):
        loop.step(batch)
        loop.step_in_epoch += 1
        reached |= {n for n, p in loop.parameters.items() if p.grad is not None}
        if loop.step_in_epoch >= 2 and all(loop.images[task] for task in awaited):
            break
    # Not viewed: columns of tasks that this phase leaves out, pairs of kernels that are none now.
    viewed = {parameter for task in awaited for parameter in run.method.view(task)}
    if first.forward is not None:  # of units, not of heads
        viewed -= set(run.method.heads.parameters())
    idle = sorted(n for n, p in loop.parameters.items() if n not in reached and p in viewed)
    if idle:
        raise RunError.at(label, f"no gradient reaches {', '.join(idle[:5])}")
    for task in loop.sums:
        mean = loop.sums[task] / loop.counts[task]
        yield f"{label}: {task} loss {mean:.4f}, {loop.images[task]} labelled images"
