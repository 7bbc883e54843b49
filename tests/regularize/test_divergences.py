"""Divergences: worked numbers and the inequalities between them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from polytask.balancing import ALONE
from polytask.batch import Batch, Group, Target
from polytask.regularize.channel_prior import ChannelPrior, ChannelPriorOptions
from polytask.regularize.divergences import DIVERGENCES, entropy, wasserstein
from polytask.tasks.task import FeatureShape

P, Q = (0.5, 0.3, 0.2), (0.2, 0.5, 0.3)
WORKED = {
    "kl": (0.223805, 0.106440),
    "reverse_kl": (0.193794, 0.121777),
    "jsd": (0.050875, 0.027866),
    "hellinger": (0.226991, 0.167900),
    "jeffrey": (0.417599, 0.228217),
    "chi2": (0.563333, 0.200000),
    "wasserstein": (0.400000 / 2, 0.500000 / 3),
}


def distributions(seed: int, channels: int, count: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sharpness = 4 * torch.rand(1, generator=generator)
    logits = sharpness * torch.randn(count, channels, generator=generator).double()
    return [row.softmax(0) for row in logits]


@pytest.mark.parametrize("name", DIVERGENCES)
def test_worked_numbers(name):
    first, second = WORKED[name]
    p, q = torch.tensor(P).double(), torch.tensor(Q).double()
    # The root of the Hellinger distance is eased by 1e-6 to have a gradient at 0.
    slack = 2e-6 if name == "hellinger" else 1e-6
    assert float(DIVERGENCES[name](p, q)) == pytest.approx(first, abs=slack)
    rising = torch.tensor([0.1, 0.2, 0.3, 0.4]).double()
    assert float(DIVERGENCES[name](rising, torch.full((4,), 0.25).double())) == pytest.approx(
        second, abs=slack
    )


def test_the_worked_distribution_and_the_other_direction():
    v = torch.tensor([0.3, -1.2, 2.0, 0.5]).double().softmax(0)
    expected = torch.tensor([0.126287, 0.028178, 0.691288, 0.154247]).double()
    assert_close(v, expected, rtol=0, atol=1e-6)
    p, q = torch.tensor(P).double(), torch.tensor(Q).double()
    assert float(DIVERGENCES["chi2"](q, p)) == pytest.approx(0.363333, abs=1e-6)
    assert float(entropy(p)) == pytest.approx(1.029653, abs=1e-6)


@given(st.integers(0, 10_000), st.integers(2, 40))
def test_what_holds_for_any_distributions(seed, channels):
    p, q = distributions(seed, channels)
    d = {name: float(measure(p, q)) for name, measure in DIVERGENCES.items()}
    back = {name: float(measure(q, p)) for name, measure in DIVERGENCES.items()}
    variation = float((p - q).abs().sum()) / 2
    tiny = 1e-6
    assert all(value >= -tiny for value in d.values())
    for measure in DIVERGENCES.values():
        assert abs(float(measure(p, p))) < tiny
    for name in ("jsd", "hellinger", "jeffrey", "wasserstein"):
        assert d[name] == pytest.approx(back[name], abs=tiny)
    assert d["jsd"] <= math.log(2) + tiny
    assert d["hellinger"] <= 1 + tiny
    assert d["kl"] <= math.log1p(d["chi2"]) + tiny
    assert d["hellinger"] ** 2 - tiny <= variation <= math.sqrt(2) * d["hellinger"] + 3 * tiny
    assert variation <= math.sqrt(max(d["kl"], 0) / 2) + tiny
    assert d["jeffrey"] == pytest.approx(d["kl"] + d["reverse_kl"], abs=tiny)
    uniform = torch.full_like(p, 1 / channels)
    from_uniform = math.log(channels) - float(entropy(p))
    assert float(DIVERGENCES["kl"](p, uniform)) == pytest.approx(from_uniform, abs=tiny)
    shuffled = p[torch.randperm(channels, generator=torch.Generator().manual_seed(seed))]
    for name in set(DIVERGENCES) - {"wasserstein"}:
        measure = DIVERGENCES[name]
        assert float(measure(shuffled, uniform)) == pytest.approx(
            float(measure(p, uniform)), rel=1e-6, abs=tiny
        )


def test_disjoint_distributions():
    p, q = torch.eye(3).double()[:2]
    assert float(DIVERGENCES["jsd"](p, q)) == pytest.approx(math.log(2), abs=1e-5)
    assert float(wasserstein(p, q)) == pytest.approx(1 / 2, abs=1e-6)
    assert all(torch.isfinite(measure(p, q)) for measure in DIVERGENCES.values())


@pytest.mark.parametrize("name", DIVERGENCES)
def test_gradients_are_finite_where_both_are_equal(name):
    logits = torch.zeros(2, 5, requires_grad=True)
    DIVERGENCES[name](logits.softmax(-1), torch.full((2, 5), 0.2)).sum().backward()
    assert torch.isfinite(logits.grad).all()


def prior_of(**options) -> ChannelPrior:
    return ChannelPrior(ChannelPriorOptions(**options), [FeatureShape(4, 2, 2)], seed=3)


def test_the_channel_distribution_starts_as_the_mean_map():
    prior = prior_of()
    maps = torch.randn(3, 4, 2, 2)
    assert_close(prior(maps), maps.mean((2, 3)).softmax(1))
    views = torch.randn(3, 9, 4, 2, 2)
    assert_close(prior(views), views.mean((1, 3, 4)).softmax(1))


def test_omega_is_the_divergence_from_the_prior_of_every_image():
    prior = prior_of(weight=0.5)
    maps = torch.tensor([0.3, -1.2, 2.0, 0.5]).view(1, 4, 1, 1).expand(2, 4, 2, 2)
    expected = math.log(4) - float(entropy(torch.tensor([0.3, -1.2, 2.0, 0.5]).softmax(0)))
    assert_close(prior.omega(maps), torch.full((2,), expected / 2))
    batch = Batch([Group(maps, torch.arange(2), "a", {"one": Target(torch.zeros(2))})])
    (term,) = prior.terms(batch, {"one": maps})
    assert (term.task, term.weight, len(term.value)) == ("one", 1.0, 2)


def test_priors():
    assert_close(prior_of().prior(4), torch.full((4,), 0.25))
    gaussian = prior_of(prior="gaussian").prior(4)
    assert torch.equal(gaussian, prior_of(prior="gaussian").prior(4))
    assert float(gaussian.sum()) == pytest.approx(1)
    assert not torch.allclose(gaussian, torch.full((4,), 0.25))
    previous = prior_of(prior="previous")
    maps = torch.randn(6, 4, 2, 2)
    previous.omega(maps[:4])
    previous.after_step(ALONE)
    previous.omega(maps[4:])
    previous.after_step(ALONE)
    assert_close(previous.prior(4), torch.full((4,), 0.25))
    previous.on_epoch_end()
    assert_close(previous.prior(4), previous(maps).mean(0).detach())


class Two:
    """Two processes, as the one sees them that has no image in this step."""

    size = 2

    def __init__(self, other: torch.Tensor) -> None:
        self.other = other

    def sum(self, value):
        return value + self.other


def test_the_prior_is_that_of_the_images_of_all_processes():
    previous, maps = prior_of(prior="previous"), torch.randn(6, 4, 2, 2)
    previous.omega(maps[:2])
    previous.after_step(Two(previous(maps[2:4]).sum(0).detach()))
    previous.after_step(Two(previous(maps[4:]).sum(0).detach()))
    assert_close(previous.total(4), previous(maps).sum(0).detach())


def test_maps_of_other_channels_have_a_prior_of_their_own():
    """A decoder's map and its encoder's: neither moves what the other is held to."""
    features = [FeatureShape(4, 2, 2), FeatureShape(3, 6, 6)]
    previous = ChannelPrior(ChannelPriorOptions(prior="previous"), features)
    coarse, fine = torch.randn(5, 4, 2, 2), torch.randn(5, 3, 6, 6)
    previous.omega(coarse)
    previous.after_step(ALONE)
    previous.on_epoch_end()
    assert_close(previous.prior(4), previous(coarse).mean(0).detach())
    assert_close(previous.prior(3), torch.full((3,), 1 / 3))
    v = previous(fine)
    expected = (v * (3 * v).log()).sum(1)
    assert_close(previous.omega(fine), expected)


def test_minimising_omega_evens_the_channels_out():
    maps = torch.randn(8, 4, 2, 2, requires_grad=True)
    prior = prior_of()
    optimizer = torch.optim.SGD([maps], lr=5.0)
    before = float(prior.omega(maps).detach().sum())
    for _ in range(50):
        optimizer.zero_grad()
        prior.omega(maps).sum().backward()
        optimizer.step()
    assert float(prior.omega(maps).detach().sum()) < before / 100
