"""Sub-network routing: hard-concrete gates, the worked examples, and how gates are drawn."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from polytask.backbones.norm import BatchNorm
from polytask.batch import Batch
from polytask.data.load import load_data
from polytask.deploy.model import load
from polytask.phase import Phase
from polytask.sharing.columns.snr import HardConcrete, Routing
from polytask.sharing.method import Outputs

GATE = HardConcrete(beta=0.9, gamma=-0.1, zeta=1.1)
OPEN, SHUT = 50.0, -50.0


@dataclass
class At:
    """A place in a run, all that gates are drawn from."""

    seed: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    phase: Phase = field(default_factory=Phase)


def test_the_worked_gate():
    log_alpha = torch.tensor(math.log(0.7), dtype=torch.float64)
    noise = torch.tensor(0.3, dtype=torch.float64)
    assert float(GATE.drawn(log_alpha, noise)) == pytest.approx(0.149457, abs=1e-6)
    assert float(GATE.openness(log_alpha)) == pytest.approx(0.858323, abs=1e-6)
    assert float(GATE.settled(log_alpha)) == pytest.approx(0.394118, abs=1e-6)


def test_gates_are_open_as_often_as_expected():
    log_alpha = torch.tensor(-0.4)
    noise = (torch.arange(100_000) + 0.5) / 100_000
    gates = GATE.drawn(log_alpha.expand_as(noise), noise)
    assert float((gates > 0).float().mean()) == pytest.approx(
        float(GATE.openness(log_alpha)), abs=1e-3
    )
    assert gates.min() == 0
    assert gates.max() == 1


def test_the_worked_routing():
    """Three columns to two new maps, with the gates as they stand in the example."""
    transforms = torch.tensor([[[1.0, 2], [0, 1]], [[0, 1], [1, 0]], [[2, 0], [0, 2]]])
    weight = transforms.transpose(0, 1).repeat(2, 1, 1, 1)  # [m, C, k, C]
    wanted = torch.tensor([[1, 0, 0.5], [0.25, 1, 0]])
    s = (wanted - GATE.gamma) / (GATE.zeta - GATE.gamma)  # the inverse of the stretch
    log_alpha = torch.where(wanted == 1, OPEN, torch.where(wanted == 0, SHUT, torch.logit(s)))
    link = Routing(GATE, log_alpha.double(), weight.double()).eval()
    maps = [torch.tensor(u, dtype=torch.float64).view(1, 2, 1, 1) for u in ([1, 1], [2, 0], [0, 3])]
    first, second = link(maps, [0, 1])
    assert_close(first.flatten(), torch.tensor([3.0, 4], dtype=torch.float64), atol=1e-6, rtol=0)
    expected = torch.tensor([0.75, 2.25], dtype=torch.float64)
    assert_close(second.flatten(), expected, atol=1e-6, rtol=0)
    assert_close(link.narrowed([1]).eval()(maps, [0])[0], second)


@pytest.mark.parametrize("mode", ["trans", "aver"])
def test_open_gates_give_the_sum_of_the_columns(build, mode):
    method = build("snr", {"mode": mode, "own": OPEN, "others": OPEN}, tasks=3).eval()
    link = next(iter(method.links.values()))
    maps = [torch.randn(2, 4, 3, 3) for _ in range(3)]
    for new in link(maps, range(3)):
        assert_close(new, maps[0] + maps[1] + maps[2])


@pytest.mark.parametrize("mode", ["trans", "aver"])
def test_columns_that_listen_to_themselves_are_single_networks(build, batch_for, mode):
    options = {"mode": mode, "own": OPEN, "others": SHUT}
    single, routed = build("single").eval(), build("snr", options).eval()
    batch = batch_for(single)
    assert_close(routed(batch).predictions, single(batch).predictions)


def test_gates_are_drawn_from_the_step_alone(build, batch_for):
    method = build("snr", {"own": 0.0, "others": 0.0}).train()
    batch = batch_for(method)

    def gates(**at):
        torch.manual_seed(torch.initial_seed() + 1)
        method.before_forward(At(**at))
        method(batch)
        return torch.stack([r.gates() for r in method.routings().values()])

    first = gates(step_in_epoch=3)
    assert torch.equal(first, gates(step_in_epoch=3))
    for other in ({"step_in_epoch": 4}, {"epoch": 1, "step_in_epoch": 3}):
        assert not torch.equal(first, gates(**other))
    assert not torch.equal(first, gates(step_in_epoch=3, phase=Phase(name="other")))
    assert len({tuple(g.flatten().tolist()) for g in first}) == len(first)  # links differ


def test_all_groups_of_a_step_see_the_same_gates(build, batch_for):
    method = build("snr", sizes=[(3, 16, 16)] * 2).train()
    method.before_forward(At())
    batch = batch_for(method)
    apart = {
        task: method(Batch([group])).predictions[task]
        for task, group in zip("ab", batch.groups, strict=True)
    }
    assert_close(method(batch).predictions, apart)


def test_a_network_in_use_draws_nothing(build, batch_for):
    method = build("snr").eval()
    batch = batch_for(method)
    before = method(batch).predictions
    method.before_forward(At(step_in_epoch=7))
    assert all(torch.equal(before[t], p) for t, p in method(batch).predictions.items())
    assert "links.features_0.noise" not in method.state_dict()


def test_the_penalty_is_the_number_of_open_gates(build, batch_for):
    method = build("snr", {"own": 1.0, "others": -1.0, "l0": 0.01}, tasks=3)
    terms = method.extra_losses(batch_for(method), Outputs())
    shift = 0.9 * math.log(0.1 / 1.1)
    each = 3 / (1 + math.exp(-(1 - shift))) + 6 / (1 + math.exp(-(-1 - shift)))
    assert len(terms) == 5
    for term in terms:
        assert (term.task, term.weight) == (None, 0.01)
        assert float(term.value.detach()) == pytest.approx(each, rel=1e-5)
    assert build("snr", {"l0": 0}).extra_losses(batch_for(method), Outputs()) == []


def test_a_stopped_run_ends_in_the_same_bits(config, run_in):
    made = config(["snr"])
    _, straight = run_in(made, "snr")
    _, stopped = run_in(made, "snr", "stopped", stops=(1, 4))
    assert (straight / "model.safetensors").read_bytes() == (
        stopped / "model.safetensors"
    ).read_bytes()
    gates = json.loads((straight / "plots" / "links.json").read_text())["gates"]
    assert len(gates) == 4  # a link a stage
    for rows in gates.values():
        assert all(0 <= gate <= 1 for row in rows for gate in row)
        assert rows[0][0] > rows[0][1]


def test_norms_learn_from_settled_gates_before_scores(config, run_in):
    """Of a trained network: over the training images, in use, what norms read has their mean."""
    made = config(["snr"])
    _, folder = run_in(made, "snr")
    model = load(folder)
    data = load_data(made, model.tasks, seed=0)
    seen: dict[BatchNorm, list[Tensor]] = {}

    def note(norm: BatchNorm, given: tuple[Tensor]) -> None:
        mean = norm.bank(norm.current.key).mean
        off = (given[0].mean(dim=(0, 2, 3)) - mean) / norm.bank(norm.current.key).var.sqrt()
        seen.setdefault(norm, []).append(off)

    for norm in (m for m in model.network.eval().modules() if isinstance(m, BatchNorm)):
        norm.register_forward_pre_hook(note)
    with torch.no_grad():
        for batch in data.epoch(made.train.epochs):
            model.network(batch)
    assert seen
    offs = [float(torch.stack(each).mean(dim=0).abs().mean()) for each in seen.values()]
    assert max(offs) < 0.05
