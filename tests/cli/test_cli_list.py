"""polytask list and doctor."""

from importlib.metadata import metadata

import pytest

from polytask import registry
from polytask.environment import EXTRAS

EXPECTED = {
    "methods": {"single", "hard", "multi_exit"},
    "backbones": {"resnet18", "resnet50", "vgg16", "mobilenet_v2"},
    "tasks": {"classification", "multilabel"},
    "balancers": {"equal", "fixed"},
    "sources": {"digits", "printed_digits", "shapes", "folder", "manifest", "unlabelled"},
    "examples": {"digits", "pets", "shapes"},
}


@pytest.mark.parametrize("what", EXPECTED)
def test_a_list_in_json_names_everything_with_summary_and_source(polytask, what):
    said = polytask("list", what, "--json")
    assert (said.code, said.err) == (0, "")
    assert set(said.json) == {what}
    rows = {row["name"]: row for row in said.json[what]}
    assert EXPECTED[what] <= set(rows)
    keys = {"name", "summary", "source"} | ({"family"} if what == "methods" else set())
    for row in rows.values():
        assert set(row) == keys
        assert row["summary"]
        assert row["source"] or what == "backbones"


def test_methods_tell_their_family(polytask):
    families = {
        row["name"]: row["family"] for row in polytask("list", "methods", "--json").json["methods"]
    }
    assert families["single"] == "columns"
    assert families["hard"] == families["multi_exit"] == "trunk"


def test_a_piped_list_has_one_whole_line_a_name(polytask):
    lines = polytask("list", "sources").out.splitlines()
    entries = registry.entries("sources").values()
    assert len(lines) == 1 + len(entries)
    for line, entry in zip(lines[1:], entries, strict=True):
        assert line.split()[0] == entry.name
        assert line.endswith(entry.summary)


def test_doctor_tells_versions_limits_and_how_to_get_extras(polytask):
    found = polytask("doctor", "--json").json
    assert found["packages"]["torch"]
    assert found["cores"] >= 1
    assert found["disk_free_gib"] > 0
    assert found["devices"][0] == "cpu"
    text = polytask("doctor").out
    for extra, is_installed in found["extras"].items():
        assert f"extra {extra} " in text
        assert (f'pip install "polytask[{extra}]"' in text) is not is_installed


def test_doctor_knows_every_extra_that_users_install():
    extras = set(metadata("polytask").get_all("Provides-Extra"))
    assert set(EXTRAS) == extras - {"test", "dev", "docs"}
