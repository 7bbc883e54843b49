"""Colorization, reconstruction and W-Net: worked numbers and what holds for any images."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from raw_images import raw_of, task_of
from torch.testing import assert_close

from polytask.tasks.pretext.colorization import rarity, spread
from polytask.tasks.pretext.lab import gamut_bins, to_lab, to_rgb
from polytask.tasks.pretext.ncut import affinity, nearness, soft_ncut
from polytask.tasks.task import FeatureShape

CLOSE = {"rtol": 0, "atol": 1e-6}
BINS = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [20.0, 20.0]]).double()


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((0.2, 0.5, 0.8), (52.252061, 2.776023, -46.285714)),
        ((1.0, 0.0, 0.0), (53.240588, 80.092308, 67.202751)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        ((1.0, 1.0, 1.0), (100.0, 0.0, 0.0)),
    ],
)
def test_lab_of_known_colours(rgb, lab):
    assert to_lab(np.array(rgb)) == pytest.approx(lab, abs=1e-2)


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_lab_and_back(rgb):
    assert to_rgb(to_lab(np.array(rgb))) == pytest.approx(rgb, abs=1e-4)


def test_bins_cover_every_colour():
    bins = gamut_bins(10)
    assert len(np.unique(bins, axis=0)) == len(bins) > 200
    colours = np.random.default_rng(0).uniform(size=(2000, 3))
    ab = to_lab(colours)[:, None, 1:]
    assert (np.abs(ab - bins).max(-1).min(1) <= 6).all()


def test_soft_encoding_of_the_worked_colour():
    share, nearest = spread(torch.tensor([[4.0, 2.0]]).double(), BINS, 3)
    assert nearest.tolist() == [[0, 1, 2]]
    assert_close(share, torch.tensor([[0.507224, 0.340003, 0.152773]]).double(), **CLOSE)


def test_rare_colours_weigh_more():
    p = torch.tensor([0.7, 0.2, 0.1, 0.0]).double()
    w = rarity(p, 0.5)
    expected = torch.tensor([0.717540, 1.514806, 1.947608, 2.726651]).double()
    assert_close(w, expected, **CLOSE)
    assert float((p * w).sum()) == pytest.approx(1)


def worked_colorization():
    task = task_of("colorization")
    task.bins, task.weights = BINS, rarity(torch.tensor([0.7, 0.2, 0.1, 0.0]).double(), 0.5)
    logits = torch.tensor([0.6, 0.25, 0.1, 0.05]).double().log().view(1, 4, 1, 1)
    return task, logits, torch.tensor([4.0, 2.0]).double().view(1, 2, 1, 1)


def test_weighted_cross_entropy_of_the_worked_pixel(monkeypatch):
    from polytask.tasks.pretext import colorization

    task, logits, ab = worked_colorization()
    monkeypatch.setattr(colorization.spread, "__defaults__", (3,))
    loss, weight = task.loss(logits, ab)
    assert float(loss) == pytest.approx(0.776536, abs=1e-6)
    assert float(weight) == 1


def test_colorization_of_no_image_at_all():
    task, _, _ = worked_colorization()
    prediction = torch.zeros(0, len(task.bins), 2, 3, requires_grad=True)
    loss, weight = task.loss(prediction, torch.zeros(0, 2, 2, 3))
    assert loss.shape == weight.shape == (0,)
    loss.sum().backward()


def test_annealed_mean_of_the_worked_pixel():
    task, logits, _ = worked_colorization()
    found = task.colours(logits).flatten()
    assert_close(found, torch.tensor([0.925565, 0.106727]).double(), **CLOSE)


def test_colorization_sees_no_colour(photos):
    task = task_of("colorization")
    task.fit_pixels(photos)
    made = task.make(raw_of(photos))
    assert torch.equal(made.images[:, 0], made.images[:, 1])
    assert made.target.shape == (12, 2, 8, 8)
    head = task.head([FeatureShape(8, 4, 4)], (32, 32))
    out = head(torch.randn(12, 8, 4, 4))
    assert out.shape == (12, len(task.classes), 8, 8)
    loss, weight = task.loss(out, made.target)
    assert loss.shape == (12,)
    assert weight.tolist() == [64.0] * 12


def worked_reconstruction(p, q, **options):
    """The loss of three pixels, less half their mean squared error."""
    task = task_of("reconstruction", **options)
    image = torch.tensor(p).double().view(1, 3, 1, 1)
    target = torch.tensor(q).double().view(1, 3, 1, 1) * 255
    loss, _ = task.loss(image, target)
    return float(loss) - sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) / 6


def test_equation_6_of_the_worked_images():
    found = worked_reconstruction((0.5, 0.3, 0.2), (0.2, 0.5, 0.3))
    assert found == pytest.approx(0.223805 + 0.001 * 1.029653, abs=1e-6)
    assert found == pytest.approx(0.224834, abs=1e-6)
    bare = worked_reconstruction((0.5, 0.3, 0.2), (0.2, 0.5, 0.3), divergence=False, entropy=0)
    assert bare == pytest.approx(0, abs=1e-8)


def test_a_perfect_reconstruction_costs_its_entropy_alone():
    p = (0.5, 0.3, 0.2)
    entropy = -sum(v * math.log(v) for v in p)
    assert worked_reconstruction(p, p) == pytest.approx(0.001 * entropy, abs=1e-9)


def test_ncut_of_four_pixels():
    values, places = torch.tensor([0.0, 0.1, 0.9, 1.0]), torch.arange(4.0)
    apart = lambda v: (v[:, None] - v[None]).square().double()  # noqa: E731
    weights = ((-apart(values) / 0.5**2).exp() * (-apart(places) / 4**2).exp())[None]
    expected = torch.tensor([0.902578, 0.030501, 0.010436, 0.072621]).double()
    assert_close(weights[0, [0, 0, 0, 1], [1, 2, 3, 2]], expected, **CLOSE)
    for first, cut in [((0.9, 0.8, 0.2, 0.1), 0.543106), ((1.0, 1.0, 0.0, 0.0), 0.072956)]:
        p = torch.tensor(first).double()
        assert float(soft_ncut(torch.stack([p, 1 - p])[None], weights)) == pytest.approx(
            cut, abs=1e-6
        )
    # The two factors are the module's own.
    assert_close(nearness(1, 4)[0], (-places.double().square() / 16).exp(), **CLOSE)
    scaled = affinity(values.double().view(1, 1, 1, 4) * 20)[0] / nearness(1, 4)
    assert_close(scaled, (-apart(values) / 0.5**2).exp(), **CLOSE)


def test_far_pixels_have_no_edge():
    w = nearness(6, 6)
    assert float(w[0, 5]) == 0  # five apart
    assert float(w[0, 4]) == pytest.approx(math.exp(-1))
    assert torch.equal(w, w.T)


@given(st.integers(0, 1000), st.integers(2, 6))
def test_ncut_lies_between_0_and_k(seed, k):
    generator = torch.Generator().manual_seed(seed)
    p = (3 * torch.randn(2, k, 20, generator=generator).double()).softmax(1)
    w = affinity(torch.rand(2, 3, 4, 5, generator=generator).double() * 255)
    cut = soft_ncut(p, w)
    assert (cut >= 0).all()
    assert (cut < k).all()
    assert_close(soft_ncut(p[:, torch.randperm(k, generator=generator)], w), cut)
    uniform = torch.full_like(p, 1 / k)
    assert_close(soft_ncut(uniform, w), torch.full((2,), k - 1).double())


def test_the_cheapest_straight_cut_runs_along_the_edge():
    pixels = torch.zeros(1, 3, 8, 8)
    pixels[..., 3:] = 200
    task = task_of("wnet", segments=2)
    cuts = []
    for column in range(1, 8):
        first = (torch.arange(8) < column).expand(1, 8, 8).double()
        cuts.append(float(task.cut(torch.stack([first, 1 - first], dim=1), pixels)))
    assert min(cuts) == cuts[2] < 0.01 < min(cuts[:2] + cuts[3:])


def test_wnet_makes_segments_and_the_image_again(photos):
    task = task_of("wnet", segments=5, width=8)
    features = [FeatureShape(4, s, s) for s in (32, 16, 8, 4)]
    found = task.head(features, (32, 32))([torch.randn(12, 4, f.height, f.width) for f in features])
    assert found["segments"].shape == (12, 5, 32, 32)
    assert_close(found["segments"].sum(1), torch.ones(12, 32, 32))
    assert found["image"].shape == (12, 3, 32, 32)
    loss, weight = task.loss(found, task.make(raw_of(photos)).target)
    assert loss.shape == weight.shape == (12,)
    assert (loss > 0).all()


def test_wnet_answers_with_a_segment_a_pixel_and_the_share_of_each():
    task = task_of("wnet", segments=3)
    scores = torch.tensor([[0.8, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1], [0.1, 0.8, 0.8, 0.8]])
    (answer,) = task.read({"segments": scores.view(1, 3, 2, 2)}, [(2, 2)])
    assert answer["mask"] == [[0, 2], [2, 2]]
    assert answer["shares"] == {"segment 0": 0.25, "segment 1": 0.0, "segment 2": 0.75}
