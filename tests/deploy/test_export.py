"""Exported tasks give the network's outputs, at any batch size, from their own weights alone."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import polytask
from polytask.data.decode import read_image, resize
from polytask.deploy.export import _difference as difference
from polytask.deploy.export import export


@pytest.fixture(scope="session")
def model(run_folder):
    return polytask.load(run_folder)


@pytest.fixture(scope="session")
def onnx(model, tmp_path_factory):
    pytest.importorskip("onnxruntime")
    out = tmp_path_factory.mktemp("onnx")
    return {task: export(model, task, out) for task in ("shape", "looks")}


def run_onnx(file, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images.numpy()})
    return torch.from_numpy(found)


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("task", ["shape", "looks"])
def test_onnx_runtime_gives_the_paths_outputs(model, onnx, task, batch):
    images = torch.randn(batch, 3, 24, 24, generator=torch.Generator().manual_seed(batch))
    with torch.no_grad():
        expected = model.path(task)(images)
    found = run_onnx(onnx[task].file, images)
    assert (found - expected).abs().max() < 1e-5
    assert onnx[task].difference < 1e-5


def test_a_file_holds_the_weights_of_its_path_and_little_more(model, onnx):
    for task, made in onnx.items():
        tensors = model.path(task).state_dict().values()
        assert made.weights == sum(t.numel() * t.element_size() for t in tensors)
        assert made.bytes == made.file.stat().st_size
        assert made.weights * 0.9 < made.bytes < made.weights + 100_000
    assert onnx["shape"].bytes < onnx["looks"].bytes / 2


def test_the_description_is_enough_to_answer_without_polytask(model, onnx, tmp_path):
    made = onnx["shape"]
    told = json.loads(made.file.with_suffix(".json").read_text())
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    _, channels, height, width = told["input"]["shape"]
    assert channels == 3
    plain = resize(read_image(path, "photo"), (height, width)) / 255
    normal = (plain - told["input"]["mean"]) / told["input"]["std"]
    images = torch.tensor(normal, dtype=torch.float32).permute(2, 0, 1)[None]
    best = int(run_onnx(made.file.parent / told["file"], images).argmax())
    assert told["classes"][best] == model.predict(path, ["shape"])["shape"]["class"]
    assert told["kind"] == "classification"
    assert told["params"] == made.params


def test_numbers_in_large_units_are_exported(run_folder, tmp_path):
    pytest.importorskip("onnxruntime")
    model = polytask.load(run_folder)
    *_, last = (m for m in model.path("shape").modules() if isinstance(m, torch.nn.Linear))
    with torch.no_grad():
        last.weight.mul_(1e6)
    made = export(model, "shape", tmp_path)
    assert 1e-3 < made.difference < 10


def test_outputs_are_compared_in_their_own_units():
    """A column of numbers near 10⁵ may be off by 0.01, one of numbers near 1 beside it may not."""
    path = torch.nn.Linear(1, 2)
    with torch.no_grad():
        path.weight.copy_(torch.tensor([[1.0], [0.0]]))
        path.bias.copy_(torch.tensor([1e5, 1.0]))
    off = torch.tensor([0.0078125, 0.0])
    images = torch.zeros(3, 1)
    apart, share = difference(lambda images: [path(images) + off], path, images)
    assert apart == pytest.approx(0.0078125)
    assert share == pytest.approx(7.8125e-8)
    _, share = difference(lambda images: [path(images) + off.flip(0)], path, images)
    assert share == pytest.approx(0.0078125)


def test_torch_export_gives_the_same_bits(model, tmp_path):
    made = export(model, "shape", tmp_path, "torch")
    assert made.file == tmp_path / "shape.pt2"
    program = torch.export.load(made.file).module()
    images = torch.randn(5, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(program(images), model.path("shape")(images))
    assert made.bytes < made.weights + 500_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shape.json", "shape.pt2"]
