import numpy as np
import pytest
import torch
from PIL import Image

from polytask.batch import Input
from polytask.data.decode import read_image
from polytask.data.prepare import CENTRED, IMAGENET, prepare
from polytask.errors import ConfigError, DataError

TASKS = {"one": ("a", "label"), "two": ("b", "label")}


def faults(error):
    return [str(fault) for fault in error.value.faults]


def only(data, split="test"):
    (batch,) = data.scoring(split)
    return batch.groups[0]


def test_every_image_takes_the_largest_size_and_three_channels(make):
    """P0 invariant 10: grey gives three equal channels, sizes the largest, labels untouched."""
    sets = {"a": make.noisy(make.numbered(6), 1), "b": make.noisy(make.numbered(6, 8))}
    data = make.build(sets, TASKS)
    assert data.streams == {"all": Input(3, 8, 8)}
    for batch in data.epoch(0):
        (group,) = batch.groups
        assert group.images.shape[1:] == (3, 8, 8)
        grey = group.images[group.targets["one"].rows]
        assert torch.equal(grey[:, 0], grey[:, 1])
        assert torch.equal(grey[:, 0], grey[:, 2])
        for task in TASKS:
            target = group.targets[task]
            assert target.value.tolist() == (group.index[target.rows] % 2).tolist()


def test_images_pass_through_their_own_size_to_the_largest(make):
    """Training, scoring and `prepare` give the same bits."""
    sets = {"a": make.noisy(make.numbered(4, 9)), "b": make.noisy(make.numbered(4, 8))}
    sets["a"] = sets["a"].model_copy(update={"size": 5})
    data = make.build(sets, TASKS)
    assert (data.sets["a"].size, data.sets["b"].size) == ((5, 5), (8, 8))
    seen = next(data.scoring("test")).groups[0]
    for image, row in zip(sets["a"].images[seen.index.numpy()], seen.images, strict=True):
        assert torch.equal(prepare(image, data.streams["all"], data.normalisation, (5, 5)), row)


@pytest.mark.parametrize("memory", [1 << 20, 0])
def test_files_are_seen_as_predict_prepares_them(make, tmp_path, memory):
    made = make.noisy(make.numbered(4, 9))
    paths = []
    for i, image in enumerate(made.images):
        paths.append(tmp_path / f"{i}.jpg")
        Image.fromarray(image).save(paths[-1])
    files = made.model_copy(update={"images": paths, "size": 6})
    data = make.build({"a": files}, {"one": ("a", "label")}, memory=memory)
    seen = only(data)
    for i, row in zip(seen.index.tolist(), seen.images, strict=True):
        assert torch.equal(prepare(read_image(paths[i], ""), data.streams["all"]), row)
    stored = data.images("a", "test", [1, 0])
    assert stored.dtype == torch.uint8
    assert torch.equal(CENTRED(stored), seen.images[[1, 0]])


def test_sizes_stay_apart_with_multi_input(make):
    sets = {"a": make.numbered(4, 4), "b": make.numbered(4, 8, size=6)}
    data = make.build(sets, TASKS, mixing="multi_input")
    assert data.streams == {"a": Input(3, 4, 4), "b": Input(3, 6, 6)}


def test_image_size_holds_where_a_set_says_nothing(make):
    sets = {"a": make.numbered(4, 4), "b": make.numbered(4, 8).model_copy(update={"size": 6})}
    data = make.build(sets, TASKS, mixing="multi_input", image_size=5)
    assert data.streams == {"a": Input(3, 5, 5), "b": Input(3, 6, 6)}


def test_images_of_many_sizes_ask_for_one(make):
    made = make.numbered(4)
    mixed = [np.zeros((h, w, 3), np.uint8) for h, w in [(4, 4), (5, 9), (3, 7)] * 4]
    sets = {name: made.model_copy(update={"images": mixed}) for name in "ab"}
    with pytest.raises(DataError) as error:
        make.build(sets, TASKS)
    first, second = faults(error)
    assert "data.a" in first
    assert "3 sizes, from 7 × 3 to 9 × 5" in first
    assert "data.a.size" in first
    assert "image_size" in first
    assert "data.b" in second
    assert make.build(sets, TASKS, image_size=6).streams == {"all": Input(3, 6, 6)}


def test_the_faults_of_all_data_sets_come_at_once(make):
    sets = {name: make.numbered(4) for name in "ab"}
    with pytest.raises(DataError) as error:
        make.build(sets, {"one": ("a", "lable"), "two": ("b", "colour")})
    assert "lable" in " ".join(faults(error))
    assert "colour" in " ".join(faults(error))


@pytest.fixture
def damaged(make):
    """Images 1 (train) and 7 (test) cannot be read."""
    made = make.numbered(4)
    images = list(made.images)
    images[1] = images[8] = np.zeros((4, 4, 2), np.uint8)
    return made.model_copy(update={"images": images})


def test_bad_images_are_all_reported(make, damaged):
    with pytest.raises(DataError) as error:
        make.build({"a": damaged}, {"one": ("a", "label")})
    assert [line.split(":")[0] for line in faults(error)] == ["a[1]", "a[8]"]


@pytest.mark.parametrize("memory", [1 << 20, 0])
def test_bad_images_are_left_out_when_asked(make, damaged, memory):
    data = make.build({"a": damaged}, {"one": ("a", "label")}, memory=memory, on_bad_image="skip")
    assert [line.split(":")[0] for line in data.skipped["a"]] == ["a[1]", "a[8]"]
    assert data.samples == {"a": 3}
    assert data.counts["a"]["test"] == {"images": 4, "labels": {"one": 4}}
    drawn = [i for epoch in range(3) for b in data.epoch(epoch) for i in b.groups[0].index.tolist()]
    assert sorted(drawn) == sorted([0, 2, 3] * 3)
    assert only(data).index.tolist() == [7, 9, 10, 11]


def test_skipping_every_training_image_is_a_fault(make, damaged):
    images = list(damaged.images)
    images[:4] = [images[1]] * 4
    broken = damaged.model_copy(update={"images": images})
    with pytest.raises(DataError, match="no training image can be read"):
        make.build({"a": broken}, {"one": ("a", "label")}, on_bad_image="skip")


def test_a_batch_must_hold_an_image_of_each_data_set(make):
    sets = {name: make.numbered(4) for name in "ab"}
    with pytest.raises(ConfigError, match=r"train\.batch.* 1;.*2 data sets"):
        make.build(sets, TASKS, batch=1)
    assert make.build(sets, TASKS, batch=1, mixing="multi_input").steps() == 4


def test_data_sets_without_a_task_are_not_read(make):
    sets = {"a": make.numbered(4), "b": make.numbered(4).model_copy(update={"images": None})}
    assert list(make.build(sets, {"one": ("a", "label")}).sets) == ["a"]


def test_fractions_are_stratified_and_nested(make):
    """P0 invariant 8: round(p · n) of each class, 5 % ⊂ 10 % ⊂ 20 %, validation and test whole."""
    made = make.numbered(200, classes=4)
    kept = []
    for fraction in (0.05, 0.1, 0.2):
        few = {"a": made.model_copy(update={"fraction": fraction})}
        data = make.build(few, {"one": ("a", "label")})
        train = data.sets["a"].splits["train"]
        assert np.bincount(train % 4).tolist() == [round(fraction * 50)] * 4
        assert data.samples == {"a": len(train)}
        assert {s: len(r) for s, r in data.sets["a"].splits.items() if s != "train"} == {
            "val": 3,
            "test": 5,
        }
        assert len(data.sets["a"].store.pixels) == len(train) + 8  # the others are not decoded
        kept.append(set(train.tolist()))
        again = make.build(few, {"one": ("a", "label")}).sets["a"].splits["train"]
        assert np.array_equal(again, train)
    assert kept[0] < kept[1] < kept[2]
    other = make.build(few, {"one": ("a", "label")}, seed=1).sets["a"].splits["train"]
    assert set(other.tolist()) != kept[2]


def test_fingerprints_tell_pixels_labels_splits_and_size(make):
    made = make.numbered(6, classes=3)

    def of(made, **options):
        return make.build({"a": made}, {"one": ("a", "label")}, **options).fingerprint["a"]

    pixels = made.images.copy()
    pixels[0, 0, 0, 0] += 1
    labels = [*made.columns["label"][1:], "c0"]
    splits = {**made.splits, "train": range(5), "val": range(5, 9)}
    others = [
        of(made.model_copy(update={"images": pixels})),
        of(made.model_copy(update={"columns": {"label": labels}})),
        of(made.model_copy(update={"splits": splits})),
        of(made, image_size=5),
    ]
    assert of(made) == of(made.model_copy(), memory=0, seed=3)
    assert len({of(made), *others}) == 5


def test_what_an_unlabelled_row_holds_is_no_part_of_the_fingerprint(make):
    one = make.numbered(6).model_copy(update={"columns": {"label": ["x", "y"] * 6 + [None, "x"]}})
    data = make.build({"a": one}, {"one": ("a", "label")}).sets["a"]
    before = data.fingerprint
    data.labels["one"].value[12] = 99
    del data.__dict__["fingerprint"], data.__dict__["values"]
    assert data.fingerprint == before
    data.labels["one"].value[0] = 99
    del data.__dict__["fingerprint"], data.__dict__["values"]
    assert data.fingerprint != before


def test_published_weights_bring_their_normalisation(make):
    sets, tasks = {"a": make.numbered(4)}, {"one": ("a", "label")}
    assert make.build(sets, tasks).normalisation == CENTRED
    data = make.build(sets, tasks, backbone={"name": "resnet18", "pretrained": True})
    assert data.normalisation == IMAGENET
    assert torch.equal(IMAGENET(data.images("a", "test", range(5))), only(data).images)
    assert data.describe()["normalisation"]["mean"] == (0.485, 0.456, 0.406)


def test_description_states_the_memory_and_where_images_are(make):
    sets = {"a": make.numbered(4), "b": make.numbered(40)}
    room = 48 * 3 * 16  # all of b in colour, were it not for a
    described = make.build(sets, TASKS, memory=room).describe()
    assert described["memory_limit_bytes"] == room
    assert described["datasets"]["a"]["store"] == "memory"
    assert described["datasets"]["a"]["bytes"] == 12 * 16
    assert described["datasets"]["b"]["store"] == "decoded when drawn"
