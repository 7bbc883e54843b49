"""What is recorded of feature filters, against the worked example of eq. 2 and a plain loop."""

import json
import math
from functools import partial

import pytest
import torch

from polytask import backbones, registry, tasks
from polytask.batch import Batch, Input, Target
from polytask.explain.filters import BINS, GateHistogram, filter_summary, write_filters
from polytask.report.records import Filters
from polytask.sharing.filter import FeatureFilter
from polytask.sharing.method import Setting, SharingMethod
from polytask.tasks.task import Task


@pytest.fixture
def method():
    kind = registry.load("tasks", "classification", Task)
    options = {name: kind.Options(kind="classification", classes=3) for name in ("a", "b")}
    hard = registry.load("sharing", "hard", SharingMethod)
    setting = Setting(
        tasks=tasks.build(options),
        streams={"photos": Input(3, 16, 16)},
        stream_of={"a": "photos", "b": "photos"},
        backbone=partial(backbones.build, "vgg11", width=0.0625),
    )
    return hard(setting, hard.Options(filter=True))


def batch(seed, rows):
    images = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    targets = {"a": Target(torch.zeros(6, dtype=torch.long)), "b": Target(None, rows)}
    return Batch.single(images, "photos", targets)


def test_worked_map_falls_into_the_bins_of_its_gates():
    gate = FeatureFilter(2)
    with torch.no_grad():
        gate.alpha.copy_(torch.tensor([1.0, -0.5]).reshape(2, 1, 1))
        gate.beta.copy_(torch.tensor([0.0, 0.25]).reshape(2, 1, 1))
    features = torch.tensor([[[[1.0, -2.0], [0.0, 3.0]], [[0.5, 4.0], [-1.0, 2.0]]]])
    histogram = GateHistogram()
    histogram.see(gate, (features,), gate(features))
    gates = [0.731059, 0.119203, 0.5, 0.952574, 0.5, 0.148047, 0.679179, 0.320821]
    wanted = [0] * BINS
    for value in gates:
        wanted[int(value * BINS)] += 1
    assert histogram.summary()["counts"] == wanted
    assert histogram.summary()["mean"] == pytest.approx(sum(gates) / 8, abs=1e-6)


def test_an_untrained_filter_is_half_open_for_every_image_of_its_task(method):
    rows = torch.tensor([0, 4])
    summary = filter_summary(method, [batch(0, rows), batch(1, rows)])
    channels, height, width = method.shapes["a"][method.backbone.last]
    for task, images in (("a", 12), ("b", 4)):
        (record,) = summary["tasks"][task]
        assert record["alpha"] == record["beta"] == [0.0] * channels
        assert record["gates"]["counts"][BINS // 2] == images * channels * height * width
        assert record["gates"]["mean"] == 0.5


def test_an_open_gate_is_counted_in_the_last_bin(method):
    with torch.no_grad():
        method.filters["a"][0].beta.fill_(20.0)
    counts = filter_summary(method, [batch(0, None)])["tasks"]["a"][0]["gates"]["counts"]
    assert sum(counts[:-1]) == 0
    assert counts[-1] > 0


def test_the_method_is_left_as_it_was(method):
    method.train()
    method.backbone.eval()  # as a frozen trunk stands in training
    modes = [module.training for module in method.modules()]
    before = {name: value.clone() for name, value in method.state_dict().items()}
    filter_summary(method, [batch(0, None)])
    assert [module.training for module in method.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert all(not gate._forward_hooks for gates in method.filters.values() for gate in gates)
    assert all(parameter.grad is None for parameter in method.parameters())


def test_the_file_is_what_the_report_reads(method, tmp_path):
    path = write_filters(method, [batch(0, None)], tmp_path / "plots")
    assert path == tmp_path / "plots" / "filters.json"
    record = Filters.model_validate(json.loads(path.read_text())).tasks["b"][0]
    assert math.fsum(record.gates.counts) > 0
    assert record.gates.mean == 0.5


def test_a_task_that_no_image_reached_has_no_mean(method):
    summary = filter_summary(method, [])
    assert summary["tasks"]["a"][0]["gates"] == {"counts": [0] * BINS, "mean": None}
