"""TensorBoard: event files in the run folder's `tensorboard/`; `tensorboard --logdir RUNS`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polytask.training.loggers import About, Logger

FOLDER = "tensorboard"


class Tool(Logger):
    """A run goes on in a further file of the same folder, which TensorBoard reads as one."""

    def __init__(self, about: About, options: Any) -> None:
        from torch.utils.tensorboard import SummaryWriter

        del options
        self.folder = about.folder / FOLDER
        is_new = not self.folder.exists()
        self.before = {} if is_new else _last_steps(str(self.folder))
        self.writer = SummaryWriter(str(self.folder))
        if is_new:
            text = about.config.dump().replace("\n", "\n    ")  # Markdown's block of code
            self.writer.add_text("config", f"    {text}")

    def held(self) -> Mapping[str, int]:
        return self.before

    def add(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def end(self, is_finished: bool) -> None:
        del is_finished
        self.writer.close()


def _last_steps(folder: str) -> dict[str, int]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(folder, size_guidance={"scalars": 0}).Reload()  # 0: all of them
    return {name: found.Scalars(name)[-1].step for name in found.Tags()["scalars"]}
