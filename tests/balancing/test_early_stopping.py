"""Task-wise early stopping: which task has stopped, and that what is its own then rests."""

import pytest
import torch
from small_methods import (
    TASKS,
    batch_of,
    gradients,
    losses_of,
    method_of,
    plain_gradients,
)

from polytask.balancing import build
from polytask.errors import UserError

FIRST, *OTHERS = TASKS


def test_a_task_stops_after_patience_scores_without_progress():
    balancer = build({"early_stopping": {"patience": 2, "least": 0.01}}, method_of("hard"))
    stopped = []
    for at, score in enumerate((0.5, 0.6, 0.605, 0.59, 0.9)):  # 0.605 is too little progress
        balancer.on_scores({FIRST: score, OTHERS[0]: float(at)})
        stopped.append(balancer.has_stopped(FIRST))
    assert stopped == [False, False, False, True, True]
    assert balancer.weights(dict.fromkeys(TASKS, 1.0)).keys() == set(OTHERS)
    assert not balancer.is_done


def test_kept_tasks_never_stop_and_all_stopped_is_the_end():
    method = method_of("hard")
    with pytest.raises(UserError, match=r"keep: unknown task \"x\""):
        build({"early_stopping": {"keep": ["x"]}}, method)
    for keep in ([], [FIRST]):
        balancer = build({"early_stopping": {"patience": 1, "keep": keep}}, method)
        for _ in range(3):
            balancer.on_scores(dict.fromkeys(TASKS, 0.5))
        assert balancer.is_done == (not keep)
        assert list(balancer.weights(dict.fromkeys(TASKS, 1.0))) == keep


def test_what_only_a_stopped_task_reaches_keeps_no_gradient():
    method, batch = method_of("hard"), batch_of("single_input")
    balancer = build({"early_stopping": {"patience": 1}}, method)
    for score in (0.5, 0.4):
        balancer.on_scores({FIRST: score})
    plain = plain_gradients(method, batch)
    balancer.backward(losses_of(method, batch), method)
    own = (f"heads.{FIRST}.", f"filters.{FIRST}.")
    for name, gradient in gradients(method).items():
        assert (gradient is None) == (plain[name] is None or name.startswith(own)), name


def test_the_same_after_its_state_was_restored():
    one = build({"early_stopping": {"patience": 1}}, method_of("hard"))
    for score in (0.5, 0.4):
        one.on_scores({FIRST: score})
    other = build({"early_stopping": {"patience": 1}}, method_of("hard"))
    other.load_state_dict(torch.load(_saved(one), weights_only=True))
    assert other.has_stopped(FIRST)
    assert not other.has_stopped(OTHERS[0])


def _saved(module):
    from io import BytesIO

    buffer = BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    return buffer
