"""Names come from files, each with a summary and a source, without importing them."""

import inspect
import subprocess
import sys

import pytest

from polytask import registry
from polytask.errors import UserError


@pytest.mark.parametrize("kind", sorted(registry.FOLDERS))
def test_every_name_says_what_it_is_and_where_it_comes_from(kind):
    for entry in registry.entries(kind).values():
        assert 10 < len(entry.summary) < 160, entry
        assert entry.source, entry


@pytest.mark.parametrize("kind", ["sharing", "tasks", "balancing", "sources"])
def test_every_name_loads_its_own_class(kind):
    from polytask.balancing import Balancer
    from polytask.data.source import Source
    from polytask.sharing.method import SharingMethod
    from polytask.tasks.task import Task

    base = {"sharing": SharingMethod, "tasks": Task, "balancing": Balancer, "sources": Source}[kind]
    for name in registry.names(kind):
        found = registry.load(kind, name, base)
        assert issubclass(found, base)
        assert found.__module__ == registry.find(kind, name).module


@pytest.mark.parametrize("kind", sorted(registry.FOLDERS))
def test_what_is_read_of_a_file_is_what_python_makes_of_it(kind):
    for name, entry in registry.entries(kind).items():
        module = registry.module(kind, name)
        first = inspect.getdoc(module).split("\n\n")[0].replace("\n", " ")
        assert entry.summary == getattr(module, "NAMES", {name: first})[name]


def test_the_published_names_are_there():
    methods = set(registry.names("sharing"))
    assert {"single", "hard", "multi_exit", "multi_path", "mtan", "packnet"} <= methods
    assert {"digits", "printed_digits", "shapes", "folder", "manifest"} <= set(
        registry.names("sources")
    )


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UserError, match=r'unknown method "hrad".*Did you mean "hard"'):
        registry.find("sharing", "hrad")


def test_listing_imports_no_torch():
    code = (
        "import sys; from polytask import registry;"
        "[registry.entries(kind) for kind in registry.FOLDERS];"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
