"""Methods of several phases: resumed to the bit inside each, at the budget of joint training."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from polytask.training import checkpoint
from polytask.training.dry_run import dry_run
from polytask.training.run import Run, Stopped

KEYS = ["packnet", "adashare"]


def rows(folder):
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def ends(folder):
    """The step at which each phase ends, counted through all of them."""
    found, done = {}, 0
    last = {}
    for row in rows(folder):
        if row["split"] == "train":
            last[row["phase"]] = row["step"]
    for phase, steps in last.items():
        done += steps
        found[phase] = done
    return found


@pytest.mark.parametrize("key", KEYS)
def test_stopped_anywhere_a_run_ends_in_the_same_bits(config, run_in, key):
    """Just before, at and after the end of every phase, and inside of it."""
    made = config([key], epochs=3)
    straight, folder = run_in(made, key)
    cuts = sorted({cut for end in ends(folder).values() for cut in (end - 2, end, end + 1)})
    for stop in cuts[:-1]:
        with pytest.raises(Stopped):
            run_in(made, key, "stopped", resume=True, stop_after=stop)
    resumed, other = run_in(made, key, "stopped", resume=True)
    assert weights(folder) == weights(other)
    assert rows(folder) == rows(other)
    assert (folder / "cost.json").read_bytes() == (other / "cost.json").read_bytes()
    assert straight["tasks"] == resumed["tasks"]


def test_a_condition_ends_a_phase_between_epochs_only(config):
    """A run that resumes amid an epoch finishes it, as one that was not stopped does."""
    made = config(["hard"], epochs=3)
    run = Run.alone(made, made.method("hard"), 0)
    (phase,) = run.plan(run.untrained_single_paths)
    loop = run._loop(replace(phase, until=lambda _: True))
    done = []
    for place in ((0, 0), (0, 2), (1, 0), (1, 2), (1, loop.steps), (3, 0)):
        loop.epoch, loop.step_in_epoch = place
        done += [place] if loop.is_done else []
    assert done == [(1, 0), (3, 0)]


@pytest.mark.parametrize("mixing", ["integrated", "multi_input"])
@pytest.mark.parametrize("key", KEYS)
def test_phases_together_see_the_images_of_joint_training(config, run_in, key, mixing):
    made = config([key, "hard"], {"mixing": mixing}, epochs=3)
    phased, _ = run_in(made, key)
    joint, _ = run_in(made, "hard")
    assert phased["samples"] == joint["samples"]
    assert phased["extra_samples"] == 0


@pytest.mark.parametrize("key", KEYS)
def test_every_parameter_of_the_first_phase_is_reached(config, key):
    made = config([key], epochs=3)
    assert list(dry_run(made, [made.method(key)], 0))


def test_a_packed_task_keeps_every_bit_to_the_end_of_the_run(config, run_in, tmp_path):
    """As it was after its last step, under the loop's own momentum and decay."""
    made = config(["packnet"], epochs=2, optimizer={"name": "sgd", "weight_decay": 5e-4})
    _, folder = run_in(made, "packnet")
    stop = ends(folder)["retrain_read_handwriting"]
    with pytest.raises(Stopped):
        run_in(made, "packnet", "stopped", stop_after=stop)
    state = checkpoint.load_state(tmp_path / "stopped" / "packnet")["method"]
    final = load_file(folder / "model.safetensors")
    moved = [n for n in final if n.startswith("backbone.") and not torch.equal(final[n], state[n])]
    assert any("conv" in name for name in moved)
    for name, owner in state.items():
        if not name.startswith("owner@"):
            continue
        unit, _, inside = name.removeprefix("owner@").partition("/")
        weight = f"backbone.units.{unit}.{inside.replace('_', '.')}.weight"
        assert torch.equal(final[weight][owner == 1], state[weight][owner == 1])
        assert torch.equal(final[name] == 1, owner == 1)
    own = [n for n in final if n.endswith("@read_handwriting") or n.startswith("heads.read_hand")]
    assert own
    assert all(torch.equal(final[name], state[name]) for name in own)
