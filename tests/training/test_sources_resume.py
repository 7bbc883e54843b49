"""A run stopped within an epoch ends in the same bits, wherever images come from."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytask.config import read_config
from polytask.data.pack import pack
from polytask.training.run import Stopped

AUGMENT = {"flip": True, "crop": 2}


def write_files(folder: Path) -> None:
    """Sixty pictures of three classes as a folder, a zip, a manifest and an archive of arrays."""
    drawn = np.random.default_rng(0)
    pixels = drawn.integers(0, 256, (60, 12, 12, 3), np.uint8)
    rows = ["image,kind"]
    for i, one in enumerate(pixels):
        path = folder / "tree" / "abc"[i % 3] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one).save(path)
        rows.append(f"{path.relative_to(folder)},{'abc'[i % 3]}")
    (folder / "list.csv").write_text("\n".join(rows))
    np.savez(folder / "arrays.npz", image=pixels, label=np.arange(60) % 3)
    with zipfile.ZipFile(folder / "tree.zip", "w") as archive:
        for path in sorted((folder / "tree").rglob("*.png")):
            archive.write(path, path.relative_to(folder / "tree"))


SOURCES = {
    "folder": {"source": "folder", "path": "tree"},
    "zip": {"source": "folder", "path": "tree.zip"},
    "manifest": {"source": "manifest", "path": "list.csv"},
    "npz": {"source": "npz", "path": "arrays.npz"},
    "hdf5": {"source": "hdf5", "path": "packed.h5"},
    "unlabelled": {"source": "unlabelled", "path": "tree"},
}


def made(folder: Path, source: str, memory: float, workers: int):
    kind = "rotation" if source == "unlabelled" else "classification"
    content = {
        "folder": folder,
        "data": {"things": {**SOURCES[source], "augment": AUGMENT}},
        "tasks": {"what": {"kind": kind, "data": "things"}},
        "image_size": 12,
        "backbone": {"name": "resnet10", "stem": "small", "width": 0.0625},
        "methods": ["hard"],
        "train": {"epochs": 2, "batch": 16, "memory": memory, "workers": workers},
        "seeds": 1,
    }
    return read_config(content)


@pytest.mark.parametrize("memory", [2.0, 0.0])
@pytest.mark.parametrize("source", SOURCES)
def test_any_source_resumes_with_any_number_of_threads(tmp_path, run_in, source, memory):
    write_files(tmp_path)
    if source == "hdf5":
        pack(made(tmp_path, "folder", 2.0, 1), tmp_path / "packed.h5")
    _, straight = run_in(made(tmp_path, source, memory, 1), "hard")
    for workers, stop in ((3, 2), (2, 4)):
        config = made(tmp_path, source, memory, workers)
        with pytest.raises(Stopped):
            run_in(config, "hard", "stopped", resume=True, stop_after=stop)
    _, resumed = run_in(made(tmp_path, source, memory, 4), "hard", "stopped", resume=True)
    one, other = ((f / "model.safetensors").read_bytes() for f in (straight, resumed))
    assert one == other
