"""Input that is wrong beyond the text of the config: one line a fault, exit 2, nothing written."""

import pytest

COMMANDS = {"train": ["--method", "hard"], "compare": ["--jobs", "1"]}
# The override or change; where it is told, what is found, and what is expected or the way out.
WRONG = {
    "label": ("tasks.shape.label=shap", "tasks.shape.label", '"shap"', 'Did you mean "shape"?'),
    "weights": ("backbone.weights=none.pth", "backbone.weights", "no file", ".safetensors"),
    "plan": ("methods=[hard, adashare]", "train.epochs", "got 1", "adashare needs 2 to search"),
    "unit": ("backbone.open=[layer9]", "backbone.open", '"layer9"', 'Did you mean "layer4"?'),
    "init": ("backbone.init=run", "backbone.init", "cannot be read", "a finished run"),
    "pattern": ("train.trainable=[hedas]", "train.trainable", "[hedas]", "heads"),
}


OF_TRAIN = [("train", case) for case in WRONG if case != "plan"]


@pytest.mark.parametrize(("command", "case"), [("compare", "unit"), ("compare", "plan"), *OF_TRAIN])
def test_a_fault_is_one_line_and_nothing_is_written(
    polytask, scenes, tmp_path, monkeypatch, command, case
):
    monkeypatch.chdir(tmp_path)
    change, *told = WRONG[case]
    said = polytask(command, scenes, change, *COMMANDS[command], "--out", "runs/new")
    assert (said.code, said.out) == (2, "")
    (line,) = said.complaints  # one, although every method meets it
    for part in told:
        assert part in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_task_without_data_is_for_cost_alone(polytask, tmp_path, command):
    config = tmp_path / "bare.yaml"
    config.write_text("image_size: 16\ntasks: {animal: {kind: classification, classes: 3}}\n")
    said = polytask(command, config, *COMMANDS[command], "--out", tmp_path / "new")
    assert said.code == 2
    (line,) = said.complaints
    assert line.startswith(f"{config}:2 tasks.animal.data: got nothing; expected a data set.")
    assert "polytask cost" in line
    assert list(tmp_path.iterdir()) == [config]


def test_a_search_trains_where_it_is_told(polytask, scenes, tmp_path):
    space = "search={space: {threshold: [0.1]}}"
    out = ["--out", tmp_path / "new", "--on", "rai"]
    said = polytask("search", scenes, "methods=[kernel_sharing]", space, *out)
    assert said.code == 2
    assert said.err.startswith('--on: got "rai"; expected local, ray or the address')
