"""The feature filter against eq. 2 of Lee et al. 2021 and numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from polytask.sharing.filter import FeatureFilter, FilterOptions

CHANNEL_MAPS = [[[1.0, -2.0], [0.0, 3.0]], [[0.5, 4.0], [-1.0, 2.0]]]


def a_filter(alpha: list[float], beta: list[float]) -> FeatureFilter:
    gate = FeatureFilter(len(alpha)).double()
    with torch.no_grad():
        gate.alpha.copy_(torch.tensor(alpha).reshape(-1, 1, 1))
        gate.beta.copy_(torch.tensor(beta).reshape(-1, 1, 1))
    return gate


def a_vector() -> Tensor:
    return torch.tensor([2.0, -1.0], dtype=torch.float64).reshape(1, 2, 1, 1)


def test_worked_vector_and_its_gradients():
    gate = a_filter([0.5, 2.0], [0.1, -0.3])
    features = a_vector().requires_grad_()
    filtered = gate(features)
    filtered.sum().backward()
    expected = [
        (gate.gate(features), [0.750260, 0.091123]),
        (filtered, [1.500520, -0.091123]),
        (features.grad, [0.937630, -0.074516]),
        (gate.alpha.grad, [0.749480, 0.082820]),
        (gate.beta.grad, [0.374740, -0.082820]),
    ]
    for got, wanted in expected:
        assert_close(got.flatten(), torch.tensor(wanted, dtype=torch.float64), atol=5e-7, rtol=0)


def test_worked_map_is_filtered_before_pooling():
    features = torch.tensor(CHANNEL_MAPS, dtype=torch.float64).unsqueeze(0)
    gate = a_filter([1.0, -0.5], [0.0, 0.25])
    wanted = [
        [[0.731059, -0.238406], [0.0, 2.857722]],
        [[0.250000, 0.592189], [-0.679179, 0.641643]],
    ]
    assert_close(gate(features)[0], torch.tensor(wanted).double(), atol=5e-7, rtol=0)
    pool = torch.nn.AdaptiveAvgPool2d(1)
    filter_first, pool_first = pool(gate(features)).flatten(), gate(pool(features)).flatten()
    assert_close(filter_first, torch.tensor([0.837594, 0.201163]).double(), atol=5e-7, rtol=0)
    assert_close(pool_first, torch.tensor([0.311230, 0.539463]).double(), atol=5e-7, rtol=0)


def test_starts_are_half_silu_and_identity():
    features = torch.randn(3, 4, 5, 5)
    made = {
        init: FeatureFilter(4, FilterOptions(init=init)) for init in ("zeros", "ones", "identity")
    }
    assert torch.equal(made["zeros"](features), features / 2)
    assert_close(made["ones"](features), torch.nn.functional.silu(features))
    assert torch.equal(made["identity"](features), features)


def test_silu_of_the_worked_vector():
    wanted = torch.tensor([1.761594, -0.268941]).double()
    assert_close(a_filter([1, 1], [0, 0])(a_vector()).flatten(), wanted, atol=5e-7, rtol=0)


@pytest.mark.parametrize(("beta", "factor"), [(0.0, 0.5), (20.0, 1.0), (35.0, 1.0)])
def test_alpha_0_scales_every_feature_alike(beta, factor):
    features = torch.randn(2, 3, 4, 4)
    gate = FeatureFilter(3)
    torch.nn.init.constant_(gate.beta, beta)
    assert torch.equal(gate(features), features * factor)


def test_a_very_negative_beta_closes_the_gate():
    gate = FeatureFilter(3)
    torch.nn.init.constant_(gate.beta, -100)
    assert_close(gate(torch.randn(2, 3, 4, 4)), torch.zeros(2, 3, 4, 4))


@given(
    st.integers(1, 5),
    st.lists(st.integers(1, 3), min_size=3, max_size=4).map(tuple),
    st.floats(0.1, 30),
    st.integers(0, 2**31),
)
def test_magnitude_never_grows_and_the_sign_stays(channels, shape, scale, seed):
    """Equation 2 in loops; any leading axes (views), channels third from the end."""
    generator = torch.Generator().manual_seed(seed)
    *leading, height, width = shape
    features = scale * torch.randn(*leading, channels, height, width, generator=generator)
    features[torch.rand(features.shape, generator=generator) < 0.3] = 0
    gate = FeatureFilter(channels)
    with torch.no_grad():
        gate.alpha.normal_(0, 3, generator=generator)
        gate.beta.normal_(0, 3, generator=generator)
        filtered = gate(features)
    assert (filtered.abs() <= features.abs()).all()
    assert (filtered * features >= 0).all()
    assert (filtered[features == 0] == 0).all()
    for c in range(channels):
        one = features.select(-3, c)
        weight = 1 / (1 + torch.exp(-(one * gate.alpha[c].item() + gate.beta[c].item()).double()))
        assert_close(filtered.select(-3, c).double(), one.double() * weight, rtol=1e-5, atol=1e-6)


def test_two_parameters_a_channel():
    assert sum(p.numel() for c in (1024, 2048) for p in FeatureFilter(c).parameters()) == 6144
