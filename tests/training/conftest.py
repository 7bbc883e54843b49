"""A comparison small enough to train in a second or two."""

from pathlib import Path
from typing import Any

import pytest

from polytask.config import Config, read_config


def tiny(methods: list[Any], **train: Any) -> dict[str, Any]:
    """Digits at 12 pixels, 120 images a data set, a sixteenth of ResNet-10."""
    return {
        "data": {
            "handwritten": {"source": "digits", "fraction": 0.05, "size": 12},
            "printed": {"source": "printed_digits", "count": 120, "size": 12},
        },
        "tasks": {
            "read_handwriting": {"kind": "classification", "data": "handwritten"},
            "read_print": {"kind": "classification", "data": "printed"},
        },
        "backbone": {"name": "resnet10", "stem": "small", "width": 0.0625},
        "methods": methods,
        "train": {"epochs": 2, "batch": 32, "optimizer": {"name": "sgd", "lr": 0.05}, **train},
        "seeds": 1,
    }


@pytest.fixture(scope="session")
def config() -> Any:
    """Makes a small config: `config(["hard"], epochs=3)`."""

    def make(methods: list[Any], top: dict[str, Any] | None = None, **train: Any) -> Config:
        return read_config({**tiny(methods, **train), **(top or {})})

    return make


@pytest.fixture
def run_in(tmp_path: Path) -> Any:
    """Trains a method of a config into a fresh folder and returns (result, folder)."""
    from polytask.training.run import train_run

    def run(config: Config, key: str, name: str = "run", **options: Any) -> tuple[Any, Path]:
        folder = tmp_path / name / key
        return train_run(config, config.method(key), 0, folder, **options), folder

    run.folder = lambda key, name="run": tmp_path / name / key  # type: ignore[attr-defined]
    return run
