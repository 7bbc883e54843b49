"""polytask affinity from outside."""

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
    assert line == "methods: [{kernel_sharing: {groups: [[shape, looks]]}}]"
    text = scenes.read_text()
    start, end = text.index("methods:"), text.index("train:")
    again = tmp_path / "again.yaml"
    again.write_text(text[:start] + line + "\n" + text[end:])
    assert [entry.name for entry in read_config(again).methods] == ["single", "kernel_sharing"]
