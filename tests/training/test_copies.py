"""Copies of the shared weights, trained one after another or in several processes."""

import json

import pytest
from test_temporal_ensemble import PRETEXT

from polytask.training.copies import owners
from polytask.training.run import Run, Stopped

UPDATE = {"name": "temporal_ensemble", "average": 2, "norm_batches": 1}


def entry(**options):
    return {"hard": {"update": {**UPDATE, **options}, "regularize": "kl"}}


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_processes_get_even_shares_of_the_pixels(config):
    loop = Run.alone(made := config([entry()], PRETEXT), made.method("hard"), 0)
    loop.world.size = 2
    found = owners(loop, list(PRETEXT["tasks"]))
    # Three patches of 7 × 7 pixels a turn; whole pictures of 16 × 16 elsewhere.
    assert found["again"] != found["read"]
    assert sorted(found.values()).count(found["turn"]) == 2


def test_a_chain_goes_on_where_the_task_before_it_ended(config, run_in):
    """The first task of an epoch trains as it would side by side; from there on all differ."""
    impacts, steps = {}, {}
    for schedule in ("parallel", "sequential"):
        made = config([entry(schedule=schedule)], PRETEXT, epochs=1, schedule="constant")
        _, folder = run_in(made, "hard", schedule)
        row = rows(folder)[0]
        impacts[schedule] = {task: row[f"impact/{task}"] for task in PRETEXT["tasks"]}
        steps[schedule] = row["step"]
    assert steps["parallel"] == steps["sequential"]
    alike = [t for t in PRETEXT["tasks"] if impacts["parallel"][t] == impacts["sequential"][t]]
    assert len(alike) == 1
    # What tasks before it moved counts for a later one: distances are from the ensemble.
    assert max(impacts["sequential"].values()) > max(impacts["parallel"].values())


def test_a_chain_resumes_in_the_same_bits(config, run_in):
    made = config([entry(schedule="sequential")], PRETEXT, epochs=2)
    _, whole = run_in(made, "hard", "whole")
    with pytest.raises(Stopped):
        run_in(made, "hard", "cut", stop_after=2)
    _, cut = run_in(made, "hard", "cut", resume=True)
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_two_processes_train_the_copies_in_the_bits_of_one(config, run_in):
    """Begun on two, stopped amid an epoch, ended on one; and all of it on two."""
    made = config([entry()], PRETEXT, epochs=2)
    _, one = run_in(made, "hard", "one")
    with pytest.raises(Stopped):
        run_in(made, "hard", "mixed", devices=2, stop_after=2)
    run_in(made, "hard", "mixed", resume=True)
    run_in(made, "hard", "two", devices=2)
    wanted = (one / "model.safetensors").read_bytes()
    for name in ("mixed", "two"):
        folder = run_in.folder("hard", name)
        assert (folder / "model.safetensors").read_bytes() == wanted
        for mine, other in zip(rows(one), rows(folder), strict=True):
            trained = mine["split"] == "train"
            del mine["seconds"], other["seconds"]
            assert mine == (other if trained else pytest.approx(other))
