"""polytask affinity from outside."""

import json

import pytest

from polytask.config import read_config


def test_json_is_the_only_output(polytask, scenes):
    said = polytask("affinity", scenes, "--json", "--every", 2, "--networks", 1)
    assert said.code == 0
    tasks = ["shape", "looks"]
    assert said.json["tasks"] == tasks
    assert said.json["groups"] == [tasks]
    for matrix in ("look_ahead", "margin", "cosine"):
        assert [list(row) for row in said.json[matrix].values()] == [tasks, tasks]
    assert said.complaints == ["epoch 1 of 1"]


def test_the_proposal_is_a_line_for_a_config(polytask, scenes, tmp_path):
    out = tmp_path / "out"
    said = polytask("affinity", scenes, "--networks", 1, "--out", out)
    assert said.code == 0
    assert sorted(path.name for path in out.iterdir()) == ["affinity.html", "affinity.json"]
    line = said.out.splitlines()[-1]
    assert line == (
        "methods: [{kernel_sharing: {groups: [[shape, looks]]}}, "
        "{hard: {groups: [[shape, looks]], as: hard_groups}}]"
    )
    text = scenes.read_text()
    start, end = text.index("methods:"), text.index("train:")
    again = tmp_path / "again.yaml"
    again.write_text(text[:start] + line + "\n" + text[end:])
    entries = read_config(again).methods
    assert [entry.key for entry in entries] == ["single", "kernel_sharing", "hard_groups"]


def test_methods_take_the_proposal_as_a_file(polytask, scenes, tmp_path):
    """By its folder or its own name, from where the config or the command stands."""
    file = tmp_path / "wanted.json"
    said = polytask("affinity", scenes, "--networks", 2, "--every", 2, "--out", file)
    assert said.code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wanted.html", "wanted.json"]
    groups = json.loads(file.read_text())["groups"]
    methods = f"methods=[{{hard: {{groups: {file}}}}}, {{kernel_sharing: {{groups: {file}}}}}]"
    config = read_config(scenes, [methods])
    assert [entry.options.groups for entry in config.methods[1:]] == [groups, groups]
    out = tmp_path / "run"
    assert polytask("train", scenes, methods, "--method", "hard", "--out", out).code == 0
    assert str(file) not in (out / "config.yaml").read_text()  # runs stand for themselves


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ("[[shape], [shpe]]", 'unknown task "shpe"; expected one of shape, looks. Did you mean'),
        ("[[shape], [shape]]", "got shape again; expected it in one group"),
        ("[shape, looks]", "expected lists of tasks, or the folder or file that polytask affinity"),
        ("nowhere", 'got "nowhere", no such file; expected lists of tasks, or'),
    ],
)
def test_wrong_groups_are_told_in_a_line(polytask, scenes, tmp_path, groups, said):
    config = tmp_path / "wrong.yaml"
    text = scenes.read_text().replace("  - hard\n", f"  - {{hard: {{groups: {groups}}}}}\n")
    config.write_text(text)
    answer = polytask("train", config, "--method", "hard", "--out", tmp_path / "out")
    assert answer.code == 2
    (line,) = answer.complaints
    assert "wrong.yaml:9 methods.1.hard.groups" in line
    assert said in line
    assert not (tmp_path / "out").exists()
