"""The end of a run: its weights, scores and what it learned about sharing, in files.

`result.json` is written last: a run is finished when it is there.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytask.cost import latencies
from polytask.errors import RunError
from polytask.training import checkpoint, output
from polytask.training.evaluation import Scores, evaluate
from polytask.training.fingerprint import versions
from polytask.training.health import health_of
from polytask.training.probes import probes
from polytask.training.record import flat
from polytask.training.start import source_of

if TYPE_CHECKING:
    from polytask.training.loop import Loop
    from polytask.training.run import Run

RESULT = "result.json"


def finished(folder: Path) -> dict[str, Any] | None:
    """The result of a finished run, `None` while there is none.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / RESULT
    if not (path.exists() and (folder / output.WEIGHTS).exists()):
        return None
    try:
        result: dict[str, Any] = json.loads(path.read_bytes())
        if not isinstance(result, dict):
            raise ValueError
    except (ValueError, RecursionError) as error:
        raise RunError.at(str(path), "is damaged.", "Train again with --overwrite.") from error
    return result


def finish(run: Run, loop: Loop) -> dict[str, Any]:
    """Score the trained method once on the test split and write what is left to write.

    For the first process of a world alone.
    """
    seconds = run.clock.seconds
    best = run.folder / checkpoint.BEST
    if run.config.train.select == "best" and best.exists():
        checkpoint.load_weights(best, run.method)
    checkpoint.save_weights(run.folder / output.WEIGHTS, run.method)
    run.record.write_cost(run.method)
    val, test = _last_scores(run)
    run.record.keep(run.record.rows)
    run.add_row(loop, "test", flat(test))
    _explain(run)
    tasks = run.tasks
    result = {
        "method": run.entry.key,
        "seed": run.seed,
        "how": run.method.how(),
        "hash": run.hash,
        "tasks": test.metrics,
        "val": val.metrics,
        "primary": {name: task.primary for name, task in tasks.items()},
        "higher_is_better": {n: task.higher_is_better for n, task in tasks.items()},
        "chance": {n: test.chance.get(n, {}).get(t.primary) for n, t in tasks.items()},
        "health": {n: health_of(t, test, run.images[n]) for n, t in tasks.items()},
        "test_counts": test.counts,
        "labels": run.data.counts,
        "samples": run.images,
        "extra_samples": run.extra_samples + run.teacher_samples + _pretraining_samples(run),
        "normalisation": asdict(run.data.normalisation),
        "fingerprint": run.data.fingerprint,
        "versions": versions(),
        "latency_ms": {n: round(ms, 4) for n, ms in latencies(run.method).items()},
        "skipped": run.data.skipped,
        "train_seconds": round(seconds, 3),
        "waited_seconds": round(run.data.waited, 3),
    }
    if run.entry.options.transfer is not None:
        source = source_of(run.config, run.entry)
        result["probe"] = probes(run.method, source, run.data, run.world.device)
    checkpoint.write_json(run.folder / RESULT, result)
    checkpoint.drop_state(run.folder)
    return result


def _pretraining_samples(run: Run) -> int:
    """The images that the run of the section `pretraining` saw, if this one learned from one."""
    transfer = run.entry.options.transfer
    if transfer is None or transfer.pretraining is None or transfer.run is None:
        return 0
    result = finished(transfer.run)
    return sum(result["samples"].values()) if result is not None else 0


def _last_scores(run: Run) -> tuple[Scores, Scores]:
    """Those of the validation and test images; what people look at is kept on the way."""
    from polytask.explain.confusion import Confusion
    from polytask.explain.gallery import Gallery

    found = []
    for split, watcher in (
        ("val", Gallery(run.tasks, run.data, "val")),
        ("test", Confusion(run.tasks, "test")),
    ):
        found.append(evaluate(run.method, run.data.scoring(split), run.world.device, watcher))
        watcher.write(run.folder / "plots")
    return found[0], found[1]


def _explain(run: Run) -> None:
    from polytask.explain.activations import write_activations
    from polytask.explain.alike import write_alike

    plots, data = run.folder / "plots", run.data
    write_activations(run.method, data.scoring("val"), data.normalisation, plots)
    write_alike(run.method, data.scoring("val"), data.normalisation, plots)
    for name, document in run.method.explained().items():
        checkpoint.write_json(plots / f"{name}.json", document)
    if getattr(run.method, "filters", None):
        from polytask.explain.filters import write_filters

        write_filters(run.method, data.scoring("val"), plots)
