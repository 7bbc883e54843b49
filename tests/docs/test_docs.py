"""What the docs show runs: YAML blocks are valid configs, Python blocks run in order."""

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from polytask.config import read_config

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


def blocks(language):
    found = []
    for page in PAGES:
        texts = [text for name, text in BLOCK.findall(page.read_text("utf-8")) if name == language]
        found += [pytest.param(text, id=f"{page.name}-{i}") for i, text in enumerate(texts)]
    return found


def pages_with(language):
    pages = {
        page.name: [
            text for name, text in BLOCK.findall(page.read_text("utf-8")) if name == language
        ]
        for page in PAGES
    }
    return [pytest.param("\n".join(texts), id=name) for name, texts in pages.items() if texts]


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_config_shown_is_valid(text, tmp_path):
    path = tmp_path / "shown.yaml"
    path.write_text(text, "utf-8")
    config = read_config(path)
    assert config.methods[0].name == "single"
    assert config.tasks


@pytest.mark.parametrize("code", pages_with("python"))
def test_every_python_block_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "shown.py", "exec"), {"__name__": "shown"})


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_command_is_in_the_docs():
    from polytask.cli.app import COMMANDS

    shown = (ROOT / "docs" / "index.md").read_text("utf-8")
    assert [name for name in COMMANDS if f"polytask {name}" not in shown] == []


def test_the_reference_pages_are_those_of_the_code():
    spec = spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    reference = module_from_spec(spec)
    spec.loader.exec_module(reference)
    for name, text in reference.pages().items():
        kept = (ROOT / "docs" / name).read_text("utf-8")
        assert kept == text.rstrip() + "\n", f"run python docs/reference.py to renew {name}"
