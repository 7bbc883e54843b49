"""Oxford-IIIT Pet: published layout and cut-down copy say the same, as folder and as zip."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytask.config import read_config
from polytask.data.load import load_data
from polytask.data.sources.oxford_pets import OxfordPets
from polytask.errors import DataError
from polytask.tasks import build

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
PETS = SHARED / "pets3" / "pets3.zip"
NAMES = ["Abyssinian_1", "Abyssinian_2", "great_pyrenees_1", "great_pyrenees_2"]
XML = "<bndbox><xmin>3</xmin><ymin>2</ymin><xmax>6</xmax><ymax>5</ymax></bndbox>"


def pictures(root, trimaps):
    for k, name in enumerate(NAMES):
        for folder, suffix in (("images", "jpg"), (trimaps, "png")):
            (root / folder).mkdir(parents=True, exist_ok=True)
            value = np.full((6, 8), 1 + k % 3, np.uint8)
            Image.fromarray(value).save(root / folder / f"{name}.{suffix}")


@pytest.fixture
def published(tmp_path):
    root = tmp_path / "oxford-iiit-pet"
    pictures(root, "annotations/trimaps")
    notes = root / "annotations"
    lines = ["#Image CLASS-ID SPECIES BREED ID"]
    lines += [f"{name} 1 {1 + k // 2} 1" for k, name in enumerate(NAMES)]
    (notes / "list.txt").write_text("\n".join(lines))
    (notes / "trainval.txt").write_text(f"{NAMES[0]} 1 1 1\n{NAMES[2]} 1 2 1\n")
    (notes / "test.txt").write_text(f"{NAMES[1]} 1 1 1\n{NAMES[3]} 1 2 1\n")
    (notes / "xmls").mkdir()
    (notes / "xmls" / f"{NAMES[0]}.xml").write_text(XML)
    return root


@pytest.fixture
def cut_down(tmp_path):
    root = tmp_path / "small"
    pictures(root, "trimaps")
    (root / "index.csv").write_text(
        "name,split,breed,species,head_x0,head_y0,head_x1,head_y1\n"
        f"{NAMES[0]},trainval,Abyssinian,cat,2,1,6,5\n{NAMES[1]},test,Abyssinian,cat,,,,\n"
        f"{NAMES[2]},trainval,great_pyrenees,dog,,,,\n{NAMES[3]},test,great_pyrenees,dog,,,,\n"
    )
    return root


def zipped(root):
    return Path(shutil.make_archive(str(root), "zip", root))


def read(path, **options):
    return OxfordPets(source="oxford_pets", path=path, **options).read("pets", Path())


@pytest.mark.parametrize("layout", ["published", "cut_down"])
@pytest.mark.parametrize("is_zipped", [False, True])
def test_every_form_says_the_same(request, layout, is_zipped):
    root = request.getfixturevalue(layout)
    images = read(zipped(root) if is_zipped else root)
    assert images.columns["breed"] == ["Abyssinian"] * 2 + ["great_pyrenees"] * 2
    assert images.columns["species"] == ["cat", "cat", "dog", "dog"]
    boxes = [images.columns[edge] for edge in ("x0", "y0", "x1", "y1")]
    assert list(zip(*boxes, strict=True)) == [(2, 1, 6, 5)] + [(None,) * 4] * 3
    assert images.splits == {}
    assert NAMES[2] in images.place(2)


def test_which_images_are_used(published):
    official = read(published, use="official")
    assert {k: v.tolist() for k, v in official.splits.items()} == {"train": [0, 2], "test": [1, 3]}
    assert len(read(published, use="boxed")) == 1


def test_what_is_missing_is_told(published):
    (published / "annotations" / "trimaps" / f"{NAMES[1]}.png").unlink()
    with pytest.raises(DataError, match=f"{NAMES[1]} is listed, but there is no trimap"):
        read(published)
    (published / "annotations" / "list.txt").unlink()
    with pytest.raises(DataError, match=r"neither annotations/list\.txt nor index\.csv"):
        read(published)


def test_an_archive_that_is_cut_off_is_told(cut_down):
    whole = zipped(cut_down)
    whole.write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(DataError, match="neither a folder nor a complete zip"):
        read(whole)


@pytest.mark.skipif(not PETS.exists(), reason="no pets at hand")
def test_real_pets_bring_outlines_heads_and_species():
    """Half of the images have a head's box, and it lies on the pet."""
    config = read_config("pets", [f"data.pets.path={PETS}", "data.pets.size=32"])
    tasks = build(config.tasks)
    data = load_data(config, tasks, 0)
    counts = data.counts["pets"]
    assert sum(split["images"] for split in counts.values()) == 598
    assert sum(split["labels"]["head"] for split in counts.values()) == 296
    shares = []
    for batch in data.scoring("test"):
        (group,) = batch.groups
        masks, head = group.targets["outline"].value["mask"], group.targets["head"]
        for row, (x0, y0, x1, y1) in zip(
            head.rows, head.value["boxes"].round().long(), strict=True
        ):
            shares.append(float((masks[row][y0:y1, x0:x1] == 1).float().mean()))
    assert np.mean(shares) > 0.8
    assert tasks["species"].classes == ["cat", "dog"]


def test_texts_of_an_archive_do_not_lead_out(tmp_path, cut_down):
    path = zipped(cut_down)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../etc/index.csv.jpg", b"x")
    with pytest.raises(DataError, match="leads out of the archive"):
        read(path)
