"""Groups of tasks: what they equal, what they keep apart, and that runs go on."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from polytask.config import read_config
from polytask.deploy.model import load
from polytask.sharing.grouped import Grouped
from polytask.training.run import Run

TASKS = ["digit", "print", "shape"]
PAIR = [["print", "shape"], ["digit"]]
BACKBONE = {"name": "resnet10", "stem": "small", "width": 0.0625}
OPTIONS: dict[str, dict[str, Any]] = {
    "multi_exit": {"exits": {"digit": "layer1", "print": "layer3", "shape": "layer4"}},
    "nested_net": {"scheme": "weight"},
    "multi_path": {"branches": {"digit": "layer1", "print": "layer3", "shape": "layer4"}},
    "mmoe": {"experts": 2},
}
TOGETHER = ("hard", "multi_exit", "multi_path", "mtan", "layer_lasso", "nested_net", "mmoe")
LINKED = ("cross_stitch", "nddr", "snr")


def comparison(methods, **top):
    train = {"epochs": 2, "batch": 30, "clip": 1.0, **top.pop("train", {})}
    return read_config(
        {
            "data": {
                "digits": {"source": "digits", "fraction": 0.04, "size": 12},
                "prints": {"source": "printed_digits", "count": 60, "size": 12},
                "scenes": {"source": "shapes", "count": 60, "size": 24},
            },
            "tasks": {
                "digit": {"kind": "classification", "data": "digits"},
                "print": {"kind": "classification", "data": "prints"},
                "shape": {"kind": "classification", "data": "scenes", "label": "shape"},
            },
            "mixing": "multi_input",
            "backbone": BACKBONE,
            "methods": methods,
            "train": train,
            "seeds": 1,
            **top,
        }
    )


@pytest.fixture
def built(tmp_path):
    """Builds a method of a config as a run would."""

    def build(config, key):
        return Run.alone(config, config.method(key), 0)

    return build


def paths(folder):
    model = load(folder)
    return {task: model.path(task).state_dict() for task in model.tasks}


def assert_same_paths(one, other):
    """Bit for bit, whatever the path's parts are called."""
    assert one.keys() == other.keys()
    for task in one:
        pairs = list(zip(one[task].values(), other[task].values(), strict=True))
        assert all(torch.equal(a, b) for a, b in pairs), task


# What groups equal.


@pytest.mark.parametrize("match", ["samples", "epochs"])
def test_every_task_alone_is_the_single_networks(run_in, match):
    config = comparison(["single", {"mtan": {"groups": [["digit"], ["shape"]]}}], match=match)
    single, one = run_in(config, "single")
    grouped, other = run_in(config, "mtan")
    assert_same_paths(paths(one), paths(other))
    assert (single["tasks"], single["samples"]) == (grouped["tasks"], grouped["samples"])


def test_one_group_is_the_method_itself(built):
    config = comparison(["hard", {"hard": {"groups": [TASKS[::-1]], "as": "together"}}])
    plain, together = (built(config, key).method for key in ("hard", "together"))
    assert type(together) is type(plain)
    one, other = plain.state_dict(), together.state_dict()
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_group_learns_what_it_would_alone(run_in):
    """Beside another network each sees the batches, and takes the steps, of its own comparison."""
    both = comparison([{"hard": {"groups": PAIR}}], mixing="integrated", image_size=24)
    _, folder = run_in(both, "hard")
    alone = comparison(["single"], mixing="integrated", image_size=24)
    _, single = run_in(alone, "single")
    assert_same_paths({"digit": paths(single)["digit"]}, {"digit": paths(folder)["digit"]})


@pytest.mark.parametrize("init", ["common", "independent"])
def test_networks_start_alike_unless_asked(built, init):
    groups = built(comparison([{"hard": {"groups": PAIR}}], init=init), "hard").method.groups
    first = [next(iter(part.parameters())) for part in groups]
    assert torch.equal(*first) == (init == "common")


# What groups are.


@pytest.mark.parametrize("name", [*TOGETHER, *LINKED, "packnet", "adashare"])
def test_groups_share_nothing_with_one_another(built, name):
    top = {"backbone": {**BACKBONE, "name": "resnet18"}} if name == "layer_lasso" else {}
    entry = {name: {"groups": PAIR, **OPTIONS.get(name, {})}}
    config = comparison([entry], train={"epochs": 4}, **top)
    method = built(config, name).method
    assert isinstance(method, Grouped)
    assert method.how()["groups"] == [["digit"], ["print", "shape"]]
    digit, print_, shape = (method.view(task) for task in TASKS)
    assert not digit & (print_ | shape)
    assert bool(print_ & shape) == bool(method.shared())
    assert {owner for _, owner in method.units_of("digit")} == {"digit"}
    assert "shared" not in {owner for _, owner in method.units_of("shape")}


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ({"single": {"groups": PAIR}}, "share nothing"),
        ({"aux_encoders": {"groups": PAIR}}, "in the group of print, shape, no task answers"),
    ],
)
def test_what_cannot_be_grouped_is_refused(built, entry, wanted):
    with pytest.raises(Exception, match=wanted) as refused:
        built(comparison([entry]), next(iter(entry)))
    assert refused.type.__name__ == "UserError"


# Training.


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hard", {"regularize": "kl", "filter": True}),
        ("hard", {"update": "temporal_ensemble"}),
        ("packnet", {}),
        ("adashare", {}),
    ],
)
def test_a_stopped_run_ends_in_the_same_bits(run_in, name, options):
    """Phases together or in turn, with modules, terms and other update rules."""
    top = {"train": {"epochs": 4 if name == "adashare" else 2}}
    if options.get("update"):
        top["mixing"], top["image_size"] = "integrated", 24
    config = comparison(["single", {name: {"groups": PAIR, **options}}], **top)
    _, straight = run_in(config, name)
    _, stopped = run_in(config, name, "stopped", stops=(1, 3))
    weights = [(folder / "model.safetensors").read_bytes() for folder in (straight, stopped)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(("name", "options"), [("multi_path", {}), ("mtda", {"side": 8})])
def test_teachers_and_closed_forms_serve_every_group(run_in, name, options):
    config = comparison(["single", {name: {"groups": PAIR, **options}}], train={"epochs": 1})
    result, _ = run_in(config, name)
    assert set(result["tasks"]) == set(result["samples"]) == set(TASKS)
    assert all(result["samples"].values())


def test_balancers_see_the_losses_of_all_groups(run_in):
    config = comparison([{"hard": {"groups": PAIR}}], balancing="gradnorm", train={"epochs": 1})
    result, _ = run_in(config, "hard")
    assert set(result["tasks"]) == set(TASKS)
