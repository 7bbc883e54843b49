"""`polytask profile`: the parts of a step make up the step, and watching changes nothing."""

import time

import pytest
import torch

from polytask.training.loop import Loop
from polytask.training.profile import PARTS, Watch, profile
from polytask.training.run import Run

LONG = 0.02  # seconds


def loop_of(config, key="hard"):
    run = Run.alone(config, config.method(key), 0)
    phase = run.plan(run.untrained_single_paths)[0]
    return Loop(config, run.method, run.data, run.world, phase, 0, lambda _: None)


def test_parts_and_memory(config):
    found = profile(
        config(["hard"], {"balancing": "pcgrad"}), config(["hard"]).method("hard"), 0, 3
    )
    assert set(found.parts) == set(PARTS)
    assert found.images == 30  # labels of a batch of 32: 6 steps of 90 images each
    for name in ("trunk", "heads", "losses", "backward", "aggregation", "optimizer"):
        assert found.parts[name].seconds > 0, name
    weights = sum(p.numel() for p in loop_of(config(["hard"])).method.parameters())
    assert found.peak_bytes >= 4 * weights  # the gradients at least
    assert found.peak_bytes == max(part.peak_bytes for part in found.parts.values())
    assert found.parts["backward"].peak_bytes > found.parts["optimizer"].peak_bytes


def test_seconds_go_to_the_innermost_part_and_add_up(config):
    loop = loop_of(config(["hard"]))
    head = next(iter(loop.method.heads.children()))
    head.register_forward_pre_hook(lambda *_: time.sleep(LONG))  # before the head's own forward
    watch = Watch(loop)
    inner = head.forward
    object.__setattr__(head, "forward", lambda maps: (time.sleep(LONG), inner(maps))[1])
    watch._wrap(head, "forward", "heads")
    batches = loop.rule.batches(loop, 0)
    seconds = watch.step(batches)
    batches.close()
    whole = seconds.pop("step")
    assert sum(seconds.values()) == pytest.approx(whole)
    assert seconds["aggregation"] == 0
    assert min(seconds["heads"], seconds["trunk"]) >= LONG


def test_watching_changes_no_weight(config):
    made = config(["hard"], {"balancing": "gradnorm"})
    plain, watched = loop_of(made), loop_of(made)
    watch = Watch(watched)
    batches, others = plain.rule.batches(plain, 0), watched.rule.batches(watched, 0)
    for batch, _ in zip(batches, range(3), strict=False):
        plain.step(batch)
        watch.step(others)
    batches.close()
    others.close()
    for one, other in zip(plain.method.parameters(), watched.method.parameters(), strict=True):
        assert torch.equal(one, other)
