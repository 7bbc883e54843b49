"""The residual SegNet of the pets system: its networks' parameters and work, to the last digit."""

from functools import partial

import pytest
import torch

from polytask import backbones, registry, tasks
from polytask.batch import Input
from polytask.cost import measure
from polytask.errors import UserError
from polytask.sharing.method import Setting, SharingMethod
from polytask.tasks.task import Task

HEAD = {"hidden": [200, 80], "grid": 2, "activation": "none"}
OUTLINE = {"kind": "segmentation", "classes": 2, "decoder": "conv", "bias": False}
SPECIES = {"kind": "classification", "classes": 2, **HEAD}
WHERE = {"kind": "box", **HEAD}
# The report stitches before every stage, with one matrix for all, after a first convolution that
# all tasks have in common.
STITCHED = {"where": ["stem", "enc1", "enc2", "enc3", "enc4"], "shared": True, "tied": "stem"}


def network(name, options, *, backbone="residual_segnet", **method):
    kinds = {task: registry.load("tasks", o["kind"], Task) for task, o in options.items()}
    made = tasks.build({task: kinds[task].Options(**o) for task, o in options.items()})
    setting = Setting(
        tasks=made,
        streams={"pets": Input(3, 256, 256)},
        stream_of=dict.fromkeys(made, "pets"),
        backbone=partial(backbones.build, backbone),
    )
    kind = registry.load("sharing", name, SharingMethod)
    chosen = kind.Options(**method)
    assert kind.refuses(setting, chosen) is None
    with torch.device("meta"):
        return kind(setting, chosen)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("name", "options", "made", "expected"),
    [
        ("single", {"outline": OUTLINE}, {}, 18_881_615),
        ("cross_stitch", {"species": SPECIES, "outline": OUTLINE}, STITCHED, 24_027_593 + 4),
        ("cross_stitch", {"where": WHERE, "outline": OUTLINE}, STITCHED, 24_027_755 + 4),
        (
            "cross_stitch",
            {"species": SPECIES, "where": WHERE, "outline": OUTLINE},
            STITCHED,
            29_173_733 + 9,
        ),
        (
            "aux_encoders",
            {"species": SPECIES, "where": WHERE, "outline": {**OUTLINE, "bias": True}},
            {"backbone": "residual_segnet_7x7"},
            56_568_359 + 19,
        ),
    ],
    ids=["baseline", "species ablation", "box ablation", "all", "auxiliary encoders"],
)
def test_parameters_of_the_reports_networks(name, options, made, expected):
    """METHODS §6.3, and the scalars of the stitches: T², and 9 + 4 + 4 + 2 in the fused decoder."""
    assert parameters(network(name, options, **made)) == expected


def test_parameters_of_each_stage():
    with torch.device("meta"):
        units = dict(backbones.build("residual_segnet"))
        wide_stem = backbones.build("residual_segnet_7x7").unit("stem")
    down = [464, 14_016, 55_680, 221_952, 886_272, 3_542_016]
    up = [10_621_696, 2_656_640, 664_768, 166_496, 41_776, 9_785]
    assert [parameters(unit) for unit in units.values()] == [*down, *up]
    assert parameters(wide_stem) == 2_384


def test_work_of_encoder_and_decoder():
    """METHODS §6.3: 1.1395 G and 1.0110 G multiply-accumulates at 256 × 256."""
    method = network("single", {"outline": OUTLINE})
    cost = measure(method)
    units = {unit.unit.split("/")[1]: unit.macs for unit in cost.tasks["outline"].units}
    encoder = sum(macs for name, macs in units.items() if not name.startswith("dec"))
    assert round(encoder / 1e9, 4) == 1.1395
    assert round((cost.total.macs - encoder) / 1e9, 4) == 1.0110


def test_the_deepest_map_and_the_last():
    whole = backbones.build("residual_segnet").shapes(3, 256, 256)
    assert whole["enc5"] == (512, 4, 4)
    assert whole["dec6"] == (3, 256, 256)
    small = backbones.build("residual_segnet", stem="small", width=0.25)
    shapes = small.shapes(3, 64, 96)
    assert shapes["enc5"] == (128, 2, 3)
    assert shapes["dec6"] == (3, 64, 96)
    assert {name: info.stride for name, info in small.info.items()} == {
        name: 96 // width for name, (_, _, width) in shapes.items()
    }


def test_a_block_adds_its_own_input_twice():
    """x → u₁(x) + x → u₂(·) + x, as the authors' code; a u of 0 leaves x."""
    block = backbones.build("residual_segnet", width=0.125).unit("enc1").eval()
    for unit in (block.first, block.second):
        unit[-1].weight.data.zero_()
    x = torch.randn(2, 2, 8, 8)
    assert torch.equal(block(x), block.sampler(x))
    block.first[-1].weight.data.fill_(1)
    assert torch.equal(block(x), block.sampler(x))  # the second unit starts anew from x


def test_sides_that_do_not_halve_five_times_are_refused():
    with pytest.raises(UserError, match="16×16 pixels do not get through"):
        backbones.build("residual_segnet", stem="small").shapes(3, 16, 16)
