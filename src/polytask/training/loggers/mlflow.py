"""MLflow, in the run folder's `mlruns/` or where `uri` says: a server, a database, another folder.

The extra brings mlflow-skinny, which writes all of them but databases; those need `pip install
mlflow`. `MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri RUN/mlruns` shows a folder.
"""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Mapping
from typing import Any

from polytask.training.checkpoint import write_text
from polytask.training.loggers import About, Logger

FOLDER, RUN = "mlruns", "mlflow_run"
FORBIDDEN = re.compile(r"[^\w\-. :/]")
LONGEST = 500  # characters of a parameter, which any store takes
# Its folders are "in maintenance mode" and must be asked for; it also counts who uses it.
ENVIRONMENT = {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}


class Tool(Logger):
    """The file `mlflow_run` in the run folder says which run of the store goes on."""

    def __init__(self, about: About, options: Any) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        with warnings.catch_warnings():  # of the tool's own insides
            warnings.simplefilter("ignore")
            import mlflow
            from mlflow.entities import Metric

            self.metric: Any = Metric
            uri = options.uri or (about.folder.absolute() / FOLDER).as_uri()
            self.client: Any = mlflow.MlflowClient(uri)
            experiment = self._experiment(options.experiment or about.config.name)
            self.run = self._found(about) or self._made(about, experiment)

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name))
            except MlflowException:  # another run of the comparison came first
                found = self.client.get_experiment_by_name(name)
        return str(found.experiment_id)

    def _found(self, about: About) -> str | None:
        from mlflow.exceptions import MlflowException

        path = about.folder / RUN
        if not path.exists():
            return None
        run = path.read_text("utf-8").strip()
        try:
            self.client.get_run(run)
        except MlflowException:  # of another store, or deleted there
            return None
        self.client.update_run(run, status="RUNNING")
        return run

    def _made(self, about: About, experiment: str) -> str:
        from polytask.config.writing import flat

        tags = {"mlflow.runName": about.name}
        run = str(self.client.create_run(experiment, tags=tags).info.run_id)
        about_run = {"method": about.method, "seed": about.seed}
        for key, value in flat({**about_run, **about.config.data_dict()}):
            self.client.log_param(run, _allowed(key), value[:LONGEST])
        write_text(about.folder / RUN, run + "\n")
        return run

    def held(self) -> Mapping[str, int]:
        names = self.client.get_run(self.run).data.metrics
        return {
            name: max(value.step for value in self.client.get_metric_history(self.run, name))
            for name in names
        }

    def add(self, values: Mapping[str, float], step: int) -> None:
        now = int(1000 * time.time())
        metrics = [self.metric(name, value, now, step) for name, value in values.items()]
        self.client.log_batch(self.run, metrics=metrics)

    def end(self, is_finished: bool) -> None:
        self.client.set_terminated(self.run, "FINISHED" if is_finished else "KILLED")


def _allowed(name: str) -> str:
    """A parameter's name with the characters that MLflow takes."""
    return FORBIDDEN.sub("_", name)
