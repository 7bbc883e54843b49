"""A hundred broken files and rows over all sources: each is named with its reason, in one check.

Every case is a data set of its own or a row of one; what is expected is a part of the place and a
part of the reason. One config holds them all, so that no fault hides another.
"""

import io
import json
import pickle
import shutil
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from polytask.cli import main
from polytask.config import read_config
from polytask.data.check import check
from polytask.errors import UserError

SIDE = 16


def photograph(seed, mode="RGB", side=SIDE):
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    whole = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    return whole.convert(mode)


def saved(picture, form, **options):
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def array(values, allow_pickle=False):
    out = io.BytesIO()
    np.save(out, values, allow_pickle=allow_pickle)
    return out.getvalue()


def chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png_of_size(width, height):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


WHOLE = {form: saved(photograph(1), form) for form in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")}

# name of the file, its content, and a part of the reason
IMAGES = [
    ("half.jpg", WHOLE["JPEG"][: len(WHOLE["JPEG"]) // 2], "truncated"),
    ("half.png", WHOLE["PNG"][: len(WHOLE["PNG"]) // 2], "truncated"),
    ("half.gif", WHOLE["GIF"][: len(WHOLE["GIF"]) // 2], "truncated|damaged"),
    ("half.webp", WHOLE["WEBP"][: len(WHOLE["WEBP"]) // 2], "truncated|damaged|no known"),
    ("half.bmp", WHOLE["BMP"][: len(WHOLE["BMP"]) // 2], "truncated|damaged"),
    ("half.tif", WHOLE["TIFF"][: len(WHOLE["TIFF"]) // 2], "truncated|damaged|no known"),
    ("start.jpg", WHOLE["JPEG"][:20], "no known image format|truncated|damaged"),
    ("empty.jpg", b"", "0 bytes"),
    ("empty.png", b"", "0 bytes"),
    ("page.jpg", b"<html>404 not found</html>", "no known image format"),
    ("pointer.png", b"version https://git-lfs.github.com/spec/v1\n", "no known image format"),
    ("noise.png", bytes(range(256)), "no known image format"),
    ("phone.heic", b"\0\0\0\x18ftypheic" + bytes(40), "no known image format"),
    ("checksum.png", flipped(WHOLE["PNG"], 60), "damaged"),
    ("header.png", flipped(WHOLE["PNG"], 18), "damaged|too large"),
    ("bomb.png", png_of_size(20_000, 20_000), "too large"),
    ("huge.png", png_of_size(2**31 - 1, 2**31 - 1), "too large"),
    ("deep.tif", saved(photograph(2).convert("F"), "TIFF"), "32-bit pixels"),
]
ODD = [
    ("cmyk.jpg", saved(photograph(3, "CMYK"), "JPEG"), "CMYK converted to RGB"),
    ("palette.png", saved(photograph(4, "P"), "PNG"), "palette converted to RGB"),
    ("bits.png", saved(photograph(5, "1"), "PNG"), "1 bit converted to grey"),
    (
        "wide.png",
        saved(Image.fromarray(np.asarray(photograph(6, "L")).astype(np.uint16) * 257), "PNG"),
        "16 bits scaled to 8",
    ),
    (
        "moving.gif",
        saved(photograph(7), "GIF", save_all=True, append_images=[photograph(8)]),
        "first of several frames taken",
    ),
    ("turned.jpg", None, "turned upright as EXIF says"),
    (
        "glass.png",
        saved(Image.merge("RGBA", [*photograph(9).split(), photograph(9, "L")]), "PNG"),
        "transparency laid on white",
    ),
]
MASK = Image.fromarray((np.arange(SIDE * SIDE).reshape(SIDE, SIDE) // 128).astype(np.uint8))
MASKS = [
    ("small.png", saved(MASK.resize((8, 8)), "PNG"), "8 × 8 pixels, its image 16 × 16"),
    ("ids.png", saved(MASK.point(lambda v: 7 * v), "PNG"), "the mask holds 7; expected 0 to 1"),
    ("colour.png", saved(MASK.convert("RGB"), "PNG"), "RGB pixels; expected one number a pixel"),
    ("empty.png", b"", "0 bytes"),
    ("half.png", saved(MASK, "PNG")[:50], "truncated|damaged"),
    ("page.png", b"<html>", "no known image format"),
    ("bomb.png", png_of_size(20_000, 20_000), "too large"),
    ("nowhere.png", None, 'no image file "m_nowhere.png"'),
]
DEPTHS = [
    ("small.npy", array(np.ones((8, 8))), "8 × 8 pixels, its image"),
    ("minus.npy", array(np.full((SIDE, SIDE), -1.0)), "a depth of -1"),
    ("objects.npy", array(np.array([{}]), allow_pickle=True), "no NPY array of numbers"),
    ("half.npy", array(np.ones((SIDE, SIDE)))[:200], "no NPY array of numbers"),
    ("text.npy", b"no array at all", "no NPY array of numbers"),
    ("words.npy", array(np.full((SIDE, SIDE), "a")), "expected numbers"),
    ("three.npy", array(np.ones((SIDE, SIDE, 3))), "3 numbers a pixel; expected one"),
]
NORMALS = [
    ("flat.npy", array(np.ones((SIDE, SIDE))), "expected [H, W, 3]"),
    ("small.npy", array(np.ones((8, 8, 3))), "8 × 8 pixels, its image"),
]
BOXES = [
    ("9,2,3,8", "inverted"),
    ("2,9,8,3", "inverted"),
    ("3,3,3,8", "empty"),
    ("2,2,40,8", "reaches outside its image of 16 × 16"),
    ("-4,2,8,8", "reaches outside its image of 16 × 16"),
    ("2,2,8,", "y1: blank; expected a number"),
    ("2,two,8,8", 'y0: got "two"'),
    ("2,nan,8,8", 'y0: got "nan"'),
    ("2,2,inf,8", 'x1: got "inf"'),
]
CELLS = [
    ("cat 9 2 3 8", "empty or inverted"),
    ("cat 2 2 8", "expected a class and four numbers"),
    ("cat 2 2 8 x", "expected a class and four numbers"),
    ("cow 2 2 8 8", 'unknown class "cow"'),
    ("cat 2 2 80 8", "reaches outside its image"),
]
VALUES = [
    ("wet", "maybe", 'wet: got "maybe"'),
    ("wet", "2", 'wet: got "2"'),
    ("age", "old", 'age: got "old"'),
    ("kind", "gras", 'unknown class "gras"'),
]
TABLES = [
    ("latin.csv", "image,kind\nä.png,a\n".encode("latin-1"), "not UTF-8"),
    ("zeros.csv", b"image,kind\n\0\0\n", "zero bytes"),
    ("nothing.csv", b"", "is empty"),
    ("header.csv", b"image,kind\n", "a header and no rows"),
    ("twice.csv", b"image,kind,kind\n0.png,a,b\n", "is there 2 times"),
    ("nameless.csv", b"image,\n0.png,a\n", "column 2 has no name"),
    ("semicolons.csv", b"image;kind\n0.png;a\n", "expected commas"),
    ("ragged.csv", b"image,kind\n0.png,a\n1.png\n", "has 1 cells; expected 2"),
    ("quote.csv", b'image,kind\n"0.png,a\n', "is not CSV"),
    ("column.csv", b"imgae,kind\n0.png,a\n", 'no column "image"'),
    ("blank.csv", b"image,kind\n,a\n", "image: blank"),
    ("lost.csv", b"image,kind\nlost.png,a\n", "no file lost.png"),
    ("outside.csv", b"image,kind\n../../etc/0.png,a\n", "leads out of the manifest's folder"),
    ("splits.csv", b"image,kind,split\n0.png,a,trian\n", 'split: got "trian"'),
    ("half.parquet", b"PAR1 and then nothing", "not a complete Parquet file"),
    ("shelf.xlsx", b"PK", 'got a ".xlsx" file'),
]
CATEGORY = [{"id": 1, "name": "cat"}]
PICTURE = {"id": 1, "file_name": "0.png", "width": SIDE, "height": SIDE}
COCO = [
    ({"image_id": 1, "category_id": 1, "bbox": [2, 2, 0, 4]}, "is empty"),
    ({"image_id": 1, "category_id": 1, "bbox": [2, 2, -1, 4]}, "is inverted"),
    ({"image_id": 1, "category_id": 1, "bbox": [2, 2, 99, 4]}, "reaches outside"),
    ({"image_id": 1, "category_id": 1, "bbox": [2, 2, 4]}, "expected x, y, width, height"),
    ({"image_id": 1, "category_id": 1, "bbox": None}, "expected x, y, width, height"),
    ({"image_id": 1, "category_id": 1}, "has no bbox"),
    ({"image_id": 5, "category_id": 1, "bbox": [2, 2, 4, 4]}, "image_id 5 is not in the file"),
    ({"image_id": 1, "category_id": 5, "bbox": [2, 2, 4, 4]}, "category_id 5 is not in the file"),
    ({"image_id": [], "category_id": 1}, "image_id [] is not in the file"),
    ("annotation", "expected image_id, category_id and bbox"),
    (
        {"image_id": 1, "category_id": 1, "bbox": [2, 2, 4, 4], "segmentation": [[1, 2]]},
        "no list of three or more",
    ),
    (
        {"image_id": 1, "category_id": 1, "bbox": [2, 2, 4, 4], "segmentation": "abc"},
        "neither outlines nor run lengths",
    ),
]
COCO_FILES = [
    ("cut", '{"images": [', "no complete JSON"),
    ("other", '{"captions": []}', "holds no JSON file with images"),
    ("lists", '{"images": {}, "annotations": [], "categories": []}', "images is a dict"),
    ("latin", b"\xe4", "not UTF-8"),
]


def voc(box=("3", "2", "6", "5"), name="cat", tail="</annotation>"):
    edges = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    bndbox = "".join(f"<{edge}>{at}</{edge}>" for edge, at in edges)
    return (
        f"<annotation><size><width>{SIDE}</width><height>{SIDE}</height></size>"
        f"<object><name>{name}</name><bndbox>{bndbox}</bndbox></object>{tail}"
    )


VOC = [
    ("inverted", voc(("9", "2", "3", "8")), "inverted"),
    ("outside", voc(("3", "2", "99", "8")), "reaches outside"),
    ("words", voc(("3", "two", "9", "8")), "lacks a box of numbers"),
    ("nameless", voc(name=""), "lacks a name"),
    ("cut", voc(tail=""), "no complete XML"),
    ("other", "<html/>", "expected <annotation>"),
    ("entities", '<!DOCTYPE a [<!ENTITY x "xx">]><annotation/>', "document type or an entity"),
    ("lost", voc(), "there is no image"),
]


class Builder:
    """Writes data sets and their config; keeps what each must be blamed for."""

    def __init__(self, folder):
        self.folder = folder
        self.data, self.tasks, self.expected = [], [], []

    def write(self, path, content):
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def photographs(self, folder, count=12):
        for k in range(count):
            self.write(
                f"{folder}/{k}.png", saved(photograph(zlib.crc32(f"{folder}/{k}".encode())), "PNG")
            )

    def data_set(self, name, options, *tasks):
        self.data.append(f"  {name}: {{size: 16, {options}}}")
        self.tasks += [f"  {name}_{k}: {{data: {name}, {t}}}" for k, t in enumerate(tasks)]

    def table(self, name, columns, broken, *tasks, sound, options=""):
        """A manifest of 12 sound images and of broken rows: (cells, expected reason)."""
        self.photographs(name, 12 + len(broken))
        lines = [f"image,split,{columns}"]
        lines += [f"{k}.png,{('train', 'val', 'test')[k % 3]},{sound(k)}" for k in range(12)]
        for k, (cells, reason) in enumerate(broken, 12):
            lines.append(f"{k}.png,train,{cells}")
            self.expected.append((f"{name}/{name}.csv:{k + 2}", reason))
        self.write(f"{name}/{name}.csv", "\n".join(lines) + "\n")
        self.data_set(name, f"source: manifest, path: {name}/{name}.csv{options}", *tasks)

    def report(self):
        text = "\n".join(["data:", *self.data, "tasks:", *self.tasks, ""])
        self.write("broken.yaml", text)
        return check(read_config(self.folder / "broken.yaml"))


CLASS = "kind: classification, label: kind"


def build(made):
    # Broken and odd images of a manifest.
    made.photographs("images")
    lines = [
        "image,split,kind",
        *(f"{k}.png,{('train', 'test')[k % 2]},{'ab'[k // 6]}" for k in range(12)),
    ]
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(photograph(10), "JPEG", exif=exif)
    for name, content, reason in [*IMAGES, *ODD]:
        made.write(f"images/{name}", turned if content is None else content)
        lines.append(f"{name},train,a")
        made.expected.append((f"images/images.csv:{len(lines)}", reason))
    made.write("images/images.csv", "\n".join(lines) + "\n")
    made.data_set("images", "source: manifest, path: images/images.csv", CLASS)

    # Labels of every kind.
    for name, column, cases, task, sound in (
        (
            "masks",
            "mask",
            MASKS,
            "kind: segmentation, label: mask, classes: [a, b]",
            saved(MASK, "PNG"),
        ),
        ("depths", "depth", DEPTHS, "kind: depth", array(np.ones((SIDE, SIDE)))),
        ("normals", "normals", NORMALS, "kind: normals", array(np.ones((SIDE, SIDE, 3)))),
    ):
        form = "png" if column == "mask" else "npy"
        made.write(f"{name}/sound.{form}", sound)
        for file, content, _ in cases:
            if content is not None:
                made.write(f"{name}/m_{file}", content)
        rows = [(f"m_{file}", reason) for file, _, reason in cases if reason[:8] != "no image"]
        made.table(name, column, rows, task, sound=lambda k, form=form: f"sound.{form}")
    made.table(
        "unmasked",
        "mask",
        [("m_nowhere.png", 'no image file "m_nowhere.png"'), ("7", "expected the path of a mask")],
        "kind: segmentation, label: mask, classes: [a, b]",
        sound=lambda k: "",
    )
    for k, (cells, reason) in enumerate(BOXES):
        made.table(
            f"box{k}", "x0,y0,x1,y1", [(cells, reason)], "kind: box", sound=lambda k: "2,2,8,8"
        )
    for k, (cell, reason) in enumerate(CELLS):
        task = "kind: detection, classes: [cat]"
        made.table(f"cells{k}", "boxes", [(cell, reason)], task, sound=lambda k: "cat 2 2 8 8")
    for k, (column, cell, reason) in enumerate(VALUES):
        task = {
            "wet": "kind: multilabel, label: [wet]",
            "age": "kind: regression, label: age",
            "kind": "kind: classification, label: kind, classes: [a, b]",
        }[column]
        sound = {"wet": "1", "age": "3.5", "kind": "a"}[column]
        made.table(f"values{k}", column, [(cell, reason)], task, sound=lambda k, s=sound: s)

    # Classes, splits, groups, copies.
    made.table("unseen", "kind", [], CLASS, sound=lambda k: "rare" if k in (2, 5) else "ab"[k % 2])
    made.expected.append(("data.unseen", 'class "rare" of task unseen_0 has no training image'))
    made.table("few", "kind", [], CLASS, sound=lambda k: "ab"[k // 6])
    made.expected.append(("data.few", "fewer than 5 images to train on of a (2); b (2)"))
    made.table("grouped", "kind,group", [], CLASS, sound=lambda k: f"{'ab'[k // 6]},{k // 2}")
    made.expected.append(("grouped/grouped.csv:3", "group 0 is in val, and in train"))
    made.table("copies", "kind", [], CLASS, sound=lambda k: "ab"[k // 6])
    shutil.copy(made.folder / "copies/0.png", made.folder / "copies/2.png")
    near = photograph(77, side=96)
    near.save(made.folder / "copies/3.png")
    made.write("copies/5.png", saved(near.resize((70, 70)), "PNG"))
    made.expected.append(("data.copies", "pixel for pixel in more than one split: 1 image"))
    made.expected.append(("data.copies", "nearly the same picture in different splits: 1 pair"))

    # Tables that are none.
    made.photographs("tables", 2)
    for name, content, reason in TABLES:
        made.write(f"tables/{name}", content)
        made.data_set(f"table_{name.replace('.', '_')}", f"source: manifest, path: tables/{name}")
        made.expected.append((f"tables/{name}", reason))

    # Folders.
    def folder(name, files, place, reason, source="folder"):
        for file in files:
            made.write(f"{name}/{file}", saved(photograph(1), "PNG"))
        (made.folder / name).mkdir(exist_ok=True)
        made.data_set(name, f"source: {source}, path: {name}")
        made.expected.append((place, reason))

    (made.folder / "hollow" / "c").mkdir(parents=True)
    folder("hollow", ["a/1.png", "b/1.png"], "hollow/c", "holds no image")
    folder("loose", ["a/1.png", "b/1.png", "1.png"], "loose/1.png", "belongs to no class")
    folder("single", ["a/1.png"], "data.single.path", "holds one class")
    folder("splits", ["train/a/1.png", "tset/a/1.png"], "splits/tset", "is beside train")
    folder("bare", [], "bare", "holds no image")
    folder("bare_scans", [], "bare_scans", "holds no image", "unlabelled")
    made.data_set("gone", "source: folder, path: gonne")
    made.expected.append(("data.gone.path", "does not exist"))
    folder("offices", ["amazn/images/bike/1.png"], "amazn", "is not in place", "office31")
    folder("objects", ["obj1.png"], "objects/obj1.png", "is not in place", "coil20")
    folder("letters", ["Sample099/1.png"], "Sample099", "is not in place", "chars74k")

    # Archives.
    def archive(name, files, place, reason, cut=0, source="folder"):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as target:
            for file in files:
                target.writestr(file, saved(photograph(1), "PNG"))
        content = out.getvalue()
        made.write(name, content[: len(content) - cut])
        made.data_set(f"zip_{name.split('.')[0]}", f"source: {source}, path: {name}")
        made.expected.append((place, reason))

    archive("cut.zip", ["a/1.png"], "cut.zip", "neither a folder nor a complete zip", cut=30)
    archive("out.zip", ["a/1.png", "../b/1.png"], "out.zip:../b/1.png", "leads out of the archive")
    archive("table.zip", ["a/1.png"], "table.zip", "expected one .csv or .parquet", 0, "manifest")
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as target:
        target.writestr("a/1.png", saved(photograph(1), "PNG"))
    made.write("rotten.zip", flipped(whole.getvalue(), 80))
    made.data_set("zip_rotten", "source: folder, path: rotten.zip")
    made.expected.append(("rotten.zip:a/1.png", "damaged in the archive"))

    # COCO and VOC.
    made.photographs("coco", 1)
    found = {"images": [PICTURE], "annotations": [a for a, _ in COCO], "categories": CATEGORY}
    made.write("coco/instances.json", json.dumps(found))
    made.data_set("coco", "source: coco, path: coco")
    made.expected += [(f"instances.json: annotation {k}", why) for k, (_, why) in enumerate(COCO)]
    for name, text, reason in COCO_FILES:
        made.photographs(f"coco_{name}", 1)
        made.write(f"coco_{name}/instances.json", text)
        made.data_set(f"coco_{name}", f"source: coco, path: coco_{name}")
        made.expected.append((f"coco_{name}", reason))
    for name, text, reason in VOC:
        made.write(f"voc/Annotations/{name}.xml", text)
        made.expected.append((f"Annotations/{name}.xml", reason))
        if name != "lost":
            made.write(f"voc/JPEGImages/{name}.png", saved(photograph(1), "PNG"))
    made.data_set("voc", "source: voc, path: voc")

    # Arrays and published sets.
    for name, arrays, reason in (
        ("floats", {"image": np.zeros((2, 4, 4))}, "expected uint8"),
        (
            "unnamed",
            {"pictures": np.zeros((2, 4, 4), np.uint8)},
            'unknown array of unnamed.npz "image"',
        ),
        ("objects", {"image": np.array([{}], dtype=object)}, "array of objects"),
    ):
        np.savez(made.folder / f"{name}.npz", **arrays)
        made.data_set(f"npz_{name}", f"source: npz, path: {name}.npz")
        made.expected.append((name if name != "unnamed" else "data.npz_unnamed", reason))
    made.write("half.npz", b"PK\x03\x04 and no more")
    made.data_set("npz_half", "source: npz, path: half.npz")
    made.expected.append(("half.npz", "no complete .npz archive"))
    made.write("sets/cifar-10-batches-py/data_batch_1", pickle.dumps({"data": []}))
    for source in ("cifar10", "stl10", "mnist", "usps", "caltech101", "celeba"):
        made.data_set(f"set_{source}", f"source: {source}, path: sets")
        lacks = "has no folder" if source == "caltech101" else "finds no complete set"
        made.expected.append(("/sets", lacks))
    made.photographs("pets/images", 1)
    made.write("pets/index.csv", "name,split,breed,species\n0,train,a,cat\n")
    made.data_set("pets", "source: oxford_pets, path: pets")
    made.expected.append(("/pets", "0 is listed, but there is no trimap"))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    made = Builder(tmp_path_factory.mktemp("broken"))
    build(made)
    return made, made.report()


def test_each_of_a_hundred_faults_is_named_with_its_reason(found):
    made, report = found
    told = [str(fault) for fault in [*report.faults, *report.notes]]
    missing = [
        (place, reason)
        for place, reason in made.expected
        if not any(place in line and any(r in line for r in reason.split("|")) for line in told)
    ]
    assert missing == []
    assert len(made.expected) > 120


def test_the_command_tells_them_all_and_ends_with_2(found, capsys):
    made, report = found
    assert main(["check", str(made.folder / "broken.yaml")]) == 2
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    assert f"{len(report.faults)} faults" in said.out + said.err
    assert "more faults like these" not in said.out + said.err  # nothing is held back


def test_training_refuses_with_the_same_faults(found):
    from polytask.data.load import load_data
    from polytask.tasks import build as build_tasks

    made, report = found
    config = read_config(made.folder / "broken.yaml")
    with pytest.raises(UserError) as caught:
        load_data(config, build_tasks(config.tasks), 0)
    refused = {str(fault) for fault in caught.value.faults}
    assert refused <= {str(fault) for fault in report.faults}
