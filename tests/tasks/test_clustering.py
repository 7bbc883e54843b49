"""Clustering: DEC's equations and scores against worked numbers; runs that resume; digits."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from polytask.config import read_config
from polytask.errors import UserError
from polytask.tasks.dec import (
    ClusterScores,
    divergence,
    matched_accuracy,
    recall_at,
    soft_assignment,
    target_distribution,
)
from polytask.training.checkpoint import load_weights
from polytask.training.run import Run, Stopped, train_run

Z = torch.tensor([[0.0, 0], [1, 0], [3, 3]], dtype=torch.float64)
CENTRES = torch.tensor([[0.0, 0], [3, 2]], dtype=torch.float64)
TRUE, FOUND = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 1, 1])


def close(found, wanted):
    assert_close(found, torch.tensor(wanted, dtype=found.dtype), atol=1e-6, rtol=0)


def test_worked_numbers():
    q = soft_assignment(Z, CENTRES)
    close(q, [[0.933333, 0.066667], [0.818182, 0.181818], [0.095238, 0.904762]])
    close(q.sum(0), [1.846753, 1.153247])
    p = target_distribution(q)
    close(p, [[0.991896, 0.008104], [0.926716, 0.073284], [0.006872, 0.993128]])
    loss = divergence(p, q)
    close(loss.sum(), 0.166610)
    close(loss.mean(), 0.055537)


def test_worked_scores():
    metric = ClusterScores()
    q = torch.nn.functional.one_hot(torch.from_numpy(FOUND)).float()
    metric.update({"z": q, "q": q}, torch.from_numpy(TRUE))
    scores = metric.compute()
    close(scores["nmi"], 0.478704)
    close(scores["ari"], 0.324324)
    close(scores["accuracy"], 5 / 6)


@given(st.integers(2, 12), st.integers(2, 5), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_targets_are_distributions_and_renaming_clusters_changes_nothing(n, k, seed):
    torch.manual_seed(seed)
    z, centres = torch.randn(n, 3, dtype=torch.float64), torch.randn(k, 3, dtype=torch.float64)
    q = soft_assignment(z, centres)
    p = target_distribution(q)
    for each in (q, p):
        assert_close(each.sum(1), torch.ones(n, dtype=torch.float64))
    assert (divergence(p, q) >= -1e-12).all()
    order = torch.randperm(k)
    assert_close(target_distribution(soft_assignment(z, centres[order])), p[:, order])
    classes = torch.randint(0, k, (n,)).numpy()
    assert matched_accuracy(order.numpy()[classes], classes) == 1.0


def test_targets_are_sharper_where_clusters_are_balanced():
    q = torch.tensor([[0.6, 0.4], [0.4, 0.6]])
    close(target_distribution(q), [[0.36 / 0.52, 0.16 / 0.52], [0.16 / 0.52, 0.36 / 0.52]])


def test_recall_counts_neighbours_by_direction():
    z = torch.tensor([[1.0, 0], [9, 0.1], [0, 1], [0.1, 3], [1, 0.9]])
    classes = torch.tensor([0, 0, 1, 1, 1])
    assert recall_at(z, classes, 1) == pytest.approx(0.8)  # the last one's nearest is of class 0
    assert recall_at(z, classes, 4) == 1.0


def digits(methods=("hard",), **options):
    return read_config(
        {
            "data": {"hand": {"source": "digits", "size": 16}},
            "tasks": {"group": {"kind": "clustering", "data": "hand", **options}},
            "backbone": {"name": "resnet10", "stem": "small", "width": 0.125},
            "methods": list(methods),
            "train": {"epochs": 2, "batch": 128, "optimizer": {"name": "adam", "lr": 0.001}},
            "seeds": 1,
        }
    )


def test_stopped_in_every_phase_clustering_ends_in_the_same_bits(tmp_path):
    config = digits(autoencoder=1, interval=3)

    def run(name, **options):
        return train_run(config, config.method("hard"), 0, tmp_path / name, **options)

    straight = run("straight")
    for stop in (4, 10, 12, 16, 25):
        with pytest.raises(Stopped):
            run("stopped", resume=True, stop_after=stop)
    assert run("stopped", resume=True)["tasks"] == straight["tasks"]
    bits = [(tmp_path / n / "model.safetensors").read_bytes() for n in ("straight", "stopped")]
    assert bits[0] == bits[1]
    assert not any(
        "decoder" in name for name in json.loads((tmp_path / "straight/cost.json").read_text())
    )


def test_training_looks_at_no_class(tmp_path):
    """Blank classes leave the weights as they are; scores take what is known."""
    config = digits(autoencoder=0, interval=5)
    blank = digits(autoencoder=0, interval=5, classes=["0", "1"], clusters=10)
    for name, made in (("known", config), ("blank", blank)):
        train_run(made, made.method("hard"), 0, tmp_path / name)
    bits = [(tmp_path / n / "model.safetensors").read_bytes() for n in ("known", "blank")]
    assert bits[0] == bits[1]


def test_without_refinement_centres_are_those_of_k_means(tmp_path):
    """Each is the mean of the training images nearest to it, as the encoder ends up."""
    config = digits(autoencoder=1, refine=False)
    result = train_run(config, config.method("hard"), 0, tmp_path / "run")
    run = Run.alone(config, config.method("hard"), 0)
    assert result["samples"]["group"] == len(run.data.sets["hand"].splits["train"])
    load_weights(tmp_path / "run/model.safetensors", run.method)
    run.method.eval()
    with torch.no_grad():
        found = [run.method(batch).predictions["group"] for batch in run.data.scoring("train")]
    z, q = (torch.cat([part[key] for part in found]) for key in "zq")
    means = torch.stack([z[q.argmax(1) == k].mean(0) for k in range(10)])
    assert_close(means, run.method.heads["group"].centres.detach(), atol=1e-3, rtol=1e-3)


def test_methods_of_other_phases_are_refused_before_anything_is_written(tmp_path):
    config = digits(["adashare"])
    longer = config.train.model_copy(update={"epochs": 4})
    config = config.model_copy(update={"train": longer})
    with pytest.raises(UserError, match="clustering needs phases of joint training"):
        train_run(config, config.method("adashare"), 0, tmp_path / "run")
    assert not (tmp_path / "run").exists()
