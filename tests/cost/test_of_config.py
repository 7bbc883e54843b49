"""What `polytask cost` answers: from a config, with as little read as can be."""

from __future__ import annotations

import pytest

from polytask import tasks as task_kinds
from polytask.config import Config, read_config
from polytask.cost import cost_of_config
from polytask.cost.of_config import streams_of
from polytask.data.load import load_data
from polytask.errors import UserError

PUBLISHED = """\
tasks:
  imagenet: {kind: classification, classes: 1000}
  places: {kind: classification, classes: 365}
image_size: 224
backbone: {name: resnet50, pretrained: true}
methods:
  - hard
  - {multi_exit: {exits: {imagenet: layer4, places: layer3}, filter: true, as: filtered}}
"""
SMALL = """\
data:
  left: {source: digits, size: 16, fraction: 0.1}
  right: {source: shapes, size: 24, count: 30}
tasks:
  read: {kind: classification, data: left}
  shape: {kind: classification, data: right, label: shape}
backbone: {name: resnet18, width: 0.0625, stem: small}
methods: [hard]
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Reads a text as shop.yaml, with overrides."""
    monkeypatch.chdir(tmp_path)

    def read(text: str, *overrides: str) -> Config:
        (tmp_path / "shop.yaml").write_text(text, encoding="utf-8")
        return read_config("shop.yaml", overrides)

    return read


def test_tasks_without_data(config):
    """`single` is there unasked; no weights are fetched although the config asks for them."""
    costs = cost_of_config(config(PUBLISHED))
    assert list(costs) == ["single", "hard", "filtered"]
    assert costs["single"].total.macs == 4_089_184_256 + 4_087_883_776
    assert costs["hard"].total.params == 26_304_917
    assert costs["filtered"].total.params == 25_931_157 + 6_144
    legacy = cost_of_config(config(PUBLISHED, "methods=[hard]"), "thop_legacy")
    assert legacy["hard"].total.macs == 4_112_262_144
    assert legacy["hard"].as_dict()["convention"] == "thop_legacy"


def test_nothing_is_read_where_classes_and_size_are_given(config):
    text = PUBLISHED.replace("classes: 365}", "classes: 365, data: far}")
    far = "data: {far: {source: folder, path: nowhere, size: 64}}\n"
    costs = cost_of_config(config(far + text, "image_size=32"))
    # Integrated images have the size of the largest: 64, four times the cells of 32.
    alone = cost_of_config(config(PUBLISHED, "image_size=64"))
    assert costs["hard"].total == alone["hard"].total


def test_classes_are_read_where_they_are_not_given(config):
    costs = cost_of_config(config(SMALL))
    head = costs["hard"].total.params - costs["hard"].tasks["shape"].params
    assert head == 10 * (32 + 1)  # ten digits on the 32 channels of the last map


@pytest.mark.parametrize(
    "settings",
    [("mixing=integrated",), ("norm=per_data",), ("mixing=multi_input",)],
    ids=lambda settings: settings[0],
)
def test_streams_are_those_of_the_data(config, settings):
    read = config(SMALL, *settings)
    tasks = task_kinds.build(read.tasks)
    data = load_data(read, task_kinds.build(read.tasks), seed=0)
    assert streams_of(read, tasks) == (data.streams, data.stream_of)


def test_an_image_tells_the_size_where_nothing_else_does(config):
    text = SMALL.replace("size: 16, ", "")
    read = config(text, "mixing=multi_input")
    streams, stream_of = streams_of(read, task_kinds.build(read.tasks))
    assert (streams[stream_of["read"]].height, streams[stream_of["shape"]].height) == (8, 24)


def test_a_task_without_data_and_size(config):
    with pytest.raises(UserError, match="imagenet") as error:
        cost_of_config(config(PUBLISHED.replace("image_size: 224\n", "")))
    assert error.value.faults[0].where == "shop.yaml:1 image_size"


FAULTS = {
    "exit": (
        "exits: {imagenet: layer4, places: layer3}",
        "exits: {imagenet: layer4, places: layr3}",
        "shop.yaml:8 methods.1.multi_exit.exits.places",
        'unknown unit "layr3"',
        '"layer3"',
    ),
    "task": (
        "exits: {imagenet: layer4, places: layer3}",
        "exits: {imagenet: layer4, plces: layer3}",
        "shop.yaml:8 methods.1.multi_exit.exits.plces",
        'unknown task "plces"',
        '"places"',
    ),
    "block to open": (
        "pretrained: true",
        "open: [layer5]",
        "shop.yaml:5 backbone.open",
        '"layer5"',
        "",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults_of_methods_and_backbones_name_their_place(config, case):
    found, written, where, problem, hint = FAULTS[case]
    with pytest.raises(UserError) as error:
        cost_of_config(config(PUBLISHED.replace(found, written)))
    (fault,) = error.value.faults
    assert fault.where == where
    assert problem in fault.problem
    assert "expected one of" in fault.problem
    assert hint in fault.hint


@pytest.mark.parametrize("kind", ["classification", "clustering", "detection", "segmentation"])
def test_heads_are_counted_without_memory(config, kind):
    """On the meta device, as a network of any size must be."""
    text = f"""\
tasks: {{it: {{kind: {kind}, classes: [cell, nucleus]}}}}
image_size: 64
backbone: {{name: resnet18, width: 0.0625, stem: small}}
methods: [hard]
"""
    assert cost_of_config(config(text))["hard"].total.macs > 0
