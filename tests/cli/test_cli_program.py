"""The program from outside: start, exit codes, and one line for each thing that is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from polytask import __version__
from polytask.cli.app import app
from polytask.errors import Diverged, Fault, UserError

REPORT = """
import json, sys, time
heavy = {"torch", "torchvision", "timm", "torchmetrics", "matplotlib", "sklearn"}
print(json.dumps([sorted(heavy & set(sys.modules)), time.process_time()]), file=sys.stderr)
"""
CALL = "import sys; from polytask.cli import main; main(sys.argv[1:])"


def light(body, *arguments, cwd=None):
    done = subprocess.run(
        [sys.executable, "-c", body + REPORT, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
    )
    return json.loads(done.stderr.splitlines()[-1])


def assert_starts_at_once(call):
    """`call(i)` starts a program; others on the machine only add to the CPU seconds of a start."""
    starts = [call(i) for i in range(3)]
    assert [heavy for heavy, _ in starts] == [[], [], []]
    assert min(seconds for _, seconds in starts) < 0.5


def test_importing_polytask_loads_nothing_heavy():
    assert_starts_at_once(lambda _: light("import polytask; dir(polytask)"))


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"], ["list", "methods"]])
def test_help_and_lists_answer_at_once_without_torch(arguments):
    assert_starts_at_once(lambda _: light(CALL, *arguments))


def test_init_answers_at_once_without_torch(tmp_path):
    assert_starts_at_once(lambda i: light(CALL, "init", f"{i}.yaml", cwd=tmp_path))
    assert len(list(tmp_path.glob("*.yaml"))) == 3


def test_the_installed_program_tells_its_version():
    program = Path(sys.executable).with_name("polytask")
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"polytask {__version__}\n")


def test_a_reader_that_leaves_is_no_error_to_shout_about():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "polytask", "list", "methods", "--json"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 1


def test_without_arguments_the_help_lists_every_command(polytask):
    said = polytask()
    assert said.code == 0
    for command in [
        "compare",
        "train",
        "check",
        "cost",
        "report",
        "list",
        "init",
        "predict",
        "export",
        "doctor",
    ]:
        assert f"\n  {command} " in said.out
    assert "..." not in said.out.split("Commands:")[1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["comprae", "x"], "Did you mean 'compare'?"),
        (["nothing-like-it"], "No such command"),
        (["compare"], "CONFIG"),
        (["compare", "digits", "--sedes", "3"], "--sedes"),
        (["compare", "digits", "--seeds", "many"], "--seeds"),
        (["compare", "digits", "--seeds", "0"], "--seeds"),
        (["train", "digits"], "--method"),
        (["train", "digits", "--method", "hard", "--resume", "--overwrite"], "--resume"),
        (["compare", "digits", "--devices", "0"], "--devices"),
        (["predict", "run"], "IMAGE"),
        (["list", "metods"], 'Did you mean "methods"?'),
        (["export", "run", "--format", "onx"], 'Did you mean "onnx"?'),
        (["cost", "digits", "--convention", "thop_legcy"], 'Did you mean "thop_legacy"?'),
        (["init", "my.yaml", "--from", "digts"], 'Did you mean "digits"?'),
        (["cost", "digts"], 'Did you mean "digits"?'),
        (["report", "nowhere"], "nowhere"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(polytask, arguments, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = polytask(*arguments)
    assert said.code == 2
    assert said.out == ""
    assert len(said.complaints) == 1
    assert told in said.err
    assert list(tmp_path.iterdir()) == []


def test_every_fault_of_a_config_has_a_line_that_starts_with_its_place(polytask, tmp_path):
    path = tmp_path / "shop.yaml"
    path.write_text("tasks:\n  road: {kind: clasification, classes: 3}\ntrian: {epochs: 3}\n")
    said = polytask("cost", path)
    assert said.code == 2
    assert [line.split(" ")[0] for line in said.complaints] == [f"{path}:2", f"{path}:3"]
    assert 'Did you mean "classification"?' in said.complaints[0]
    assert 'Did you mean "train"?' in said.complaints[1]


@pytest.fixture
def failing():
    """A command that raises what it is told to."""
    raised = []

    def fail():
        raise raised[0]

    app.command("fail")(fail)
    yield raised.append
    app.registered_commands.pop()


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (UserError([Fault("a.csv:3", "bad"), Fault("b", "worse", "Mend it.")]), 2, None),
        (Diverged("road", 7, float("nan")), 1, "'road' became nan at step 7"),
        (KeyboardInterrupt("go on with --resume"), 130, "go on with --resume"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("by\nzero"), 1, "internal error: ZeroDivisionError: by zero"),
    ],
)
def test_errors_give_lines_and_an_exit_code_but_no_traceback(polytask, failing, error, code, told):
    failing(error)
    said = polytask("fail")
    assert (said.code, said.out) == (code, "")
    if told is None:
        assert said.complaints == ["a.csv:3: bad", "b: worse Mend it."]
    else:
        assert len(said.complaints) == 1
        assert told in said.err


@pytest.mark.parametrize("arguments", [["--debug", "fail"], ["fail", "--debug"]])
def test_debug_shows_where_an_error_comes_from(polytask, failing, arguments):
    failing(ZeroDivisionError("by zero"))
    said = polytask(*arguments)
    assert said.code == 1
    assert "Traceback" in said.err
    assert "raise raised[0]" in said.err
