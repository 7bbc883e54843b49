"""The costs that Lee et al. 2021 (table 4) and Park, Lee, Kim 2022 (table 2) print."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from polytask import backbones, registry
from polytask.batch import Input
from polytask.cost import measure
from polytask.sharing.method import Setting, SharingMethod
from polytask.tasks.task import Task

IMAGENET, PLACES = {"imagenet": 1000}, {"places": 365}
BASE_PARAMS, BASE_MACS, BASE_LEGACY = 25_557_032, 4_089_184_256, 4_111_412_224
# Exit of Places365: parameters of the whole, printed G of MACs, channels and cells of the map.
EXITS = {
    "layer4": (26_304_917, 4.1123, 2048, 7 * 7),
    "layer3": (25_931_157, 4.1119, 1024, 14 * 14),
    "layer2": (25_744_277, 4.1120, 512, 28 * 28),
    "layer1": (25_650_837, 4.1123, 256, 56 * 56),
}
HALF_BLOCKS = ("layer3", "layer4.0.conv1", "layer4.0", "layer4.1.conv1", "layer4")


def build(method, classes, size, backbone, **options) -> SharingMethod:
    """A method without data or weights."""
    kind = registry.load("tasks", "classification", Task)
    tasks = {
        name: kind(name, kind.Options(kind="classification", classes=count))
        for name, count in classes.items()
    }
    setting = Setting(
        tasks=tasks,
        streams={"all": Input(3, size, size)},
        stream_of=dict.fromkeys(tasks, "all"),
        backbone=partial(backbones.build, **backbone),
    )
    chosen = registry.load("sharing", method, SharingMethod)
    with torch.device("meta"):
        return chosen(setting, chosen.Options(**options))


resnet50 = partial(build, size=224, backbone={"name": "resnet50"})


def multi_exit(places: str, **options) -> SharingMethod:
    exits = {"imagenet": "layer4", "places": places}
    return resnet50("multi_exit", IMAGENET | PLACES, exits=exits, **options)


def test_a_single_network():
    network = resnet50("single", IMAGENET)
    plain, legacy = measure(network), measure(network, "thop_legacy")
    assert (plain.total.params, plain.total.macs) == (BASE_PARAMS, BASE_MACS)
    assert plain.tasks["imagenet"].macs == plain.total.macs
    assert legacy.total.macs == legacy.tasks["imagenet"].macs == BASE_LEGACY
    assert plain.tasks["imagenet"].bytes == 4 * BASE_PARAMS + 4 * 2 * 26_560 + 8 * 53


def test_the_network_of_places_has_a_smaller_head_than_printed():
    assert measure(resnet50("single", PLACES)).total.params == 24_255_917


@pytest.mark.parametrize("exit_", EXITS)
def test_exits(exit_):
    params, printed, channels, cells = EXITS[exit_]
    network = multi_exit(exit_)
    plain, legacy = measure(network), measure(network, "thop_legacy")
    assert plain.total.params == params
    assert plain.total.macs == BASE_MACS + channels * 365
    pool = channels * cells + channels
    assert legacy.total.macs == BASE_LEGACY + channels * 365 + pool
    assert abs(legacy.total.macs / 1e9 - printed) <= 1e-4
    assert legacy.tasks["imagenet"].macs == BASE_LEGACY


def test_without_the_pool_later_exits_cost_more():
    totals = [measure(multi_exit(exit_)).total.macs for exit_ in EXITS]
    assert totals == sorted(totals, reverse=True)


def test_big_head():
    network = multi_exit("layer3", heads="big")
    legacy = measure(network, "thop_legacy")
    assert legacy.total.params == 25_557_032 + 14_964_736 + 747_885 == 41_269_653
    assert abs(legacy.total.macs / 1e9 - 4.9226) <= 1e-4
    assert round(legacy.total.macs / 1e9, 4) == 4.9227
    own = [u.unit for u in legacy.tasks["places"].units if u.owner == "places"]
    assert own == ["layer4.0", "layer4.1", "layer4.2"]


def test_filters_cost_parameters_and_elementwise_operations_but_no_macs():
    without, filtered = measure(multi_exit("layer3")), measure(multi_exit("layer3", filter=True))
    assert filtered.total.params - without.total.params == 6144
    assert filtered.total.macs == without.total.macs
    assert filtered.tasks["places"].elementwise == 3 * 200_704
    assert filtered.tasks["imagenet"].elementwise == 3 * 100_352
    assert filtered.total.elementwise == 3 * (200_704 + 100_352)


def test_five_nested_paths_of_the_quarter_width_resnet18():
    tasks = {f"task{i}": 20 for i in range(5)}
    small = {"name": "resnet18", "width": 0.25, "stem": "small", "open": ("layer4",)}
    network = build(
        "multi_exit", tasks, 32, small, exits=dict(zip(tasks, HALF_BLOCKS, strict=True))
    )
    cost = measure(network)
    prefixes = [sum(unit.macs for unit in cost.tasks[task].units) for task in tasks]
    assert [round(macs / 1e6, 2) for macs in prefixes] == [26.66, 27.84, 30.33, 32.69, 35.05]
    assert prefixes[-1] == 35_045_376
    assert cost.tasks["task4"].macs == 35_047_936
    params = [cost.tasks[task].params for task in tasks]
    assert params[-1] == 702_756
    assert [round(p / params[-1], 4) for p in params] == [0.2503, 0.3574, 0.5796, 0.7898, 1.0]
    prefix = [sum(unit.params for unit in cost.tasks[task].units) for task in tasks]
    assert prefix == [174_608, 248_592, 404_752, 552_464, 700_176]
