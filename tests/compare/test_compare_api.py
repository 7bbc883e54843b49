"""`polytask.compare(...)` from Python, whatever has been imported before."""

import importlib
import subprocess
import sys

import pytest

import polytask
from polytask.errors import ConfigError


def test_compare_is_called_by_its_name_after_its_package_was_imported():
    importlib.import_module("polytask.compare.results")  # puts the package where the function is
    with pytest.raises(ConfigError, match='Did you mean "hard"'):
        polytask.compare({"tasks": {}, "methods": ["hrad"]})


def test_compare_is_there_at_once_and_loads_no_torch():
    program = (
        "import sys, polytask; first, second = polytask.compare, polytask.compare; "
        "sys.exit(not callable(first) or not callable(second) or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
