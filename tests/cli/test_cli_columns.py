"""Columns from outside: what shares nothing is the single networks, and results say who is fed."""

import json

import pytest
import torch
from safetensors.torch import load_file

from polytask.report import report

TWO = """\
data:
  digits: {source: digits, fraction: 0.04, size: 12}
  prints: {source: printed_digits, count: 80, size: 16}
tasks:
  digit: {kind: classification, data: digits}
  print: {kind: classification, data: prints}
mixing: multi_input
backbone: {name: resnet10, stem: small, width: 0.0625}
methods:
  - single
  - {kernel_sharing: {threshold: 1.01}}
  - {kernel_sharing: {threshold: 0.5, as: sharing}}
  - cross_stitch
train: {epochs: 2, batch: 20, clip: 0.5, optimizer: {name: sgd, lr: 0.05, momentum: 0.9}}
seeds: 1
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    path = tmp_path_factory.mktemp("columns") / "two.yaml"
    path.write_text(TWO)
    return path


def test_a_threshold_above_1_trains_the_single_networks_bit_for_bit(polytask, two, tmp_path):
    """Clipping is by column: with a common norm the weights would differ."""
    weights = {}
    for name in ("single", "kernel_sharing", "sharing"):
        said = polytask("train", two, "--method", name, "--seed", 3, "--out", tmp_path / name)
        assert said.code == 0
        found = load_file(tmp_path / name / "model.safetensors")
        learned = {n: w for n, w in found.items() if n.startswith(("columns.", "heads."))}
        weights[name] = learned
    single, alone, sharing = weights.values()
    assert single.keys() == alone.keys() == sharing.keys()
    assert all(torch.equal(single[name], alone[name]) for name in single)
    assert not all(torch.equal(single[name], sharing[name]) for name in single)


def test_results_and_the_page_say_how_columns_are_fed(polytask, two, tmp_path):
    methods = "methods=[single, cross_stitch]"
    said = polytask("compare", two, methods, "train.epochs=1", "--out", tmp_path / "c", "--jobs", 1)
    assert said.code == 0
    line = "cross_stitch: feed: same (every column reads a task's images, in training as in use)"
    assert line in said.out.splitlines()
    results = json.loads((tmp_path / "c" / "results.json").read_text())
    assert {name: found["how"] for name, found in results["methods"].items()} == {
        "single": {},
        "cross_stitch": {"feed": "same"},
    }
    run = tmp_path / "c" / "cross_stitch" / "seed0"
    assert json.loads((run / "result.json").read_text())["how"] == {"feed": "same"}
    for folder in (tmp_path / "c", run):
        assert "feed: same (every column reads" in report(folder).read_text()
