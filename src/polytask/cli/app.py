"""The program: the table of commands, and what every one of them does with an error.

No module of a command imports torch before the command runs.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import typer

from polytask import __version__
from polytask.cli.affinity import affinity
from polytask.cli.check import check
from polytask.cli.compare import compare
from polytask.cli.console import say
from polytask.cli.cost import cost
from polytask.cli.doctor import doctor
from polytask.cli.explain import explain
from polytask.cli.export import export
from polytask.cli.init import init
from polytask.cli.list import list_names
from polytask.cli.pack import pack
from polytask.cli.predict import predict
from polytask.cli.pretrain import pretrain
from polytask.cli.profile import profile
from polytask.cli.report import report
from polytask.cli.reproduce import reproduce
from polytask.cli.search import search
from polytask.cli.serve import app as local_page
from polytask.cli.serve import serve
from polytask.cli.train import train
from polytask.cli.transfer import transfer
from polytask.errors import Failed, UserError

# Public only through its subclass; which click typer stands on depends on its version.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
COMMANDS: dict[str, Callable[..., None]] = {
    "compare": compare,
    "train": train,
    "pretrain": pretrain,
    "transfer": transfer,
    "init": init,
    "check": check,
    "cost": cost,
    "profile": profile,
    "search": search,
    "affinity": affinity,
    "pack": pack,
    "report": report,
    "reproduce": reproduce,
    "predict": predict,
    "export": export,
    "explain": explain,
    "app": local_page,
    "serve": serve,
    "list": list_names,
    "doctor": doctor,
}
for name, command in COMMANDS.items():
    app.command(name)(command)


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        print(f"polytask {__version__}")
        raise typer.Exit()


@app.callback()
def polytask(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Print the traceback of an error.")
    ] = False,
) -> None:
    """One image network for many vision tasks: does sharing help them, and what does it cost?

    CONFIG is a YAML file or the name of a bundled example; key.path=value after it overrides a
    value. RUN is a run folder or a comparison folder.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Taken out here, so that it may stand anywhere on the line.
    is_debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may be no valid text
    try:
        _run(given or ["--help"])
        sys.stdout.flush()
        return DONE
    except typer.Exit as stop:
        return stop.exit_code
    except BrokenPipeError:
        # The reader has left; without this the interpreter would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (Exception, KeyboardInterrupt) as error:
        if is_debug:
            traceback.print_exc()
        code, lines = _explain(error)
        for line in lines:
            say(" ".join(line.splitlines()))
        return code


def _run(arguments: list[str]) -> None:
    # Not `app()`, which prints usage errors and interrupts in its own way.
    command = typer.main.get_command(app)
    with command.make_context("polytask", arguments) as context:
        command.invoke(context)


def _explain(error: BaseException) -> tuple[int, Iterable[str]]:
    """The exit code of an error, and what to tell."""
    if isinstance(error, UsageError):
        return WRONG_INPUT, [_usage(error)]
    if isinstance(error, UserError):
        return WRONG_INPUT, map(str, error.faults)
    if isinstance(error, Failed):
        return FAILED, [str(error)]
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, [str(error) or "interrupted"]
    found = f"{type(error).__name__}: {error}"
    way_out = "--debug shows where; please report it with the output of polytask doctor"
    return FAILED, [f"internal error: {found} ({way_out})"]


def _usage(error: Any) -> str:
    command = error.ctx.command_path if error.ctx else "polytask"
    return f"{command}: {_sentence(error.format_message())} See {command} --help."


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."
