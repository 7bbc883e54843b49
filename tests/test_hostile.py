"""Files made to do harm: none runs code, leads out of its folder, fills the memory or the page.

Pages are tried in a browser in `tests/report/test_report_in_browser.py`, archives and tables in
more shapes in `tests/data`.
"""

import hashlib
import json
import os
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch

from polytask.backbones import weights
from polytask.config import read_config
from polytask.data.decode import decode
from polytask.data.files import find_images
from polytask.data.load import load_data
from polytask.errors import UserError
from polytask.report import report
from polytask.tasks import build
from polytask.training import checkpoint
from polytask.training.result import finished


class Evil:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


@pytest.fixture
def trace(tmp_path):
    """A folder that must not be there in the end."""
    place = tmp_path / "trace"
    yield place
    assert not place.exists()


def signed(content):
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    return f"polytask state 1 {digest}\n".encode() + content


@pytest.mark.parametrize("wrap", [bytes, signed])
def test_a_checkpoint_cannot_run_code(tmp_path, trace, wrap):
    """Neither a bare pickle nor one inside torch's archive, with a right checksum or none."""
    path = tmp_path / checkpoint.STATE
    path.parent.mkdir()
    torch.save({"hash": Evil(trace)}, tmp_path / "evil.pt")
    for content in (pickle.dumps(Evil(trace)), (tmp_path / "evil.pt").read_bytes()):
        path.write_bytes(wrap(content))
        with pytest.raises(UserError, match=r"checkpoint\.pt"):
            checkpoint.load_state(tmp_path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_cannot_run_code(tmp_path, trace, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(pickle.dumps(Evil(trace)))
    with pytest.raises(UserError, match="could run code; it was not loaded"):
        weights.read(path, "backbone.weights")


def test_a_header_of_weights_that_asks_for_too_much(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(UserError, match="damaged"):
        weights.read(path, "backbone.weights")


def test_arrays_of_objects_are_not_read(tmp_path, trace):
    path = tmp_path / "data.npz"
    np.savez(path, images=np.array([Evil(trace)], object), labels=np.zeros(1))
    config = read_config(
        {
            "data": {"evil": {"source": "npz", "path": str(path)}},
            "tasks": {"t": {"kind": "classification", "data": "evil"}},
            "backbone": {"name": "resnet18"},
            "methods": ["hard"],
        }
    )
    with pytest.raises(UserError, match=r"data\.npz"):
        load_data(config, build(config.tasks), 0)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.mkdir [TRACE]",
        "data: !!python/object/apply:os.mkdir [TRACE]",
        "data: !!python/name:os.system",
    ],
)
def test_a_config_cannot_run_code(tmp_path, trace, text):
    path = tmp_path / "evil.yaml"
    path.write_text(text.replace("TRACE", str(trace)))
    with pytest.raises(UserError, match=r"evil\.yaml"):
        read_config(path)


def test_a_config_of_a_billion_aliases_is_refused(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"bomb\.yaml"):
        read_config(path)


def test_an_archive_leads_nowhere_else_and_is_no_bomb(tmp_path, monkeypatch):
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../trace/1.jpg", b"x")
    with pytest.raises(UserError, match=r"evil\.zip"):
        find_images(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(3):
            archive.writestr(f"cat/{i}.png", bytes(1 << 20))
    assert path.stat().st_size < 10_000
    monkeypatch.setattr("polytask.data.files.MAX_UNPACKED", 1 << 20)
    with pytest.raises(UserError, match=r"evil\.zip"):
        find_images(path)


def test_a_picture_of_a_billion_pixels_is_refused_by_its_header():
    def chunk(name, content):
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body)
    with pytest.raises(UserError, match="too large"):
        decode(bomb, "bomb.png")


def test_names_of_methods_and_tasks_stay_text_in_a_report(tmp_path):
    """Also in a folder that polytask did not write."""
    evil = "<script>alert(1)</script>"
    (tmp_path / "config.yaml").write_text(f"data: '{evil}'\n")
    (tmp_path / "metrics.jsonl").write_text(
        json.dumps({"phase": evil, "epoch": 1, "step": 1, "split": "val", f"loss/{evil}": 1.0})
    )
    page = report(tmp_path).read_text("utf-8")
    assert evil not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_result_that_is_no_result(tmp_path):
    (tmp_path / "result.json").write_text("[" * 100_000)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="is damaged"):
        finished(tmp_path)
