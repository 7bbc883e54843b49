"""Runs on a Ray cluster of one node fare as those of local processes do."""

import os
from importlib.util import find_spec

import pytest
from test_comparison import compare, config

from polytask.compare import pool
from polytask.compare.on_ray import Host
from polytask.compare.pool import Pool
from polytask.compare.worker import Job, Reply, Setup
from polytask.compare.workers import Worker
from polytask.errors import UserError
from polytask.training.progress import Message


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    import ray

    here = os.path.dirname(__file__)
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([here, before])  # of the nodes' processes
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()
    os.environ["PYTHONPATH"] = before


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("ray"), reason="needs the extra ray")
@pytest.mark.filterwarnings("default")
def test_a_comparison_on_a_cluster_is_that_of_local_processes(tmp_path, cluster):
    chosen = config("hard", "dies", "breaks")
    said = []
    there = compare(chosen, tmp_path / "there", said.append, on="ray")
    here = compare(chosen, tmp_path / "here")
    for data in (there.data, here.data):
        for method in data["methods"].values():
            del method["train_seconds"]
    assert there.data["methods"] == here.data["methods"]
    (lost,) = [e.text for e in said if isinstance(e, Message) and "tried again" in e.text]
    assert lost.startswith("dies/seed1: its process was ended by SIGKILL")
    assert [o.label for o in there.failures] == ["breaks/seed2"]
    assert not list(tmp_path.glob(".polytask-*"))

    with pytest.raises(UserError, match=r"shop\.yaml:3 data\.shelf: no such file"):
        compare(config(), tmp_path / "wrong", check="refuse", on="ray")
    with pytest.raises(UserError, match=r"--devices: got 3; expected at most the 2 CPUs"):
        compare(config(), tmp_path / "wide", on="ray", devices=3)
    assert not (tmp_path / "wrong").exists()
    assert not (tmp_path / "wide").exists()


def test_a_node_without_the_folder_or_with_other_code_says_so(tmp_path):
    """What an actor does on a node, without Ray."""
    setup = Setup("tiny_trainer:train", "tiny_trainer:check", b"", tmp_path)
    host = Host(setup, tmp_path / "elsewhere" / "probe", code="0")
    (error,) = host.said()
    assert isinstance(error, UserError)
    problems = [fault.problem for fault in error.faults]
    assert f"does not see {tmp_path / 'elsewhere'}; expected --out on storage" in problems[0]
    assert "has another version of polytask" in problems[1]


class Crowded:
    """A home with room for one worker; whatever comes later waits for ever."""

    def __init__(self):
        self.started = 0

    def start(self, inbox):
        self.started += 1
        return Instant(inbox) if self.started == 1 else Late()

    def close(self):
        pass


class Late(Worker):
    is_there = False

    def send(self, message):
        pass

    def wait(self, seconds):
        pass

    def end(self):
        pass

    def cause_of_death(self):
        return ""


class Instant(Late):
    is_there = True

    def __init__(self, inbox):
        self.inbox = inbox

    def send(self, message):
        self.inbox.put((self, Reply("done")))


def test_runs_that_wait_for_a_lost_nodes_room_go_to_a_worker_that_has_some(tmp_path):
    jobs = [Job("hard", seed, tmp_path, f"hard/seed{seed}") for seed in range(5)]
    ended = []
    with Pool(3, Crowded(), lambda event: None) as pool:
        pool.train(jobs, lambda job, reply: ended.append(job))
    assert sorted(job.seed for job in ended) == [0, 1, 2, 3, 4]


class Later(Instant):
    """Has no room until it was waited for."""

    is_there = False

    def send(self, message):
        self.job = message

    def comes(self):
        self.is_there = True
        self.inbox.put((self, Reply("done")))


def test_a_cluster_without_any_room_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "PATIENCE_SECONDS", 0.01)
    made, said, ended = [], [], []

    class Full(Crowded):
        def start(self, inbox):
            made.append(Later(inbox))
            return made[-1]

    def show(event):
        said.append(event.text)
        if len(said) == 2:
            made[0].comes()

    with Pool(1, Full(), show) as workers:
        job = Job("hard", 0, tmp_path, "hard/seed0")
        workers.train([job], lambda job, reply: ended.append(reply.outcome))
    assert said == ["waiting for room: all nodes are busy, or have left"] * 2
    assert ended == ["done"]


def test_a_place_that_is_none_is_refused(tmp_path):
    with pytest.raises(UserError, match=r'--on: got "rai"; .*Did you mean "ray"'):
        compare(config(), tmp_path / "out", on="rai")
    assert not (tmp_path / "out").exists()
