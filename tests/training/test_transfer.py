"""Transfer by every route: what the student starts from, learns from, and leaves in its files."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from polytask import backbones, registry, training
from polytask.batch import Batch, Input, Target
from polytask.config import read_config
from polytask.config.models import BackboneConfig
from polytask.config.train import TrainConfig
from polytask.config.transfer import TransferOptions
from polytask.data.prepare import IMAGENET
from polytask.errors import UserError
from polytask.sharing.method import Outputs, Setting, SharingMethod
from polytask.tasks import build
from polytask.tasks.task import Task
from polytask.training.pretrain import pretrain
from polytask.training.routes import transferred
from polytask.training.run import Run, Stopped, train_run
from polytask.training.source import Source, in_common, read_source
from polytask.training.start import start_of
from polytask.training.teacher import Teacher, maps_of

BACKBONE = {"name": "resnet10", "stem": "small", "width": 0.0625}
SGD = {"name": "sgd", "lr": 0.05}


def target(by, run, kind="classification", **backbone):
    """A target of one task, with the method that learns from a run beside the one that does not."""
    transfer = {"run": str(run), "by": by, "hidden": [16]}
    if by == "latent":
        transfer |= {"by": "soft_targets", "latent": True}
    data = {"hand": {"source": "digits", "fraction": 0.1, "size": 12}}
    task = {"kind": kind, "data": "hand"}
    if kind != "classification":
        data = {"hand": {"source": "shapes", "count": 60, "size": 24}}
    if kind == "multilabel":
        task["label"] = ["filled", "dark"]
    return read_config(
        {
            "data": data,
            "tasks": {"look": task},
            "backbone": {**BACKBONE, **backbone},
            "methods": [{"hard": {"transfer": transfer}}],
            "train": {"epochs": 2, "batch": 32, "optimizer": SGD},
            "seeds": 1,
        }
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A supervised run on printed digits: two streams, so that its norms keep two statistics."""
    folder = tmp_path_factory.mktemp("source") / "run"
    config = read_config(
        {
            "data": {
                "printed": {"source": "printed_digits", "count": 120, "size": 12},
                "hand": {"source": "digits", "fraction": 0.05, "size": 12},
            },
            "tasks": {
                "read": {"kind": "classification", "data": "printed"},
                "hand": {"kind": "classification", "data": "hand"},
            },
            "backbone": BACKBONE,
            "norm": "per_data",
            "train": {"epochs": 1, "batch": 32, "optimizer": SGD},
            "seeds": 1,
        }
    )
    training.train(config, "hard", out=folder)
    return folder


def run_of(config, tmp_path):
    return Run.alone(config, config.method("hard"), 0)


def rows(folder):
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def test_fine_tuning_starts_from_the_runs_very_weights(source, tmp_path):
    method = run_of(target("fine_tune", source), tmp_path).method
    found = load_file(source / "model.safetensors")
    own = {n.removeprefix("backbone."): p for n, p in method.named_parameters() if "backbone" in n}
    assert own
    assert all(torch.equal(p, found[f"backbone.{name}"]) for name, p in own.items())


def test_statistics_of_several_data_sets_become_those_of_all_their_images():
    torch.manual_seed(0)
    sets = {"a": torch.randn(50, 3) * 2 + 1, "b": torch.randn(50, 3) - 4}
    kept = {}
    for key, values in sets.items():
        kept[f"n.running_mean@{key}"] = values.mean(0)
        kept[f"n.running_var@{key}"] = values.var(0, correction=0)
    found = in_common(kept)
    together = torch.cat(list(sets.values()))
    torch.testing.assert_close(found["n.running_mean"], together.mean(0))
    torch.testing.assert_close(found["n.running_var"], together.var(0, correction=0))
    # A third set whose task left before this norm has what it started with.
    unused = {"running_mean": torch.zeros(3), "running_var": torch.ones(3)}
    kept |= {f"n.{kind}@c": tensor for kind, tensor in unused.items()}
    kept |= {
        f"n.num_batches_tracked@{k}": torch.tensor(n) for k, n in {"a": 7, "b": 5, "c": 0}.items()
    }
    beside = in_common(kept)
    assert int(beside["n.num_batches_tracked"]) == 7
    assert all(torch.equal(beside[name], tensor) for name, tensor in found.items())
    alone = in_common({name: tensor for name, tensor in kept.items() if name.endswith("@c")})
    assert all(torch.equal(alone[f"n.{kind}"], tensor) for kind, tensor in unused.items())


def test_a_teacher_sees_images_as_in_its_own_run(source, tmp_path):
    run = run_of(target("fsp", source), tmp_path)
    own = read_source(source, "here")
    pixels = torch.randint(0, 256, (2, 3, 12, 12), dtype=torch.uint8)
    maps = {}
    for seen in (own.normalisation, IMAGENET):
        teacher = Teacher(run.method, own, seen)
        (maps[seen],) = teacher.maps(seen(pixels), teacher.last(1))
    torch.testing.assert_close(maps[own.normalisation], maps[IMAGENET], atol=1e-4, rtol=1e-4)
    theirs = replace(own, normalisation=IMAGENET)
    start = start_of(target("fine_tune", source), target("fine_tune", source).method("hard"))
    assert start is not None
    assert start.normalisation != theirs.normalisation


@pytest.mark.parametrize("by", ["fine_tune", "soft_targets", "latent", "fsp"])
def test_stopped_in_every_phase_a_transfer_ends_in_the_same_bits(by, source, tmp_path):
    config = target(by, source)
    entry = config.method("hard")

    def run(name, **options):
        return train_run(config, entry, 0, tmp_path / name, **options), tmp_path / name

    straight, folder = run("straight")
    steps = sum(row["split"] == "train" for row in rows(folder)) * 4  # 4 steps an epoch
    for stop in range(3, steps, 3 if by in ("soft_targets", "fsp") else 4):
        with pytest.raises(Stopped):
            run("stopped", resume=True, stop_after=stop)
    resumed, other = run("stopped", resume=True)
    assert rows(folder) == rows(other)
    bits = [(f / "model.safetensors").read_bytes() for f in (folder, other)]
    assert bits[0] == bits[1]
    assert straight["probe"] == resumed["probe"]
    assert set(straight["probe"]["look"]) == {"linear_probe", "knn"}
    assert straight["extra_samples"] == (
        straight["samples"]["look"] / 2 if by in ("soft_targets", "fsp") else 0
    )


@pytest.mark.parametrize("by", ["soft_targets", "fsp"])
def test_teachers_leave_no_trace_in_files_and_do_not_change(by, source, tmp_path):
    config = target(by, source)
    run = run_of(config, tmp_path)
    phases = run.plan(dict)
    teacher = phases[0].modules["teacher"]
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    training.train(config, "hard", out=tmp_path / "taught")
    plain = config.method("hard").model_copy(
        update={"options": type(config.method("hard").options)()}
    )
    train_run(config, plain, 0, tmp_path / "plain")
    files = [tmp_path / name / "model.safetensors" for name in ("taught", "plain")]
    taught, alone = map(load_file, files)
    assert taught.keys() == alone.keys()
    assert any(not torch.equal(taught[name], alone[name]) for name in taught)
    costs = [(tmp_path / name / "cost.json").read_bytes() for name in ("taught", "plain")]
    assert costs[0] == costs[1]
    again = read_source(source, "here").encoder((12, 12)).state_dict()
    assert all(torch.equal(before[f"encoder.{name}"], value) for name, value in again.items())


@pytest.mark.parametrize("kind", ["multilabel", "segmentation", "box"])
@pytest.mark.parametrize("by", ["soft_targets", "fsp"])
def test_other_targets_are_served_too(by, kind, source, tmp_path):
    phases = run_of(target(by, source, kind), tmp_path).plan(dict)
    assert [phase.name for phase in phases] == [
        "header" if by == "soft_targets" else "fsp",
        "joint",
    ]
    training.train(target(by, source, kind), "hard", out=tmp_path / "run")
    trained = [row for row in rows(tmp_path / "run") if row["split"] == "train"]
    assert trained[1]["loss/look"] < trained[0]["loss/look"]


@pytest.mark.parametrize("teacher", ["alexnet", "vgg16", "resnet50", "resnet26"])
def test_pairs_of_unlike_networks_build_and_learn(teacher):
    """A reduced AlexNet learns from the encoders that the paper has."""
    from polytask.distill.fsp import Adapters, fsp_loss, taps_for

    torch.manual_seed(0)
    own = backbones.build("alexnet_reduced", width=0.25)
    theirs = backbones.build(teacher, width=0.125, stem="small").eval()
    taps = taps_for(list(own.stages.values()), list(theirs.stages.values()), 3)
    infos = [[net.info[u].channels for u in t] for net, t in zip((own, theirs), taps, strict=True)]
    adapters = Adapters(*infos)
    images = torch.randn(2, 3, 32, 32)
    loss = fsp_loss(adapters(maps_of(own, images, taps[0])), maps_of(theirs, images, taps[1]), True)
    loss.sum().backward()
    assert all(p.grad is not None for p in own.unit("features.0").parameters())


@pytest.mark.parametrize("by", ["fsp", "latent"])
def test_resnet26_without_labels_teaches_a_reduced_alexnet(by, tmp_path):
    """The published pair of table 4, from pretext tasks to another network."""
    data = {"hand": {"source": "digits", "fraction": 0.1, "size": 32}}
    pretext = {"turn": {"kind": "rotation", "data": "hand", "hidden": 8}}
    encoder = {"name": "resnet26", "stem": "small", "width": 0.0625}
    train = {"epochs": 1, "batch": 32, "optimizer": {**SGD, "lr": 0.01}}
    source = {"data": data, "tasks": pretext, "backbone": encoder, "train": train, "seeds": 1}
    pretrain(read_config(source), out=tmp_path / "source")
    small = {"name": "alexnet_reduced", "width": 0.25}
    transfer = {"latent": by == "latent", "temperature": 2}
    student = {
        **source,
        "backbone": small,
        "tasks": {"look": {"kind": "classification", "data": "hand"}},
        "methods": [{"hard": {"transfer": transfer}}],
    }
    route = "fsp" if by == "fsp" else "soft_targets"
    out = tmp_path / "student"
    result = training.transfer(tmp_path / "source", read_config(student), route, out=out)
    phases = [row["phase"] for row in rows(out) if row["split"] == "train"]
    assert phases == (["fsp", "joint"] if by == "fsp" else ["joint"])
    assert set(result["probe"]["look"]) == {"linear_probe", "knn"}
    names = load_file(out / "model.safetensors")
    assert not [name for name in names if "projection" in name or "adapter" in name]


@pytest.mark.parametrize("name", ["hard", "single"])
def test_maps_are_compared_up_to_where_a_task_leaves(name):
    """Beside a mask, a class learns nothing from a decoder that it does not run."""
    kinds = {
        "outline": {"kind": "segmentation", "classes": 2, "decoder": "conv"},
        "product": {"kind": "classification", "classes": 3},
    }
    options = {t: registry.load("tasks", o["kind"], Task).Options(**o) for t, o in kinds.items()}
    segnet = BackboneConfig(name="residual_segnet", stem="small", width=0.0625)
    network = partial(backbones.build, segnet.name, stem=segnet.stem, width=segnet.width)
    setting = Setting(
        build(options), {"all": Input(3, 32, 32)}, dict.fromkeys(kinds, "all"), network
    )
    kind = registry.load("sharing", name, SharingMethod)
    method = kind(setting, kind.Options())
    run = Source(Path("run"), "here", segnet, network().state_dict(), IMAGENET)
    chosen = TransferOptions(run=run.folder, by="fsp")
    (phase,) = transferred([], method, run, chosen, TrainConfig(), IMAGENET)
    batch = Batch.single(torch.randn(2, 3, 32, 32), "all", {task: Target(None) for task in kinds})
    touched = {}
    for term in phase.terms[0](batch, Outputs()):
        method.zero_grad(set_to_none=True)
        term.value.sum().backward()
        names = [n for n, p in method.named_parameters() if p.grad is not None]
        touched[term.task] = {n.partition(".units.")[2].partition(".")[0] for n in names}
    assert touched["product"] == {"stem", *(f"enc{i}" for i in range(1, 6))}
    assert touched["outline"] == touched["product"] | {f"dec{i}" for i in range(1, 7)}
    teacher = phase.modules["teacher"]
    assert (teacher.last(1), teacher.last(2, True)) == (["enc5"], ["dec5", "dec6"])


def test_what_cannot_be_transferred_says_so(source, tmp_path):
    wider = target("fine_tune", source, width=0.125)
    with pytest.raises(UserError, match="of this backbone's shape"):
        training.train(wider, "hard", out=tmp_path / "a")
    config = target("fsp", source)
    entry = config.method("hard")
    nameless = entry.options.transfer.model_copy(update={"run": None})
    options = entry.options.model_copy(update={"transfer": nameless})
    with pytest.raises(UserError, match="no run; expected a run folder"):
        train_run(config, entry.model_copy(update={"options": options}), 0, tmp_path / "b")
    with pytest.raises(UserError, match="the weights have one origin"):
        training.train(target("fine_tune", source, init=str(source)), "hard", out=tmp_path / "c")
    assert not any((tmp_path / name).exists() for name in "abc")
