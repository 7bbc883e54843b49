"""A loaded run answers as the trained network does, and refuses what it cannot trust."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from rich.pretty import pretty_repr
from torch.testing import assert_close

import polytask
from polytask.batch import Batch, Target
from polytask.config import read_config
from polytask.data.load import load_data
from polytask.errors import DataError, RunError
from polytask.sharing.build import build_method
from polytask.tasks import build as build_tasks
from polytask.training.checkpoint import load_weights


@pytest.fixture(scope="session")
def model(run_folder):
    return polytask.load(run_folder)


@pytest.fixture(scope="session")
def trained(run_folder):
    """The data and the network of the run, made as training makes them."""
    config = read_config(run_folder / "config.yaml")
    tasks = build_tasks(config.tasks)
    data = load_data(config, tasks, seed=3)
    entry = config.method("exits")
    network = build_method(config, entry, tasks, data.streams, data.stream_of, 3)
    load_weights(run_folder / "model.safetensors", network)
    return data, tasks, network.eval()


@pytest.mark.parametrize("task", ["shape", "looks", "digit"])
def test_answers_are_those_of_the_trained_network_on_its_test_images(model, trained, task):
    data, tasks, network = trained
    name = tasks[task].data
    images = data.sets[name].store.take(data.sets[name].splits["test"][:5])
    batch = Batch.single(data.normalisation(torch.from_numpy(images)), "all", {task: Target()})
    with torch.no_grad():
        expected = tasks[task].read(network(batch).predictions[task], [(24, 24)] * 5)
    source = read_config(model.folder / "config.yaml").data[name].read(name, model.folder)
    for answer, position in zip(expected, data.sets[name].splits["test"][:5], strict=True):
        (found,) = model.predict(source.images[position], [task]).values()
        assert set(found) == set(answer)
        for label, probability in answer["probabilities"].items():
            assert found["probabilities"][label] == pytest.approx(probability, abs=1e-5)


def test_a_file_its_bytes_and_its_pixels_get_the_same_answers(model, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    answers = model.predict(pixels)
    assert list(answers) == ["shape", "looks", "digit"]
    assert model.predict(path) == model.predict(str(path)) == answers
    assert model.predict(path.read_bytes()) == answers
    json.dumps(answers)


def test_only_what_is_asked_for_is_answered(model):
    grey = np.zeros((16, 16), dtype=np.uint8)
    assert list(model.predict(grey, ["digit"])) == ["digit"]
    assert model.predict(grey, ["digit"])["digit"] == model.predict(grey)["digit"]
    with pytest.raises(RunError, match='Did you mean "digit"'):
        model.predict(grey, ["digits"])


def test_a_path_holds_only_what_its_task_needs(model, run_folder):
    cost = json.loads((run_folder / "cost.json").read_text())
    for task in model.tasks:
        count = sum(p.numel() for p in model.path(task).parameters())
        assert count == cost["tasks"][task]["params"]
    assert cost["tasks"]["shape"]["params"] < cost["tasks"]["digit"]["params"] / 10


def test_a_path_keeps_the_memory_layout_of_training(model):
    image = torch.randn(2, 3, 24, 24)
    read = []
    path = model.path("digit")
    handles = [
        part.register_forward_hook(lambda *seen: read.append(seen[2]))
        for part in path.modules()
        if isinstance(part, torch.nn.Conv2d)
    ]
    with torch.no_grad():
        path(image)
    for handle in handles:
        handle.remove()
    assert read
    assert all(made.is_contiguous(memory_format=torch.channels_last) for made in read)


def test_it_shows_itself(model, run_folder):
    for text in (repr(model), pretty_repr(model)):
        assert str(run_folder) in text
        for word in ("exits", "seed=3", "shape", "multilabel"):
            assert word in text


def test_a_broken_image_is_named(model, tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=r"broken\.png"):
        model.predict(path)


def test_loading_needs_neither_the_data_nor_the_weights_that_training_began_with(
    run_folder, tmp_path
):
    moved = tmp_path / "elsewhere"
    shutil.copytree(run_folder, moved)
    config = (moved / "config.yaml").read_text()
    (moved / "config.yaml").write_text(config.replace("pretrained: false", "pretrained: true"))
    grey = np.zeros((16, 16), dtype=np.uint8)
    assert polytask.load(moved).predict(grey) == polytask.load(run_folder).predict(grey)


@pytest.fixture
def comparison(run_folder, tmp_path):
    """The run as three runs of a comparison, `exits` the best on validation."""

    def description(method, seed):
        known = json.loads((run_folder / "tasks.json").read_text())
        return json.dumps({**known, "method": method, "seed": seed})

    for method, seed in (("exits", 3), ("exits", 5), ("hard", 3)):
        folder = tmp_path / "cmp" / method / f"seed{seed}"
        shutil.copytree(run_folder, folder)
        (folder / "tasks.json").write_text(description(method, seed))
    results = {
        "methods": {
            "hard": {"failed": [], "validation_delta_m": -1.0, "cost": {}},
            "exits": {"failed": [], "validation_delta_m": 2.0, "cost": {}},
        },
        "seeds": [3, 5],
    }
    (tmp_path / "cmp" / "results.json").write_text(json.dumps(results))
    return tmp_path / "cmp"


def test_of_a_comparison_the_best_method_on_validation_is_loaded(comparison):
    model = polytask.load(comparison)
    assert (model.method, model.seed) == ("exits", 3)
    model = polytask.load(comparison, seed=5)
    assert (model.method, model.seed) == ("exits", 5)
    assert polytask.load(comparison, "exits", 5).folder == comparison / "exits" / "seed5"


def test_a_seed_that_did_not_finish_is_passed_over(comparison):
    (comparison / "exits" / "seed3" / "model.safetensors").unlink()
    assert polytask.load(comparison, "exits").seed == 5
    with pytest.raises(RunError, match="has not finished"):
        polytask.load(comparison, "exits", 3)


@pytest.mark.parametrize(
    ("method", "seed", "told"),
    [("exit", None, 'Did you mean "exits"'), ("hard", 5, "no seed 5 of hard; expected one of 3")],
)
def test_a_comparison_names_the_runs_it_has(comparison, method, seed, told):
    with pytest.raises(RunError, match=told):
        polytask.load(comparison, method, seed)


def test_a_run_folder_is_one_run(run_folder):
    with pytest.raises(RunError, match="run of exits with seed 3"):
        polytask.load(run_folder, "hard")
    with pytest.raises(RunError, match="run of exits with seed 3"):
        polytask.load(run_folder, seed=5)


def remove(name):
    return lambda folder: (folder / name).unlink()


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def rename_weight(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["other"] = weights.pop(next(iter(weights)))
    save_file(weights, folder / "model.safetensors")


def widen(folder):
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("width: 0.125", "width: 0.25"))


def add_task(folder):
    config = (folder / "config.yaml").read_text()
    more = "tasks:\n  more: {kind: classification, data: digits}\n"
    (folder / "config.yaml").write_text(config.replace("tasks:\n", more))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (remove("model.safetensors"), "has not finished"),
        (remove("config.yaml"), "config.yaml"),
        (remove("tasks.json"), "holds no run"),
        (write("tasks.json", b"{}"), "tasks.json"),
        (write("tasks.json", b"\xff"), "tasks.json"),
        (write("model.safetensors", b"\x80\x04X"), "model.safetensors"),
        (write("config.yaml", b"data: ["), "config.yaml"),
        (rename_weight, "model.safetensors"),
        (widen, "model.safetensors"),
        (add_task, "tasks.json"),
    ],
)
def test_damaged_files_are_named(run_folder, tmp_path, damage, told):
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    damage(folder)
    with pytest.raises(polytask.errors.UserError, match=told) as caught:
        polytask.load(folder)
    assert str(folder) in str(caught.value)


def test_a_pickle_in_the_place_of_weights_never_runs(run_folder, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    torch.save({"weights": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(RunError, match="cannot be read"):
        polytask.load(folder)


def test_an_image_gets_the_same_answer_alone_and_in_a_batch(model):
    images = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model.path("shape")(images)
        each = torch.cat([model.path("shape")(image[None]) for image in images])
    assert_close(logits, each)
