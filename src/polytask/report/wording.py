"""The verdict in plain words, and the one recommendation that follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from polytask.compare.verdict import FEWEST_SEEDS
from polytask.report import numbers
from polytask.report.records import MethodResult, RunResult

MOST_SCORES = 3  # that fit into a headline
WORTH_SAYING = 0.9  # of the single-task networks' MACs: with more nothing is saved


@dataclass(frozen=True)
class Sentence:
    """What is said of a method; `value` is `helps`, `hurts` or `unclear`."""

    method: str
    value: str
    text: str
    tasks: str


def no_difference(result: MethodResult) -> bool:
    """Whether the interval reaches over zero."""
    bounds = result.delta_m.ci95 if result.delta_m else None
    if bounds is None or bounds[0] is None or bounds[1] is None:
        return False
    return bounds[0] <= 0 <= bounds[1]


def sentence(method: str, result: MethodResult, seeds: int) -> Sentence | None:
    """One sentence on a method against single-task networks; `None` where there is no verdict."""
    if result.verdict is None:
        return None
    verdict = result.verdict.overall
    figures = _figures(result, seeds)
    bounds = numbers.interval(result.delta_m.ci95 if result.delta_m else None)
    # The reason as a rule holds the figures already.
    text = verdict.reason if verdict.reason and bounds in verdict.reason else ""
    text = text or "; ".join(filter(None, (figures, verdict.reason)))
    return Sentence(method, verdict.value, text, _by_task(result))


def _figures(result: MethodResult, seeds: int) -> str:
    gain = result.delta_m
    if gain is None or not numbers.known(gain.mean):
        return ""
    mean, bounds = numbers.signed(gain.mean), numbers.interval(gain.ci95)
    over = _seeds(_pairs(result, seeds))
    figures = f"{mean} % {bounds}".rstrip() + f" over {over}"
    return f"no difference shown at {over}: {mean} % {bounds}" if no_difference(result) else figures


def _pairs(result: MethodResult, seeds: int) -> int:
    """The seeds that a method's gain rests on; all that were run where none is known."""
    return sum(map(numbers.known, result.delta_m.per_seed if result.delta_m else ())) or seeds


FEEDS = {
    "same": "every column reads a task's images, in training as in use",
    "paired": "in training every column reads its own task's images, mixed by their place in the "
    "batch; in use all read the task's",
}


def how(result: MethodResult) -> list[str]:
    """What a score depends on besides the method: the feeding rule, the groups of tasks."""
    said = []
    if result.how.feed:
        said.append(f"feed: {result.how.feed} ({FEEDS[result.how.feed]})")
    if result.how.groups:
        networks = " ".join("[" + ", ".join(group) + "]" for group in result.how.groups)
        said.append(f"groups: {networks}")
    return said


def run_headline(result: RunResult | None) -> str:
    """The scores of one run in a line."""
    if result is None or not result.tasks:
        return "This run has not finished."
    scores = []
    for task, metrics in result.tasks.items():
        metric = result.primary.get(task) or next(iter(metrics), "")
        if metric in metrics:
            unit = " %" if numbers.is_percent(metric) else ""
            words = metric.replace("_", " ")
            scores.append(f"{task}: {numbers.score(metric, metrics[metric])}{unit} {words}")
    more = f"; and {len(scores) - MOST_SCORES} more" if len(scores) > MOST_SCORES else ""
    return "; ".join(scores[:MOST_SCORES]) + more


def probe_lines(result: RunResult) -> list[str]:
    """How the backbone that a run learned from serves its tasks as it is, a line a task."""
    return [
        f"{task}: the source's fixed features give "
        f"{numbers.score('accuracy', scores['linear_probe'])} % accuracy by a linear probe, "
        f"{numbers.score('accuracy', scores['knn'])} % by nearest neighbours"
        for task, scores in result.probe.items()
    ]


def headline(methods: Mapping[str, MethodResult], seeds: int, is_over: bool = True) -> str:
    """The answer to "does sharing help my tasks?" in one line."""
    if is_over and set(methods) == {"single"}:
        return "Single-task networks alone; no sharing to compare them with."
    judged = {n: r for n, r in methods.items() if r.verdict is not None}
    helping, hurting = _with_verdict(judged, "helps"), _with_verdict(judged, "hurts")
    is_one_task = all(len(result.tasks) == 1 for result in judged.values())  # none shares
    if not judged:
        return "No verdict yet."
    if helping:
        verb = "beats" if len(helping) == 1 else "beat"
        if is_one_task:
            return f"{listed(helping)} {verb} the plain network."
        return f"Sharing helps: {listed(helping)} {verb} single-task networks on average."
    if len(hurting) == len(judged):
        if is_one_task:
            return "Nothing does as well as the plain network."
        return "Sharing hurts these tasks on average."
    counts = {_pairs(result, seeds) for n, result in judged.items() if n not in hurting}
    over = _seeds(min(counts), max(counts))
    if all(no_difference(judged[n]) for n in judged if n not in hurting):
        verb = "hurts" if len(hurting) == 1 else "hurt"
        beside = f"; {listed(hurting)} {verb}" if hurting else ""
        return f"No difference shown at {over}{beside}."
    return f"Unclear at {over}."


def recommendation(methods: Mapping[str, MethodResult], seeds: int) -> tuple[str, str] | None:
    """What to do and why, from the verdicts, the cost, and validation scores among equals."""
    judged = {n: r for n, r in methods.items() if r.verdict is not None}
    if not judged:
        return None
    helping, open_ = _with_verdict(judged, "helps"), _with_verdict(judged, "unclear")
    if helping:
        return _use_best(helping, methods)
    if not open_:
        return "Keep the single-task networks.", ""
    if methods.get("single", MethodResult()).failed:
        return "Decide nothing yet.", _unfair(["single"])
    whole = [n for n in open_ if not methods[n].failed]
    if not whole:
        return "Keep the single-task networks.", _unfair(open_)
    settled = [n for n in whole if _pairs(judged[n], seeds) >= FEWEST_SEEDS]
    if not settled:
        return f"Run at least {FEWEST_SEEDS} seeds before deciding.", ""
    cheaper = [
        n
        for n in settled
        if no_difference(judged[n]) and _saving(n, methods) and not _tasks_of(judged[n], "hurts")
    ]
    if not cheaper:
        return "Keep the single-task networks, or run more seeds to settle it.", ""
    best = max(cheaper, key=lambda n: _order(methods[n]))
    gain = judged[best].delta_m
    low = numbers.signed(gain.ci95[0] if gain and gain.ci95 else None)
    return (
        f"Keep the single-task networks, or use {best} if cost matters.",
        f"{_saving(best, methods)} No loss is shown, though one down to {low} % cannot be ruled "
        "out; more seeds would narrow that.",
    )


def _unfair(names: Sequence[str]) -> str:
    return f"Runs of {listed(names)} failed, and the seeds that finished are no fair sample."


def _use_best(helping: Sequence[str], methods: Mapping[str, MethodResult]) -> tuple[str, str]:
    best = max(helping, key=lambda n: _order(methods[n]))
    why = []
    if len(helping) > 1:
        on_validation = numbers.known(methods[best].validation_delta_m)
        where = "on validation data" if on_validation else "by its mean gain"
        why.append(f"It is the best of the {len(helping)} methods that help, {where}.")
    why.append(_saving(best, methods))
    hurt = _tasks_of(methods[best], "hurts")
    if hurt:
        why.append(f"Keep a network of its own for {listed(hurt)}, which it hurts.")
    return f"Use {best}.", " ".join(filter(None, why))


def _with_verdict(judged: Mapping[str, MethodResult], value: str) -> list[str]:
    return [n for n, r in judged.items() if r.verdict and r.verdict.overall.value == value]


def _order(result: MethodResult) -> tuple[float, float]:
    """What decides among methods with the same verdict: validation data before the test."""
    gain = result.delta_m.mean if result.delta_m else None
    pair = (result.validation_delta_m, gain)
    return tuple(float("-inf") if v is None else v for v in pair)  # type: ignore[return-value]


def _saving(name: str, methods: Mapping[str, MethodResult]) -> str:
    """How much less than the single-task networks a method costs, where that is worth a word."""
    own, single = methods[name].cost, methods.get("single", MethodResult()).cost
    if not (own and single and own.total and single.total):
        return ""
    if own.total.macs > WORTH_SAYING * single.total.macs:
        return ""
    return (
        f"It runs all tasks with {numbers.share(own.total.macs, single.total.macs)} of the "
        f"single-task networks' MACs and {numbers.share(own.total.params, single.total.params)} "
        "of their parameters."
    )


def _tasks_of(result: MethodResult, value: str) -> list[str]:
    return [
        t for t, j in (result.verdict.tasks if result.verdict else {}).items() if j.value == value
    ]


def _by_task(result: MethodResult) -> str:
    words = {"helps": "Helps", "hurts": "Hurts", "unclear": "Unclear for"}
    found = {value: _tasks_of(result, value) for value in words}
    parts = [f"{words[value]} {listed(tasks)}" for value, tasks in found.items() if tasks]
    if len(parts) == 1 and len(result.tasks) > 1:
        (value,) = (value for value, tasks in found.items() if tasks)
        return f"{words[value]} every task"
    return "; ".join([*parts[:1], *(part[0].lower() + part[1:] for part in parts[1:])])


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _seeds(fewest: int, most: int | None = None) -> str:
    if most not in (None, fewest):
        return f"{fewest} to {most} seeds"
    return f"{fewest} seed" if fewest == 1 else f"{fewest} seeds"
