"""Weights & Biases, offline, in the run folder's `wandb/`; `wandb sync RUN/wandb/offline-run-*`."""

from __future__ import annotations

import shutil
import uuid
import warnings
from collections.abc import Mapping
from typing import Any

from polytask.training.loggers import About, Logger

FOLDER = "wandb"


class Tool(Logger):
    """An offline file cannot be gone on with: a resumed run gets a new one of the same id."""

    def __init__(self, about: About, options: Any) -> None:
        with warnings.catch_warnings():  # of the tool's own insides
            warnings.simplefilter("ignore")
            import wandb

        before = sorted((about.folder / FOLDER).glob("offline-run-*"))
        identity = before[-1].name.rpartition("-")[2] if before else uuid.uuid4().hex[:8]
        for folder in before:
            shutil.rmtree(folder)
        config = about.config
        self.run = wandb.init(
            project=options.project or config.name,
            entity=options.entity,
            name=about.name,
            group=config.name,
            id=identity,
            dir=str(about.folder),
            config={"method": about.method, "seed": about.seed, **config.data_dict()},
            reinit="create_new",  # a comparison's process may hold the run before still
            settings=wandb.Settings(
                mode="offline",
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,
                x_disable_meta=True,
            ),
        )

    def held(self) -> Mapping[str, int]:
        return {}

    def add(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def end(self, is_finished: bool) -> None:
        self.run.finish(exit_code=0 if is_finished else 1)
