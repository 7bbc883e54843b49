"""Runs with balancers: stopped ones end in the same bits, and configs name them rightly."""

import json

import pytest

from polytask import registry
from polytask.config import read_config
from polytask.errors import ConfigError
from polytask.training.run import Stopped, train_run

BALANCERS = {
    "dwa": {},
    "gradnorm": {"lr": 0.1},
    "uncertainty": {},
    "pcgrad": {},
    "dtp": {},
    "gradvac": {},
}


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def unbalanced(config, tmp_path_factory):
    """What three epochs without a balancer end in."""
    made = config(["hard"], epochs=3)
    folder = tmp_path_factory.mktemp("unbalanced") / "hard"
    train_run(made, made.method("hard"), 0, folder)
    return weights(folder)


@pytest.mark.parametrize("name", BALANCERS)
def test_a_stopped_run_ends_in_the_same_bits(config, run_in, unbalanced, name):
    """In the first epoch, at its end, and after the second, when epoch means are remembered."""
    made = config(["hard"], {"balancing": {name: BALANCERS[name]}}, epochs=3)
    _, straight = run_in(made, "hard")
    lines = (straight / "metrics.jsonl").read_text("utf-8").splitlines()
    steps = json.loads(lines[0])["step"]
    for stop in (1, steps, 2 * steps + 1):
        with pytest.raises(Stopped):
            run_in(made, "hard", "stopped", resume=True, stop_after=stop)
    _, resumed = run_in(made, "hard", "stopped", resume=True)
    assert weights(straight) == weights(resumed)
    assert weights(straight) != unbalanced


def test_single_is_trained_by_plain_sums(config, run_in):
    """Weights would be learning rates of the baseline: nothing is shared, nothing balanced."""
    _, plain = run_in(config(["single"], epochs=1), "single", "plain")
    balanced = config(["single"], {"balancing": "uncertainty"}, epochs=1)
    _, other = run_in(balanced, "single", "balanced")
    assert weights(plain) == weights(other)


def test_a_balancer_that_does_not_exist_is_told_with_the_nearest(tmp_path):
    path = tmp_path / "shop.yaml"
    path.write_text("data: {d: {source: digits}}\nbalancing: gradnrm\n", "utf-8")
    with pytest.raises(ConfigError, match=r'unknown balancer "gradnrm".*Did you mean "gradnorm"'):
        read_config(path)


def test_an_option_that_does_not_exist_is_told_with_the_nearest(config):
    with pytest.raises(ConfigError, match=r'temprature.*"?temperature"?'):
        config(["hard"], {"balancing": {"dwa": {"temprature": 1}}})


def test_every_balancer_can_be_configured_by_its_bare_name(config):
    for name in registry.names("balancing"):
        made = config(["hard"], {"balancing": name})
        spec = made.balancing
        assert (spec if isinstance(spec, str) else next(iter(spec))) == name
        assert read_config(made.data_dict()) == made


@pytest.mark.parametrize(
    "spec",
    [
        {"fixed": {"weights": {"read_prin": 2}}},
        {"dwa": {"prior": {"read_prin": 2}}},
        {"dwa": {"cutoff": {"read_prin": 0.1}}},
    ],
)
def test_a_task_that_does_not_exist_is_told_with_the_nearest(config, spec):
    with pytest.raises(ConfigError, match=r'unknown task "read_prin".*Did you mean "read_print"\?'):
        config(["hard"], {"balancing": spec})


def test_training_ends_when_every_task_has_stopped(config, run_in):
    """A learning rate of almost 0 changes no score: each task stops after the second epoch."""
    rule = {"early_stopping": {"patience": 1}}
    still = {"name": "sgd", "lr": 1e-12}
    made = config(["hard"], {"balancing": rule}, epochs=9, optimizer=still)
    result, folder = run_in(made, "hard")
    rows = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    assert sum('"split": "train"' in row for row in rows) < 9
    assert result["samples"]["read_print"] < 9 * 90
