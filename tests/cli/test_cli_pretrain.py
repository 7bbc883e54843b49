"""polytask pretrain, seen from outside: a run that other configs start from."""

import json

import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from polytask.cli.app import main

PHOTOS = {
    "data": {"photos": {"source": "unlabelled", "path": "photos", "size": 16}},
    "tasks": {
        "turn": {"kind": "rotation", "data": "photos", "hidden": 8},
        "again": {"kind": "reconstruction", "data": "photos"},
    },
    "backbone": {"name": "resnet10", "stem": "small", "width": 0.0625},
    "methods": ["single", "hard"],
    "train": {"epochs": 1, "batch": 16},
    "seeds": 1,
}


def write(path, config):
    path.write_text(yaml.safe_dump(config))
    return str(path)


def photos(folder):
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for i in range(40):
        pixels = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8, generator=generator)
        Image.fromarray(pixels.numpy()).save(folder / f"{i}.png")


def test_a_pretrained_backbone_is_what_another_config_starts_from(tmp_path, capsys):
    photos(tmp_path / "photos")
    run = tmp_path / "run"
    labelled = {**PHOTOS["data"], "digits": {"source": "digits", "fraction": 0.05, "size": 16}}
    tasks = {**PHOTOS["tasks"], "digit": {"kind": "classification", "data": "digits"}}
    config = write(tmp_path / "a.yaml", {**PHOTOS, "data": labelled, "tasks": tasks})
    assert main(["pretrain", config, "--out", str(run)]) == 0
    assert "start from it" in capsys.readouterr().out
    result = json.loads((run / "result.json").read_text())
    assert set(result["tasks"]) == {"turn", "again"}  # labels are not used
    assert main(["pretrain", config, "--out", str(run), "--resume"]) == 0
    assert main(["pretrain", config, "--out", str(run)]) == 2
    target = {
        **PHOTOS,
        "data": {"digits": labelled["digits"]},
        "tasks": {"digit": tasks["digit"]},
        "backbone": {**PHOTOS["backbone"], "init": str(run)},
        "train": {"epochs": 1, "batch": 32, "trainable": "heads"},
    }
    fine = tmp_path / "fine"
    given = ["train", write(tmp_path / "b.yaml", target), "--method", "hard", "--out", str(fine)]
    assert main(given) == 0
    before, after = (load_file(f / "model.safetensors") for f in (run, fine))
    names = [n for n in after if n.startswith("backbone.") and n.endswith(("weight", "bias"))]
    assert names
    assert all(torch.equal(before[name], after[name]) for name in names)


def test_a_config_without_pretext_tasks_is_refused(tmp_path, capsys):
    config = {
        "data": {"digits": {"source": "digits", "size": 16}},
        "tasks": {"digit": {"kind": "classification", "data": "digits"}},
    }
    out = tmp_path / "run"
    assert main(["pretrain", write(tmp_path / "a.yaml", config), "--out", str(out)]) == 2
    told = capsys.readouterr().err
    assert "tasks" in told
    assert "holds no pretext task (digit is classification)" in told
    assert not out.exists()


def test_a_pretext_answer_can_be_asked_of_an_image(tmp_path, capsys):
    photos(tmp_path / "photos")
    run = tmp_path / "run"
    assert main(["pretrain", write(tmp_path / "a.yaml", PHOTOS), "--out", str(run)]) == 0
    capsys.readouterr()
    assert main(["predict", str(run), str(tmp_path / "photos" / "3.png"), "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)[0]["answers"]
    assert "turned" in answers["turn"]["class"]
    assert len(answers["again"]["image"]) == 16
