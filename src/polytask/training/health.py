"""A word on each task after training: learning, at_chance, diverged or no_labels."""

from __future__ import annotations

import math

from polytask.tasks.task import Task
from polytask.training.evaluation import Scores


def health_of(task: Task, scores: Scores, labelled_images_seen: int) -> str:
    """One word.

    `learning` when the primary metric beats the best constant guess: a share by more than two
    standard errors of a proportion on this test set, an error by any amount. Tasks without a known
    chance level count as learning.
    """
    if not labelled_images_seen:
        return "no_labels"
    if task.name not in scores.metrics:
        return "no_labels"
    value = scores.metrics[task.name][task.primary]
    if not math.isfinite(value):
        return "diverged"
    chance = scores.chance.get(task.name, {}).get(task.primary)
    if chance is None:
        return "learning"
    if not task.higher_is_better:
        return "learning" if value < chance else "at_chance"
    error = math.sqrt(max(chance * (1 - chance), 1e-12) / scores.counts[task.name])
    return "learning" if value > chance + 2 * error else "at_chance"
