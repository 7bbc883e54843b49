"""All runs of a comparison as one table of means, gains, verdicts and health."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from polytask.compare.outcome import Outcome
from polytask.compare.statistics import Gain, Gains, Scores, gains, is_score
from polytask.compare.verdict import Sampling, judge

HEALTH = ("learning", "at_chance", "no_labels", "diverged")  # from good to bad
BASELINE = "single"


@dataclass(frozen=True)
class Plan:
    """What a comparison sets out to do; `left_out`: tasks without a score to compare, and why."""

    methods: Sequence[str]
    seeds: Sequence[int]
    tasks: Sequence[str]
    left_out: Mapping[str, str]


class Summary:
    """The runs of a comparison, read by method."""

    def __init__(self, plan: Plan, outcomes: Iterable[Outcome]) -> None:
        self.plan = plan
        found = {(o.method, o.seed): o for o in outcomes}
        self.runs = {
            key: [found[key, seed] for seed in plan.seeds if (key, seed) in found]
            for key in plan.methods
        }

    def _results(self, key: str) -> list[Mapping[str, Any]]:
        return [run.result for run in self.runs[key] if run.result is not None]

    @cached_property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """What all runs say alike about a task: its metric, its test set, its chance level."""
        results = [result for key in self.plan.methods for result in self._results(key)]
        if not results:
            return {}
        first = results[0]
        return {
            task: {
                "primary": first["primary"][task],
                "higher_is_better": first["higher_is_better"][task],
                "test_images": first["test_counts"].get(task, 0),
                "chance": first["chance"].get(task),
            }
            for task in self.plan.tasks
        }

    def scores(self, key: str, split: str = "tasks") -> Scores:
        """The primary metrics of a method's finished runs; `split` is `tasks` (test) or `val`."""
        return {
            run.seed: {
                task: run.result[split].get(task, {}).get(facts["primary"])
                for task, facts in self.tasks.items()
            }
            for run in self.runs[key]
            if run.result is not None
        }

    def gains(self, key: str, split: str = "tasks") -> Gains:
        """The gains of a method over single-task networks."""
        better = {task: facts["higher_is_better"] for task, facts in self.tasks.items()}
        single = self.scores(BASELINE, split)
        return gains(self.scores(key, split), single, better, self.plan.left_out)

    def as_dict(self, config: Any, versions: Mapping[str, str]) -> dict[str, Any]:
        """The content of `results.json`."""
        return {
            "methods": {key: self._method(key) for key in self.plan.methods},
            "tasks": self.tasks,
            "seeds": list(self.plan.seeds),
            "config": config,
            "versions": dict(versions),
        }

    # One method.

    def _on_validation(self, key: str) -> float | None:
        """Δm on validation data, which is what methods may be chosen by."""
        if key == BASELINE:
            return 0.0
        found = self.gains(key, "val").delta_m
        return None if found is None else found.mean

    def _method(self, key: str) -> dict[str, Any]:
        found = None if key == BASELINE else self.gains(key)
        results = self._results(key)
        return {
            "tasks": self._metrics(key),
            "delta_m": None if found is None else _delta_m(found, self.plan.seeds),
            "gains": _gains(found, self.plan.seeds),
            "validation_delta_m": self._on_validation(key),
            "verdict": None if found is None else self._verdict(key, found),
            "cost": self._cost(key),
            "health": self._health(key),
            "how": results[0].get("how", {}) if results else {},
            "samples": results[0]["samples"] if results else {},
            "extra_samples": results[0]["extra_samples"] if results else 0,
            "train_seconds": _mean([r["train_seconds"] for r in results]),
            "failed": [
                {"seed": o.seed, "failure": o.failure, "task": o.task, "reason": o.reason}
                for o in self.runs[key]
                if o.failure is not None
            ],
        }

    def _cost(self, key: str) -> dict[str, Any]:
        """What its first run counted, and the median over runs of what they measured."""
        costs = [run.cost for run in self.runs[key] if run.cost is not None]
        if not costs:
            return {"total": None, "tasks": {}}
        tasks = {}
        for task, path in costs[0]["tasks"].items():
            measured = [r["latency_ms"][task] for r in self._results(key) if "latency_ms" in r]
            tasks[task] = {**path, "latency_ms": statistics.median(measured)} if measured else path
        return {**costs[0], "tasks": tasks}

    def _metrics(self, key: str) -> dict[str, dict[str, dict[str, Any]]]:
        by_seed = {
            run.seed: run.result["tasks"] for run in self.runs[key] if run.result is not None
        }
        table: dict[str, dict[str, dict[str, Any]]] = {}
        for task in self.plan.tasks:
            names = dict.fromkeys(m for tasks in by_seed.values() for m in tasks.get(task, {}))
            table[task] = {}
            for metric in names:
                values = [
                    _finite(by_seed.get(seed, {}).get(task, {}).get(metric))
                    for seed in self.plan.seeds
                ]
                known = [v for v in values if v is not None]
                std = statistics.stdev(known) if len(known) > 1 else None
                table[task][metric] = {"mean": _mean(known), "std": std, "per_seed": values}
        return table

    def _health(self, key: str) -> dict[str, str]:
        """The worst word on each task over the seeds."""
        words: dict[str, list[str]] = {task: [] for task in self.plan.tasks}
        for run in self.runs[key]:
            if run.result is not None:
                for task, word in run.result["health"].items():
                    words[task].append(word)
            elif run.failure == "diverged":
                # A gradient that is no number names no task: it spoils them all.
                for task in [run.task] if run.task in words else words:
                    words[task].append("diverged")
        return {task: max(said, key=HEALTH.index) for task, said in words.items() if said}

    # Verdicts.

    def _verdict(self, key: str, found: Gains) -> dict[str, Any]:
        failures = self._failures(key)
        sampling = {task: self._sampling(key, task) for task in found.tasks}
        tasks = {
            task: judge(
                found.tasks.get(task),
                failures=failures,
                missing=found.left_out.get(task, "no run finished"),
                sampling=sampling.get(task),
                notes=self._health_notes(key, task),
            )
            for task in self.plan.tasks
        }
        left_out = ", ".join(f"{task} ({why})" for task, why in found.left_out.items())
        overall = judge(
            found.delta_m,
            failures=failures,
            sampling=_together(list(sampling.values())),
            notes=(f"left out: {left_out}",) if left_out else (),
        )
        return {"overall": asdict(overall), "tasks": {t: asdict(v) for t, v in tasks.items()}}

    def _failures(self, key: str) -> str:
        own = [f"seed {o.seed} {o.words}" for o in self.runs[key] if o.failure]
        single = [f"single-task seed {o.seed} {o.words}" for o in self.runs[BASELINE] if o.failure]
        return ", ".join(own + single)

    def _health_notes(self, key: str, task: str) -> tuple[str, ...]:
        here, there = (self._health(k).get(task) == "at_chance" for k in (key, BASELINE))
        if here and there:
            return ("both at chance",)
        return ("at chance",) if here else ("single-task at chance",) if there else ()

    def _sampling(self, key: str, task: str) -> Sampling | None:
        """Known for accuracies, which are proportions of the test images."""
        facts = self.tasks[task]
        if facts["primary"] != "accuracy" or not facts["test_images"]:
            return None
        method, single = (
            statistics.fmean(
                value for s in self.scores(k).values() if (value := s[task]) is not None
            )
            for k in (key, BASELINE)
        )
        return Sampling.of_accuracies(method, single, facts["test_images"])


def _together(parts: Sequence[Sampling | None]) -> Sampling | None:
    """The reach over a mean of tasks, at most the mean of their reaches."""
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    images = known[0].images if len(known) == 1 else None
    return Sampling(statistics.fmean(part.reach for part in known), images)


def _spread(gain: Gain | None, seeds: Sequence[int]) -> dict[str, Any]:
    interval = gain.interval if gain is not None else None
    return {
        "mean": gain.mean if gain is not None else None,
        "ci95": list(interval or (None, None)),
        "per_seed": [gain.per_seed.get(seed) if gain is not None else None for seed in seeds],
    }


def _delta_m(found: Gains, seeds: Sequence[int]) -> dict[str, Any]:
    return {
        **_spread(found.delta_m, seeds),
        "tasks": list(found.tasks),
        "left_out": dict(found.left_out),
    }


def _gains(found: Gains | None, seeds: Sequence[int]) -> dict[str, Any]:
    return {t: _spread(gain, seeds) for t, gain in found.tasks.items()} if found else {}


def _finite(value: float | None) -> float | None:
    return value if is_score(value) else None


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None
