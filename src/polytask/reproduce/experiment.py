"""An experiment of a paper: its published numbers, and configs that repeat it at some scale.

A file in `experiments/` holds the experiments that share their data and training:

    paper: authors, title, where
    published: mtal.csv             in `published/`: table,method,task,metric,mean,std
    shared: {…}                     what configs of all scales have in common, if anything
    scales:
      small:
        folder: ../shared/data      where the data sets lie, unless `--data` says otherwise
        minutes: 4                  on two cores
        standing_in: {task: which data set stands in for the paper's, where it is another}
        config: {…}                 a config without methods
        changes: {key.path: value}  to what the scales share; `*` is every key of a section
    experiments:
      mtal_table3:
        table: "3"
        claim: MTAL                 the published row whose gain decides the verdict
        methods: {Single-task: single, MTAL: {kernel_sharing: {threshold: 0.55}}}

A figure that is drawn and not printed has a blank mean. The first of `methods` is the row that the
others are held against. A method's own numbers at a scale (`epochs` and the like) belong to the
config of that scale; an experiment gives other values to some of its keys by `changes: {small:
{train.epochs: 5}}`, or leaves them out: `{tasks.head: null}`.
"""

from __future__ import annotations

import copy
import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field

from polytask.errors import DataError, Fault, UserError, unknown

HERE = Path(__file__).parent
EXPERIMENTS, PUBLISHED = HERE / "experiments", HERE / "published"


class Part(BaseModel):
    """A part of an experiments' file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Scale(Part):
    """How large an experiment is repeated: on which data, and how it is trained."""

    folder: Path
    minutes: float
    standing_in: dict[str, str] = {}
    config: dict[str, Any]
    changes: dict[str, Any] = {}


class Table(Part):
    """One table of the paper, or a part of it: a config's method for each of its rows."""

    table: str
    claim: str
    changes: dict[str, dict[str, Any]] = {}
    methods: dict[str, str | dict[str, Any]] = Field(min_length=2)


class Family(Part):
    """The experiments of a file."""

    paper: str
    published: str
    shared: dict[str, Any] = {}
    scales: dict[str, Scale]
    experiments: dict[str, Table]


class Figure(NamedTuple):
    """A published mean, and its standard deviation; `None` for what is drawn and not printed."""

    mean: float | None
    std: float | None


class Experiment(NamedTuple):
    """One experiment: a table of a paper, and the scales at which it can be repeated."""

    name: str
    paper: str
    table: str
    claim: str
    methods: dict[str, str | dict[str, Any]]
    scales: dict[str, Scale]
    published: dict[tuple[str, str, str], Figure]
    """By (row, task, metric)."""

    @property
    def baseline(self) -> str:
        """The row that the others are held against."""
        return next(iter(self.methods))

    def scale(self, name: str) -> Scale:
        """A scale by its name.

        Raises:
            UserError: the experiment has none of that name.
        """
        if name not in self.scales:
            raise UserError(unknown("--scale", f"scale of {self.name}", name, self.scales))
        return self.scales[name]

    def key(self, row: str) -> str:
        """What a row of the table is called in results."""
        entry = self.methods[row]
        if isinstance(entry, str):
            return entry
        ((name, options),) = entry.items()
        return str((options or {}).get("as", name))

    def config(self, scale: str, folder: Path | None = None) -> dict[str, Any]:
        """The config of a scale, its data sets below `folder`.

        Raises:
            UserError: there is no such scale.
            DataError: a data set is not there; all that are missing.
        """
        chosen = self.scale(scale)
        folder = (folder or chosen.folder).expanduser().absolute()
        faults = [
            Fault(
                f"reproduce {self.name}",
                f"data set {name} expects {folder / options['path']}, which is not there.",
                "--data DIR names the folder that holds the experiment's data sets.",
            )
            for name, options in chosen.config["data"].items()
            if "path" in options and not (folder / options["path"]).exists()
        ]
        if faults:
            raise DataError(faults)
        methods = list(self.methods.values())
        name = f"{self.name}_{scale}"
        return {"name": name, "folder": str(folder), **chosen.config, "methods": methods}


def experiments() -> dict[str, Experiment]:
    """Every experiment by name."""
    found = {}
    for path in sorted(EXPERIMENTS.glob("*.yaml")):
        family = Family.model_validate(yaml.safe_load(path.read_text("utf-8")))
        figures = list(_published(PUBLISHED / family.published))
        for name, table in family.experiments.items():
            rows = {at[1:]: figure for at, figure in figures if at[0] == table.table}
            own = (family.paper, table.table, table.claim, table.methods)
            scales = {}
            for scale, chosen in family.scales.items():
                config = _changed({**family.shared, **chosen.config}, chosen.changes)
                config = _changed(config, table.changes.get(scale, {}))
                scales[scale] = chosen.model_copy(update={"config": config})
            found[name] = Experiment(name, *own, scales, rows)
    return found


def find(name: str) -> Experiment:
    """An experiment by name.

    Raises:
        UserError: there is none; the nearest valid name is given.
    """
    known = experiments()
    if name not in known:
        raise UserError(unknown("polytask reproduce", "experiment", name, known))
    return known[name]


def _changed(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The config with other values at some keys, given as `data.photos.fraction`; null deletes.

    `*` stands for every name that leads on to the rest.
    """
    made = copy.deepcopy(dict(config))
    for place, value in changes.items():
        *above, key = place.split(".")
        for inside in _sections(made, above):
            if value is None:
                del inside[key]
            else:
                inside[key] = value
    return made


def _sections(config: dict[str, Any], above: Sequence[str]) -> list[dict[str, Any]]:
    if not above:
        return [config]
    first, *rest = above
    if first != "*":
        return _sections(config[first], rest)
    found = []
    for part in config.values():
        with suppress(KeyError):  # it does not lead on
            found += _sections(part, rest)
    return found


def _published(path: Path) -> Iterator[tuple[tuple[str, str, str, str], Figure]]:
    """(table, row, task, metric) and the figure there; lines that start with # are remarks."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    for row in csv.DictReader(lines):
        place = (row["table"], row["method"], row["task"], row["metric"])
        mean, std = (float(row[key]) if row[key] else None for key in ("mean", "std"))
        yield place, Figure(mean, std)
