"""polytask doctor: versions, devices and limits, for a bug report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polytask.cli.console import show, show_json
from polytask.cli.options import Json


def doctor(json: Json = False) -> None:
    """Tell versions, devices and limits."""
    from polytask.environment import environment

    found = environment(Path.cwd())
    if json:
        show_json(found)
        return
    for line in _lines(found):
        show(line)


def _lines(found: dict[str, Any]) -> list[str]:
    extras = {
        name: "installed" if has else f'missing: pip install "polytask[{name}]"'
        for name, has in found["extras"].items()
    }
    packages = {name: version or "missing" for name, version in found["packages"].items()}
    threads = {name: value or "not set" for name, value in found["threads"].items()}
    rows = {
        "polytask": found["polytask"],
        "python": found["python"],
        "system": found["system"],
        **packages,
        "devices": "; ".join(found["devices"]),
        "cores": found["cores"],
        "threads": ", ".join(f"{name} {value}" for name, value in threads.items()),
        "free memory": f"{found['memory_free_gib'] or '?'} GiB",
        "free disk": f"{found['disk_free_gib']} GiB",
        **{f"extra {name}": text for name, text in extras.items()},
    }
    width = max(map(len, rows)) + 2
    return [f"{name:<{width}}{value}" for name, value in rows.items()]
