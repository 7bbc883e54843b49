"""HDF5: packed data sets train like their originals; files of one's own; chunk-shuffled order."""

import json
from collections import Counter
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from polytask import tasks as kinds
from polytask.cli import main
from polytask.config import read_config
from polytask.data import chunked, mixing
from polytask.data.chunked import ChunkedImages
from polytask.data.decode import read_mask, read_values
from polytask.data.images import ImageSet
from polytask.data.load import load_data
from polytask.data.mixing import pass_order
from polytask.data.pack import pack
from polytask.data.packed import read_packed, write_labels
from polytask.data.sources.hdf5 import Hdf5
from polytask.errors import UserError

SIDE = 12


@pytest.fixture(params=["given", "made"])
def shelf(tmp_path, request):
    """Pictures of several sizes with classes, flags, masks and boxes, many blank."""
    drawn = np.random.default_rng(0)
    rows = ["image,split,kind,wet,mask,x0,y0,x1,y1"]
    for i in range(60):
        height, width = drawn.integers(10, 20, 2).tolist()
        pixels = drawn.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        mask = drawn.integers(0, 2, (height, width), np.uint8)
        Image.fromarray(mask).save(tmp_path / f"{i}_mask.png")
        split = "train" if i < 40 else "val" if i < 50 else "test"
        split = split if request.param == "given" else ""
        kind = "" if i % 5 == 1 else "abc"[i % 3]
        shape = f"{i}_mask.png" if i % 2 else ""
        box = "1,2,8,9" if i % 3 else ",,,"
        rows.append(f"{i}.png,{split},{kind},{i % 2 if i % 4 else ''},{shape},{box}")
    (tmp_path / "shelf.csv").write_text("\n".join(rows))
    write(
        tmp_path,
        "{source: manifest, path: shelf.csv, size: 12, val: 0.2, augment: {flip: true, crop: 2}}",
    )
    return tmp_path


def write(folder, entry, name="config.yaml"):
    (folder / name).write_text(f"""
data:
  shelf: {entry}
tasks:
  kind: {{kind: classification, data: shelf, label: kind}}
  wet: {{kind: multilabel, data: shelf, label: [wet]}}
  outline: {{kind: segmentation, data: shelf, label: mask, classes: [no, yes]}}
  where: {{kind: box, data: shelf}}
backbone: {{name: resnet18, stem: small, width: 0.125}}
train: {{batch: 8, epochs: 1}}
seeds: 1
methods: [hard]
""")
    return folder / name


def loaded(path, *overrides):
    config = read_config(str(path), overrides)
    tasks = kinds.build(config.tasks)
    return load_data(config, tasks, 0)


def flat(value):
    return (
        value
        if isinstance(value, torch.Tensor)
        else torch.cat([flat(part).flatten().float() for part in value.values()])
    )


def batches(data, epoch=0):
    for batch in data.epoch(epoch):
        for group in batch.groups:
            targets = {t: (target.rows, flat(target.value)) for t, target in group.targets.items()}
            yield group.images, group.index, targets


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def test_a_packed_set_gives_the_batches_of_the_original(shelf, capsys):
    packed = shelf / "packed.h5"
    assert main(["pack", str(shelf / "config.yaml"), str(packed)]) == 0
    shown = capsys.readouterr()
    assert "60 images, 12 × 12 pixels, colour" in shown.err
    head, entry = shown.out.rstrip().split(": ", 1)
    assert head == "data:\n  shelf"
    told = yaml.safe_load(entry)
    assert told.pop("augment")["crop"] == 2
    assert told == {"source": "hdf5", "path": str(packed), "h5_group": "shelf", "size": 12}
    original, again = loaded(shelf / "config.yaml"), loaded(write(shelf, entry, "again.yaml"))
    assert again.fingerprint == original.fingerprint
    assert again.counts == original.counts
    assert equal(list(batches(original)), list(batches(again)))
    assert main(["check", str(shelf / "again.yaml")]) == 0


def test_the_lines_that_are_printed_train_on_the_same_images(tmp_path, capsys):
    """A size of its own, a fraction, no validation images, and a task in units of its labels."""
    drawn = np.random.default_rng(0).integers(0, 256, (40, 20, 20), np.uint8)
    arrays = {"kind": np.arange(40) % 3, "grams": np.arange(40.0) ** 2}
    np.savez(tmp_path / "set.npz", image=drawn, **arrays)
    text = """
image_size: 8
data:
  set: {source: npz, path: set.npz, size: 16, fraction: 0.5, val: 0, augment: {flip: true}}
tasks:
  kind: {kind: classification, data: set, label: kind}
  grams: {kind: regression, data: set, label: grams}
backbone: {name: resnet10, stem: small, width: 0.0625}
train: {batch: 8, epochs: 1}
seeds: 1
methods: [hard]
"""
    (tmp_path / "one.yaml").write_text(text)
    assert main(["pack", str(tmp_path / "one.yaml"), str(tmp_path / "set.h5")]) == 0
    line = next(line for line in text.splitlines() if "source" in line)
    told = capsys.readouterr().out.splitlines()[1]
    (tmp_path / "other.yaml").write_text(text.replace(line, told))
    found = []
    for name in ("one", "other"):
        config = read_config(str(tmp_path / f"{name}.yaml"))
        tasks = kinds.build(config.tasks)
        data = load_data(config, tasks, 0)
        found.append((data.counts, data.fingerprint, tasks["grams"].mean, list(batches(data))))
    assert equal(found[0], found[1])


def test_reading_in_chunks_changes_the_order_alone(shelf, monkeypatch):
    pack(read_config(str(shelf / "config.yaml")), shelf / "packed.h5")
    path = write(shelf, "{source: hdf5, path: packed.h5}")
    whole, in_chunks = loaded(path), loaded(path, "train.memory=0")
    assert in_chunks.describe()["datasets"]["shelf"]["store"] == "read in chunks"
    assert in_chunks.fingerprint == whole.fingerprint

    def seen(data):
        return {
            int(i): image
            for images, index, _ in batches(data)
            for i, image in zip(index, images, strict=True)
        }

    one, other = seen(whole), seen(in_chunks)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[i], other[i]) for i in one)
    smaller = loaded(path, "train.memory=0", "data.shelf.size=8")
    assert smaller.images("shelf", "test", range(3)).shape == (3, 3, 8, 8)


def test_grey_sets_stay_grey_and_bad_images_are_left_out(tmp_path, capsys):
    for i in range(40):
        folder = tmp_path / "set" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 6), i, np.uint8)).save(folder / f"{i:02}.png")
    (tmp_path / "set" / "a" / "04.png").write_bytes(b"no picture")
    (tmp_path / "c.yaml").write_text(
        "data: {set: {source: folder, path: set}}\n"
        "tasks: {letter: {kind: classification, data: set}}\n"
        "methods: [hard]\n"
    )
    command = ["pack", str(tmp_path / "c.yaml"), str(tmp_path / "set.h5")]
    assert main(command) == 2
    assert "04.png" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.yaml", "set"]
    assert main([*command, "on_bad_image=skip"]) == 0
    assert "left out" in capsys.readouterr().err
    with h5py.File(tmp_path / "set.h5") as file:
        assert file["set/image"].shape == (39, 1, 6, 6)
        assert file["set/image"][:, 0, 0, 0].tolist() == sorted({*range(0, 40, 2)} - {4}) + list(
            range(1, 40, 2)
        )
    assert main(command) == 2
    assert "is there already" in capsys.readouterr().err


def test_colour_may_come_late(tmp_path):
    pixels = [np.full((4, 4, 1), i, np.uint8) for i in range(5)]
    pixels.append(np.stack([np.full((4, 4), c, np.uint8) for c in (7, 8, 9)], axis=2))

    class Mixed(Hdf5):
        def read(self, name, folder):
            del folder
            return ImageSet(name, pixels, {"label": list("aabbcc")})

    source = Mixed(source="mixed", path="x")
    config = SimpleNamespace(
        data={"mixed": source}, tasks={}, folder=tmp_path, image_size=None, on_bad_image="error"
    )
    (found,) = pack(config, tmp_path / "mixed.h5")
    assert found.shape == (6, 3, 4, 4)
    with h5py.File(tmp_path / "mixed.h5") as file:
        assert file["mixed/image"][2, :, 0, 0].tolist() == [2, 2, 2]
        assert file["mixed/image"][5, :, 0, 0].tolist() == [7, 8, 9]


CELLS = st.one_of(
    st.none(),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False, allow_infinity=False),
)


@given(st.lists(CELLS, min_size=1, max_size=6))
def test_every_kind_of_cell_comes_back(tmp_path_factory, cells):
    folder = tmp_path_factory.mktemp("cells")
    count = len(cells)
    masks = [np.full((2, 3), i, np.uint8) for i in range(count)]
    (folder / "a.npy").write_bytes(b"")
    classes = np.arange(-1.0, 5.0).reshape(2, 3)  # as masks of NYUv2 are, −1 being ignored
    np.save(folder / "a.npy", classes[..., None])
    (folder / "a.png").write_bytes(b"picture")
    columns = {
        "any": cells,
        "masks": masks,
        "odd": [None, *masks[1:]],
        "drawn": [lambda i=i: masks[i] for i in range(count)],
        "files": [folder / "a.png"] * count,
        "maps": [folder / "a.npy"] * count,
        "boxes": [[("cat", 1.0, 2.0, 3.5, 4.0)]] * count,
    }
    images = ImageSet("set", np.zeros((count, 2, 2, 1), np.uint8), columns)
    images.sizes, images.digests = np.zeros((count, 2), int), np.zeros((count, 16), np.uint8)
    with h5py.File(folder / "x.h5", "w") as file:
        group = file.create_group("set")
        group["image"], group["size"], group["digest"] = images.images, images.sizes, images.digests
        write_labels(group, images)
    with h5py.File(folder / "x.h5") as file:
        found = read_packed("set", folder / "x.h5", file["set"]).columns
    assert found["any"] == cells
    assert all(map(np.array_equal, found["masks"], masks))
    assert found["odd"][0] is None
    odd = [read_mask(cell, "here") for cell in found["odd"][1:]]
    assert all(map(np.array_equal, odd, masks[1:]))
    assert all(map(np.array_equal, found["drawn"], masks))
    assert found["files"] == [b"picture"] * count
    assert np.array_equal(read_values(found["maps"][0], "here"), classes)
    assert read_mask(found["maps"][0], "here").tolist() == [[255, 0, 1], [2, 3, 4]]
    assert found["boxes"] == [[["cat", 1.0, 2.0, 3.5, 4.0]]] * count


def own_file(path, chunks=True):
    drawn = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "image",
            data=drawn.integers(0, 256, (30, 5, 6, 3), np.uint8),
            chunks=(4, 5, 6, 3) if chunks else None,
        )
        file["label"] = ["ab"[i % 2] for i in range(30)]
        file["part"] = ["train"] * 20 + ["val"] * 4 + ["test"] * 6
        file["box"] = np.tile([1.0, 1.0, 4.0, 4.0], (30, 1))
        file["mask"] = drawn.integers(0, 2, (30, 5, 6), np.uint8)
        file["seven"] = np.arange(7)
        return file["image"][()]


@pytest.mark.parametrize("chunks", [True, False])
def test_a_file_of_ones_own(tmp_path, chunks):
    images = own_file(tmp_path / "own.h5", chunks)
    source = Hdf5(source="hdf5", path="own.h5", split="part", only={"label": ["a"]})
    found = source.load("own", tmp_path)
    assert set(found.columns) == {"label", "box_0", "box_1", "box_2", "box_3", "mask"}
    assert set(found.columns["label"]) == {"a"}
    assert np.array_equal(np.stack([found.images[i] for i in range(15)]), images[::2])
    assert found.splits["test"].tolist() == [12, 13, 14]
    assert found.columns["box_2"][0] == 4.0
    assert found.columns["mask"][3].shape == (5, 6)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "no complete HDF5 file"),
        (lambda path: path.write_bytes(b""), "no complete HDF5 file"),
        (lambda path: path.write_text("text"), "no complete HDF5 file"),
        (
            lambda path: change(
                path, lambda f: f.__setitem__("more", h5py.ExternalLink("y.h5", "/"))
            ),
            "more lies in another file",
        ),
        (lambda path: change(path, outside), "leak lies in another file"),
        (
            lambda path: change(path, lambda f: (f.pop("image"), f.create_group("g"))[1]),
            'unknown array of own.h5 "image"',
        ),
        (lambda path: change(path, only_groups), "holds the groups one, two, none of them named"),
        (lambda path: change(path, as_floats), "image is float32"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path, spoil, said):
    path = tmp_path / "own.h5"
    own_file(path)
    spoil(path)
    with pytest.raises(UserError) as error:
        Hdf5(source="hdf5", path="own.h5").read("own", tmp_path)
    assert said in str(error.value)


def change(path, how):
    with h5py.File(path, "r+") as file:
        how(file)


def outside(file):
    file.create_dataset("leak", (10,), np.uint8, external=[("/etc/hostname", 0, 10)])


def only_groups(file):
    for name in list(file):
        del file[name]
    for name in ("one", "two"):
        file.create_group(name)


def as_floats(file):
    del file["image"]
    file["image"] = np.zeros((30, 5, 6, 3), np.float32)


def test_a_newer_layout_is_refused(shelf):
    pack(read_config(str(shelf / "config.yaml")), shelf / "packed.h5")
    change(shelf / "packed.h5", lambda file: file["shelf"].attrs.update(polytask_layout=99))
    with pytest.raises(UserError, match="newer version"):
        Hdf5(source="hdf5", path="packed.h5").read("shelf", shelf)


def test_two_windows_of_chunks_stay_in_memory(tmp_path, monkeypatch):
    images = own_file(tmp_path / "own.h5")
    monkeypatch.setattr(chunked, "WINDOW", 1)
    found = ChunkedImages(tmp_path / "own.h5", "image")
    for index in (np.array([29, 0, 5, 1]), np.arange(30), np.array([7])):
        got = np.stack(list(found.pixels(index))).transpose(0, 2, 3, 1)
        assert np.array_equal(got, images[index])
        assert len(found._chunks) <= 2
    part = found[np.array([3, 9, 28])]
    assert np.array_equal(part[2], images[28])
    assert part.chunk_of.tolist() == [0, 2, 7]


# The statistics of the chunk-shuffled order.

LENGTH, CHUNKS = 5, 40


@pytest.fixture
def windows(monkeypatch):
    monkeypatch.setattr(mixing, "WINDOW", 8)
    return np.arange(LENGTH * CHUNKS) // LENGTH


def orders(chunk_of, count, pool=None):
    pool = np.arange(len(chunk_of)) if pool is None else pool
    return [pass_order(0, "set", epoch, 0, pool, chunk_of) for epoch in range(count)]


def test_a_pass_holds_every_image_once_window_by_window(windows):
    for order in orders(windows, 20):
        assert Counter(order.tolist()) == Counter(range(LENGTH * CHUNKS))
        for first in range(0, len(order), 8 * LENGTH):
            drawn = Counter(windows[order[first : first + 8 * LENGTH]].tolist())
            assert set(drawn.values()) == {LENGTH}
            assert len(drawn) == 8


def test_leaving_images_out_keeps_the_order_of_the_others_in_chunks(windows):
    kept = np.flatnonzero(np.random.default_rng(0).random(len(windows)) < 0.4)
    for whole, part in zip(orders(windows, 5), orders(windows, 5, kept), strict=True):
        assert part.tolist() == [i for i in whole.tolist() if i in set(kept.tolist())]


def test_every_image_is_as_likely_at_every_place(windows):
    """χ² of the places of three images over ten bins, 2,000 passes each."""
    places = np.array([np.argsort(order)[[0, 77, 199]] for order in orders(windows, 2000)])
    bins = LENGTH * CHUNKS // 10
    for image in places.T:
        counts = np.bincount(image // bins, minlength=10)
        assert ((counts - 200) ** 2 / 200).sum() < 27.9  # 9 degrees of freedom, p = 0.001


def test_neighbours_in_the_file_are_neighbours_no_more(windows):
    """Two images of one chunk share a window of 40; without one they'd be next to each other."""
    apart = np.array(
        [np.abs(np.diff(np.argsort(order)[[10, 11]]))[0] for order in orders(windows, 2000)]
    )
    assert apart.max() < 8 * LENGTH
    # The distance of two places drawn at random from n is (n + 1) / 3 on average.
    assert abs(apart.mean() - 41 / 3) < 4 * apart.std() / np.sqrt(len(apart))


def test_batches_of_a_file_sorted_by_class_are_mixed(windows):
    """Images come sorted in ten classes of four chunks; batches of 20 hold several."""
    classes = windows // 4
    there = [
        len(set(classes[order[first : first + 20]]))
        for order in orders(windows, 50)
        for first in range(0, 200, 20)
    ]
    assert np.mean(there) > 4.5
    assert min(there) >= 2


def test_json_of_the_layout_is_plain(shelf):
    pack(read_config(str(shelf / "config.yaml")), shelf / "packed.h5")
    with h5py.File(shelf / "packed.h5") as file:
        about = json.loads(file["shelf"].attrs["about"])
    assert about == {"default_label": None, "classes": {}, "group": None}
