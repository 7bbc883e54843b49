"""Methods × seeds into a folder: what is left to train is trained, then all is summed up."""

from __future__ import annotations

import pickle
import shlex
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from polytask import registry
from polytask.compare.outcome import ERROR, RESULT, Outcome, read_cost, read_outcome, run_label
from polytask.compare.pool import LOCAL, Pool
from polytask.compare.results import RESULTS, TABLE, Results
from polytask.compare.summary import BASELINE, Plan, Summary
from polytask.compare.worker import Job, Reply, Setup
from polytask.config import Config
from polytask.errors import RunError, UserError
from polytask.training import output
from polytask.training.checkpoint import write_text
from polytask.training.fingerprint import KEPT, versions
from polytask.training.interrupt import terminates_like_interrupt
from polytask.training.pretrain import folder_of
from polytask.training.progress import Finished, Message, Overall, Show

REPORT = "report.html"
TRAIN = "polytask.training:train_run"
CHECK = "polytask.training.preflight:check"


class Comparison:
    """A config to compare by, and the folder of its runs.

    `train` and `check` name the functions that workers call (`module:name`): one trains a run, one
    finds what is wrong with a config before anything is written. `on` says where runs train.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        show: Show,
        train: str = TRAIN,
        check: str = CHECK,
        devices: int = 1,
        on: str = LOCAL,
    ) -> None:
        self.config, self.folder, self.show, self.on = config, folder, show, on
        self.setup = Setup(train, check, pickle.dumps(config), folder, devices)
        self.outcomes: dict[Job, Outcome] = {}

    def run(
        self, at_once: int | None = None, *, resume: bool = False, overwrite: bool = False
    ) -> Results:
        """Train what is not finished and sum up; a finished comparison is left as it is.

        Raises:
            UserError: the folder or the input is wrong; then nothing is written or deleted.
            KeyboardInterrupt: the runs in training have saved their state.
        """
        output.check_output(self.folder, resume=resume, overwrite=overwrite)
        goes_on = resume and not output.is_unused(self.folder)
        if goes_on:
            self._check_resumable()
            self._find_outcomes()
            if self._is_finished():
                return Results.read(self.folder)
        waiting = self._waiting()
        if not waiting:
            with self._locked():
                return self._sum_up()
        with Pool.of(len(waiting), at_once, self.setup, self.on, self.show) as pool:
            pool.check()
            with self._locked():
                # Another process may have come first while the input was checked.
                output.check_output(self.folder, resume=resume, overwrite=overwrite)
                self._prepare(goes_on)
                self._train(pool, waiting)
                return self._sum_up()

    def _runs(self) -> Iterator[Job]:
        for entry in self.config.methods:
            for seed in self.config.seeds:
                label = run_label(entry.key, seed)
                yield Job(entry.key, seed, self.folder / label, label)

    def _waiting(self) -> list[Job]:
        """The runs to train, those that others may learn from first."""
        jobs = [job for job in self._runs() if job not in self.outcomes]
        jobs.sort(key=lambda job: job.method != BASELINE)
        return [*self._before(jobs), *jobs]

    def _before(self, jobs: Sequence[Job]) -> list[Job]:
        """The unfinished runs of the section `pretraining` that these learn from."""
        found = {}
        for job in jobs:
            transfer = self.config.method(job.method).options.transfer
            if transfer is not None and transfer.pretraining is not None:
                folder = folder_of(self.folder, transfer.pretraining, job.seed)
                name = str(folder.relative_to(self.folder))
                part = self.config.pretraining[transfer.pretraining]
                key, config = part.methods[0].key, pickle.dumps(part)
                found[folder] = Job(key, job.seed, folder, name, config)
        return [job for folder, job in found.items() if not (folder / RESULT).exists()]

    # The folder.

    def _check_resumable(self) -> None:
        if (self.folder / "metrics.jsonl").exists():
            raise RunError.at(
                str(self.folder), "is the folder of one run; expected that of a comparison."
            )
        output.check_same_config(self.folder, self.config)

    def _find_outcomes(self) -> None:
        diverged = {}
        if (self.folder / RESULTS).exists():
            # Same seed, same result: these would diverge again. What else failed may not.
            failures = Results.read(self.folder).failures
            diverged = {o.label: o for o in failures if o.failure == "diverged"}
        for job in self._runs():
            found = read_outcome(job.method, job.seed, job.folder)
            found = found or diverged.get(run_label(job.method, job.seed))
            if found is not None:
                self.outcomes[job] = found

    def _is_finished(self) -> bool:
        return not self._waiting() and (self.folder / RESULTS).exists()

    def _locked(self) -> AbstractContextManager[None]:
        return output.locked(self.folder, self.folder / output.LOCK)

    def _prepare(self, goes_on: bool) -> None:
        if goes_on:
            for name in (RESULTS, TABLE, REPORT):  # they tell of fewer runs than there will be
                (self.folder / name).unlink(missing_ok=True)
            return
        for result in sorted(self.folder.glob(f"{BASELINE}/seed*/{RESULT}")):
            output.keep(result.parent, f"{BASELINE}-{result.parent.name}")
        output.clear(self.folder)
        write_text(self.folder / output.CONFIG, self.config.dump())

    # Training.

    def _train(self, pool: Pool, waiting: Sequence[Job]) -> None:
        began = time.monotonic()
        done = 0
        self.show(Overall(0, len(waiting)))

        def ended(job: Job, reply: Reply) -> None:
            nonlocal done
            if reply.outcome == "wrong_input":
                raise UserError(reply.faults)
            done += 1
            self._record(job, reply)
            left = (time.monotonic() - began) / done * (len(waiting) - done)
            self.show(Overall(done, len(waiting), left or None))

        try:
            with terminates_like_interrupt():
                pool.train(waiting, ended)
        except KeyboardInterrupt as error:
            self.show(Message("stopping; the runs save their state"))
            config = str(self.folder / output.CONFIG)
            command = ["polytask", "compare", config, "--out", str(self.folder), "--resume"]
            raise KeyboardInterrupt(f"stopped; go on with: {shlex.join(command)}") from error
        finally:
            pool.close()

    def _record(self, job: Job, reply: Reply) -> None:
        if reply.outcome == "done":
            outcome = read_outcome(job.method, job.seed, job.folder)
            assert outcome is not None, f"{job.folder} holds no {RESULT} of a finished run"
            (job.folder / ERROR).unlink(missing_ok=True)
        else:
            outcome = Outcome(
                job.method,
                job.seed,
                cost=read_cost(job.folder),
                failure="diverged" if reply.outcome == "diverged" else "failed",
                reason=reply.reason or reply.outcome,
                task=reply.task,
            )
            write_text(job.folder / ERROR, f"{outcome.reason}\n{reply.traceback}")
            self.show(Finished(outcome.label, outcome.words))
            self.show(Message(f"{outcome.label} {outcome.words}: {outcome.reason}"))
        if job.config is None:
            self.outcomes[job] = outcome

    # Results.

    def _plan(self) -> Plan:
        kinds = registry.entries("tasks")
        pretext = {
            name: "pretext task"
            for name, options in self.config.tasks.items()
            if kinds[options.kind].family == "pretext"
        }
        methods = [entry.key for entry in self.config.methods]
        return Plan(methods, self.config.seeds, list(self.config.tasks), pretext)

    def _sum_up(self) -> Results:
        summary = Summary(self._plan(), self.outcomes.values())
        results = Results(self.folder, summary.as_dict(self.config.data_dict(), versions()))
        results.write()
        shutil.rmtree(self.folder / KEPT, ignore_errors=True)
        return results
