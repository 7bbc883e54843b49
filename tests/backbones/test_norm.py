"""Batch norm: torch's numbers with one key, statistics apart with several, frozen, few values."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from polytask.backbones.norm import BatchNorm, Current, bake, convert

KEYS = ("handwritten", "printed digits", "v1.5 (scans)", "v1_5 (scans)", "%2E", ".")


def network(momentum: float | None = 0.1) -> nn.Sequential:
    """A small network whose batch norms have weights and statistics of their own."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, momentum=momentum), nn.ReLU())
    norm = layers[1]
    for tensor in (norm.weight, norm.running_var):
        nn.init.uniform_(tensor, 0.5, 2)
    for tensor in (norm.bias, norm.running_mean):
        nn.init.normal_(tensor)
    return layers


def images(count: int, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, 2, 2, 2) * scale + shift


@pytest.mark.parametrize("momentum", [0.1, 0.5, None])
@pytest.mark.parametrize("keys", [(), ("only",)])
def test_with_one_key_it_is_torchs_bit_for_bit(momentum, keys):
    theirs = network(momentum)
    ours = copy.deepcopy(theirs)
    convert(ours, keys)
    for _ in range(3):
        x = images(4)
        outs = [net.train()(x) for net in (theirs, ours)]
        assert torch.equal(*outs)
        for net, out in zip((theirs, ours), outs, strict=True):
            net.zero_grad()
            out.square().sum().backward()
        for one, other in zip(theirs.parameters(), ours.parameters(), strict=True):
            assert torch.equal(one.grad, other.grad)
    x = images(4)
    assert torch.equal(theirs.eval()(x), ours.eval()(x))
    assert list(theirs.state_dict()) == list(ours.state_dict())
    for key, value in theirs.state_dict().items():
        assert torch.equal(value, ours.state_dict()[key])


def test_converting_takes_over_the_tensors_and_the_mode():
    net = network().eval()
    before = dict(net.named_parameters())
    convert(net)
    assert all(before[name] is p for name, p in net.named_parameters())
    assert not net[1].training
    assert isinstance(net[1], BatchNorm)


def test_a_streams_passes_leave_the_others_statistics_alone():
    net = network()
    current = convert(net, KEYS)
    alone = {key: network().train() for key in KEYS}
    for step in range(6):
        key = KEYS[(step * step) % len(KEYS)]
        x = images(4, scale=1 + step, shift=step)
        current.key = key
        assert torch.equal(net.train()(x), alone[key](x))
    for key in KEYS:
        current.key = key
        x = images(2)
        assert torch.equal(net.eval()(x), alone[key].eval()(x))


def test_the_affine_part_is_common_unless_asked():
    common, apart = network(), network()
    convert(common, KEYS)
    current = convert(apart, KEYS, affine_per_stream=True)
    assert len(list(common[1].parameters())) == 2
    assert len(list(apart[1].parameters())) == 2 * len(KEYS)
    current.key = KEYS[2]
    apart(images(4)).sum().backward()
    touched = [name for name, p in apart[1].named_parameters() if p.grad is not None]
    assert touched == ["weight@v1%2E5%20%28scans%29", "bias@v1%2E5%20%28scans%29"]


@given(st.lists(st.text(min_size=0, max_size=6), min_size=2, max_size=5, unique=True))
@settings(max_examples=25, deadline=None)
def test_any_names_of_data_sets_make_states_that_load(keys):
    net, other = network(), network()
    current, other_current = convert(net, keys), convert(other, keys)
    for i, key in enumerate(keys):
        current.key = key
        net(images(3, shift=i))
    assert len(net[1].state_dict()) == 2 + 3 * len(keys)
    other.load_state_dict(dict(net.state_dict()))
    for key in keys:
        current.key = other_current.key = key
        x = images(2)
        assert torch.equal(net.eval()(x), other.eval()(x))


def test_a_key_may_start_over_from_anothers_tensors():
    net = network()
    current = convert(net, ("old", "new", "other"), affine_per_stream=True)
    for i, key in enumerate(("old", "new", "other")):
        current.key = key
        net(images(4, shift=i))
        nn.init.constant_(net[1].bank(key).weight, i)
    kept = copy.deepcopy(net[1].bank("other"))
    net[1].copy_bank("old", "new")
    for old, new in zip(net[1].bank("old"), net[1].bank("new"), strict=True):
        assert torch.equal(old, new)
        assert old is not new
    for before, now in zip(kept, net[1].bank("other"), strict=True):
        assert torch.equal(before, now)


def test_a_key_without_statistics_is_an_error_that_names_those_kept():
    net = network()
    convert(net, ("one", "two")).key = "three"
    with pytest.raises(KeyError, match=r"three.*one, two"):
        net(images(2))


@pytest.mark.parametrize("rows", [0, 1])
def test_with_fewer_than_two_values_a_channel_running_statistics_stay_and_serve(rows):
    net = network()
    convert(net)
    kept = copy.deepcopy(net.state_dict())
    x = torch.randn(rows, 2, 1, 1)
    in_training = net.train()(x)
    assert torch.equal(in_training, net.eval()(x))
    assert all(torch.equal(value, kept[key]) for key, value in net.state_dict().items())
    net.train()(torch.randn(2, 2, 1, 1))
    assert net[1].num_batches_tracked == 1


def test_frozen_it_stays_in_eval_until_unfrozen():
    net = network()
    convert(net)
    norm, kept = net[1], copy.deepcopy(net[1].state_dict())
    x = images(4)
    want = net.eval()(x)
    norm.freeze()
    assert torch.equal(net.train()(x), want)
    assert all(torch.equal(value, kept[key]) for key, value in norm.state_dict().items())
    norm.freeze(False)
    assert not torch.equal(net(x), want)
    assert norm.num_batches_tracked == 1


@pytest.mark.parametrize("affine_per_stream", [False, True])
def test_baked_a_network_has_torchs_norm_with_a_keys_numbers(affine_per_stream):
    net = network()
    current = convert(net, KEYS, affine_per_stream=affine_per_stream)
    for i, key in enumerate(KEYS):
        current.key = key
        net(images(4, shift=i))
        nn.init.constant_(net[1].bank(key).weight, 1 + i)
    net.eval()
    for key in KEYS:
        current.key = key
        x = images(3)
        want = net(x)
        made = copy.deepcopy(net)
        bake(made, key)
        assert type(made[1]) is nn.BatchNorm2d
        assert list(made[1].state_dict()) == list(nn.BatchNorm2d(3).state_dict())
        assert torch.equal(made(x), want)
        with torch.no_grad():
            made[1].weight.zero_()
            made[1].running_mean.zero_()
        assert torch.equal(net(x), want)


def test_converting_and_baking_are_inverse():
    net = network()
    kept = copy.deepcopy(net.state_dict())
    convert(net)
    bake(net)
    assert type(net[1]) is nn.BatchNorm2d
    assert list(net.state_dict()) == list(kept)
    assert all(torch.equal(value, kept[key]) for key, value in net.state_dict().items())


def test_a_norm_without_running_statistics_stays():
    net = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False))
    convert(net, KEYS)
    assert type(net[0]) is nn.BatchNorm2d


def test_a_copied_network_switches_alone_and_keeps_its_processes():
    net = nn.Sequential(network(), network()[1:])
    current = convert(net, KEYS, Current(KEYS[0], sync=lambda sums: sums))
    copied = copy.deepcopy(net)
    own = copied[0][1].current
    assert own is copied[1][0].current
    assert own is not current
    assert own.sync is current.sync


class Processes:
    """Two processes played by threads: `sync` waits for both and returns the sum of what they gave.

    The sums stay in one graph, so that the gradient of the summed losses is that of both.
    """

    def __init__(self) -> None:
        self.given: dict[int, torch.Tensor] = {}
        self.barrier = threading.Barrier(2)

    def sync(self, rank: int, sums: torch.Tensor) -> torch.Tensor:
        self.given[rank] = sums
        self.barrier.wait(600)
        total = self.given[0] + self.given[1]
        self.barrier.wait(600)
        return total

    def run(self, networks, parts):
        outs = {}

        def work(rank):
            networks[rank][1].current.sync = lambda sums: self.sync(rank, sums)
            outs[rank] = networks[rank](parts[rank])

        threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return outs[0], outs[1]


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("split", [3, 5, 1, 0])
def test_synchronised_processes_give_the_one_process_result(split, momentum):
    alone = network(momentum).double()
    ranks = [copy.deepcopy(alone) for _ in range(2)]
    for net in ranks:
        convert(net)
    x = images(6, scale=2, shift=3).double()
    for _ in range(2):
        want = alone(x)
        outs = Processes().run(ranks, (x[:split], x[split:]))
        assert_close(torch.cat(outs), want)
    want.square().sum().backward()
    (outs[0].square().sum() + outs[1].square().sum()).backward()
    for p, one, other in zip(*(net.parameters() for net in (alone, *ranks)), strict=True):
        assert_close(one.grad + other.grad, p.grad)
    for key, value in alone.state_dict().items():
        for net in ranks:
            assert_close(net.state_dict()[key], value)


def test_synchronised_statistics_lose_no_digits_to_a_large_mean():
    x = images(8, scale=1, shift=10_000)
    alone = network(momentum=1.0)
    ranks = [copy.deepcopy(alone) for _ in range(2)]
    for net in ranks:
        convert(net)
    for _ in range(2):  # after the first, the running mean is close to the batch's
        want = alone(x)
        outs = Processes().run(ranks, (x[:4], x[4:]))
    assert_close(torch.cat(outs), want, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_synchronised_processes_with_one_value_between_them_use_running_statistics(momentum):
    ranks = [network(momentum), network(momentum)]
    for net in ranks:
        convert(net)
    x = torch.randn(1, 2, 1, 1)
    kept = copy.deepcopy(ranks[0].state_dict())
    one, none = Processes().run(ranks, (x, x[:0]))
    assert_close(one, ranks[0].eval()(x))
    assert none.shape == (0, 3, 1, 1)
    assert all(torch.equal(value, kept[key]) for key, value in ranks[1].state_dict().items())
