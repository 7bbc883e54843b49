"""polytask serve and polytask app: a trained network over HTTP, with or without a page."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from polytask.cli.console import say, show
from polytask.cli.options import Method, Run, Seed

if TYPE_CHECKING:
    from polytask.deploy.serve import Server

Host = Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="0 takes a free one.")]


def serve(
    run: Run, method: Method = None, seed: Seed = None, host: Host = "127.0.0.1", port: Port = 8080
) -> None:
    """Answer images over HTTP.

    POST the bytes of an image file to /predict; GET /tasks tells what is answered. Ctrl-C ends it.
    """
    from polytask.deploy import load
    from polytask.deploy.serve import Server

    _run(Server(load(run, method, seed), host, port))


def app(
    run: Run, method: Method = None, seed: Seed = None, host: Host = "127.0.0.1", port: Port = 8080
) -> None:
    """Open a trained network as a local page.

    Drop an image on it and see what each task says. Nothing leaves this machine. Ctrl-C ends it.
    """
    from polytask.app import page
    from polytask.deploy import load
    from polytask.deploy.serve import Server

    _run(Server(load(run, method, seed), host, port, page()))


def _run(server: Server) -> None:
    show(server.address)
    sys.stdout.flush()  # whoever reads it through a pipe waits for it
    say("listening; Ctrl-C ends")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        say("stopped")
    finally:
        server.server_close()
