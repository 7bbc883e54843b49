"""results.json: the fields that INTERFACE fixes, with hand-worked numbers and runs that failed."""

import dataclasses
import json
import random
from statistics import median

import pytest
from run_results import finished

from polytask.compare.outcome import Outcome
from polytask.compare.summary import Plan, Summary


def summed(plan, outcomes):
    return Summary(plan, outcomes).as_dict({}, {})


def without(outcomes, method, seed):
    return [o for o in outcomes if (o.method, o.seed) != (method, seed)]


def test_fields_are_those_of_the_interface(data):
    assert {"methods", "config", "versions"} <= set(data)
    assert list(data["methods"]) == ["single", "hard"]
    for method in data["methods"].values():
        assert {"tasks", "delta_m", "verdict", "cost", "health", "train_seconds"} <= set(method)
        for metrics in method["tasks"].values():
            for spread in metrics.values():
                assert set(spread) == {"mean", "std", "per_seed"}
    hard = data["methods"]["hard"]
    assert set(hard["tasks"]["read"]) == {"accuracy", "mean_class_accuracy"}
    assert set(hard["verdict"]) == {"overall", "tasks"}
    for verdict in (hard["verdict"]["overall"], *hard["verdict"]["tasks"].values()):
        assert set(verdict) == {"value", "reason"}
    assert hard["cost"]["total"] == {"params": 300, "macs": 9000}
    assert hard["cost"]["tasks"]["depth"]["macs"] == 4000
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_single_is_its_own_measure(data):
    assert data["methods"]["single"]["delta_m"] is None
    assert data["methods"]["single"]["verdict"] is None


def test_means_and_deviations_are_over_the_seeds(data):
    accuracy = data["methods"]["hard"]["tasks"]["read"]["accuracy"]
    assert accuracy["per_seed"] == [0.84, 0.80, 0.88]
    assert accuracy["mean"] == pytest.approx(0.84)
    assert accuracy["std"] == pytest.approx(0.04)  # √((0² + 0.04² + 0.04²)/2)


def test_delta_m_and_its_interval_are_in_percent(data):
    found = data["methods"]["hard"]["delta_m"]
    assert found["mean"] == pytest.approx(5 / 3)
    assert found["ci95"] == pytest.approx([-5.50442, 8.83775], abs=1e-4)
    assert found["per_seed"] == pytest.approx([5, 0, 0])
    gain = data["methods"]["hard"]["gains"]["depth"]
    assert gain["per_seed"] == pytest.approx([5, 0, -10])


def test_the_order_in_which_runs_end_changes_nothing(plan, outcomes, data):
    mixed = random.Random(3).sample(outcomes, len(outcomes))
    assert Summary(plan, mixed).as_dict({"seeds": [0, 1, 2]}, {"python": "3"}) == data


def test_per_seed_follows_the_seeds_of_the_config(outcomes):
    plan = Plan(["single", "hard"], [2, 0, 1], ["read", "depth"], {})
    hard = summed(plan, outcomes)["methods"]["hard"]
    assert hard["tasks"]["read"]["accuracy"]["per_seed"] == [0.88, 0.84, 0.80]
    assert hard["delta_m"]["per_seed"] == pytest.approx([0, 5, 0])


def test_a_diverged_run_leaves_a_hole_and_its_tasks_health(plan, outcomes):
    lost = Outcome("hard", 1, failure="diverged", reason="the loss became nan", task="depth")
    hard = summed(plan, [*without(outcomes, "hard", 1), lost])["methods"]["hard"]
    assert hard["tasks"]["read"]["accuracy"]["per_seed"] == [0.84, None, 0.88]
    assert hard["tasks"]["read"]["accuracy"]["mean"] == pytest.approx(0.86)
    assert hard["health"] == {"read": "learning", "depth": "diverged"}
    overall = hard["verdict"]["overall"]
    assert overall["value"] == "unclear"
    assert overall["reason"].startswith("seed 1 diverged (task depth); the others: 2 seeds, ")
    assert hard["failed"] == [
        {"seed": 1, "failure": "diverged", "task": "depth", "reason": "the loss became nan"}
    ]


def test_a_gradient_that_diverges_spoils_every_task(plan, outcomes):
    lost = Outcome("hard", 1, failure="diverged", task="gradient")
    hard = summed(plan, [*without(outcomes, "hard", 1), lost])["methods"]["hard"]
    assert hard["health"] == {"read": "diverged", "depth": "diverged"}


def test_a_method_whose_every_run_failed_has_no_scores(plan, outcomes):
    failed = [Outcome("hard", seed, failure="failed", reason="x") for seed in range(3)]
    hard = summed(plan, [*outcomes[:3], *failed])["methods"]["hard"]
    assert hard["tasks"] == {"read": {}, "depth": {}}
    assert hard["delta_m"]["mean"] is None
    assert hard["delta_m"]["ci95"] == [None, None]
    assert hard["train_seconds"] is None
    assert hard["health"] == {}
    assert hard["verdict"]["overall"]["reason"] == "seed 0 failed, seed 1 failed, seed 2 failed"


def test_without_a_baseline_there_is_no_verdict(plan, outcomes):
    failed = [Outcome("single", seed, failure="failed", reason="x") for seed in range(3)]
    hard = summed(plan, [*failed, *outcomes[3:]])["methods"]["hard"]
    assert hard["verdict"]["overall"]["value"] == "unclear"
    assert hard["verdict"]["overall"]["reason"].startswith("single-task seed 0 failed")
    assert hard["tasks"]["read"]["accuracy"]["mean"] == pytest.approx(0.84)


def test_a_failed_baseline_takes_its_seed_out(plan, outcomes):
    lost = Outcome("single", 2, failure="failed", reason="x")
    hard = summed(plan, [*without(outcomes, "single", 2), lost])["methods"]["hard"]
    assert hard["delta_m"]["per_seed"] == pytest.approx([5, 0, None])


def test_tasks_left_out_are_listed_with_their_reason(outcomes):
    plan = Plan(["single", "hard"], [0, 1, 2], ["read", "depth"], {"depth": "pretext task"})
    hard = summed(plan, outcomes)["methods"]["hard"]
    assert hard["delta_m"]["per_seed"] == pytest.approx([5, 0, 10])
    assert hard["delta_m"]["left_out"] == {"depth": "pretext task"}
    assert hard["verdict"]["tasks"]["depth"] == {"value": "unclear", "reason": "pretext task"}
    assert hard["verdict"]["overall"]["reason"].endswith("left out: depth (pretext task)")


def test_health_is_the_worst_of_the_seeds_and_part_of_the_verdict(plan, outcomes):
    weak = finished("hard", 1, 0.1, 2.0, health="at_chance")
    hard = summed(plan, [*without(outcomes, "hard", 1), weak])["methods"]["hard"]
    assert hard["health"] == {"read": "at_chance", "depth": "learning"}
    assert hard["verdict"]["tasks"]["read"]["reason"].endswith("; at chance")
    assert "chance" not in hard["verdict"]["tasks"]["depth"]["reason"]


def test_sampling_error_is_named_for_accuracies_alone(plan):
    # Equal gains in every seed: the 400 test images are then the larger error by far.
    outcomes = [
        finished(method, seed, *scores)
        for method, scores in (("single", (0.5, 2.0)), ("hard", (0.51, 1.9)))
        for seed in range(3)
    ]
    verdict = summed(plan, outcomes)["methods"]["hard"]["verdict"]
    assert verdict["tasks"]["read"]["value"] == "helps"
    assert "400 test images alone leave up to ±" in verdict["tasks"]["read"]["reason"]
    assert "test images" not in verdict["tasks"]["depth"]["reason"]
    assert "test" not in verdict["overall"]["reason"]


def test_a_task_without_labels_has_no_scores(plan, outcomes):
    bare = []
    for o in outcomes:
        tasks = {"read": o.result["tasks"]["read"]}
        counts, health = {"read": 400}, {"read": "learning", "depth": "no_labels"}
        result = {**o.result, "tasks": tasks, "test_counts": counts, "health": health}
        bare.append(dataclasses.replace(o, result=result))
    data = summed(plan, bare)
    hard = data["methods"]["hard"]
    assert hard["tasks"]["depth"] == {}
    assert hard["health"]["depth"] == "no_labels"
    assert hard["verdict"]["tasks"]["depth"]["reason"] == "no single-task score"
    assert data["tasks"]["depth"]["test_images"] == 0


def test_a_metric_that_is_no_number_is_null(plan, outcomes):
    nan = finished("hard", 1, float("nan"), 2.0)
    hard = summed(plan, [*without(outcomes, "hard", 1), nan])["methods"]["hard"]
    assert hard["tasks"]["read"]["accuracy"]["per_seed"][1] is None
    assert hard["delta_m"]["left_out"] == {"read": "no own score"}


def test_latency_is_the_median_of_the_runs(plan, outcomes):
    for outcome, milliseconds in zip(
        [o for o in outcomes if o.method == "hard"], (3.0, 9.0, 4.0), strict=False
    ):
        outcome.result["latency_ms"] = {"read": milliseconds, "depth": 1.0}
    methods = summed(plan, outcomes)["methods"]
    found = methods["hard"]["cost"]["tasks"]["read"]
    measured = [o.result["latency_ms"]["read"] for o in outcomes if o.method == "hard"]
    assert found == {"params": 200, "macs": 5000, "latency_ms": median(measured)}
    assert methods["single"]["cost"]["tasks"]["read"] == {"params": 200, "macs": 5000}


def test_training_time_is_that_of_one_run(plan, outcomes):
    slow = finished("hard", 1, 0.8, 2.0, seconds=40.0)
    hard = summed(plan, [*without(outcomes, "hard", 1), slow])["methods"]["hard"]
    assert hard["train_seconds"] == pytest.approx(20.0)
