"""Every fault of a config gives one line: file and line, key, what was found, what was expected."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask import errors
from polytask.config import read_config
from polytask.errors import ConfigError

BASE = """\
data:
  left: {source: digits, size: 32}
  right: {source: shapes, size: 32}
tasks:
  read: {kind: classification, data: left}
  shape: {kind: classification, data: right, label: shape}
train:
  epochs: 5
  batch: 8
seeds: 2
"""
LEFT, READ, EPOCHS, SEEDS = 2, 5, 8, 10
NEXT = 11


def faults(tmp_path, monkeypatch, text, *overrides, options=False):
    """The lines that a user reads."""
    (tmp_path / "shop.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        read_config("shop.yaml", overrides, options=options)
    return str(caught.value).split("\n")


@pytest.fixture
def told(tmp_path, monkeypatch):
    return lambda *args, **named: faults(tmp_path, monkeypatch, *args, **named)


def check(line, place, found, expected, nearest=None):
    """The parts of a fault; without `nearest` there is no suggestion."""
    where, words = line.split(": ", 1)
    assert where == place
    got, wanted = words.split("; expected ", 1)
    assert found in got
    assert expected in wanted
    suggestion = re.search(r'Did you mean "(.*)"\?$', wanted)
    assert (suggestion and suggestion.group(1)) == nearest


@pytest.mark.parametrize(
    ("name", "near"),
    [("temp", "temperature"), ("SGD", "sgd"), ("thop-legacy", "thop_legacy"), ("te", None)],
)
def test_the_nearest_name(name, near):
    names = ("sgd", "temperature", "thop_legacy")
    assert errors.nearest(name, names) == (f'Did you mean "{near}"?' if near else "")


# (line of BASE to replace, or NEXT to add below; new text; key; found; expected; nearest name)
ONE_FAULT = {
    "unknown key": (NEXT, "sedes: 3", "sedes", 'key "sedes"', "on_bad_image", "seeds"),
    "unknown nested key": (
        EPOCHS, "  epohcs: 5", "train.epohcs", 'key "epohcs"', "evaluate_every", "epochs",
    ),
    "unknown key of a source": (
        LEFT, "  left: {source: digits, sise: 3}", "data.left.sise", '"sise"', "fraction", "size",
    ),
    "unknown source": (
        LEFT, "  left: {source: digitz}", "data.left.source", '"digitz"', "shapes", "digits",
    ),
    "source missing": (LEFT, "  left: {size: 3}", "data.left.source", "nothing", "digits", None),
    "data set no mapping": (LEFT, "  left: digits", "data.left", '"digits"', "a mapping", None),
    "size 0": (LEFT, "  left: {source: digits, size: 0}", "data.left.size", "0", "1 or more", None),
    "fraction 0": (
        LEFT, "  left: {source: digits, fraction: 0}", "data.left.fraction", "0", "above 0", None,
    ),
    "fraction 1.5": (
        LEFT, "  left: {source: digits, fraction: 1.5}", "data.left.fraction", "1.5", "1 or less",
        None,
    ),
    "fraction as text": (
        LEFT, "  left: {source: digits, fraction: 5%}", "data.left.fraction", '"5%"', "a number",
        None,
    ),
    "unknown kind": (
        READ, "  read: {kind: clasification, data: left}", "tasks.read.kind", '"clasification"',
        "multilabel", "classification",
    ),
    "kind missing": (
        READ, "  read: {data: left}", "tasks.read.kind", "nothing", "multilabel", None,
    ),
    "task without data": (
        READ, "  read: {kind: classification}", "tasks.read.data", "nothing", "left, right", None,
    ),
    "unknown data set": (
        READ, "  read: {kind: classification, data: lefd}", "tasks.read.data", '"lefd"',
        "one of left, right", "left",
    ),
    "unknown data set, a number": (
        READ, "  read: {kind: classification, data: 3}", "tasks.read.data", "3", "left, right",
        None,
    ),
    "label of a wrong type": (
        READ, "  read: {kind: classification, data: left, label: [a, {b: 1}]}",
        "tasks.read.label.1", "{b: 1}", "text", None,
    ),
    "class twice": (
        READ, "  read: {kind: classification, data: left, classes: [a, b, a]}",
        "tasks.read.classes", "[a, b, a]", "each once", None,
    ),
    "name with a dot": (
        READ, "  re.ad: {kind: classification, data: left}", "tasks.re.ad", '"re.ad"', "letters",
        None,
    ),
    "unknown backbone": (
        NEXT, "backbone: {name: resnet19}", "backbone.name", '"resnet19"', "vgg16", "resnet18",
    ),
    "unknown backbone, bare": (
        NEXT, "backbone: resnet19", "backbone.name", '"resnet19"', "vgg16", "resnet18",
    ),
    "backbone a list": (NEXT, "backbone: [resnet18]", "backbone", "[resnet18]", "a mapping", None),
    "width 0": (NEXT, "backbone: {width: 0}", "backbone.width", "0", "above 0", None),
    "yes is text": (
        NEXT, "backbone: {pretrained: yes}", "backbone.pretrained", '"yes"', "true or false", None,
    ),
    "1 is no boolean": (
        NEXT, "backbone: {pretrained: 1}", "backbone.pretrained", "1", "true or false", None,
    ),
    "two starts": (
        NEXT, "backbone: {pretrained: true, weights: a}", "backbone.weights", '"a"', "one start",
        None,
    ),
    "unknown choice": (
        NEXT, "backbone: {stem: smal}", "backbone.stem", '"smal"', "imagenet, small", "small",
    ),
    "unknown method": (NEXT, "methods: [hrad]", "methods.0", '"hrad"', "multi_exit", "hard"),
    "method a number": (NEXT, "methods: [3]", "methods.0", "3", "multi_exit", None),
    "two keys in an entry": (
        NEXT, "methods: [{hard: {}, filter: true}]", "methods.0", "hard, filter", "one name", None,
    ),
    "options no mapping": (NEXT, "methods: [{hard: 3}]", "methods.0.hard", "3", "options", None),
    "methods no list": (NEXT, "methods: hard", "methods", '"hard"', "a list", None),
    "key no folder can have": (
        NEXT, "methods: [{hard: {as: a/b}}]", "methods.0.hard.as", '"a/b"', "letters", None,
    ),
    "key too long for a folder": (
        NEXT, "methods: [{hard: {as: " + "a" * 61 + "}}]", "methods.0.hard.as", '"aaaa',
        "at most 60", None,
    ),
    "val and test leave nothing": (
        LEFT, "  left: {source: digits, val: 0.5, test: 0.5}", "data.left.test", "0.5",
        "less than 1 together", None,
    ),
    "key of another method": (
        NEXT, "methods: [{hard: {as: single}}]", "methods.0.hard.as", '"single"', "no method", None,
    ),
    "baseline renamed": (
        NEXT, "methods: [{single: {as: x}}]", "methods.0.single.as", '"x"', "baseline", None,
    ),
    "unknown balancer": (NEXT, "balancing: eqal", "balancing", '"eqal"', "fixed", "equal"),
    "unknown mixing": (
        NEXT, "mixing: multi_inptu", "mixing", '"multi_inptu"', "integrated", "multi_input",
    ),
    "image size 0": (NEXT, "image_size: 0", "image_size", "0", "1 or more", None),
    "epochs absurd": (
        EPOCHS, "  epochs: 1000000000", "train.epochs", "1000000000", "100000 or less", None,
    ),
    "epochs a fraction": (EPOCHS, "  epochs: 2.5", "train.epochs", "2.5", "a whole number", None),
    "epochs a boolean": (EPOCHS, "  epochs: true", "train.epochs", "true", "a whole number", None),
    "epochs empty": (EPOCHS, "  epochs:", "train.epochs", "nothing", "a whole number", None),
    "batch 0": (EPOCHS + 1, "  batch: 0", "train.batch", "0", "1 or more", None),
    "unknown optimizer": (
        EPOCHS, "  optimizer: sgdd", "train.optimizer", '"sgdd"', "one of sgd, adam, adamw", "sgd",
    ),
    "unknown optimizer with options": (
        EPOCHS, "  optimizer: {name: sgdd}", "train.optimizer.name", '"sgdd"', "sgd, adam", "sgd",
    ),
    "optimizer a list": (EPOCHS, "  optimizer: [a]", "train.optimizer", "[a]", "a mapping", None),
    "negative rate": (
        EPOCHS, "  optimizer: {lr: -0.1}", "train.optimizer.lr", "-0.1", "above 0", None,
    ),
    "key of another optimizer": (
        EPOCHS, "  optimizer: {name: adam, momentum: 0.9}", "train.optimizer.momentum",
        'key "momentum"', "one of name, lr, betas, weight_decay", None,
    ),
    "one beta": (
        EPOCHS, "  optimizer: {name: adam, betas: [0.9, 2]}", "train.optimizer.betas.1", "2",
        "below 1", None,
    ),
    "nesterov without momentum": (
        EPOCHS, "  optimizer: {momentum: 0, nesterov: true}", "train.optimizer.nesterov", "true",
        "momentum above 0", None,
    ),
    "schedule without a name": (
        EPOCHS, "  schedule: {gamma: 0.1}", "train.schedule", "{gamma: 0.1}", "plateau", None,
    ),
    "milestones missing": (
        EPOCHS, "  schedule: step", "train.schedule.milestones", "nothing", "epochs after", None,
    ),
    "milestones out of order": (
        EPOCHS, "  schedule: {name: step, milestones: [3, 2]}", "train.schedule.milestones",
        "[3, 2]", "ascending", None,
    ),
    "warm-up too long": (EPOCHS + 1, "  warmup: 6", "train.warmup", "6", "5 epochs", None),
    "bad pattern": (EPOCHS, '  trainable: ["("]', "train.trainable", "(", "regular", None),
    "unknown part": (
        EPOCHS, "  trainable: head", "train.trainable", '"head"', "one of all, heads, filters or a",
        "heads",
    ),
    "wrong type in a list": (
        EPOCHS, "  trainable: [a, 3]", "train.trainable.1", "3", "text", None,
    ),
    "early stop a number": (
        EPOCHS, "  early_stop: 5", "train.early_stop", "5", "a mapping with patience", None,
    ),
    "no seeds": (SEEDS, "seeds: 0", "seeds", "0", "1 to 1000", None),
    "seed twice": (SEEDS, "seeds: [1, 1]", "seeds", "[1, 1]", "each seed once", None),
    "negative seed": (SEEDS, "seeds: [-1]", "seeds.0", "-1", "0 or more", None),
    "name no folder can have": (NEXT, "name: a/b", "name", '"a/b"', "a folder", None),
    "name too long": (NEXT, "name: " + "a" * 201, "name", '"aaaa', "a folder", None),
    "infinite": (EPOCHS, "  clip: .inf", "train.clip", "inf", "a finite number", None),
    "not a number": (
        EPOCHS, "  optimizer: {lr: .nan}", "train.optimizer.lr", "nan", "a finite number", None,
    ),
    "key twice": (EPOCHS, "  batch: 4", "train.batch", f"line {EPOCHS}", "once", None),
}  # fmt: skip


@pytest.mark.parametrize("case", ONE_FAULT)
def test_one_fault_one_line(told, case):
    line, text, key, found, expected, nearest = ONE_FAULT[case]
    lines = BASE.splitlines()
    lines[line - 1 : line] = [text]
    if case == "key twice":
        line += 1
    (fault,) = told("\n".join(lines))
    check(fault, f"shop.yaml:{line} {key}", found, expected, nearest)


def test_all_faults_of_a_file_come_at_once_and_in_its_order(told):
    text = (
        BASE.replace("source: digits", "source: digitz")
        .replace("data: left}", "data: lefd, label: {}}")
        .replace("batch: 8", "batch: 0\n  clip: -1\n  batch: 9")
        .replace(
            "seeds: 2", "seeds: none\nmethods:\n- hard\n- hard\n- {multi_exit: 1}\nnrom: mixed"
        )
    )
    places = [fault.split(": ")[0] for fault in told(text, "train.epochs=x")]
    assert places == [
        "shop.yaml:2 data.left.source",
        "shop.yaml:5 tasks.read.data",
        "shop.yaml:5 tasks.read.label",
        "shop.yaml:9 train.batch",
        "shop.yaml:10 train.clip",
        "shop.yaml:11 train.batch",
        "shop.yaml:12 seeds",
        "shop.yaml:15 methods.1",
        "shop.yaml:16 methods.2.multi_exit",
        "shop.yaml:17 nrom",
        "(override) train.epochs",
    ]


def test_two_entries_of_a_method_need_a_key(told):
    (fault,) = told(BASE + "methods:\n- hard\n- {hard: {}}\n")
    check(fault, "shop.yaml:13 methods.1.hard", '"hard" again', "a key of its own", None)
    assert "as:" in fault


def test_common_statistics_do_not_go_with_separate_passes(told):
    (fault,) = told(BASE + "mixing: multi_input\nnorm: mixed\n")
    check(fault, "shop.yaml:12 norm", '"mixed"', "per_data", None)
    assert "running statistics" in fault
    assert "evaluation" in fault


def test_quoted_numbers_say_so(told):
    (fault,) = told(BASE.replace("epochs: 5", 'epochs: "5"'))
    assert fault.endswith('got "5"; expected a whole number. Remove the quotes.')


def test_line_breaks_in_keys_and_names_do_not_break_the_line(told):
    lines = told(BASE + 'methods: ["a\\nb"]\n"x\\e[2Jy\\n": 1\n')
    assert [line.split(":")[0] for line in lines] == ["shop.yaml", "shop.yaml"]
    assert all(line.isprintable() for line in lines)
    assert "a\\nb" in lines[0]


def test_long_values_are_cut(told):
    (fault,) = told(BASE.replace("seeds: 2", f"seeds: {'x' * 5000}"))
    assert len(fault) < 200


@pytest.mark.parametrize(
    ("text", "place", "found"),
    [
        ("", "shop.yaml:1", "an empty file"),
        ("# data: {}\n", "shop.yaml:1", "an empty file"),
        ("- a\n", "shop.yaml:1", "[a]"),
        ("just text", "shop.yaml:1", '"just text"'),
    ],
)
def test_a_file_without_keys(told, text, place, found):
    (fault,) = told(text)
    check(fault, place, found, "a mapping with data, tasks and methods", None)
    assert "polytask init" in fault


def test_a_file_whose_name_no_folder_can_have(tmp_path):
    (tmp_path / "what?.yaml").write_text(BASE)
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / "what?.yaml", options=False)
    check(str(caught.value), f"{tmp_path / 'what?.yaml'}:1 name", '"what?"', "a folder", None)


def test_a_config_without_tasks(told):
    (fault,) = told("data:\n  left: {source: digits}\ntasks:\n")
    check(fault, "shop.yaml:1 tasks", "nothing", "one task or more", None)


def test_missing_files_name_what_is_near(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.yaml").write_text(BASE)
    for asked, nearest in (("shpo.yaml", "shop.yaml"), ("digit", "digits")):
        with pytest.raises(ConfigError) as caught:
            read_config(asked)
        check(str(caught.value), asked, "no such file", "digits", nearest)
    with pytest.raises(ConfigError, match=r"got a folder; .* It holds shop\.yaml\."):
        read_config(tmp_path)


def test_a_mapping_from_python_is_told_by_key():
    with pytest.raises(ConfigError) as caught:
        read_config(
            {
                "tasks": {"a": {"kind": "classification", "classes": object()}},
                "train": {"optimizer": {"lr": float("nan")}},
                "seeds": -1,
            }
        )
    places = [fault.where for fault in caught.value.faults]
    assert set(places) == {"tasks.a.classes", "tasks.a.data", "train.optimizer.lr", "seeds"}


@settings(deadline=None, max_examples=60)
@given(
    at=st.integers(0, len(BASE)),
    cut=st.integers(0, 12),
    put=st.text("[]{}:,-&*!|'\" \t\n0a", max_size=4),
)
def test_damaged_text_gives_a_config_or_one_line_a_fault(tmp_path_factory, at, cut, put):
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    path.write_text(BASE[:at] + put + BASE[at + cut :], encoding="utf-8")
    try:
        config = read_config(path, options=False)
    except ConfigError as error:
        lines = [str(fault) for fault in error.faults]
        assert all(line.startswith(str(path)) and line.isprintable() for line in lines)
    else:
        assert config.tasks


class TestOptions:
    """The options of kinds, methods and balancers, which their classes define."""

    METHODS = (
        "methods:\n"
        "- {hard: {filter: {init: zero}}}\n"
        "- {multi_exit: {filter: yes, exits: [layer3]}}\n"
        "- {multi_exit: {heads: bigg, exits: {read: 3}, as: second}}\n"
        "- {multi_exit: {head: big, as: third}}\n"
    )

    def test_every_wrong_option_is_told_at_once(self, told):
        text = BASE.replace("data: left}", "data: left, hiden: 3}") + self.METHODS
        text += "balancing: {fixed: {weights: {read: x}}}\n"
        lines = told(text, options=True)
        parts = [
            ("shop.yaml:5 tasks.read.hiden", '"hiden"', "hidden", "hidden"),
            ("shop.yaml:12 methods.0.hard.filter.init", '"zero"', "zeros, ones", "zeros"),
            ("shop.yaml:13 methods.1.multi_exit.filter", '"yes"', "true or false", None),
            ("shop.yaml:13 methods.1.multi_exit.exits", "[layer3]", "by_class_count or", None),
            ("shop.yaml:14 methods.2.multi_exit.exits.read", "3", "text", None),
            ("shop.yaml:14 methods.2.multi_exit.heads", '"bigg"', "minimal, big", "big"),
            ("shop.yaml:15 methods.3.multi_exit.head", '"head"', "heads", "heads"),
            ("shop.yaml:16 balancing.fixed.weights.read", '"x"', "a number", None),
        ]
        assert len(lines) == len(parts)
        by_place = {line.split(": ")[0]: line for line in lines}
        for place, found, expected, nearest in parts:
            check(by_place[place], place, found, expected, nearest)

    def test_they_are_told_beside_other_faults(self, told):
        text = BASE.replace("epochs: 5", "epochs: 0") + self.METHODS
        assert len(told(text, options=True)) == 7

    def test_names_that_torch_keeps_for_itself(self, told):
        (fault,) = told(BASE.replace("read:", "type:"), options=True)
        check(fault, "shop.yaml:5 tasks.type", '"type"', "another", None)
