"""The data doctor: every count right, every fault found, and nothing reported that is sound."""

import csv
import json
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytask.config import read_config
from polytask.data.check import check, class_counts
from polytask.tasks.task import Labels

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def photograph(seed, side=16):
    """A picture that no other seed's resembles."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


@pytest.fixture
def shop(tmp_path):
    """24 photographs in a manifest with given splits: 12 to train, 4 to validate, 8 to test."""

    def write(change=lambda rows, folder: None, options="", tasks=None, more=""):
        rows = []
        for i in range(24):
            path = tmp_path / f"{i:02}.png"
            photograph(i).save(path)
            split = "train" if i < 12 else "val" if i < 16 else "test"
            rows.append(
                {
                    "image": path.name,
                    "split": split,
                    "kind": ("soap", "tea")[i % 2],
                    "wet": i % 4 < 2,
                }
            )
        for row in rows:
            row["wet"] = int(row["wet"])
        change(rows, tmp_path)
        with (tmp_path / "shelf.csv").open("w", newline="") as out:
            table = csv.DictWriter(out, ["image", "split", "kind", "wet"])
            table.writeheader()
            table.writerows(rows)
        lines = tasks or ["kind: {kind: classification, data: shelf, label: kind}"]
        (tmp_path / "shop.yaml").write_text(
            f"data:\n  shelf: {{source: manifest, path: shelf.csv{options}}}\n"
            + "tasks:\n"
            + "".join(f"  {line}\n" for line in lines)
            + more
        )
        return check(read_config(tmp_path / "shop.yaml"))

    return write


def problems(found):
    return [fault.problem for fault in found]


WET = "damage: {kind: multilabel, data: shelf, label: [wet]}"
KIND = "kind: {kind: classification, data: shelf, label: kind}"


def test_sound_data_give_counts_and_nothing_else(shop):
    report = shop(tasks=[KIND, WET])
    assert report.faults == []
    assert report.notes == []
    shelf = report.data["shelf"]
    assert (shelf.source, shelf.images, shelf.unreadable, shelf.grey) == ("manifest", 24, 0, 0)
    assert shelf.splits == {"train": 12, "val": 4, "test": 8}
    assert shelf.smallest == shelf.median == shelf.largest == (16, 16)
    kind = shelf.tasks["kind"]
    assert kind.kind == "classification"
    assert kind.labelled == shelf.splits
    assert kind.classes == {
        "soap": {"train": 6, "val": 2, "test": 4},
        "tea": {"train": 6, "val": 2, "test": 4},
    }
    assert shelf.tasks["damage"].classes == {"wet": {"train": 6, "val": 2, "test": 4}}


def test_coverage_counts_blank_cells_per_task_and_split(shop):
    def blank(rows, folder):
        for row in rows[:4] + rows[16:19]:
            row["kind"] = ""
        for row in rows[12:16]:
            row["wet"] = ""

    report = shop(blank, tasks=[KIND, WET])
    tasks = report.data["shelf"].tasks
    assert tasks["kind"].labelled == {"train": 8, "val": 4, "test": 5}
    assert tasks["damage"].labelled == {"train": 12, "val": 0, "test": 8}
    assert report.faults == []
    assert any("damage: no val image is labelled" in note for note in problems(report.notes))


def test_a_fraction_shows_what_it_leaves(shop):
    report = shop(options=", fraction: 0.5")
    kind = report.data["shelf"].tasks["kind"]
    assert list(kind.labelled) == ["train", "used", "val", "test"]
    assert kind.classes["tea"] == {"train": 6, "used": 3, "val": 2, "test": 4}
    (note,) = report.notes
    assert "fewer than 5 images to train on of soap (3); tea (3)" in note.problem


def break_images(rows, folder):
    whole = (folder / "00.png").read_bytes()
    (folder / "00.png").write_bytes(whole[: len(whole) // 2])
    (folder / "01.png").write_bytes(b"")
    (folder / "12.png").write_text("<html>")
    (folder / "20.png").write_bytes(whole[:16] + b"\x00\x01\x86\xa0\x00\x01\x86\xa0" + whole[24:])


def test_every_unreadable_image_is_a_fault_with_its_row_and_reason(shop):
    report = shop(break_images)
    told = {int(f.where.rsplit(":", 1)[1]): f.problem for f in report.faults}
    assert sorted(told) == [2, 3, 14, 22]  # the header is line 1
    assert "truncated" in told[2]
    assert "0 bytes" in told[3]
    assert "no known image format" in told[14]
    assert "damaged" in told[22] or "too large" in told[22]
    assert all(f"{row - 2:02}.png" in problem for row, problem in told.items())
    assert report.data["shelf"].unreadable == 4
    assert report.data["shelf"].tasks["kind"].labelled["train"] == 12


def test_bad_images_that_are_to_be_skipped_are_notes(shop):
    report = shop(break_images, more="on_bad_image: skip\n")
    assert report.faults == []
    assert "4 images can't be read and are skipped." in problems(report.notes)


def test_odd_files_are_read_and_named(shop):
    def odd(rows, folder):
        exif = Image.Exif()
        exif[0x0112] = 6
        photograph(0).save(folder / "00.png", exif=exif)
        photograph(1).convert("CMYK").save(folder / "01.jpg")
        photograph(2).convert("CMYK").save(folder / "02.jpg")
        rows[1]["image"], rows[2]["image"] = "01.jpg", "02.jpg"
        wide = np.asarray(photograph(3).convert("L")).astype(np.uint16) * 257
        Image.fromarray(wide).save(folder / "03.png")
        frames = [photograph(k) for k in (4, 5)]
        frames[0].save(folder / "04.gif", save_all=True, append_images=frames[1:])
        rows[4]["image"] = "04.gif"

    report = shop(odd)
    assert report.faults == []
    assert report.data["shelf"].grey == 1
    assert report.data["shelf"].changed == {
        "turned upright as EXIF says": 1,
        "CMYK converted to RGB": 2,
        "16 bits scaled to 8": 1,
        "palette converted to RGB": 1,
        "first of several frames taken": 1,
    }
    (cmyk,) = [note for note in problems(report.notes) if "CMYK" in note]
    assert "2 images" in cmyk
    assert "shelf.csv:3" in cmyk
    assert "shelf.csv:4" in cmyk


def test_leaks_between_splits_are_told(shop):
    def leak(rows, folder):
        photograph(0).save(folder / "20.png")  # pixel for pixel, under another name
        photograph(1).save(folder / "21.png")
        photograph(5).save(folder / "06.png")  # within a split: no leak
        photograph(30, side=96).save(folder / "13.png")
        photograph(30, side=96).resize((70, 70)).save(folder / "22.jpg", quality=60)
        rows[22]["image"] = "22.jpg"

    report = shop(leak, options=", size: 16")
    assert report.faults == []
    exact, near = report.notes
    assert "2 images" in exact.problem
    assert "shelf.csv:2 (train)" in exact.problem
    assert "shelf.csv:22 (test)" in exact.problem
    assert "1 pair" in near.problem
    assert "shelf.csv:15 (val)" in near.problem
    assert "shelf.csv:24 (test)" in near.problem


def test_a_class_only_in_test_is_a_fault(shop):
    def rare(rows, folder):
        rows[20]["kind"] = "rice"

    report = shop(rare)
    (fault,) = report.faults
    assert fault.where.endswith("shop.yaml:2 data.shelf")
    assert (
        'class "rice" of task kind has no training image (train 0, val 0, test 1)' in fault.problem
    )
    assert report.data["shelf"].tasks["kind"].classes["rice"]["test"] == 1


def test_classes_without_test_images_or_any_are_notes(shop):
    def rare(rows, folder):
        for i in range(8):
            rows[i]["kind"] = "rice"

    task = "kind: {kind: classification, data: shelf, label: kind, classes: [soap, tea, rice, oil]}"
    report = shop(rare, tasks=[task])
    assert report.faults == []
    assert problems(report.notes) == [
        "task kind: no image of oil.",
        "task kind: fewer than 5 images to train on of soap (2); tea (2).",
        "task kind: no test image of rice.",
    ]


def test_label_faults_of_all_tasks_are_told_at_once(shop):
    def smudge(rows, folder):
        rows[3]["wet"] = "perhaps"

    report = shop(smudge, tasks=["kind: {kind: classification, data: shelf, label: knid}", WET])
    column, cell = report.faults
    assert column.where.endswith("shop.yaml:4 tasks.kind.label")
    assert column.hint == 'Did you mean "kind"?'
    assert cell.where.endswith("shelf.csv:5")
    assert "perhaps" in cell.problem


def test_sizes_that_nothing_makes_one_are_a_fault(shop):
    def grow(rows, folder):
        photograph(0, side=40).save(folder / "00.png")

    (fault,) = shop(grow).faults
    assert "2 sizes, from 16 × 16 to 40 × 40" in fault.problem
    report = shop(grow, options=", size: 16")
    assert report.faults == []
    assert report.data["shelf"].largest == (40, 40)
    assert "2 sizes from 16 × 16 to 40 × 40 (median 16 × 16) pixels" in report.to_text()


def test_an_empty_split_and_a_missing_file_are_faults(shop):
    def no_test(rows, folder):
        del rows[16:]

    report = shop(no_test, options=", test: 0")
    assert ["split test is empty" in problem for problem in problems(report.faults)] == [True]
    assert report.data["shelf"].images == 16

    def lose(rows, folder):
        (folder / "05.png").unlink()

    report = shop(lose)
    assert "no file 05.png" in report.faults[0].problem
    assert report.data == {}


def test_data_sets_that_no_task_uses_are_checked_too(shop, tmp_path):
    more = tmp_path / "scans"
    more.mkdir()
    (more / "a.jpg").write_bytes(b"")
    for k in range(9):
        photograph(100 + k, side=20 + k).save(more / f"{k}.png")
    report = shop()
    assert report.faults == []
    text = (tmp_path / "shop.yaml").read_text()
    scans = "data:\n  scans: {source: unlabelled, path: scans}\n"
    (tmp_path / "shop.yaml").write_text(text.replace("data:\n", scans, 1))
    report = check(read_config(tmp_path / "shop.yaml"))
    (fault,) = report.faults  # their sizes may differ: a pretext task cuts its own tiles
    assert fault.where.endswith("a.jpg")
    assert list(report.data) == ["scans", "shelf"]
    assert report.data["scans"].tasks == {}


def test_the_text_is_a_table_and_the_document_is_json(shop):
    report = shop(options=", fraction: 0.5", tasks=[KIND, WET])
    lines = [line.split() for line in report.to_text().splitlines()]
    assert ["train", "used", "val", "test"] in lines
    assert ["soap", "6", "3", "2", "4"] in lines
    assert lines[-1] == ["0", "faults"]
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    shelf = document["data"]["shelf"]
    assert shelf["tasks"]["kind"]["classes"]["soap"] == {"train": 6, "used": 3, "val": 2, "test": 4}
    assert document["faults"] == []
    assert {"where", "problem", "hint"} == set(document["notes"][0])


def test_contact_sheets_show_a_batch(shop, tmp_path):
    shop(more="train: {batch: 6}\n")
    check(read_config(tmp_path / "shop.yaml"), tmp_path / "sheets")
    (sheet,) = (tmp_path / "sheets").glob("*.png")
    colours = Image.open(sheet).convert("RGB").getcolors(maxcolors=1 << 24)
    assert len(colours) > 100  # photographs, not an empty page


def test_bundled_sets_are_sound(tmp_path):
    path = tmp_path / "digits.yaml"
    path.write_text(
        "data:\n  hand: {source: digits}\n  print: {source: printed_digits, count: 420}\n"
        "  scenes: {source: shapes, count: 200}\n"
        "tasks:\n  hand: {kind: classification, data: hand}\n"
        "  print: {kind: classification, data: print}\n"
        "  shape: {kind: classification, data: scenes}\n"
        "  look: {kind: multilabel, data: scenes, label: [filled, striped, large, dark]}\n"
    )
    report = check(read_config(path))
    assert report.faults == []
    assert not any("pixel for pixel" in note for note in problems(report.notes))
    assert report.data["print"].splits == {"train": 300, "val": 60, "test": 60}


def test_labels_that_are_no_classes_have_no_counts():
    boxes = Labels(np.zeros((5, 4)), np.ones(5, bool))
    assert len(class_counts([], boxes, np.arange(5))) == 0
    said = np.array([[1, 0], [-1, 1], [1, 1]])
    attributes = Labels(said, np.ones(3, bool), occurs=said == 1)
    assert class_counts(["a", "b"], attributes, np.arange(3)).tolist() == [2, 2]
    assert class_counts(["a", "b"], attributes, np.array([1])).tolist() == [0, 1]


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the image sets beside the repository")
def test_photographs_are_checked_in_seconds(tmp_path):
    with zipfile.ZipFile(SHARED / "pets3" / "pets3.zip") as archive:
        archive.extractall(tmp_path)
    with (tmp_path / "index.csv").open() as table:
        rows = list(csv.DictReader(table))
    for row in rows:
        target = tmp_path / "pets" / ("test" if row["split"] == "test" else "train") / row["breed"]
        target.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / f"{row['name']}.jpg").rename(target / f"{row['name']}.jpg")
    path = tmp_path / "pets.yaml"
    path.write_text(
        "data:\n  pets: {source: folder, path: pets/, size: 64}\n"
        "tasks:\n  breed: {kind: classification, data: pets}\n"
    )
    start = time.process_time()
    report = check(read_config(path))
    assert time.process_time() - start < 10
    pets = report.data["pets"]
    assert report.faults == []
    assert (pets.images, pets.unreadable) == (598, 0)
    assert pets.splits["test"] == 298
    assert pets.splits["train"] + pets.splits["val"] == 300
    assert sum(count["test"] for count in pets.tasks["breed"].classes.values()) == 298
