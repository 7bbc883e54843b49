"""The verdict in words: never more than the intervals and seeds allow."""

from polytask.report.records import (
    Cost,
    Failure,
    Gain,
    Judgement,
    MethodResult,
    RunResult,
    Size,
    Verdict,
)
from polytask.report.wording import headline, recommendation, run_headline, sentence


def judged(
    value,
    mean=None,
    bounds=None,
    tasks=None,
    macs=50,
    reason="",
    on_validation=None,
    per_seed=(),
    failed=(),
):
    return MethodResult(
        delta_m=Gain(mean=mean, ci95=bounds, per_seed=per_seed),
        failed=[Failure(seed=seed) for seed in failed],
        validation_delta_m=on_validation,
        verdict=Verdict(
            overall=Judgement(value=value, reason=reason),
            tasks={t: Judgement(value=v) for t, v in (tasks or {}).items()},
        ),
        tasks={t: {} for t in tasks or {}},
        cost=Cost(total=Size(params=macs, macs=macs)),
    )


SINGLE = MethodResult(cost=Cost(total=Size(params=100, macs=100)))


def test_the_interval_is_said_even_where_the_reason_leaves_it_out():
    told = sentence("hard", judged("helps", 2.0, (1.0, 3.0), reason="over 3 seeds"), 3)
    assert "+2.0 % [1.0, 3.0]" in told.text
    assert "over 3 seeds" in told.text
    reason = "+2.0 % [1.0, 3.0] over 3 seeds; 270 test images alone leave up to ±4 %"
    assert sentence("hard", judged("helps", 2.0, (1.0, 3.0), reason=reason), 3).text == reason


def test_an_interval_over_zero_is_no_difference_shown():
    text = sentence("hard", judged("unclear", 0.2, (-1.0, 1.4)), 3).text
    assert text == "no difference shown at 3 seeds: +0.2 % [−1.0, 1.4]"


def test_single_has_no_sentence():
    assert sentence("single", SINGLE, 3) is None


def test_tasks_are_named_by_verdict():
    told = sentence("hard", judged("unclear", tasks={"a": "hurts", "b": "helps", "c": "helps"}), 3)
    assert told.tasks == "Helps b and c; hurts a"
    assert sentence("hard", judged("helps", tasks={"a": "helps", "b": "helps"}), 3).tasks == (
        "Helps every task"
    )


def test_headlines_follow_the_verdicts():
    helps, hurts = judged("helps", 2, (1, 3)), judged("hurts", -2, (-3, -1))
    over_zero, open_ = judged("unclear", 0.1, (-1, 1.2)), judged("unclear", 2.0)
    assert headline({"single": SINGLE}, 3).startswith("Single-task networks alone")
    assert headline({"single": SINGLE}, 3, is_over=False) == "No verdict yet."
    assert "a beats single-task" in headline({"single": SINGLE, "a": helps, "b": hurts}, 3)
    assert "a and b beat single-task" in headline({"a": helps, "b": helps}, 3)
    assert headline({"a": hurts}, 3) == "Sharing hurts these tasks on average."
    assert headline({"a": over_zero}, 3) == "No difference shown at 3 seeds."
    assert headline({"a": over_zero, "b": hurts}, 3) == "No difference shown at 3 seeds; b hurts."
    assert headline({"a": open_}, 1) == "Unclear at 1 seed."
    one = judged("helps", 2, (1, 3), tasks={"t": "helps"})
    assert headline({"single": SINGLE, "a": one}, 3) == "a beats the plain network."


def test_among_methods_that_help_validation_data_decide_and_not_the_test():
    a = judged("helps", 5.0, (1.0, 9.0), on_validation=1.0)
    b = judged("helps", 3.0, (2.0, 4.0), on_validation=2.0)
    what, why = recommendation({"single": SINGLE, "a": a, "b": b}, 3)
    assert what == "Use b."
    assert "best of the 2 methods that help, on validation data" in why
    assert "50 % of the single-task networks' MACs" in why


def test_a_task_that_the_best_method_hurts_keeps_a_network_of_its_own():
    a = judged("helps", 2.0, (1.0, 3.0), tasks={"x": "helps", "y": "hurts"})
    assert "network of its own for y" in recommendation({"single": SINGLE, "a": a}, 3)[1]


def test_nothing_is_recommended_beyond_the_evidence():
    over_zero = judged("unclear", 0.1, (-1.3, 1.5))
    dear = judged("unclear", 0.1, (-1.3, 1.5), macs=150)
    hurts = judged("hurts", -2.0, (-3.0, -1.0))
    assert recommendation({"single": SINGLE}, 3) is None
    assert recommendation({"single": SINGLE, "a": hurts}, 3)[0] == "Keep the single-task networks."
    assert "at least 3 seeds" in recommendation({"single": SINGLE, "a": over_zero}, 2)[0]
    what, why = recommendation({"single": SINGLE, "a": over_zero}, 3)
    assert what.startswith("Keep the single-task networks, or use a")
    assert "−1.3 % cannot be ruled out" in why
    assert "use a" not in " ".join(recommendation({"single": SINGLE, "a": dear}, 3))
    hurting = judged("unclear", 0.1, (-1.3, 1.5), tasks={"x": "hurts"})
    assert "use a" not in " ".join(recommendation({"single": SINGLE, "a": hurting}, 3))


def test_a_method_with_a_failed_run_is_not_recommended_and_says_its_own_seeds():
    over_zero = judged("unclear", 0.1, (-1.3, 1.5), per_seed=[0.0, 0.1, 0.2])
    fallen = judged("unclear", 0.1, (-1.3, 1.5), per_seed=[0.0, 0.2, None], failed=[2])
    assert "at 2 seeds: +0.1 %" in sentence("a", fallen, 3).text
    assert headline({"a": fallen}, 3) == "No difference shown at 2 seeds."
    assert headline({"a": fallen, "b": over_zero}, 3) == "No difference shown at 2 to 3 seeds."
    what, why = recommendation({"single": SINGLE, "a": fallen}, 3)
    assert what == "Keep the single-task networks."
    assert why.startswith("Runs of a failed")
    assert "use b" in recommendation({"single": SINGLE, "a": fallen, "b": over_zero}, 3)[0]
    fewer = judged("unclear", 0.1, (-1.3, 1.5), per_seed=[0.0, 0.2, None])
    assert "at least 3 seeds" in recommendation({"single": SINGLE, "a": fewer}, 3)[0]


def test_where_single_task_runs_failed_nothing_is_decided():
    single = SINGLE.model_copy(update={"failed": [Failure(seed=3)]})
    a = judged("unclear", 0.1, (-1.3, 1.5), per_seed=[0.0, 0.1, 0.2, None])
    what, why = recommendation({"single": single, "a": a}, 4)
    assert what == "Decide nothing yet."
    assert why.startswith("Runs of single failed")


def test_a_run_is_headed_by_its_primary_scores():
    result = RunResult(
        tasks={"a": {"other": 0.1, "accuracy": 0.5}, "depth": {"abs_error": 0.25}},
        primary={"a": "accuracy", "depth": "abs_error"},
    )
    assert run_headline(result) == "a: 50.0 % accuracy; depth: 0.250 abs error"
    assert run_headline(None) == "This run has not finished."


def test_a_method_that_saves_next_to_nothing_is_not_recommended_for_its_cost():
    for macs, said in ((99, "or run more seeds"), (80, "or use hard if cost matters")):
        methods = {"single": SINGLE, "hard": judged("unclear", 0.2, (-1.0, 1.4), macs=macs)}
        assert said in recommendation(methods, 3)[0]
