"""`key.path=value` after a config: values as YAML reads them, faults at `(override)`."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.config import read_config
from polytask.errors import ConfigError

CONFIG = {
    "data": {"left": {"source": "digits"}, "right": {"source": "shapes", "size": 32}},
    "tasks": {
        "read": {"kind": "classification", "data": "left"},
        "shape": {"kind": "classification", "data": "right", "label": "shape"},
    },
    "backbone": "resnet18",
    "methods": ["single", "hard", {"multi_exit": {"exits": {"read": "layer3"}}}],
    "train": {"optimizer": "adam", "epochs": 9},
    "balancing": "fixed",
}


def read(*overrides):
    return read_config(CONFIG, overrides, options=False)


def told(*overrides):
    with pytest.raises(ConfigError) as caught:
        read(*overrides)
    return [str(fault) for fault in caught.value.faults]


def test_values_are_yaml():
    config = read(
        "train.epochs=5",
        "train.warmup=1e0",
        "train.clip=null",
        "train.select=best",
        "train.trainable=[layer4, 'heads\\..*']",
        "backbone.pretrained=true",
        "seeds=1",
        "methods=[single, {hard: {as: plain}}]",
    )
    train = config.train
    assert (train.epochs, train.warmup, train.clip, train.select) == (5, 1.0, None, "best")
    assert train.trainable == ["layer4", "heads\\..*"]
    assert config.backbone.pretrained is True
    assert config.seeds == [0]
    assert [entry.key for entry in config.methods] == ["single", "plain"]


def test_null_leaves_a_task_or_a_data_set_out():
    config = read("tasks.shape=null", "data.right=null", "methods=[hard]")
    assert list(config.tasks) == ["read"]
    assert list(config.data) == ["left"]
    (fault,) = told("tasks.shap=null")
    assert 'got no task "shap"' in fault
    (fault,) = told("data.right=null")
    assert "tasks.shape.data" in fault


@given(epochs=st.integers(1, 100_000), clip=st.floats(1e-6, 1e6), seeds=st.sets(st.integers(0, 99)))
def test_numbers_arrive_as_they_are_written(epochs, clip, seeds):
    chosen = sorted(seeds | {0})
    config = read(f"train.epochs={epochs}", f"train.clip={clip!r}", f"seeds={chosen}")
    assert (config.train.epochs, config.train.clip, config.seeds) == (epochs, clip, chosen)


def test_the_last_of_two_wins():
    assert read("train.epochs=5", "train.epochs=7").train.epochs == 7


def test_everything_else_stays():
    plain, changed = read(), read("train.batch=8")
    assert plain.difference(changed) == ["train.batch: 64 -> 8"]


def test_a_bare_name_takes_options():
    config = read(
        "backbone.width=0.5",
        "train.optimizer.lr=0.1",
        "methods.1.hard.filter=true",
        "balancing.fixed.weights={read: 2}",
    )
    assert (config.backbone.name, config.backbone.width) == ("resnet18", 0.5)
    assert (config.train.optimizer.name, config.train.optimizer.lr) == ("adam", 0.1)
    assert config.data_dict()["methods"][1] == {"hard": {"filter": True}}
    assert config.balancing == {"fixed": {"weights": {"read": 2}}}


def test_sections_that_are_not_written_begin():
    config = read("train.schedule.name=constant", "train.early_stop.patience=3", "match=epochs")
    assert config.train.schedule.name == "constant"
    assert config.train.early_stop.patience == 3
    assert config.match == "epochs"


def test_positions_reach_into_lists():
    config = read("methods.2.multi_exit.exits.read=layer4", "methods.1=multi_path")
    assert config.data_dict()["methods"][1:] == [
        "multi_path",
        {"multi_exit": {"exits": {"read": "layer4"}}},
    ]


def test_a_whole_data_set_may_be_added():
    config = read("data.more={source: digits}", "tasks.again={kind: classification, data: more}")
    assert config.tasks["again"].data == "more"


def test_paths_start_where_they_are_typed(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "a.yaml").write_text(
        "data:\n  a: {source: folder, path: here}\n  b: {source: folder, path: here}\n"
        "tasks:\n  t: {kind: classification, data: a}\n"
        "methods:\n  - hard: {transfer: {run: here}}\n  - multi_path: {transfer: {run: here}}\n"
    )
    monkeypatch.chdir(tmp_path)
    typed = ["data.b.path=there", "backbone.weights=w.pth", "methods.0.hard.transfer.run=there"]
    config = read_config("configs/a.yaml", typed, options=False)
    assert config.folder / config.data["a"].path == tmp_path / "configs" / "here"
    assert config.folder / config.data["b"].path == tmp_path / "there"
    assert config.folder / config.backbone.weights == tmp_path / "w.pth"
    there, here = (config.method(name).options.transfer.run for name in ("hard", "multi_path"))
    assert config.folder / there == tmp_path / "there"
    assert config.folder / here == tmp_path / "configs" / "here"


@pytest.mark.parametrize(
    ("override", "where", "found", "hint"),
    [
        ("trian.epochs=3", "(override) trian", 'key "trian"', 'Did you mean "train"?'),
        ("train.epoch=3", "(override) train.epoch", 'key "epoch"', 'Did you mean "epochs"?'),
        ("data.lefd.size=3", "(override) data.lefd.size", '"lefd"', 'Did you mean "left"?'),
        ("tasks.raed.data=left", "(override) tasks.raed.data", '"raed"', 'Did you mean "read"?'),
        ("train.epochs=many", "(override) train.epochs", '"many"', ""),
        ("train.epochs=yes", "(override) train.epochs", '"yes"', ""),
        ("train.epochs.x=3", "(override) train.epochs.x", "below 9", "train.epochs=VALUE"),
        ("train.select.x=3", "(override) train.select", "{x: 3}", ""),
        ("methods.7=hard", "(override) methods.7", '"7"', "one of 0, 1, 2"),
        ("methods.last=hard", "(override) methods.last", '"last"', "one of 0, 1, 2"),
        ("methods.1.single.filter=true", "(override) methods.1.single.filter", '"hard"', "VALUE"),
        ("train.epochs", "(override)", '"train.epochs"', "key.path=value"),
        ("train..epochs=3", "(override)", '"train..epochs=3"', "key.path=value"),
        ("=3", "(override)", '"=3"', "key.path=value"),
        ("train.batch=[1", "(override) train.batch", "','", ""),
        ("train.batch=!!int 3", "(override) train.batch", "!!int", ""),
        ("train={epochs: 1, epochs: 2}", "(override) train.epochs", "again", "once"),
    ],
)
def test_a_wrong_override_says_so(override, where, found, hint):
    (fault,) = told(override)
    place, words = fault.split(": ", 1)
    assert place == where
    assert found in words
    assert words.endswith(hint)


def test_all_wrong_overrides_are_told_at_once():
    assert len(told("trian=1", "train.epochs", "data.lefd.size=3", "train.batch=0")) == 4


def test_the_config_of_an_example_starts_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = read_config("digits", ["seeds=1"], options=False)
    assert (config.name, config.folder) == ("digits", Path.cwd())
