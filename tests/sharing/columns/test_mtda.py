"""Multi-task discriminant analysis: worked values, invariants, and classes found from images."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from polytask import registry
from polytask.batch import Batch, Group, Input, Target
from polytask.phase import Schedule
from polytask.sharing.columns.mtda import (
    Mtda,
    NearestMean,
    discriminants,
    principal_components,
    scatter,
)
from polytask.sharing.method import Setting
from polytask.tasks.task import Task

LABELS = torch.tensor([0, 0, 0, 1, 1, 1])
PLANE = torch.tensor([[0, 0], [1, 0], [0, 1], [3, 3], [4, 3], [3, 5]], dtype=torch.float64)
SPACE = torch.tensor(
    [[1, 0, 2], [2, 1, 0], [0, 1, 1], [1, 4, 3], [3, 3, 2], [2, 5, 1]], dtype=torch.float64
)


def ratio_trace(w, between, within):
    """What MTDA maximises for one task."""
    return float(torch.trace(torch.linalg.solve(w.T @ within @ w, w.T @ between @ w)))


def test_the_worked_scatters():
    between, within = scatter(PLANE, LABELS)
    assert_close(between, torch.tensor([[2.25, 2.5], [2.5, 25 / 9]], dtype=torch.float64))
    expected = torch.tensor([[2 / 9, -1 / 6], [-1 / 6, 5 / 9]], dtype=torch.float64)
    assert_close(within, expected)


def test_the_worked_eigenvalues():
    """Two tasks reach the sum of what each reaches alone: nothing is lost by being common."""
    best = []
    for x in (PLANE, SPACE):
        between, within = scatter(x, LABELS)
        assert torch.linalg.matrix_rank(between) == 1
        values, w = discriminants(between, within, 1)
        assert_close(w.T @ within @ w, torch.eye(1, dtype=torch.float64))
        assert ratio_trace(w, between, within) == pytest.approx(float(values[0]), abs=1e-6)
        best.append(float(values[0]))
    assert best == pytest.approx([28.225806, 106.625], abs=1e-6)
    assert sum(best) == pytest.approx(134.850806, abs=2e-6)
    _, w = discriminants(*scatter(PLANE, LABELS), 2)
    direction = w[:, 0] / w[:, 0].norm()
    direction = direction * direction[0].sign()
    expected = torch.tensor([0.873126, 0.487495], dtype=torch.float64)
    assert_close(direction, expected, atol=1e-6, rtol=0)


@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(4, 6))
@settings(max_examples=25, deadline=None)
def test_no_other_direction_is_better(seed, classes, width):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(40) % classes
    x = torch.randn(40, width, dtype=torch.float64, generator=draw)
    between, within = scatter(x, labels)
    assert torch.linalg.matrix_rank(between) <= classes - 1
    values, w = discriminants(between, within, classes - 1)
    best = ratio_trace(w, between, within)
    assert best == pytest.approx(float(values.sum()), rel=1e-6)
    other = torch.randn(w.shape, dtype=torch.float64, generator=draw)
    assert ratio_trace(other, between, within) <= best + 1e-9
    turn = torch.randn(classes - 1, classes - 1, dtype=torch.float64, generator=draw)
    assert ratio_trace(w @ turn, between, within) == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("shape", [(30, 5), (5, 30)])
def test_principal_components_are_those_of_the_svd(shape):
    x = torch.randn(shape, dtype=torch.float64)
    x = x - x.mean(dim=0)
    basis = principal_components(x, 3)
    _, _, rows = torch.linalg.svd(x, full_matrices=False)
    assert_close((basis * rows[:3].T).sum(dim=0).abs(), torch.ones(3, dtype=torch.float64))
    assert principal_components(x, 99).shape[1] == min(shape[0] - 1, 5 if shape[1] == 5 else 99)


def test_a_class_is_that_of_the_nearest_mean():
    """Widely spread features with a shift between classes along one hidden direction."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    hidden = torch.randn(90, 6, generator=draw) * torch.tensor([0.1, 5, 5, 5, 5, 5])
    hidden[:, 0] += labels * 2
    seen = hidden @ torch.randn(6, 6, generator=draw) + 7
    head = NearestMean(6, 2, 4)
    head.fit(seen, labels, components=6, ridge=1e-9)
    logits = head(seen)
    assert (logits.argmax(dim=1) == labels).float().mean() > 0.95
    placed = head.place(seen)
    distances = torch.cdist(placed, head.compare.weight[:3]).square()
    assert_close(logits[:, :3].softmax(dim=1), (-distances / 2).softmax(dim=1))
    assert (logits[:, 3] < -1e3).all()  # a class without images is never chosen


def blobs(task: str, count: int, channels: int = 3, size: int = 8):
    """Images of two or three classes that differ in one corner."""
    draw = torch.Generator().manual_seed(len(task))
    classes = 2 if task == "a" else 3
    labels = torch.arange(count) % classes
    images = torch.randn(count, channels, size, size, generator=draw)
    images[:, :, :3, :3] += 2 * labels.view(-1, 1, 1, 1)
    return images, labels


def build(kinds=("classification", "classification"), **options) -> Mtda:
    tasks = {}
    for name, kind in zip("ab", kinds, strict=True):
        made = registry.load("tasks", kind, Task)
        labels = {"label": ["x", "y"]} if kind == "multilabel" else {"classes": 2 + (name == "b")}
        tasks[name] = made(name, made.Options(kind=kind, **labels))
    streams = {"one": Input(3, 8, 8), "two": Input(3, 8, 8)}
    setting = Setting(tasks, streams, {"a": "one", "b": "two"}, backbone=lambda **_: None)
    checked = Mtda.Options(**options)
    reason = Mtda.refuses(setting, checked)
    if reason:
        raise ValueError(reason)
    return Mtda(setting, checked)


def batches(count: int, repeats: int = 1):
    for start in range(0, count * repeats, 16):
        at = torch.arange(start, min(start + 16, count * repeats)) % count
        groups = []
        for task, stream in (("a", "one"), ("b", "two")):
            images, labels = blobs(task, count)
            groups.append(Group(images[at], at, stream, {task: Target(labels[at])}))
        yield Batch(groups)


def test_classes_are_found_from_pixels():
    method = build(side=8, ridge=0.1)
    method.fit(batches(48))
    for task in "ab":
        images, labels = blobs(task, 48)
        path = method.path(task)
        assert (path(images).argmax(dim=1) == labels).float().mean() > 0.95
        batch = Batch.single(images, "one", {task: Target(rows=torch.tensor([3, 5]))})
        assert torch.equal(method(batch).predictions[task], path(images[[3, 5]]))
    assert method.heads["a"].place.out_features == 1  # the least number of classes less one


def test_an_image_counts_once():
    once, often = build(side=8), build(side=8)
    once.fit(batches(48))
    often.fit(batches(48, repeats=3))
    for name, value in once.state_dict().items():
        assert_close(often.state_dict()[name], value, msg=name)
    assert int(often.heads["b"].counts.sum()) == 48


def test_labels_that_do_not_exclude_each_other_are_refused():
    with pytest.raises(ValueError, match="task b is multilabel"):
        build(("classification", "multilabel"))


def test_a_network_that_decodes_ends_with_its_encoder(build):
    """As the network of a class does, whose weights it takes over."""
    network = {"backbone": "residual_segnet", "network": {"stem": "small"}}
    sizes = [(3, 32, 32)] * 2
    alone = build("single", sizes=sizes, **network)
    method = build("mtda", {"features": "cnn"}, sizes=sizes, seed=1, **network)
    paths = {task: alone.path(task) for task in "ab"}
    method.plan(Schedule(epochs=1, single_paths=lambda: paths))
    images = torch.randn(2, 3, 32, 32)
    alone.eval().current.key = "s0"
    column = alone.column("a")
    expected = column.feature(column(images)).mean((2, 3))
    assert_close(method.eval().features["a"](images), expected)


def test_features_of_trained_networks(config, run_in):
    """The columns are those of `single`, untouched, and what trained them is counted."""
    from safetensors.torch import load_file

    made = config(["single", {"mtda": {"features": "cnn"}}], epochs=1)
    result, folder = run_in(made, "mtda")
    assert result["extra_samples"] > 0
    assert result["samples"] == {"read_handwriting": 60, "read_print": 90}
    taught = next(folder.glob("teachers/single/seed0/model.safetensors"))
    single, fitted = load_file(taught), load_file(folder / "model.safetensors")
    weights = [name for name in single if name.startswith("columns.read_print.units.layer4_0.conv")]
    assert weights
    for name in weights:
        own = name.replace("columns.read_print.", "features.read_print.backbone.")
        assert torch.equal(single[name], fitted[own])
