"""polytask predict and export on a trained run."""

import json
import signal
import subprocess
import sys
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path):
    paths = [tmp_path / f"{name}.png" for name in ("first", "second photo")]
    for seed, path in enumerate(paths):
        pixels = np.random.default_rng(seed).integers(0, 256, (30, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


def test_predict_gives_one_object_an_image_with_an_answer_a_task(polytask, run_folder, photos):
    said = polytask("predict", run_folder, *photos, "--json")
    assert (said.code, said.err) == (0, "")
    assert [found["image"] for found in said.json] == [str(path) for path in photos]
    for found in said.json:
        shape, looks = found["answers"]["shape"], found["answers"]["looks"]
        assert shape["probability"] == max(shape["probabilities"].values())
        assert sum(shape["probabilities"].values()) == pytest.approx(1)
        assert set(looks["probabilities"]) == {"filled", "large"}
        assert set(looks["labels"]) == {k for k, p in looks["probabilities"].items() if p > 0.5}


def test_predict_prints_a_line_for_each_image_and_asked_task(polytask, run_folder, photos):
    answers = polytask("predict", run_folder, *photos, "--json").json
    said = polytask("predict", run_folder, *photos, "--task", "shape")
    rows = [line.split("\t") for line in said.out.splitlines()]
    for row, found in zip(rows, answers, strict=True):
        shape = found["answers"]["shape"]
        expected = [found["image"], "shape", shape["class"], f"{shape['probability']:.3f}"]
        assert row == expected


def test_a_broken_image_is_told_and_the_others_are_answered(polytask, run_folder, photos, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(photos[0].read_bytes()[:200])
    nowhere = tmp_path / "nowhere.png"
    said = polytask("predict", run_folder, photos[0], broken, nowhere, photos[1], "--json")
    assert said.code == 2
    assert [found["image"] for found in said.json] == [str(path) for path in photos]
    assert len(said.complaints) == 2
    assert said.complaints[0].startswith(f"{broken}: ")
    assert said.complaints[1].startswith(f"{nowhere}: ")


def test_an_unknown_task_or_run_is_one_line(polytask, run_folder, photos, tmp_path):
    for run, options, told in (
        (run_folder, ["--task", "shapes"], 'Did you mean "shape"?'),
        (run_folder, ["--method", "hard"], "run of multi_exit"),
        (tmp_path, [], "holds no run"),
        (tmp_path / "nowhere", [], "does not exist"),
    ):
        said = polytask("predict", run, photos[0], *options)
        assert (said.code, said.out) == (2, "")
        assert len(said.complaints) == 1
        assert told in said.err


def test_export_writes_a_file_and_its_description_for_each_asked_task(
    polytask, run_folder, tmp_path
):
    out = tmp_path / "files"
    said = polytask("export", run_folder, "--task", "shape", "--format", "torch", "--out", out)
    assert (said.code, said.err) == (0, "")
    assert {path.name for path in out.iterdir()} == {"shape.pt2", "shape.json"}
    described = json.loads((out / "shape.json").read_text())
    (line,) = said.out.splitlines()
    assert line.startswith(f"{out / 'shape.pt2'}: ")
    assert f"({described['params']} parameters)" in line


def test_export_into_a_file_is_refused(polytask, run_folder, scenes):
    for out in (scenes, scenes / "below"):
        said = polytask("export", run_folder, "--format", "torch", "--out", out)
        assert (said.code, said.out) == (2, "")
        assert said.complaints[0].startswith(f"{out}: ")
        assert "is a file; expected a folder" in said.complaints[0]


def test_export_says_what_to_install(polytask, run_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
    said = polytask("export", run_folder)
    assert said.code == 2
    assert said.complaints == ['ONNX export: needs: pip install "polytask[export]"']


def test_explain_draws_every_task_on_every_image(polytask, run_folder, photos, tmp_path):
    out = tmp_path / "heat"
    said = polytask("explain", run_folder, *photos, "--out", out)
    assert (said.code, said.err) == (0, "")
    rows = [line.split("\t") for line in said.out.splitlines()]
    assert [row[:2] for row in rows] == [[str(p), t] for p in photos for t in ("shape", "looks")]
    names = ["0-first-looks", "0-first-shape", "1-second photo-looks", "1-second photo-shape"]
    assert sorted(path.stem for path in out.iterdir()) == names
    for path in out.iterdir():
        with Image.open(path) as drawn:
            assert drawn.size == (20, 30)


def test_explain_writes_beside_a_shared_file_or_says_why_not(
    polytask, run_folder, photos, tmp_path
):
    assert polytask("export", run_folder, "--shared", "--out", tmp_path).code == 0
    shared, asked = tmp_path / "shared.safetensors", ("--task", "shape")
    assert polytask("explain", shared, photos[0], *asked).code == 0
    assert [path.name for path in (tmp_path / "explain").iterdir()] == ["0-first-shape.png"]
    said = polytask("explain", shared, photos[0], *asked, "--out", shared)
    assert (said.code, len(said.complaints)) == (2, 1)
    assert "cannot be written" in said.err


def test_explain_names_the_nearest_unit(polytask, run_folder, photos, tmp_path):
    said = polytask("explain", run_folder, photos[0], "--unit", "layer1.", "--out", tmp_path / "h")
    assert said.code == 2
    (line,) = said.complaints
    assert 'unknown unit with a map "layer1."' in line
    assert not (tmp_path / "h").exists()


@pytest.mark.parametrize("command", ["serve", "app"])
def test_a_server_tells_its_address_answers_and_ends_on_interrupt(run_folder, photos, command):
    arguments = [sys.executable, "-m", "polytask", command, str(run_folder), "--port", "0"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        try:
            address = server.stdout.readline().decode().strip()
            with urlopen(f"{address}tasks", timeout=600) as reply:
                assert set(json.load(reply)["tasks"]) == {"shape", "looks"}
            with urlopen(f"{address}predict", photos[0].read_bytes(), timeout=600) as reply:
                assert set(json.load(reply)["answers"]) == {"shape", "looks"}
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(600) == 0
        assert server.stderr.read().decode().splitlines()[-1] == "stopped"


def test_predict_draws_on_a_picture_an_image(polytask, run_folder, photos, tmp_path):
    twin = tmp_path / "other" / "first.png"
    twin.parent.mkdir()
    twin.write_bytes(photos[1].read_bytes())
    out = tmp_path / "drawn"
    said = polytask("predict", run_folder, *photos, twin, "--overlay", out, "--json")
    assert said.code == 0
    assert len(said.json) == 3
    names = {"first.png", "second photo.png", "first-2.png"}
    assert {path.name for path in out.iterdir()} == names
    assert {line.rsplit("/", 1)[-1] for line in said.complaints} == names


def test_predict_does_not_draw_over_the_images(polytask, run_folder, photos, tmp_path):
    before = [path.read_bytes() for path in photos]
    said = polytask("predict", run_folder, *photos, "--overlay", tmp_path)
    assert (said.code, said.out) == (2, "")
    assert said.complaints[0].startswith("--overlay: ")
    assert [path.read_bytes() for path in photos] == before
