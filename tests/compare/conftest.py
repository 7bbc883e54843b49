"""A small comparison, finished, with numbers that can be worked by hand."""

import pytest
from run_results import finished

from polytask.compare.summary import Plan, Summary

SINGLE = [(0.80, 2.0), (0.80, 2.0), (0.80, 2.0)]
HARD = [(0.84, 1.9), (0.80, 2.0), (0.88, 2.2)]


@pytest.fixture
def plan():
    return Plan(["single", "hard"], [0, 1, 2], ["read", "depth"], {})


@pytest.fixture
def outcomes():
    return [
        finished(method, seed, *scores)
        for method, table in (("single", SINGLE), ("hard", HARD))
        for seed, scores in enumerate(table)
    ]


@pytest.fixture
def data(plan, outcomes):
    return Summary(plan, outcomes).as_dict({"seeds": [0, 1, 2]}, {"python": "3"})
