"""Faults a user can make, told in one line each: where, what was found, what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One fault: `where` is a place a user can open (file:line, row, key), `hint` the way out."""

    where: str
    problem: str
    hint: str = ""

    def __str__(self) -> str:
        tail = f" {self.hint}" if self.hint else ""
        return f"{self.where}: {self.problem}{tail}"


class UserError(Exception):
    """The input is wrong. The command line prints every fault on a line of its own and exits 2."""

    def __init__(self, faults: Fault | Sequence[Fault]) -> None:
        self.faults = [faults] if isinstance(faults, Fault) else list(faults)
        super().__init__("\n".join(map(str, self.faults)))

    @classmethod
    def at(cls, where: str, problem: str, hint: str = "") -> UserError:
        """The error of a single fault."""
        return cls(Fault(where, problem, hint))


class ConfigError(UserError):
    """A config or an override is wrong."""


class DataError(UserError):
    """A data set, manifest or image is wrong."""


class RunError(UserError):
    """A run folder, checkpoint or output folder is not what the command needs."""


class MissingExtra(UserError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(Fault(feature, f'needs: pip install "polytask[{extra}]"'))


class Failed(Exception):
    """A run ended for want of memory, disk or a process of its own; the message tells what to do,
    and the command line exits 1."""


class Lost(Failed):
    """A process of a run died; what was saved is whole, and the run may go on from there."""


class Diverged(Failed):
    """A loss or gradient became NaN or infinite; the run stops, a comparison goes on."""

    def __init__(self, task: str, step: int, value: float) -> None:
        self.task, self.step = task, step
        what = "the gradient" if task == "gradient" else f"the loss of task {task!r}"
        super().__init__(
            f"{what} became {value} at step {step}; lower train.optimizer.lr or set train.clip"
        )


def nearest(name: str, valid: Iterable[str]) -> str:
    """`Did you mean "x"?` for the closest valid name, or an empty string.

    Large and small letters, dashes and underscores are alike; a beginning stands for the whole.
    """
    names = {_plain(v): str(v) for v in valid}
    close = difflib.get_close_matches(_plain(name), names, n=1, cutoff=0.6)
    found = close or [n for n in names if len(name) > 2 and n.startswith(_plain(name))]
    return f'Did you mean "{names[found[0]]}"?' if found else ""


def _plain(name: object) -> str:
    return str(name).casefold().replace("-", "_")


def one_of(valid: Iterable[str]) -> str:
    """The valid names as an error message lists them."""
    return "one of " + ", ".join(map(str, valid))


def unknown(where: str, what: str, name: str, valid: Iterable[str]) -> Fault:
    """The fault of a name that does not exist."""
    names = list(valid)
    return Fault(where, f'unknown {what} "{name}"; expected {one_of(names)}.', nearest(name, names))


def capped(faults: Sequence[Fault], shown: int = 20) -> list[Fault]:
    """The first faults and, where there are more, how many."""
    if len(faults) <= shown:
        return list(faults)
    more = Fault(faults[0].where.split(":")[0], f"and {len(faults) - shown} more faults like these")
    return [*faults[:shown], more]
