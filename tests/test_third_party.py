"""Names that packages of others add through entry points, without a line changed here."""

import json
import sys

import pytest

from polytask import registry
from polytask.cli import main

EARLY = '''\
"""Early exit: every task leaves the trunk after its second stage.

Source: a package of its own.
"""

from polytask.sharing.trunk import Trunk


class Early(Trunk):
    def taps(self, task):
        return self.taps_until(task, self.backbone.stages["layer2"])
'''
CONFIG = """\
data: {scenes: {source: shapes, count: 60, size: 24}}
tasks:
  shape: {kind: classification, data: scenes, label: shape}
  looks: {kind: multilabel, data: scenes, label: [filled, large]}
backbone: {name: resnet10, stem: small, width: 0.0625}
methods: [hard, {early: {filter: true}}]
train: {epochs: 1, batch: 16}
seeds: 1
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a package with entry points where Python finds it."""

    def make(text, point):
        site = tmp_path / "site"
        about = site / "early_exit-1.0.dist-info"
        about.mkdir(parents=True)
        (site / "early_exit.py").write_text(text)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: early-exit\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[polytask.sharing]\n{point}\n")
        monkeypatch.syspath_prepend(site)
        monkeypatch.delitem(sys.modules, "early_exit", raising=False)
        registry.entries.cache_clear()

    yield make
    registry.entries.cache_clear()


@pytest.mark.parametrize("point", ["early = early_exit", "early = early_exit:Early"])
def test_a_method_of_another_package_is_listed_with_its_summary(install, capsys, point):
    install(EARLY, point)
    assert main(["list", "methods", "--json"]) == 0
    *_, last = json.loads(capsys.readouterr().out)["methods"]
    assert last == {
        "name": "early",
        "summary": "Early exit: every task leaves the trunk after its second stage.",
        "source": "a package of its own.",
        "family": "trunk",
    }


def test_a_method_of_another_package_is_compared_like_any_other(install, capsys, tmp_path):
    install(EARLY, "early = early_exit:Early")
    config = tmp_path / "scenes.yaml"
    config.write_text(CONFIG)
    run = ["compare", str(config), "--out", str(tmp_path / "out"), "--jobs", "1", "--json"]
    assert main(run) == 0
    methods = json.loads(capsys.readouterr().out)["methods"]
    assert list(methods) == ["single", "hard", "early"]
    early, hard = methods["early"], methods["hard"]
    assert 0 < early["cost"]["total"]["macs"] < hard["cost"]["total"]["macs"]
    assert set(early["tasks"]) == {"shape", "looks"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import nothing_of_this_name\n", "cannot be imported: No module named"),
        ("def broken(:\n", "cannot be imported: invalid syntax"),
        ("'''Empty.'''\n", "has no Early"),
    ],
)
def test_a_broken_package_is_named_only_where_a_config_needs_it(
    install, capsys, tmp_path, text, told
):
    install(text, "early = early_exit:Early")
    assert main(["list", "methods"]) == 0
    config = tmp_path / "scenes.yaml"
    config.write_text(CONFIG)
    assert main(["cost", str(config), "methods=[hard]"]) == 0
    capsys.readouterr()
    assert main(["cost", str(config), "methods=[early]"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("early: its module early_exit ")
    assert told in line
