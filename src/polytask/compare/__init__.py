"""Methods × seeds on the same tasks: who won, by how much, how surely, and at what cost."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polytask.compare.results import Results
    from polytask.config import Config
    from polytask.training.progress import Show


def compare(
    config: Config | str | Path | Mapping[str, Any],
    out: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    jobs: int | None = None,
    devices: int = 1,
    on: str = "local",
    resume: bool = False,
    overwrite: bool = False,
    progress: Show | None = None,
) -> Results:
    """Train every method with every seed, and hold sharing methods against single-task networks.

    A run that fails is named in the results' `failures`; the others go on and are kept.

    Args:
        config: a config, or what `read_config` reads one from.
        out: the folder to write to, `runs/<config name>` by default.
        overrides: `key.path=value` on top of the config.
        jobs: runs to train at once; as many as cores and memory allow by default.
        devices: processes that each run trains in, one a GPU where there are any.
        on: where runs train: `local`, `ray`, or the address of a Ray cluster.
        resume: go on with what is in the folder; a finished comparison is left as it is.
        overwrite: delete the run or comparison in the folder first.
        progress: is shown what happens; see `polytask.training.display`.

    Raises:
        UserError: the input or the folder is wrong.
        KeyboardInterrupt: stopped by Ctrl-C, the state saved.
    """
    from polytask.compare.comparison import REPORT, Comparison
    from polytask.compare.outcome import RESULT
    from polytask.report import report
    from polytask.training.output import PRETRAINING

    chosen = _read(config, overrides)
    folder = Path(out) if out is not None else Path("runs") / chosen.name
    show = progress or (lambda event: None)
    comparison = Comparison(chosen, folder, show, devices=devices, on=on)
    results = comparison.run(jobs, resume=resume, overwrite=overwrite)
    places = (f"*/seed*/{RESULT}", f"{PRETRAINING}/*/seed*/{RESULT}")
    runs = [file.parent for place in places for file in sorted(folder.glob(place))]
    for place in (*runs, folder):
        if not (place / REPORT).exists():
            report(place)
    return results


def dry_run(
    config: Config | str | Path | Mapping[str, Any], overrides: Sequence[str] = ()
) -> Iterator[str]:
    """Send two batches through every method and task, a line for each; nothing is written.

    Raises:
        UserError: the input is wrong, or a unit gets no gradient.
        Diverged: a loss is not finite.
    """
    from polytask.training.dry_run import dry_run as try_all

    chosen = _read(config, overrides)
    yield from try_all(chosen, chosen.methods, chosen.seeds[0])


def _read(config: Config | str | Path | Mapping[str, Any], overrides: Sequence[str]) -> Config:
    from polytask.config import Config, read_config

    return config if isinstance(config, Config) else read_config(config, overrides)


class _CallableModule(ModuleType):
    """`polytask.compare(...)` works although importing this package puts it in the same place."""

    def __call__(self, *arguments: Any, **keywords: Any) -> Results:
        return compare(*arguments, **keywords)


sys.modules[__name__].__class__ = _CallableModule
