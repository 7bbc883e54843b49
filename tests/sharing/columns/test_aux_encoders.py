"""Frozen encoders feed a decoder: what joins what, and that freezing is to the bit."""

import json

import pytest
import torch
from safetensors.torch import load_file

from polytask.config import read_config
from polytask.errors import UserError
from polytask.sharing.build import build_method
from polytask.tasks import build as build_tasks
from polytask.training.checkpoint import load_state
from polytask.training.run import Stopped, train_run

SCENES = {
    "data": {"scenes": {"source": "shapes", "count": 60, "size": 32}},
    "tasks": {
        "shape": {"kind": "classification", "data": "scenes", "label": "shape"},
        "outline": {"kind": "segmentation", "data": "scenes", "label": "mask", "decoder": "conv"},
        "where": {"kind": "box", "data": "scenes", "hidden": 8},
    },
    "backbone": {"name": "residual_segnet", "stem": "small", "width": 0.0625},
    "methods": ["aux_encoders"],
    "train": {"epochs": 2, "batch": 16, "optimizer": {"name": "adam", "lr": 0.01}},
    "seeds": 1,
}


def trained(folder, **options):
    config = read_config(SCENES)
    return train_run(config, config.method("aux_encoders"), 0, folder, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aux") / "run"
    return trained(folder), folder


def state_after_the_encoders(folder):
    """The weights where the first phase ends and the second has not begun."""
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    end = max(row["step"] for row in steps if row["phase"] == "encoders")
    other = folder.parent / "stopped"
    with pytest.raises(Stopped):
        trained(other, stop_after=end + 1)
    return load_state(other)


def test_the_second_phase_leaves_encoders_and_their_statistics_as_they_are(run):
    """Bit for bit, batch norms' buffers too; everything of the fused network moves."""
    _, folder = run
    before = state_after_the_encoders(folder)["method"]
    after = load_file(folder / "model.safetensors")
    kept = [
        n for n in after if n.startswith(("columns.shape.units.enc", "columns.where.units.enc"))
    ]
    kept += [n for n in after if n.startswith(("columns.shape.units.stem", "heads.where"))]
    assert any("running_mean" in name for name in kept)
    assert all(torch.equal(before[name], after[name]) for name in kept)
    moved = {n.split(".units.")[0] for n in after if not torch.equal(before[n], after[n])}
    assert {"columns.outline", "columns.shape", "columns.where"} <= moved


def test_training_the_encoders_is_told_as_beyond_the_budget(run):
    result, _ = run
    assert result["extra_samples"] > 0
    assert set(result["samples"]) >= {"outline"}


def test_a_stopped_run_ends_in_the_same_bits(run, tmp_path):
    _, folder = run
    for stop in (2, 8):
        with pytest.raises(Stopped):
            trained(tmp_path / "again", resume=True, stop_after=stop)
    trained(tmp_path / "again", resume=True)
    one, other = (f / "model.safetensors" for f in (folder, tmp_path / "again"))
    assert one.read_bytes() == other.read_bytes()


def made(tasks=None, backbone=None, **options):
    config = read_config(
        {
            **SCENES,
            "tasks": tasks or SCENES["tasks"],
            "backbone": backbone or SCENES["backbone"],
            "methods": [{"aux_encoders": options}],
        }
    )
    built = build_tasks(config.tasks)
    for task in built.values():
        task.classes = task.classes or ["a", "b"]
    from polytask.batch import Input

    streams, of = {"all": Input(3, 32, 32)}, dict.fromkeys(built, "all")
    return build_method(config, config.method("aux_encoders"), built, streams, of, 0)


def test_streams_are_stitched_and_merged_in_turns():
    """Three after the first level, two after the second, one after the fourth."""
    joins = [(j.after, j.reads, j.writes) for j in made().joins]
    own, a, b = "outline", "shape", "where"
    assert joins == [
        ("dec1", (own, a, b), (own, a, b)),
        ("dec2", (own, a), (own,)),
        ("dec2", (own, b), (a,)),
        ("dec3", (own, a), (own, a)),
        ("dec4", (own, a), (own,)),
    ]


def test_initial_weights_are_the_reports():
    """½ on a stream's own map and the rest shared: ¼ and ¼ of three, ½ of two."""
    links = made().links
    assert links["dec1_stitch"].alpha.tolist() == [
        [0.5, 0.25, 0.25],
        [0.25, 0.5, 0.25],
        [0.25, 0.25, 0.5],
    ]
    for name in ("dec2_merge0", "dec2_merge1", "dec4_merge0"):
        assert links[name].alpha.tolist() == [[0.5, 0.5]]


def test_own_1_keeps_the_main_stream_to_itself():
    method = made(own=1.0).eval()
    images = torch.randn(2, 3, 32, 32)
    path = method.path("outline")
    before = path(images)
    for column in ("shape", "where"):
        for parameter in method.column(column).parameters():
            parameter.data.mul_(1.5)
    assert torch.equal(method.path("outline")(images), before)


OUTLINE = SCENES["tasks"]["outline"]
SHAPE = SCENES["tasks"]["shape"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tasks": {"shape": SHAPE}}, "no task answers for every pixel"),
        ({"tasks": {"outline": OUTLINE}}, "outline is alone"),
        (
            {"tasks": {"outline": OUTLINE, "b": OUTLINE, "shape": SHAPE}},
            "b answers for every pixel",
        ),
        ({"backbone": {"name": "resnet18", "width": 0.0625}}, "the backbone has no decoder"),
        ({"main": "shape"}, "main names shape"),
        ({"main": "outlin"}, "outline"),
    ],
)
def test_what_it_cannot_serve_is_told(change, reason):
    with pytest.raises(UserError, match=reason):
        made(**change)
