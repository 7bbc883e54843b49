"""The resolved config reads back to an equal one, from anywhere."""

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polytask.config import read_config
from polytask.config.nodes import Mark
from polytask.config.reading import read_text
from polytask.config.writing import shown, to_yaml

printable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
tricky = st.sampled_from(
    ["yes", "1e3", "1e-3", "010", "0o17", "0x1f", "1_000", "1:30", ".5", "5.", "~", "null", "true",
     "=", "<<", "-", "a: b", "a #b", " a", "a ", "\t", "a\nb", "\n", "é", "\x85", "\u2028",
     "\ufeff", "#", "&a", "*a", "!a", "%a", "@a", "`a", "---", "...", "[", "{", ",",
     "?", "? a", "'", '"']
)  # fmt: skip
values = st.recursive(
    scalars | printable | tricky,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(printable | tricky, inner, max_size=3)
    ),
    max_leaves=8,
)


def back(text):
    node, problems = read_text(text, Mark("", 1))
    assert problems == []
    return node.plain()


@given(values)
def test_plain_data_reads_back(value):
    assert back(to_yaml({"key": value})) == {"key": value}
    assert back(shown([value])) == [value]


@given(values)
def test_a_line_is_a_line(value):
    assert "\n" not in shown(value)


@given(scalars | tricky)
def test_readers_of_yaml_1_1_see_the_same(value):
    assert yaml.safe_load(to_yaml({"key": value})) == {"key": value}


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,8}", fullmatch=True)
optimizers = st.one_of(
    st.builds(dict, name=st.just("sgd"), lr=st.floats(1e-9, 100), momentum=st.floats(0, 0.99)),
    st.builds(dict, name=st.just("adam"), betas=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99))),
)
schedules = st.one_of(
    st.sampled_from(["constant", "cosine", "plateau"]),
    st.builds(
        dict,
        name=st.just("step"),
        milestones=st.sets(st.integers(1, 99), min_size=1).map(sorted),
        gamma=st.floats(0.01, 1),
    ),
)
configs = st.fixed_dictionaries(
    {
        "tasks": st.dictionaries(
            names, st.just({"kind": "classification", "classes": 3}), min_size=1
        )
    },
    optional={
        "data": st.dictionaries(
            names,
            st.fixed_dictionaries(
                {"source": st.just("digits"), "fraction": st.floats(1e-6, 1)},
                optional={"size": st.integers(1, 4096)},
            ),
        ),
        "backbone": st.fixed_dictionaries({}, optional={"width": st.floats(0.01, 16)}),
        "mixing": st.sampled_from(["integrated", "multi_input"]),
        "methods": st.lists(
            names.filter(lambda n: "_" in n).map(lambda n: {"hard": {"as": n + ".x"}}),
            unique_by=lambda entry: entry["hard"]["as"],
        ),
        "train": st.fixed_dictionaries(
            {"optimizer": optimizers, "schedule": schedules},
            optional={
                "epochs": st.integers(1, 10**5),
                "clip": st.none() | st.floats(1e-9, 1e9),
                "trainable": st.just("heads") | st.lists(names, min_size=1),
            },
        ),
        "seeds": st.integers(1, 20) | st.sets(st.integers(0, 2**31 - 1), min_size=1).map(list),
        "name": printable.filter(lambda s: s.strip() and not set(s) & set('./\\:*?"<>|')),
    },
)


@settings(deadline=None, max_examples=30)
@given(configs)
@example({"tasks": {"1e3": {"kind": "classification", "classes": ["yes", "010"]}}, "name": "1e3"})
def test_a_config_reads_back_from_a_run_folder(tmp_path_factory, values):
    config = read_config(values, options=False)
    run = tmp_path_factory.mktemp("run") / "config.yaml"
    run.write_text(config.dump(), encoding="utf-8")
    again = read_config(run, options=False)
    assert again == config
    assert again.difference(config) == []
    assert again.dump() == config.dump()


def test_options_are_written_with_their_defaults_and_read_back(tmp_path):
    (tmp_path / "shop.yaml").write_text(
        "data:\n  left: {source: folder, path: images}\n"
        "tasks:\n  read: {kind: classification, data: left, hidden: 8}\n"
        "methods:\n- {multi_exit: {exits: {read: layer3}, filter: true, as: early}}\n"
        "balancing: fixed\n"
    )
    config = read_config(tmp_path / "shop.yaml")
    written = config.data_dict()
    assert written["methods"][1]["multi_exit"].items() >= {
        ("filter", True), ("heads", "minimal"), ("drop_rows", True), ("as", "early"),
    }  # fmt: skip
    assert written["tasks"]["read"]["hidden"] == 8
    assert written["balancing"] == {"fixed": {"weights": {}}}
    elsewhere = tmp_path / "runs" / "config.yaml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(config.dump())
    again = read_config(elsewhere)
    assert again == config
    assert again.folder / again.data["left"].path == tmp_path / "images"


def test_another_value_makes_another_config():
    tasks = {"t": {"kind": "classification", "classes": 3}}
    plain = read_config({"tasks": tasks}, options=False)
    for change in ("seeds=2", "train.clip=1.0", "tasks.t.classes=4", "methods=[multi_exit]"):
        assert read_config({"tasks": tasks}, [change], options=False) != plain


@pytest.mark.parametrize("name", ["digits", "shapes"])
def test_bundled_examples_read_back(name):
    config = read_config(name)
    assert read_config(back(config.dump())) == config
