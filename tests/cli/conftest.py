"""The program called in this process, and a config that trains in a second."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from polytask.cli import main

SCENES = """\
data:
  scenes: {source: shapes, count: 60, size: 24}
tasks:
  shape: {kind: classification, data: scenes, label: shape}
  looks: {kind: multilabel, data: scenes, label: [filled, large]}
backbone: {name: resnet10, stem: small, width: 0.0625}
methods:
  - single
  - hard
  - {multi_exit: {exits: {shape: layer2, looks: layer4}, filter: true}}
train: {epochs: 1, batch: 16}
seeds: 1
"""


@dataclass
class Said:
    """What a command left behind: its exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on standard output; anything beside it is an error."""
        return json.loads(self.out)

    @property
    def complaints(self) -> list[str]:
        """The lines of standard error."""
        return self.err.splitlines()


@pytest.fixture
def polytask(capsys):
    def run(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenes") / "scenes.yaml"
    path.write_text(SCENES)
    return path


@pytest.fixture(scope="session")
def run_folder(scenes):
    """A finished run of multi_exit, whose tasks leave the trunk at different depths."""
    folder = scenes.parent / "run"
    assert main(["train", str(scenes), "--method", "multi_exit", "--out", str(folder)]) == 0
    return folder
