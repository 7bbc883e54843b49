"""Counting: known networks, totals whatever the batches, and what is written to files."""

from __future__ import annotations

import json
import time
from functools import partial

import pytest
import torch
from torch import nn
from torchvision import models

from polytask import backbones, registry
from polytask.batch import Input
from polytask.cost import latency, measure
from polytask.cost.count import Meter, total
from polytask.sharing.method import Setting, SharingMethod
from polytask.tasks.task import Task

SMALL = partial(backbones.build, "resnet18", width=0.125, stem="small")


def build(method, streams, stream_of, norm="mixed", **options) -> SharingMethod:
    kind = registry.load("tasks", "classification", Task)
    tasks = {name: kind(name, kind.Options(kind="classification", classes=4)) for name in stream_of}
    setting = Setting(tasks, streams, stream_of, SMALL, norm=norm)
    chosen = registry.load("sharing", method, SharingMethod)
    return chosen(setting, chosen.Options(**options))


def together(size: int) -> tuple[dict[str, Input], dict[str, str]]:
    return {"all": Input(3, size, size)}, {"one": "all", "two": "all"}


def apart(one: int, two: int) -> tuple[dict[str, Input], dict[str, str]]:
    return {"a": Input(3, one, one), "b": Input(3, two, two)}, {"one": "a", "two": "b"}


@pytest.mark.parametrize(
    ("network", "macs"),
    [
        (models.resnet18, 1_814_073_344),
        (models.vgg16, 15_470_264_320),
        (partial(models.mobilenet_v2, width_mult=0.5), 97_131_840),
    ],
)
def test_known_networks(network, macs):
    with torch.device("meta"):
        made = network().eval()
        work = Meter(made).run(torch.empty(1, 3, 224, 224))
    assert total(work, work).macs == macs
    children = {child for child in made.modules() if not list(child.children())}
    assert total(work, children).macs == macs


def test_attention_counts_its_products_apart():
    """Twelve blocks on 197 tokens of 192 channels: four projections, an MLP; QKᵀ and its V."""
    with torch.device("meta"):
        network = backbones.build("vit_tiny_patch16_224", size=(224, 224)).eval()
        work = Meter(network).run(torch.empty(1, 3, 224, 224))
    tokens, channels = 197, 192
    assert total(work, work).macs == 12 * 12 * tokens * channels**2 + 196 * channels * 3 * 16 * 16
    assert total(work, work).products == 12 * 2 * tokens**2 * channels


def test_batch_norm_and_pools_count_in_the_legacy_convention():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.AvgPool2d(2)
    ).eval()
    image = torch.zeros(1, 3, 8, 8)
    conv = 8 * 8 * 4 * 27
    assert [w.macs for w in Meter(network).run(image).values()] == [0, conv, 0, 0, 0]
    legacy = Meter(network, "thop_legacy").run(image)
    assert [w.macs for w in legacy.values()] == [0, conv, 2 * 256, 0, 64 + 16]


def test_work_is_told_apart_by_module_however_deep():
    class Nest(nn.Module):
        """A product of its own around its children's layers, and a layer as a function."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(self.inner(x) @ zeros(4, 5), zeros(6, 5), zeros(6))

    nest, zeros = Nest(), torch.zeros
    work = Meter(nest).run(zeros(1, 4))
    assert (work[nest].products, work[nest].macs) == (20, 30)
    assert (work[nest.inner].products, work[nest.inner].macs) == (0, 0)
    assert [work[layer].macs for layer in nest.inner] == [16, 16]


@pytest.mark.parametrize("method", ["hard", "single", "multi_exit"])
def test_total_is_the_same_however_batches_are_mixed(method):
    integrated = measure(build(method, *together(16)))
    multi_input = measure(build(method, *apart(16, 16), norm="per_data"))
    assert multi_input.total == integrated.total
    assert multi_input.tasks["one"].macs == integrated.tasks["one"].macs


def test_shared_units_count_once_on_the_largest_stream():
    small, large = measure(build("hard", *together(16))), measure(build("hard", *together(24)))
    mixed = measure(build("hard", *apart(16, 24), norm="per_data"))
    assert mixed.total.macs == large.total.macs
    assert mixed.tasks["one"].macs == small.tasks["one"].macs
    columns = measure(build("single", *apart(16, 24), norm="per_data"))
    assert columns.total.macs == columns.tasks["one"].macs + columns.tasks["two"].macs
    assert columns.total.params == columns.tasks["one"].params + columns.tasks["two"].params


def test_units_name_their_owners():
    exits = {"one": "layer2", "two": "layer4"}
    cost = measure(build("multi_exit", *together(16), exits=exits))
    owners = {u.unit: u.owner for u in cost.tasks["two"].units}
    assert owners["layer2.1"] == "shared"
    assert owners["layer3.0"] == "two"
    assert "layer3.0" not in {u.unit for u in cost.tasks["one"].units}


def test_measuring_leaves_the_method_alone():
    method = build("hard", *together(16)).train()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    measure(method, "thop_legacy")
    assert method.training
    assert all(torch.equal(before[n], value) for n, value in method.state_dict().items())
    assert not any(m._forward_hooks for m in method.modules())


def test_json_holds_what_the_interface_fixes():
    cost = measure(build("hard", *together(16), filter=True))
    read = json.loads(cost.to_json())
    assert read["convention"] == "plain"
    assert read["total"] == {
        "params": cost.total.params,
        "macs": cost.total.macs,
        "products": 0,
        "elementwise": cost.total.elementwise,
    }
    one = read["tasks"]["one"]
    assert one["params"] == cost.tasks["one"].params
    unit, owner, params, macs = one["units"][0]
    assert (unit, owner) == ("stem", "shared")
    assert macs == 16 * 16 * 8 * 27
    assert params == 8 * 27 + 2 * 8


def test_latency_is_the_median_of_one_image_on_one_thread():
    class Worker(nn.Module):
        """Works 4 ms, once 80 ms, and always waits for a neighbour besides."""

        def __init__(self) -> None:
            super().__init__()
            self.calls: list[tuple[torch.Size, int]] = []

        def forward(self, images: torch.Tensor) -> None:
            self.calls.append((images.shape, torch.get_num_threads()))
            end = time.thread_time() + (0.08 if len(self.calls) == 5 else 0.004)
            time.sleep(0.02)
            while time.thread_time() < end:
                pass

    path, threads = Worker(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = latency(path, Input(1, 5, 6), views=2, runs=7, warm_up=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert 4 <= found < 20
    assert path.calls == [(torch.Size((2, 1, 5, 6)), 1)] * 8
