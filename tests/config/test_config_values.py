"""What a config resolves to: defaults, short forms, methods, places and differences."""

import pickle
from pathlib import Path

import pytest

from polytask.config import Config, TrainConfig, read_config
from polytask.errors import ConfigError
from polytask.examples import bundled

TWO_TASKS = {
    "data": {"left": {"source": "digits"}, "right": {"source": "shapes"}},
    "tasks": {
        "read": {"kind": "classification", "data": "left"},
        "shape": {"kind": "classification", "data": "right", "label": "shape"},
    },
}


def read(**more):
    return read_config({**TWO_TASKS, **more}, options=False)


def keys(*methods):
    return [entry.key for entry in read(methods=list(methods)).methods]


@pytest.mark.parametrize("example", [example.name for example in bundled()])
def test_bundled_examples_are_right(example):
    config = read_config(example)
    assert config.name == example
    assert config.methods[0].name == "single"


def test_every_key_may_be_written(tmp_path):
    (tmp_path / "all.yaml").write_text("""\
data:                                        # each data set once; paths are relative to this file
  handwritten: {source: digits, fraction: 0.05, size: 32}
  printed:     {source: printed_digits, count: 2000, size: 32}
  pets:        {source: folder, path: pets/}
  shelf:       {source: manifest, path: shelf.csv, size: 128}
  scans:       {source: unlabelled, path: scans/}
tasks:
  read_handwriting: {kind: classification, data: handwritten}
  read_print:       {kind: classification, data: printed}
  product: {kind: classification, data: shelf, label: product}
  damage:  {kind: multilabel,     data: shelf, label: [dented, wet, torn]}
mixing: integrated
norm: mixed
image_size: 64
backbone: {name: resnet18, stem: small, width: 0.25, pretrained: false, weights: FILE, init: RUN}
methods:
  - single
  - hard
  - {hard: {filter: true, as: hard_filter}}
  - {multi_exit: {exits: {read_handwriting: layer3, read_print: layer4}, filter: true}}
balancing: equal
match: samples
train: {epochs: 30, batch: 64, optimizer: {name: sgd, lr: 0.05, momentum: 0.9},
        schedule: cosine, trainable: all}
seeds: 3
on_bad_image: error
""")
    config = read_config(tmp_path / "all.yaml")
    assert [entry.key for entry in config.methods] == [
        "single",
        "hard",
        "hard_filter",
        "multi_exit",
    ]
    assert config.tasks["damage"].label == ["dented", "wet", "torn"]
    assert config.folder / config.data["pets"].path == tmp_path / "pets"
    assert config.difference(read_config(config.data_dict())) == []


def test_norm_follows_mixing():
    assert read().norm == "mixed"
    assert read(mixing="integrated").norm == "mixed"
    assert read(mixing="multi_input").norm == "per_data"
    assert read(norm="per_data").norm == "per_data"


def test_a_number_of_seeds_counts_them():
    assert read(seeds=3).seeds == [0, 1, 2]
    assert read(seeds=[7, 5]).seeds == [7, 5]


def test_single_comes_first_where_it_is_missing():
    assert keys("hard") == ["single", "hard"]
    assert keys("hard", "single") == ["hard", "single"]
    assert keys() == ["single"]
    assert [entry.key for entry in read().methods] == ["single", "hard"]


def test_as_gives_the_key_and_options_may_be_left_empty():
    assert keys("hard", {"hard": {"as": "h.2-b"}}, {"multi_exit": None}) == [
        "single",
        "hard",
        "h.2-b",
        "multi_exit",
    ]


def test_bare_names_stand_for_mappings():
    config = read(backbone="vgg16", train={"optimizer": "adamw", "schedule": "constant"})
    assert config.backbone.name == "vgg16"
    assert (config.train.optimizer.name, config.train.optimizer.betas) == ("adamw", (0.9, 0.999))
    assert config.train.schedule.name == "constant"
    assert TrainConfig(optimizer={"momentum": 0.5}).optimizer.name == "sgd"


def test_sections_left_empty_are_as_if_absent():
    assert read(train=None, backbone=None, methods=None) == read()


def test_numbers_pass_for_class_names():
    config = read(tasks={"t": {"kind": "classification", "classes": [0, 1]}})
    assert config.tasks["t"].classes == ["0", "1"]


def test_a_count_of_classes_is_enough_without_data():
    config = read(tasks={"t": {"kind": "classification", "classes": 10}})
    assert (config.tasks["t"].data, config.tasks["t"].classes) == (None, 10)


def test_precision_may_be_written_as_a_number():
    assert read(train={"precision": 32}).train.precision == "32"


def test_timm_names_that_no_list_holds_are_backbones():
    assert read(backbone="convnextv2_nano").backbone.name == "convnextv2_nano"


def test_names_that_are_numbers_are_names():
    tasks = {"2": {"kind": "classification", "data": 2020}}
    config = read_config({"data": {2020: {"source": "digits"}}, "tasks": tasks}, options=False)
    assert config.tasks["2"].data == "2020"
    assert list(config.data) == ["2020"]


def test_a_config_travels_to_another_process_with_its_places():
    config = read(train={"epochs": 3})
    copy = pickle.loads(pickle.dumps(config))
    assert copy == config
    assert copy.place("train", "epochs") == "train.epochs"


def test_nothing_can_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        read().seeds = [1]


class TestFile:
    TEXT = """\
data:
  left: {source: digits}
tasks:
  read: {kind: classification, data: left}
methods:
- hard
- multi_exit:
    exits:
      read: layer3
- {hard: {filter: true, as: gated}}
train:
  epochs: 5
"""

    @pytest.fixture
    def config(self, tmp_path, monkeypatch) -> Config:
        (tmp_path / "shop.yaml").write_text(self.TEXT)
        monkeypatch.chdir(tmp_path)
        return read_config("shop.yaml", ["train.batch=8"], options=False)

    def test_it_is_named_after_its_file(self, config, tmp_path):
        assert (config.name, config.folder) == ("shop", tmp_path)

    def test_every_key_has_its_place(self, config):
        assert config.place("train", "epochs") == "shop.yaml:12 train.epochs"
        assert config.place("data", "left") == "shop.yaml:2 data.left"
        assert config.place("methods", 1, "multi_exit") == "shop.yaml:7 methods.1.multi_exit"

    def test_what_was_not_written_is_where_its_section_is(self, config):
        assert config.place("train", "clip") == "shop.yaml:11 train.clip"
        assert config.place("image_size") == "shop.yaml:1 image_size"

    def test_overrides_are_a_place(self, config):
        assert config.place("train", "batch") == "(override) train.batch"

    def test_methods_are_found_by_their_keys(self, config):
        place = config.place("methods", "multi_exit", "exits", "read")
        assert place == "shop.yaml:9 methods.1.multi_exit.exits.read"
        assert config.place("methods", "hard") == "shop.yaml:6 methods.0"
        assert config.place("methods", "gated", "filter") == "shop.yaml:10 methods.2.hard.filter"
        assert config.place("methods", "single") == "shop.yaml:5 methods.single"

    def test_relative_folders_start_at_the_file(self, tmp_path):
        (tmp_path / "moved.yaml").write_text("folder: sub\nname: other\n" + self.TEXT)
        config = read_config(tmp_path / "moved.yaml", options=False)
        assert (config.name, config.folder) == ("other", tmp_path / "sub")


class TestMethod:
    def test_a_listed_key_wins(self):
        config = read(methods=[{"hard": {"filter": True, "as": "gated"}}])
        assert config.method("gated") is config.methods[1]

    def test_any_other_method_runs_by_its_name_with_its_defaults(self):
        entry = read(methods=["hard"]).method("multi_exit")
        assert (entry.name, entry.key) == ("multi_exit", "multi_exit")
        assert entry.options == type(entry.options)()

    def test_unknown_names_are_refused(self):
        with pytest.raises(ConfigError, match=r'--method: .*"gatde".*Did you mean "gated"'):
            read(methods=[{"hard": {"as": "gated"}}]).method("gatde")


class TestDifference:
    def test_equal_configs_have_none(self):
        assert read().difference(read(seeds=[0, 1, 2])) == []

    def test_values_lists_and_absent_keys(self):
        old = read(methods=["hard", {"multi_exit": {"exits": {"read": "layer3"}}}])
        new = read(
            methods=[{"multi_exit": {"exits": {"read": "layer2"}}}],
            train={"optimizer": "adam"},
            seeds=2,
        )
        assert old.difference(new) == [
            "methods.hard.hard: {} -> absent",
            "methods.multi_exit.multi_exit.exits.read: layer3 -> layer2",
            "train.optimizer.name: sgd -> adam",
            "train.optimizer.lr: 0.05 -> 0.001",
            "train.optimizer.momentum: 0.9 -> absent",
            "train.optimizer.nesterov: false -> absent",
            "train.optimizer.weight_decay: 0.0001 -> 0.0",
            "seeds: [0, 1, 2] -> [0, 1]",
            "train.optimizer.betas: absent -> [0.9, 0.999]",
        ]

    def test_name_and_folder_do_not_count(self):
        assert read(name="a").difference(read(name="b", folder=str(Path.home()))) == []

    def test_the_order_of_methods_does_not_count(self):
        assert (
            read(methods=["hard", "multi_exit"]).difference(read(methods=["multi_exit", "hard"]))
            == []
        )


def test_a_method_may_have_a_balancing_of_its_own():
    config = read_config(
        {
            "tasks": {"a": {"kind": "classification", "classes": 2}},
            "methods": ["hard", {"hard": {"balancing": {"dwa": {"temperature": 1}}, "as": "dwa"}}],
        }
    )
    _, plain, own = config.methods
    assert plain.options.balancing is None
    assert own.options.balancing["dwa"]["temperature"] == 1
    assert read_config(config.data_dict()).methods == config.methods


def test_a_methods_balancing_is_checked_like_that_of_all():
    for balancing, reason in (
        ("dva", r'unknown balancer "dva".*"dwa"'),
        ({"dwa": {"temperatur": 1}}, "temperatur"),
        ({"dwa": {"prior": {"b": 1}}}, 'unknown task "b"'),
    ):
        with pytest.raises(ConfigError, match=reason):
            read_config(
                {
                    "tasks": {"a": {"kind": "classification", "classes": 2}},
                    "methods": [{"hard": {"balancing": balancing}}],
                }
            )
