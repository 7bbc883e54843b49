"""The section `pretraining` of a config: what a part has of its own, and what is wrong with it."""

import pytest

from polytask.config import read_config
from polytask.errors import ConfigError

TEXT = """\
data:
  few: {source: digits, fraction: 0.05}
tasks:
  digit: {kind: classification, data: few}
pretraining:
  joint:
    data: {scans: {source: shapes, count: 20}, few: {fraction: 0.5}}
    tasks: {turned: {kind: rotation, data: scans}}
    train: {epochs: 7}
  lasso: {tasks: {turned: {kind: rotation, data: few}}, method: {layer_lasso: {regularize: kl}}}
methods:
  - {hard: {transfer: {pretraining: joint}, as: tuned}}
backbone: {name: resnet18, stem: small}
train: {epochs: 3, batch: 32}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "target.yaml"
    path.write_text(TEXT)
    return path


def test_a_part_has_what_it_sets_and_else_what_the_config_has(file):
    config = read_config(file)
    joint, lasso = config.pretraining["joint"], config.pretraining["lasso"]
    assert list(joint.data) == ["few", "scans"]
    assert list(lasso.data) == ["few"]
    assert (joint.data["few"].fraction, lasso.data["few"].fraction) == (0.5, 0.05)
    assert (joint.train.epochs, joint.train.batch, lasso.train.epochs) == (7, 32, 3)
    assert joint.backbone == config.backbone
    assert list(joint.tasks) == ["turned"]
    assert [(e.key, e.name) for e in joint.methods] == [("joint", "hard")]
    assert [(e.key, e.name) for e in lasso.methods] == [("lasso", "layer_lasso")]


def test_what_is_written_is_read_again(file, tmp_path):
    config = read_config(file)
    (tmp_path / "resolved.yaml").write_text(config.dump())
    again = read_config(tmp_path / "resolved.yaml")
    assert again == config
    assert again.dump() == config.dump()
    assert config.difference(read_config(file, ["pretraining.joint.train.epochs=8"])) == [
        "pretraining.joint.train.epochs: 7 -> 8"
    ]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("pretraining.joint.seeds=3", 'pretraining.joint.seeds: unknown key "seeds"'),
        ("pretraining.joint.tasks.turned.kind=rotatoin", 'Did you mean "rotation"'),
        (
            "pretraining.joint.train.epochs=0",
            "pretraining.joint.train.epochs: got 0; expected a number of 1 or more",
        ),
        ("pretraining.lasso.tasks=null", "pretraining.lasso.tasks: got nothing; expected"),
        (
            "pretraining.hard={tasks: {turned: {kind: rotation, data: few}}, method: mtan}",
            'pretraining.hard: got the name "hard", which a method has',
        ),
        ("methods.0.hard.transfer.pretraining=join", 'unknown pretraining "join"'),
        ("methods.0.hard.transfer.run=there", "expected a run or a pretraining, not both"),
        ("pretraining=null", 'got "joint"; expected a name in the section pretraining'),
    ],
)
def test_faults_are_told_once_with_their_key(file, override, told):
    with pytest.raises(ConfigError) as caught:
        read_config(file, [override])
    assert len(caught.value.faults) == 1
    (fault,) = caught.value.faults
    assert told in f"{fault.where}: {fault.problem} {fault.hint}"


def test_a_fault_of_a_common_section_is_told_once(file):
    with pytest.raises(ConfigError) as caught:
        read_config(file, ["backbone.name=resnet19"])
    assert len(caught.value.faults) == 1
