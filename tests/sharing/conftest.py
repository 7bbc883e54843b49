"""Runs that tests of methods stop and go on with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polytask.config import Config


@pytest.fixture
def run_in(tmp_path: Path) -> Callable[..., tuple[Any, Path]]:
    """Trains a method of a config into a folder and returns (result, folder)."""
    from polytask.training.run import Stopped, train_run

    def run(config: Config, key: str, name: str = "run", stops: tuple[int, ...] = ()) -> Any:
        folder = tmp_path / name / key
        for stop in stops:
            with pytest.raises(Stopped):
                train_run(config, config.method(key), 0, folder, resume=True, stop_after=stop)
        return train_run(config, config.method(key), 0, folder, resume=True), folder

    return run
