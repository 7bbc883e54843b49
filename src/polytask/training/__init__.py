"""Phases, update rules, the loop, checkpoints and evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polytask.config import Config
    from polytask.training.progress import Progress


def train_run(*args: Any, **keywords: Any) -> dict[str, Any]:
    """Train one method with one seed into a run folder; see `polytask.training.run.train_run`."""
    from polytask.training import run

    return run.train_run(*args, **keywords)


def train(
    config: Config | str | Path | Mapping[str, Any],
    method: str,
    *,
    seed: int | None = None,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    devices: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train one method of a config into a run folder and return its result.

    Under torchrun every process calls it; the first one writes and tells.

    Args:
        config: a config, or what `read_config` reads one from.
        method: the key of an entry of the config's `methods`, or a method's bare name.
        seed: the first of the config's by default.
        out: the run folder, `runs/<config name>` by default.
        overrides: `key.path=value` on top of the config.
        resume: go on with the run in the folder; a finished one is left as it is.
        overwrite: delete the run in the folder, once the input is known to be right.
        devices: processes to train in, one a GPU where there are any.
        progress: is told what happens.

    Raises:
        UserError: the input or the folder is wrong.
        Failed: memory, disk or a process was lost; Diverged: a loss became NaN or infinite.
        KeyboardInterrupt: stopped by Ctrl-C, the state saved.
    """
    from polytask.config import Config, read_config
    from polytask.training import output, run
    from polytask.training.interrupt import stops_on_interrupt
    from polytask.training.processes import is_follower
    from polytask.training.progress import Silent

    chosen = config if isinstance(config, Config) else read_config(config, overrides)
    entry = chosen.method(method)
    folder = Path(out) if out is not None else Path("runs") / chosen.name
    first = chosen.seeds[0] if seed is None else seed
    if not is_follower():  # the first process may have begun to write already
        output.check_output(folder, resume=resume, overwrite=overwrite)
        if resume and not output.is_unused(folder):
            output.check_same_config(folder, chosen)
            output.check_same_run(folder, entry.key, first)
    progress = progress or Silent()
    with stops_on_interrupt(progress):
        return run.train_run(
            chosen,
            entry,
            first,
            folder,
            progress=progress,
            resume=resume,
            overwrite=overwrite,
            devices=devices,
        )


def transfer(
    run: str | Path,
    config: Config | str | Path | Mapping[str, Any],
    by: str,
    *,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    devices: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train the tasks of a config with what the backbone of a finished run has learned.

    The first method of the config besides `single` is trained with the first seed.

    Args:
        run: the folder of the run; in a comparison, of one of its runs.
        config: a config, or what `read_config` reads one from.
        by: `fine_tune`, `soft_targets` or `fsp`; an entry's `transfer` may hold more options.
        out: the run folder, `runs/<config name>` by default.
        overrides: `key.path=value` on top of the config.
        resume: as in `train`.
        overwrite: as in `train`.
        devices: as in `train`.
        progress: is told what happens.

    Raises:
        UserError: the input or a folder is wrong.
        Diverged: a loss became NaN or infinite.
        KeyboardInterrupt: stopped by Ctrl-C, the state saved.
    """
    from polytask.config import Config, read_config
    from polytask.config.transfer import TransferOptions

    chosen = config if isinstance(config, Config) else read_config(config, overrides)
    entry = next((e for e in chosen.methods if e.name != "single"), chosen.methods[0])
    written = entry.options.transfer or TransferOptions()
    own = written.model_dump(exclude={"pretraining"})
    options = {**own, "run": Path(run).absolute(), "by": by}
    made = entry.options.model_copy(update={"transfer": TransferOptions(**options)})
    entry = entry.model_copy(update={"options": made})
    methods = [entry if e.key == entry.key else e for e in chosen.methods]
    return train(
        chosen.model_copy(update={"methods": methods}),
        entry.key,
        out=out,
        resume=resume,
        overwrite=overwrite,
        devices=devices,
        progress=progress,
    )
