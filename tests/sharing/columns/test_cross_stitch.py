"""Cross-stitch: eq. 1 of the paper, its start, and what it equals; the two ways of feeding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from polytask import registry
from polytask.batch import Batch, Group, Target
from polytask.errors import UserError
from polytask.phase import Schedule
from polytask.sharing.columns.cross_stitch import CrossStitch, CrossStitchOptions, Stitch
from polytask.tasks.task import Task
from polytask.training.optimizers import Optimizers

sizes = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5))


def eq1(alpha, maps):
    """Eq. 1 as written: one sum a column, channel by channel."""
    count, channels = len(maps), maps[0].shape[1]
    rows = alpha if alpha.dim() == 3 else alpha.expand(channels, count, count)
    made = []
    for i in range(count):
        new = torch.zeros_like(maps[0])
        for c in range(channels):
            for j in range(count):
                new[:, c] += rows[c, i, j] * maps[j][:, c]
        made.append(new)
    return made


@given(sizes, st.booleans())
@settings(max_examples=25, deadline=None)
def test_follows_the_papers_equation(size, by_channel):
    columns, batch, channels = size
    alpha = torch.randn(columns, columns, dtype=torch.float64)
    if by_channel:
        alpha = torch.randn(channels, columns, columns, dtype=torch.float64)
    maps = [torch.randn(batch, channels, 3, 2, dtype=torch.float64) for _ in range(columns)]
    link, everything = Stitch(alpha), range(columns)
    want = eq1(alpha, maps)
    for got, expected in zip(link(maps, everything), want, strict=True):
        assert_close(got, expected)
    last = [columns - 1]
    assert_close(link(maps, last)[0], want[-1])
    assert_close(link.narrowed(last)(maps, [0])[0], want[-1])


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        (
            [[0.6, 0.3, 0.1], [0.1, 0.6, 0.3], [0.1, 0.3, 0.6]],
            [[13.6, 27.2], [36.1, 72.2], [63.1, 126.2]],
        ),
        (
            [[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]],
            [[6.4, 12.8], [14.05, 28.1], [90.55, 181.1]],
        ),
    ],
    ids=["report", "default"],
)
def test_worked_numbers(rows, wanted):
    rows, wanted = (torch.tensor(numbers, dtype=torch.float64) for numbers in (rows, wanted))
    maps = [torch.tensor([[x, 2 * x]], dtype=torch.float64)[:, None, None] for x in (1, 10, 100)]
    mixed = torch.stack(Stitch(rows)(maps, range(3)))
    assert_close(mixed[:, 0, 0, 0], wanted, atol=1e-6, rtol=0)


def test_the_worked_example():
    link = Stitch(torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64))
    one = torch.tensor([[[[1, 2], [3, 4]]]], dtype=torch.float64)
    other = torch.tensor([[[[0, -1], [2, 0.5]]]], dtype=torch.float64)
    first, second = link([one, other], [0, 1])
    assert_close(first[0, 0], torch.tensor([[0.9, 1.7], [2.9, 3.65]], dtype=torch.float64))
    assert_close(second[0, 0], torch.tensor([[0.2, -0.4], [2.2, 1.2]], dtype=torch.float64))


@pytest.mark.parametrize("mode", ["layer", "channel"])
@pytest.mark.parametrize("tasks", [1, 2, 4])
def test_rows_start_with_sum_1(build, mode, tasks):
    method = build("cross_stitch", {"own": 0.7, "mode": mode}, tasks=tasks)
    for link in method.links.values():
        assert_close(link.alpha.sum(dim=-1), torch.ones(link.alpha.shape[:-1]))
        own = link.alpha.diagonal(dim1=-2, dim2=-1)
        assert_close(own, torch.full_like(own, 0.7 if tasks > 1 else 1.0))


@pytest.mark.parametrize(
    "options", [{"own": 1.0}, {"own": 1.0, "mode": "channel"}, {"matrix": [[1, 0], [0, 1]]}]
)
def test_columns_that_keep_their_own_maps_are_single_networks(build, batch_for, options):
    single, stitched = build("single").eval(), build("cross_stitch", options).eval()
    batch = batch_for(single)
    alone, together = single(batch).predictions, stitched(batch).predictions
    assert all(torch.equal(alone[task], together[task]) for task in "ab")


def test_equal_columns_stay_equal_at_the_start(build, batch_for):
    """Columns of a common start mix equal maps: the paths of the single networks."""
    single, stitched = build("single").eval(), build("cross_stitch", {"own": 0.6}).eval()
    batch = batch_for(single)
    assert_close(stitched(batch).predictions, single(batch).predictions)


def test_one_matrix_for_all_places(build):
    method = build("cross_stitch", {"shared": True}, tasks=3)
    assert len(method.joins) == 5
    assert [p.shape for p in method.links.parameters()] == [(3, 3)]


def test_a_matrix_of_another_size_is_told(build):
    with pytest.raises(UserError, match="expected 3 of 3") as error:
        build("cross_stitch", {"matrix": [[1, 0], [0, 1]]}, tasks=3)
    assert error.value.faults[0].where == "matrix"


def test_places_differ_in_channels():
    with pytest.raises(ValueError, match="shared with mode: layer"):
        CrossStitchOptions(shared=True, mode="channel")


def test_links_have_a_learning_rate_of_their_own(build):
    method = build("cross_stitch", {"lr": 100})
    (phase,) = method.plan(Schedule(epochs=3))
    made = Optimizers(dict(method.named_parameters()), phase.groups, {"name": "sgd", "lr": 0.1})
    rates = {
        p: group["lr"] for m in made.members for group in m.param_groups for p in group["params"]
    }
    links = set(method.links.parameters())
    for parameter, rate in rates.items():
        assert rate == pytest.approx(10.0 if parameter in links else 0.1)


# Feeding.


def paired_reference(method, own):
    """Every column on its own images; the last map mixed with those at the same place."""
    maps = [method.columns[t](own[t]) for t in own]
    longest = max(map(len, maps))
    turned = [m[torch.arange(longest) % len(m)] for m in maps]
    new = eq1(next(iter(method.links.values())).alpha, turned)
    return {t: method.heads[t](new[i][: len(own[t])]) for i, t in enumerate(own)}


def test_paired_columns_read_their_own_images(build, batch_for):
    """Rows of unequal number: the shorter ones start over."""
    options = {"feed": "paired", "where": ["block5"], "own": 0.7}
    method = build("cross_stitch", options).train()
    batch = batch_for(method, {"a": [0, 2, 3], "b": [1, 2]})
    images = batch.groups[0].images
    want = paired_reference(method, {"a": images[[0, 2, 3]], "b": images[[1, 2]]})
    assert_close(method(batch).predictions, want)


def test_in_use_paired_columns_read_one_image(build, batch_for):
    method = build("cross_stitch", {"feed": "paired"}).eval()
    same = build("cross_stitch", {"feed": "same"}).eval()
    batch = batch_for(method, {"a": [0, 2, 3], "b": [1, 2]})
    assert_close(method(batch).predictions, same(batch).predictions)
    for task, rows in (("a", [0, 2, 3]), ("b", [1, 2])):
        images = batch.groups[0].images[rows]
        assert_close(method.path(task)(images), method(batch).predictions[task])


def test_paired_passes_are_as_many_as_images(build, batch_for):
    sizes = [(3, 16, 16)] * 3
    seen = []
    for feed in ("paired", "same"):
        method = build("cross_stitch", {"feed": feed}, tasks=3, sizes=sizes).train()
        count = []
        for column in method.columns.values():
            column.unit("features.0").register_forward_pre_hook(
                lambda _, args, count=count: count.append(len(args[0]))
            )
        method(batch_for(method, count=5))
        seen.append(sum(count))
    assert seen == [15, 45]


def test_a_column_whose_task_has_no_image_reads_another_ones(build):
    method = build("cross_stitch", {"feed": "paired"}).train()
    images = torch.randn(3, 3, 16, 16)
    none = torch.zeros(0, dtype=torch.long)
    group = Group(images, torch.arange(3), "s0", {"a": Target(), "b": Target(rows=none)})
    found = method(Batch([group])).predictions
    assert found["b"].shape == (0, 3)
    same = build("cross_stitch").train()
    assert_close(found["a"], same(Batch.single(images, "s0", {"a": Target()})).predictions["a"])


def test_pairs_need_images_of_one_size(build):
    with pytest.raises(AssertionError, match=r"s0 16×16, s1 20×16.*feed: same"):
        build("cross_stitch", {"feed": "paired"}, sizes=[(3, 16, 16), (3, 20, 16)])


def test_pairs_need_as_many_views_of_an_image(build):
    setting = build("cross_stitch").setting
    kind = registry.load("tasks", "simsiam", Task)
    mixed = {**setting.tasks, "b": kind("b", kind.Options(kind="simsiam"))}
    for tasks, wanted in ((mixed, "got a 1, b 2. Set feed: same"), (setting.tasks, None)):
        made = replace(setting, tasks=tasks)
        reason = CrossStitch.refuses(made, CrossStitchOptions(feed="paired"))
        assert reason is None if wanted is None else reason.endswith(wanted)
        assert CrossStitch.refuses(made, CrossStitchOptions(feed="same")) is None


def test_paired_columns_train_and_resume(config, run_in):
    top = {"image_size": 12, "data": config([]).data_dict()["data"]}
    for data in top["data"].values():
        data["size"] = 12
    made = config([{"cross_stitch": {"feed": "paired"}}], top)
    _, straight = run_in(made, "cross_stitch")
    _, stopped = run_in(made, "cross_stitch", "stopped", stops=(3,))
    name = "model.safetensors"
    assert (straight / name).read_bytes() == (stopped / name).read_bytes()


def test_new_maps_keep_the_layout_of_the_old():
    maps = [torch.randn(2, 5, 4, 3) for _ in range(3)]
    link = Stitch(torch.randn(3, 3))
    layout = torch.channels_last
    turned = [m.to(memory_format=layout) for m in maps]
    for plain, new in zip(link(maps, [0, 2]), link(turned, [0, 2]), strict=True):
        assert plain.is_contiguous()
        assert new.is_contiguous(memory_format=layout)
        assert_close(plain, new)
