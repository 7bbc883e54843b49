import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask.config.augment import Augment
from polytask.data.prefetch import prefetched
from polytask.errors import DataError
from polytask.tasks.classification import Classification, ClassificationOptions
from polytask.tasks.task import Labels, Task, TaskOptions

SHAPES = [
    {"mixing": "integrated", "norm": "mixed"},
    {"mixing": "integrated", "norm": "per_data"},
    {"mixing": "multi_input", "norm": "per_data"},
]
TWO_SETS = {"one": ("a", "label"), "two": ("b", "label")}
AUGMENT = {"flip": True, "crop": 1}


def epochs(data, count=1, **options):
    return [list(data.epoch(epoch, **options)) for epoch in range(count)]


def same(batch, other):
    assert len(batch.groups) == len(other.groups)
    for group, twin in zip(batch.groups, other.groups, strict=True):
        assert group.stream == twin.stream
        assert torch.equal(group.images, twin.images)
        assert torch.equal(group.index, twin.index)
        assert list(group.targets) == list(twin.targets)
        for target, match in zip(group.targets.values(), twin.targets.values(), strict=True):
            assert torch.equal(target.value, match.value)
            assert (target.rows is None) == (match.rows is None)
            if target.rows is not None:
                assert torch.equal(target.rows, match.rows)
    return True


def rows_of(group, task):
    rows = group.targets[task].rows
    return torch.arange(len(group)) if rows is None else rows


def numbers(batch, task):
    """The images that bring a label of the task, as (number, label)."""
    found = []
    for name, group, target in batch:
        if name == task:
            found += zip(
                group.index[rows_of(group, task)].tolist(), target.value.tolist(), strict=True
            )
    return found


def pixel(group):
    """The number written in each image's pixels."""
    return ((group.images[:, 0, 0, 0] * 0.25 + 0.5) * 255).round().long()


@pytest.fixture(scope="module")
def partly(make):
    """a: 13 images with a column `half` that labels every other one; b: 5 images in 3 classes."""
    half = [f"h{i % 3}" if i % 2 else None for i in range(21)]
    return {
        "a": make.numbered(13, columns={"half": half}),
        "b": make.numbered(5, classes=3, shift=1),
    }


PARTLY = {"one": ("a", "label"), "half": ("a", "half"), "two": ("b", "label")}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_target_carries_its_own_images_labels(make, partly, shape):
    data = make.build(partly, PARTLY, **shape)
    wanted = {"one": lambda i: i % 2, "half": lambda i: i % 3, "two": lambda i: (i + 1) % 3}
    batches = [
        *data.epoch(0),
        *data.scoring("train"),
        *data.scoring("val"),
        *data.scoring("test", 4),
    ]
    for batch in batches:
        for task, group, target in batch:
            rows = rows_of(group, task)
            assert len(rows) == len(target.value) > 0
            assert rows.tolist() == sorted(set(rows.tolist()))
            assert torch.equal(pixel(group), group.index)
            assert target.value.dtype == torch.int64
            assert target.value.tolist() == [wanted[task](i) for i in group.index[rows].tolist()]
            assert (target.rows is None) == (len(rows) == len(group))
            assert group.stream == data.stream_of[task]
            seen = data.streams[group.stream]
            assert group.images.shape[1:] == (seen.channels, seen.height, seen.width)
        assert len(batch.tasks) == len(set(batch.tasks))


def test_the_groups_of_each_shape(make, partly):
    def groups(**shape):
        data = make.build(partly, PARTLY, **shape)
        (made,) = epochs(data)
        seen = [
            (
                {batch.groups[k].stream for batch in made},
                {task for batch in made for task in batch.groups[k].targets},
            )
            for k in range(len(made[0].groups))
        ]
        return seen, data.stream_of

    found, stream_of = groups(**SHAPES[0])
    assert found == [({"all"}, {"one", "half", "two"})]
    assert stream_of == dict.fromkeys(PARTLY, "all")
    found, stream_of = groups(**SHAPES[1])
    assert found == [({"a"}, {"one", "half"}), ({"b"}, {"two"})]
    assert stream_of == {"one": "a", "half": "a", "two": "b"}
    found, stream_of = groups(**SHAPES[2])
    assert found == [({"a"}, {"one"}), ({"a"}, {"half"}), ({"b"}, {"two"})]
    assert stream_of == {"one": "a", "half": "a", "two": "b"}


@given(
    st.lists(st.integers(2, 30), min_size=1, max_size=3),
    st.integers(3, 17),
    st.sampled_from(SHAPES),
)
@settings(max_examples=25, deadline=None)
def test_batches_are_balanced_and_every_image_gets_its_share(make, sizes, batch, shape):
    """P0 invariant 7."""
    names = "abc"[: len(sizes)]
    sets = {name: make.numbered(n) for name, n in zip(names, sizes, strict=True)}
    tasks = {f"task_{name}": (name, "label") for name in names}
    data = make.build(sets, tasks, batch=batch, **shape)
    (made,) = epochs(data)
    assert len(made) == data.steps()
    longest, drawn = max(sizes), {task: [] for task in tasks}
    for one in made:
        counts = {task: len(numbers(one, task)) for task in tasks}
        assert len(set(counts.values())) == 1
        if shape["mixing"] == "integrated":
            assert one.images == sum(counts.values()) <= batch
        else:
            assert max(counts.values()) <= batch
        for task in tasks:
            drawn[task] += [i for i, _ in numbers(one, task)]
    steps = [one.images for one in made]
    assert max(steps) - min(steps) <= len(sizes)  # no tiny last batch
    for (task, images), n in zip(drawn.items(), sizes, strict=True):
        assert len(images) == longest
        counts = np.bincount(images, minlength=n)
        assert set(counts.tolist()) <= {longest // n, -(-longest // n)}, task


def test_steps_follow_the_batch_where_it_divides(make):
    sets = {"a": make.numbered(100), "b": make.numbered(30)}
    assert make.build(sets, TWO_SETS, batch=16).steps() == -(-100 * 2 // 16)
    assert make.build(sets, TWO_SETS, batch=16, mixing="multi_input").steps() == -(-100 // 16)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_seed_repeats_and_another_does_not(make, shape):
    sets = {"a": make.noisy(make.numbered(30, augment=AUGMENT)), "b": make.noisy(make.numbered(12))}
    data = make.build(sets, TWO_SETS, **shape)
    again = make.build(sets, TWO_SETS, memory=0, **shape)
    other = make.build(sets, TWO_SETS, seed=1, **shape)
    first, second = epochs(data, 2)
    torch.manual_seed(5)
    np.random.seed(5)
    for batch, twin in zip(first, epochs(again)[0], strict=True):
        assert same(batch, twin)
    orders = [
        [g.index.tolist() for b in batches for g in b.groups]
        for batches in (first, second, epochs(other)[0])
    ]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_epoch_goes_on_from_any_step_in_the_same_bits(make, shape):
    sets = {
        "a": make.noisy(make.numbered(31, augment=AUGMENT)),
        "b": make.noisy(make.numbered(9, augment=AUGMENT)),
    }
    data = make.build(sets, TWO_SETS, **shape)
    whole = list(data.epoch(3))
    for start in range(len(whole) + 1):
        rest = list(data.epoch(3, start=start))
        assert len(rest) == len(whole) - start
        for batch, twin in zip(whole[start:], rest, strict=True):
            assert same(batch, twin)


def images_of(data, task, epoch=0, **options):
    """What an epoch shows of a task: (number, pixels) in order."""
    return [
        (i, tuple(row.flatten().tolist()))
        for batch in data.epoch(epoch, **options)
        for name, group, _ in batch
        if name == task
        for i, row in zip(
            group.index[rows_of(group, task)].tolist(),
            group.images[rows_of(group, task)],
            strict=True,
        )
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_order_and_changes_of_a_set_do_not_depend_on_the_others(make, shape):
    """Beside a larger set it starts over; its first pass is that of training alone."""
    small, large = make.noisy(make.numbered(9, augment=AUGMENT)), make.noisy(make.numbered(20))
    alone = make.build({"a": small}, {"one": ("a", "label")}, **shape)
    beside = make.build({"b": large, "a": small}, TWO_SETS, **shape)
    mine = images_of(alone, "one")
    assert len(mine) == 9
    assert images_of(beside, "one")[:9] == mine
    assert images_of(beside, "one", tasks=("one",)) == mine


def test_passes_over_a_small_set_change_its_images_anew(make):
    sets = {
        "a": make.noisy(make.numbered(5, augment={"flip": True, "crop": 2})),
        "b": make.numbered(40),
    }
    seen = images_of(make.build(sets, TWO_SETS), "one")
    assert len(seen) == 40
    assert len(set(seen)) > 25  # each of 5 images has 50 equally likely changes


def test_an_image_changes_anew_in_every_epoch(make):
    made = make.noisy(make.numbered(5, augment={"flip": True, "crop": 2}))
    data = make.build({"a": made}, {"one": ("a", "label")})
    seen = [image for epoch in range(8) for image in images_of(data, "one", epoch)]
    assert len(seen) == 40
    assert len(set(seen)) > 25  # each of 5 images has 50 equally likely changes


def test_a_pass_per_set_holds_the_draws_of_one_mixed_pass(make):
    sets = {"a": make.noisy(make.numbered(23, augment=AUGMENT)), "b": make.noisy(make.numbered(7))}
    mixed, apart = (make.build(sets, TWO_SETS, norm=norm) for norm in ("mixed", "per_data"))
    assert mixed.steps() == apart.steps()
    for one, many in zip(mixed.epoch(1), apart.epoch(1), strict=True):
        (group,) = one.groups
        assert torch.equal(group.images, torch.cat([g.images for g in many.groups]))
        assert torch.equal(group.index, torch.cat([g.index for g in many.groups]))
        for task in TWO_SETS:
            assert numbers(one, task) == numbers(many, task)


def test_tasks_on_one_labelled_set_see_the_same_images(make):
    columns = {"other": [f"o{i % 3}" for i in range(25)]}
    sets = {"a": make.noisy(make.numbered(17, columns=columns, augment=AUGMENT))}
    tasks = {"one": ("a", "label"), "two": ("a", "other")}
    data = make.build(sets, tasks, mixing="multi_input")
    for batch in data.epoch(0):
        one, two = batch.groups
        assert torch.equal(one.index, two.index)
        assert torch.equal(one.images, two.images)


def test_images_without_a_label_are_not_drawn(make, partly):
    integrated = make.build(partly, PARTLY)
    assert integrated.samples == {"a": 13, "b": 5}
    drawn = [i for b in integrated.epoch(0, tasks=("half",)) for i in b.groups[0].index.tolist()]
    assert sorted(drawn) == [1, 3, 5, 7, 9, 11]
    assert {t for b in integrated.epoch(0, tasks=("half",)) for t in b.tasks} == {"half"}
    several = make.build(partly, PARTLY, mixing="multi_input")
    (made,) = epochs(several)
    assert sorted(i for b in made for i, _ in numbers(b, "one")) == list(range(13))
    halves = [i for b in made for i, _ in numbers(b, "half")]
    assert len(halves) == 13
    assert set(halves) == {1, 3, 5, 7, 9, 11}


def test_a_task_without_a_label_in_the_batch_is_absent(make):
    """Of 40 images only number 7 is labelled for `rare`."""
    rare = [None] * 48
    rare[7], rare[0] = "x", "y"
    sets = {"a": make.numbered(40, columns={"rare": rare})}
    data = make.build(sets, {"one": ("a", "label"), "rare": ("a", "rare")}, batch=4)
    (made,) = epochs(data)
    present = [b for b in made if {0, 7} & set(b.groups[0].index.tolist())]
    assert [b for b in made if "rare" in b.tasks] == present
    assert 0 < len(present) < len(made)
    assert [b.tasks for b in data.scoring("test")] == [["one"]]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_phase_of_some_tasks_draws_from_their_sets_alone(make, partly, shape):
    data = make.build(partly, PARTLY, **shape)
    (made,) = epochs(data, tasks=("two",))
    assert len(made) == data.steps(("two",)) < data.steps()
    assert {t for b in made for t in b.tasks} == {"two"}
    assert sorted(i for b in made for i, _ in numbers(b, "two")) == list(range(5))
    assert max(b.images for b in made) <= 8


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("task", PARTLY)
def test_at_joint_pace_a_task_sees_the_images_of_joint_training_alone(make, partly, shape, task):
    data = make.build(partly, PARTLY, **shape)
    (joint,), (alone,) = epochs(data), epochs(data, tasks=(task,), joint_pace=True)
    assert len(alone) == len(joint) == data.steps((task,), joint_pace=True)
    assert [numbers(b, task) for b in alone] == [numbers(b, task) for b in joint]
    assert {t for b in alone for t in b.tasks} == {task}
    assert all(len(b.groups) == 1 for b in alone)
    assert sum(b.images for b in alone) == max(data.mix().lengths)


@pytest.mark.parametrize("shape", SHAPES)
def test_at_joint_pace_a_part_fills_a_whole_epoch(make, partly, shape):
    data = make.build(partly, PARTLY, **shape)
    (made,) = epochs(data, part=(0.0, 0.5), joint_pace=True)
    assert len(made) == data.steps()
    drawn = [i for b in made for i, _ in numbers(b, "one")]
    pool = data.sets["a"].pool(("one",), data.seed, (0.0, 0.5)).tolist()
    assert set(drawn) == set(pool)
    assert len(drawn) == max(data.mix().lengths) > len(pool)
    counts = [drawn.count(i) for i in pool]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("shape", SHAPES)
def test_parts_share_out_the_training_images(make, shape):
    data = make.build({"a": make.numbered(40, classes=4)}, {"one": ("a", "label")}, **shape)

    def drawn(part):
        (made,) = epochs(data, part=part)
        assert len(made) == data.steps(part=part)
        return sorted(i for b in made for i, _ in numbers(b, "one"))

    first, second = drawn((0.0, 0.3)), drawn((0.3, 1.0))
    assert sorted(first + second) == list(range(40))
    assert np.bincount(np.array(first) % 4).tolist() == [3, 3, 3, 3]
    assert drawn((0.0, 0.3)) == first
    other = make.build(
        {"a": make.numbered(40, classes=4)}, {"one": ("a", "label")}, seed=1, **shape
    )
    assert sorted(i for b in other.epoch(0, part=(0.0, 0.3)) for i, _ in numbers(b, "one")) != first


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_scoring_shows_every_image_once_in_order_and_unchanged(make, partly, shape, split):
    augment = Augment(**AUGMENT)
    sets = {name: s.model_copy(update={"augment": augment}) for name, s in partly.items()}
    data = make.build(sets, PARTLY, **shape)
    expected = [(name, i) for name, s in partly.items() for i in s.splits[split]]
    seen = []
    for batch in data.scoring(split, batch=4):
        (group,) = batch.groups
        assert len(group) <= 4
        assert torch.equal(pixel(group), group.index)
        (name,) = {data.data_of[task] for task in batch.tasks}
        seen += [(name, i) for i in group.index.tolist()]
    assert seen == expected


def test_counts_are_images_and_labels(make, partly):
    counts = make.build(partly, PARTLY).counts
    assert counts["a"]["train"] == {"images": 13, "labels": {"one": 13, "half": 6}}
    assert counts["a"]["test"] == {"images": 5, "labels": {"one": 5, "half": 2}}
    assert counts["b"]["val"] == {"images": 3, "labels": {"two": 3}}


def test_a_fault_while_a_batch_is_made_surfaces_in_the_caller():
    def make_batch(step):
        if step == 3:
            raise ValueError("step 3")
        return step

    seen = []
    with pytest.raises(ValueError, match="step 3"):
        seen += prefetched(make_batch, range(9), lambda _: None)
    batches = prefetched(make_batch, range(9), lambda _: None)
    assert [next(batches) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="step 3"):
        next(batches)
    assert threads() == 0


def threads():
    return sum(t.name.startswith("batches") for t in threading.enumerate())


def test_the_thread_ends_with_the_iterator(make):
    data = make.build({"a": make.numbered(40)}, {"one": ("a", "label")})
    batches = data.epoch(0)
    next(batches)
    assert threads() == 1
    batches.close()
    assert threads() == 0
    for _ in data.epoch(0):
        break
    assert threads() == 0
    assert len(list(data.epoch(0))) == 5
    assert threads() == 0


def test_batches_are_made_ahead_and_waiting_is_counted():
    made, waits, third = [], [], threading.Event()

    def make_batch(step):
        # The thread begins with the first before the caller, who may be slow, begins to wait.
        time.sleep(0.05 if step else 1.0)
        made.append(step)
        if step == 2:
            third.set()
        return step

    batches = prefetched(make_batch, range(5), waits.append)
    assert next(batches) == 0
    assert third.wait(timeout=600)
    assert made == [0, 1, 2]
    assert [*batches] == [1, 2, 3, 4]
    assert waits[0] >= 0.3 > waits[1]
    assert len(waits) == 5


class Rectangle(Task):
    """Where the bright rectangle of an image lies; odd images are not labelled."""

    primary = "iou"

    def read_labels(self, images):
        bright = np.asarray(images.images)[..., 0] > 0
        boxes = []
        for picture in bright:
            rows, columns = np.nonzero(picture)
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        value = {"mask": bright.astype(np.uint8), "boxes": np.array(boxes, dtype=np.float64)}
        return Labels(value, np.arange(len(images)) % 2 == 0)

    head = loss = metrics = read = None


class Caption(Rectangle):
    """A text for each image."""

    def read_labels(self, images):
        texts = np.array([f"image {i}" for i in range(len(images))], dtype=object)
        return Labels(texts, np.arange(len(images)) % 3 > 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_masks_boxes_and_texts_stay_with_their_images(make, shape):
    pictures = np.zeros((28, 6, 6, 1), np.uint8)
    for i in range(28):
        y, x = i % 4, i // 7
        pictures[i, y : y + 2, x : x + 3] = 200
    drawn = make.numbered(20, side=6, augment={"flip": True, "crop": 2})
    sets = {"b": make.numbered(11, side=6), "a": drawn.model_copy(update={"images": pictures})}
    kinds = {"where": Rectangle, "text": Caption}
    tasks = {t: kind(t, TaskOptions(kind="made", data="a")) for t, kind in kinds.items()}
    data = make.build(sets, {"two": ("b", "label")}, more=tasks, **shape)
    found = 0
    for batch in [*data.epoch(0), *data.epoch(1)]:
        for task, group, target in batch:
            rows = rows_of(group, task)
            assert len(rows) == len(target.value["mask"] if task == "where" else target.value)
            if task == "text":
                assert target.value == [f"image {i}" for i in group.index[rows].tolist()]
            if task != "where":
                continue
            mask, boxes = target.value["mask"], target.value["boxes"]
            assert (mask.dtype, boxes.dtype) == (torch.int64, torch.float32)
            bright = group.images[rows, 0] > -2
            assert torch.equal(bright, mask == 1)
            for picture, box in zip(bright, boxes.tolist(), strict=True):
                y, x = picture.nonzero().unbind(1)
                if len(y):
                    assert box == [x.min(), y.min(), x.max() + 1, y.max() + 1]
                    found += 1
    assert found > 10


@pytest.mark.parametrize("shape", SHAPES)
def test_sampling_by_ratio_draws_in_proportion(make, shape):
    sets = {"a": make.numbered(60), "b": make.numbered(12)}
    sampling = {"name": "ratios", "ratios": {"a": 1, "b": 3}}
    data = make.build(sets, TWO_SETS, batch=16, sampling=sampling, **shape)
    (made,) = epochs(data)
    drawn = {t: sum(len(numbers(one, t)) for one in made) for t in TWO_SETS}
    one, two = drawn.values()
    assert (one, two) == (60, 180)
    assert max(batch.images for batch in made) <= (16 if shape["mixing"] == "integrated" else 22)


def test_sampling_by_size_shows_every_image_once(make):
    sets = {"a": make.numbered(60), "b": make.numbered(3)}
    data = make.build(sets, TWO_SETS, batch=16, sampling="size")
    (made,) = epochs(data)
    for task, count in zip(TWO_SETS, (60, 3), strict=True):
        drawn = [i for one in made for i, _ in numbers(one, task)]
        assert sorted(drawn) == list(range(count))
    joint = data.steps()
    alone = data.mix([list(TWO_SETS)[1]], joint_pace=True)
    assert (alone.steps, list(alone.lengths)) == (joint, [3])


def test_ratios_of_a_set_that_is_not_there_are_told(make):
    sampling = {"name": "ratios", "ratios": {"aa": 2}}
    with pytest.raises(DataError, match='unknown data set "aa"'):
        make.build({"a": make.numbered(9), "b": make.numbered(9)}, TWO_SETS, sampling=sampling)


def augmented(name, augment):
    options = ClassificationOptions(kind="classification", data="a", label="label", augment=augment)
    return Classification(name, options)


def test_tasks_may_have_changes_of_their_own_with_batches_of_their_own(make):
    sets = {"a": make.noisy(make.numbered(30))}
    more = {"plain": augmented("plain", None), "cropped": augmented("cropped", "cifar")}
    data = make.build(sets, {}, more, mixing="multi_input")
    for batch in data.epoch(0):
        for group in batch.groups:
            stored = data.images("a", "train", group.index.numpy())
            is_own = torch.equal(group.images, data.normalisation(stored))
            assert is_own == ("plain" in group.targets)
    with pytest.raises(DataError, match="differs from another task's"):
        make.build(sets, {}, more)
    same = {name: augmented(name, "cifar") for name in more}
    assert make.build(sets, {}, same).steps()
