"""Banks of kernels: the worked example, a reference in loops, and the invariants of the method."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from polytask.sharing.columns.kernel_bank import KernelBank

A = [[1, 0, 0, 1], [1, 2, 0, 0], [0, 0, 1, -1]]
B = [[1, 0, 0, 0.5], [-1, -2, 0, 0]]
C = [[0, 0, 2, -2], [1, 1, 1, 1]]
THREE = [torch.tensor(bank, dtype=torch.float64) for bank in (A, B, C)]
PAIRS = [(0, 1), (0, 2), (1, 2)]
RAW = [*A, *B, *C]
WORKED = {
    0.35: (
        [2, 2, 1, 3, 0, 1, 3],
        [
            [1, 0.25, 0.25, 0.875],
            [1, 1.25, 0.25, 0.375],
            [0, 0, 1.5, -1.5],
            [1, 0.5, 1 / 6, 7 / 12],
            [-1, -2, 0, 0],
            [0, 0, 1.5, -1.5],
            [1, 5 / 6, 0.5, 0.75],
        ],
    ),
    0.69: (
        [2, 0, 1, 1, 0, 1, 1],
        [
            [1, 0.25, 0.25, 0.875],
            RAW[1],
            [0, 0, 1.5, -1.5],
            [1, 0, 0, 0.75],
            RAW[4],
            [0, 0, 1.5, -1.5],
            [1, 0.5, 0.5, 1],
        ],
    ),
    0.80: (
        [1, 0, 1, 1, 0, 1, 0],
        [
            [1, 0, 0, 0.75],
            RAW[1],
            [0, 0, 1.5, -1.5],
            [1, 0, 0, 0.75],
            RAW[4],
            [0, 0, 1.5, -1.5],
            RAW[6],
        ],
    ),
    0.96: (
        [0, 0, 1, 0, 0, 1, 0],
        [*RAW[:2], [0, 0, 1.5, -1.5], *RAW[3:5], [0, 0, 1.5, -1.5], RAW[6]],
    ),
    1.01: ([0] * 7, RAW),
}


def bank_of(kernels, threshold, pairs=PAIRS, **options):
    bank = KernelBank([len(k) for k in kernels], pairs, threshold, **options)
    bank.refresh(kernels)
    return bank


def effective(bank, kernels):
    """Every column's kernels, raw where nothing is linked."""
    found = bank(kernels)
    return [found.get(i, raw) for i, raw in enumerate(kernels)]


def naive(kernels, threshold, phi_self=0.5, pairing="all"):
    """Eq. 3 to 6, kernel by kernel: phi_self(cosine, i, j) weighs a kernel in its pair."""
    weigh = phi_self if callable(phi_self) else lambda *_: phi_self

    @cache
    def cosine(v, w):
        if id(v) > id(w):  # one number a pair: a product's last bit depends on where its rows lie
            return cosine(w, v)
        v, w = v.detach(), w.detach()
        norms = float(v.norm() * w.norm())
        return float(v @ w) / norms if norms else 0.0

    def nearest(v, bank):
        return max(cosine(v, w) for w in bank)

    def is_linked(i, a, j, b):
        v, w = kernels[i][a], kernels[j][b]
        s = cosine(v, w)
        if pairing == "same_index" and a != b:
            return False
        if pairing == "mutual_best" and not s == nearest(v, kernels[j]) == nearest(w, kernels[i]):
            return False
        return s >= threshold

    kernels = [list(bank) for bank in kernels]
    made = []
    for i, own in enumerate(kernels):
        rows = []
        for a, v in enumerate(own):
            mixed = []
            for j, other in enumerate(kernels):
                for b, w in enumerate(other):
                    if i != j and is_linked(i, a, j, b):
                        phi = weigh(cosine(v, w), i, j)
                        mixed.append(phi * v + (1 - phi) * w)
            rows.append(torch.stack(mixed).mean(dim=0) if mixed else v)
        made.append(torch.stack(rows))
    return made


def linked_pairs(bank):
    return {(i, int(a), j, int(b)) for i, j in bank.pairs for a, b in bank.linked(i, j).nonzero()}


# The worked example.


@pytest.mark.parametrize("threshold", WORKED)
def test_the_worked_example(threshold):
    bank = bank_of(THREE, threshold)
    counts, expected = WORKED[threshold]
    made = torch.cat(effective(bank, THREE))
    assert_close(made, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)
    found = [
        sum(int(bank.linked(i, j)[a].sum()) for j in range(3) if j != i)
        for i in range(3)
        for a in range(len(THREE[i]))
    ]
    assert found == counts
    participation, _ = bank.ratios()
    assert participation == pytest.approx(sum(c > 0 for c in counts) / 7, abs=1e-6)


def test_compression_counts_connected_sets():
    """At 0.8 two pairs leave 5 sets of 7 kernels; at 0.69 C1 joins the pair of A0 and B0."""
    assert bank_of(THREE, 0.80).ratios()[1] == pytest.approx(1 - 5 / 7)
    assert bank_of(THREE, 0.69).ratios()[1] == pytest.approx(1 - 4 / 7)
    assert bank_of(THREE, 1.01).ratios() == (0.0, 0.0)


# Rows A0, A1, A2, then B0, B1; columns B0, B1, C0, C1.
COSINES = [
    [0.948683, -0.316228, -0.500000, 0.707107],
    [0.400000, -1.000000, 0.000000, 0.670820],
    [-0.316228, 0.000000, 1.000000, 0.000000],
    [1.000000, -0.400000, -0.316228, 0.670820],
    [-0.400000, 1.000000, 0.000000, -0.670820],
]


def test_the_worked_cosines():
    """Between columns: those of kernels of one column are never asked for."""
    bank = bank_of(THREE, 0.35, phi="similarity")
    worked = torch.tensor(COSINES)
    for pair, block in {
        (0, 1): worked[:3, :2],
        (0, 2): worked[:3, 2:],
        (1, 2): worked[3:, 2:],
    }.items():
        found = bank.get_buffer("cosine_{}_{}".format(*pair))
        assert_close(found, block, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("size", "threshold", "chance"),
    [(9, 0.4, 0.126), (9, 0.55, 0.0498), (27, 0.4, 0.0175), (72, 0.4, 2.3e-4)],
)
def test_independent_kernels_are_paired_as_often_as_chance_has_it(size, threshold, chance):
    """The exact tail of the cosine of two Gaussian vectors, whose density is (1 - x²)^((D-3)/2)."""
    draw = torch.Generator().manual_seed(size)
    kernels = [torch.randn(700, size, generator=draw) for _ in range(2)]
    share = float(bank_of(kernels, threshold, [(0, 1)]).linked(0, 1).float().mean())
    x = torch.linspace(-1, 1, 200_001, dtype=torch.float64)
    density = (1 - x**2) ** ((size - 3) / 2)
    assert float(density[x >= threshold].sum() / density.sum()) == pytest.approx(chance, rel=0.02)
    assert share == pytest.approx(chance, rel=0.03, abs=1e-4)


def test_another_weight_of_the_own_kernel():
    made = effective(bank_of(THREE, 0.8, own=0.7), THREE)
    expected = torch.tensor([[1, 0, 0, 0.85], [1, 0, 0, 0.65]], dtype=torch.float64)
    assert_close(torch.stack([made[0][0], made[1][0]]), expected, atol=1e-6, rtol=0)


# The reference.


@st.composite
def banks(draw):
    """Two to four columns of kernels of one dimension, some of them zero, twins or opposite."""
    torch.manual_seed(draw(st.integers(0, 10**6)))
    width = draw(st.integers(1, 6))
    kernels = [
        torch.randn(draw(st.integers(1, 5)), width, dtype=torch.float64)
        for _ in range(draw(st.integers(2, 4)))
    ]
    kernels[1][0] = kernels[0][0] * draw(st.sampled_from([-1.0, 0.0, 1.0, 3.0]))
    return kernels


def all_pairs(kernels):
    return [(i, j) for i in range(len(kernels)) for j in range(i + 1, len(kernels))]


@given(banks(), st.sampled_from([-2.0, 0.013, 0.37, 0.71, 0.93]), st.sampled_from([0.5, 0.2, 1.0]))
@settings(max_examples=60, deadline=None)
def test_follows_the_papers_equations(kernels, threshold, own):
    bank = bank_of(kernels, threshold, all_pairs(kernels), own=own)
    for got, want in zip(effective(bank, kernels), naive(kernels, threshold, own), strict=True):
        assert_close(got, want, atol=1e-9, rtol=0)


@given(
    banks(), st.sampled_from([0.013, 0.37, 0.93]), st.sampled_from(["same_index", "mutual_best"])
)
@settings(max_examples=40, deadline=None)
def test_pairings(kernels, threshold, pairing):
    bank = bank_of(kernels, threshold, all_pairs(kernels), pairing=pairing)
    want = naive(kernels, threshold, pairing=pairing)
    for got, expected in zip(effective(bank, kernels), want, strict=True):
        assert_close(got, expected, atol=1e-6, rtol=0)


@given(banks(), st.sampled_from([0.013, 0.37, 0.93]))
@settings(max_examples=30, deadline=None)
def test_mixing_by_similarity(kernels, threshold):
    bank = bank_of(kernels, threshold, all_pairs(kernels), phi="similarity")
    want = naive(kernels, threshold, lambda cosine, i, j: 1 / (1 + cosine))
    for got, expected in zip(effective(bank, kernels), want, strict=True):
        assert_close(got, expected, atol=1e-6, rtol=0)


def test_twins_may_have_another_partner():
    """Column 2's kernels all have twins in column 1, which is linked to column 0 as well."""
    twins = torch.tensor([[1.0, 0.2, 0.0], [0.0, 1.0, 0.2]], dtype=torch.float64)
    first = torch.tensor([[1.0, -0.2, 0.0], [0.0, 0.0, -1.0]], dtype=torch.float64)
    kernels = [first, twins, twins + 0.1]
    bank = bank_of(kernels, 0.9, all_pairs(kernels), pairing="same_index")
    assert [bank.partners(i) for i in range(3)] == [[1], [0, 2], [1]]
    want = naive(kernels, 0.9, pairing="same_index")
    for got, expected in zip(effective(bank, kernels), want, strict=True):
        assert_close(got, expected, atol=1e-9, rtol=0)


def test_learned_weights_add_up_to_one_and_learn():
    bank = bank_of(THREE, 0.35, phi="learned")
    values = {(0, 1): 0.4, (0, 2): -1.1, (1, 2): 0.0}
    for pair, value in values.items():
        bank.phi(*pair).data.fill_(value)

    def weigh(_, i, j):
        sign = 1 if i < j else -1
        return 1 / (1 + math.exp(-sign * values[min(i, j), max(i, j)]))

    made = effective(bank, THREE)
    for got, want in zip(made, naive(THREE, 0.35, weigh), strict=True):
        assert_close(got, want, atol=1e-6, rtol=0)
    made[0].square().sum().backward()
    assert bank.phi(0, 1).grad != 0
    assert bank.phi(0, 2).grad != 0
    assert bank.phi(1, 2).grad is None


def test_many_and_few_links_sum_alike():
    """Above and below the share of links from which the sum is a matrix product."""
    torch.manual_seed(0)
    kernels = [torch.randn(40, 3, dtype=torch.float64) for _ in range(2)]
    for threshold, is_dense in ((0.999, False), (0.9, True)):
        bank = bank_of(kernels, threshold, [(0, 1)])
        share = bank.linked(0, 1).double().mean()
        assert (share > 0.05) == is_dense
        assert share > 0
        for got, want in zip(effective(bank, kernels), naive(kernels, threshold), strict=True):
            assert_close(got, want, atol=1e-9, rtol=0)


@pytest.mark.parametrize("own", [0.5, 0.2, 1.0])
@pytest.mark.parametrize("columns", [2, 3, 4])
def test_twins_mix_as_any_pairs_do(columns, own):
    """Kernels near their twins alone: values and gradients are those of the sums by the paper, and
    a column that nothing is asked of gets no more than its twins' part."""
    torch.manual_seed(columns)
    kernels = [
        torch.eye(6, dtype=torch.float64) + 0.05 * torch.randn(6, 6, dtype=torch.float64)
        for _ in range(columns)
    ]
    raw = [kernel.clone().requires_grad_() for kernel in kernels]
    bank = bank_of(raw, 0.8, all_pairs(raw), own=own)
    assert all(torch.equal(bank.linked(i, j), torch.eye(6) > 0) for i, j in bank.pairs)
    asked = [torch.randn(6, 6, dtype=torch.float64) for _ in raw[1:]]

    def gradients(made):
        loss = torch.stack([(w * ask).sum() for w, ask in zip(made, asked, strict=False)]).sum()
        return torch.autograd.grad(loss, raw)

    made, want = effective(bank, raw), naive(raw, 0.8, own)
    for got, expected in zip(made, want, strict=True):
        assert_close(got, expected, atol=1e-12, rtol=0)
    for got, expected in zip(gradients(made), gradients(want), strict=True):
        assert_close(got, expected, atol=1e-12, rtol=0)


def test_gradients_of_twins_are_those_of_differences():
    raw = [torch.eye(2, dtype=torch.float64).requires_grad_() for _ in range(3)]
    bank = bank_of(raw, 0.8)
    assert torch.autograd.gradcheck(lambda *own: tuple(bank(own).values()), raw)
    assert torch.autograd.gradgradcheck(lambda *own: tuple(bank(own).values()), raw)


def test_equal_twins_stay_as_they_are_in_every_bit():
    kernels = [torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))] * 3
    bank = bank_of(kernels, 0.99)
    assert all(torch.equal(bank.linked(*pair), torch.eye(8) > 0) for pair in bank.pairs)
    assert all(torch.equal(mixed, kernels[0]) for mixed in bank(kernels).values())


def test_kernels_mix_by_the_pairs_of_a_loaded_state():
    bank, other = bank_of(THREE, 0.35), bank_of(THREE, 1.01)
    assert other(THREE) == {}
    other.load_state_dict(bank.state_dict())
    for got, expected in zip(effective(other, THREE), effective(bank, THREE), strict=True):
        assert torch.equal(got, expected)


# Invariants.


@given(
    banks(),
    st.sampled_from([0.013, 0.37, 0.93]),
    st.sampled_from(["half", "similarity", "learned"]),
)
@settings(max_examples=30, deadline=None)
def test_the_weights_of_a_kernel_add_up_to_one(kernels, threshold, phi):
    bank = bank_of(kernels, threshold, all_pairs(kernels), phi=phi)
    ones = [torch.ones_like(k) for k in kernels]
    for mixed in bank(ones).values():
        assert_close(mixed, torch.ones_like(mixed))


@given(banks(), st.permutations(range(4)))
@settings(max_examples=30, deadline=None)
def test_the_order_of_columns_and_kernels_does_not_count(kernels, order):
    made = effective(bank_of(kernels, 0.37, all_pairs(kernels)), kernels)
    columns = [i for i in order if i < len(kernels)]
    turned = [kernels[i].flip(0) for i in columns]
    again = effective(bank_of(turned, 0.37, all_pairs(kernels)), turned)
    for i, mixed in zip(columns, again, strict=True):
        assert_close(mixed.flip(0), made[i], atol=1e-9, rtol=0)


def test_cosines_are_signed_and_free_of_scale():
    kernel = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    for factor, is_linked in ((1.0, True), (7.0, True), (1e-3, True), (-1.0, False), (0.0, False)):
        bank = bank_of([kernel, kernel * factor], 0.999, [(0, 1)])
        assert bool(bank.linked(0, 1)) == is_linked


def test_a_zero_kernel_is_like_none():
    kernels = [torch.zeros(1, 4), torch.ones(1, 4)]
    assert bank_of(kernels, 0.01, [(0, 1)])(kernels) == {}
    made = bank_of(kernels, 0.0, [(0, 1)], phi="similarity")(kernels)
    assert_close(made[0], torch.zeros(1, 4))  # cosine 0: all weight on the own kernel
    assert_close(made[1], torch.ones(1, 4))


@given(banks(), st.floats(-1, 1), st.floats(-1, 1))
@settings(max_examples=30, deadline=None)
def test_a_higher_threshold_links_a_part_of_the_pairs(kernels, one, other):
    low, high = sorted((one, other))
    pairs = all_pairs(kernels)
    assert linked_pairs(bank_of(kernels, high, pairs)) <= linked_pairs(bank_of(kernels, low, pairs))


def test_links_are_mutual():
    bank = bank_of(THREE, 0.35)
    for i, j in PAIRS:
        assert torch.equal(bank.linked(i, j), bank.linked(j, i).T)


@pytest.mark.parametrize("own", [0.5, 0.2])
def test_equal_banks_paired_by_index_stay_as_they_are(own):
    made = effective(bank_of([THREE[0]] * 3, 0.9, pairing="same_index", own=own), [THREE[0]] * 3)
    for mixed in made:
        assert_close(mixed, THREE[0])


def test_all_weight_on_the_own_kernel_changes_nothing():
    for mixed, raw in zip(effective(bank_of(THREE, 0.35, own=1.0), THREE), THREE, strict=True):
        assert torch.equal(mixed, raw)


def test_only_given_columns_share():
    bank = bank_of(THREE, 0.35, [(0, 2)])
    assert set(bank(THREE)) == {0, 2}
    assert bank.partners(1) == []


def test_gradients_reach_linked_kernels_by_their_weight():
    """At 0.35, A0's bank holds two pairs: B0 and C1 get (1 - phi) / 2 of its gradient each."""
    kernels = [k.clone().requires_grad_() for k in THREE]
    made = bank_of(THREE, 0.35, own=0.7)(kernels)
    made[0][0, 3].backward()
    assert_close(kernels[0].grad[:, 3], torch.tensor([0.7, 0, 0], dtype=torch.float64))
    assert_close(kernels[1].grad[:, 3], torch.tensor([0.15, 0], dtype=torch.float64))
    assert_close(kernels[2].grad[:, 3], torch.tensor([0, 0.15], dtype=torch.float64))
    assert not any(k.grad[:, :3].any() for k in kernels)


def test_columns_without_a_link_get_no_gradient():
    """At 0.96 only A and C are linked: B does not even get zeros."""
    kernels = [k.clone().requires_grad_() for k in THREE]
    made = bank_of(THREE, 0.96)(kernels)
    assert set(made) == {0, 2}
    made[0].sum().backward()
    assert kernels[1].grad is None
    assert kernels[2].grad is not None


def test_gradients_of_several_losses_at_once():
    """Jacobians of several tasks are taken in one batched backward pass."""
    for threshold in (0.35, 0.96):
        kernels = [k.clone().requires_grad_() for k in THREE]
        made = bank_of(THREE, threshold)(kernels)[0]
        several = torch.randn(2, *made.shape, dtype=torch.float64)
        batched = torch.autograd.grad(
            made, kernels[2], several, is_grads_batched=True, retain_graph=True
        )
        single = [torch.autograd.grad(made, kernels[2], g, retain_graph=True)[0] for g in several]
        assert_close(batched[0], torch.stack(single))
