"""ConvNeXt and ViT: timm's bits, tokens folded into maps, and what a ViT refuses."""

from __future__ import annotations

import copy

import pytest
import timm
import torch

from polytask.backbones import build
from polytask.backbones.timm_models import ConvNeXt
from polytask.backbones.tokens import TokenBackbone
from polytask.errors import UserError

CONVNEXTS = ["convnext_zepto_rms", "convnext_zepto_rms_ols", "convnextv2_atto"]
KINDS_OF_VIT = [
    "vit_tiny_patch16_224",  # class token
    "vit_pe_core_tiny_patch16_384",  # rotary positions, norm before the blocks, attention pool
    "vit_small_patch16_rope_mixed_224",  # rotary positions of each block
    "vit_small_patch16_dinov3",  # rotary positions and register tokens
    "vit_srelpos_small_patch16_224",  # relative positions shared by the blocks
    "vit_relpos_small_patch16_224",  # relative positions of each block
    "vit_tiny_r_s16_p8_224",  # convolutional stem
]


@pytest.mark.parametrize("name", CONVNEXTS)
@torch.no_grad()
def test_convnext_units_composed_equal_timm(name, ours):
    source = timm.create_model(name, num_classes=0).eval()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(ours(name, source)(images), source.forward_features(images))


@torch.no_grad()
def test_a_norm_before_pooling_belongs_to_the_last_unit():
    tiny = {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)}
    source = timm.create_model("convnext_tiny_hnf", num_classes=0, **tiny).eval()
    images = torch.randn(2, 3, 64, 64)
    want = source.forward_features(images)
    assert torch.equal(ConvNeXt(source)(images), want)


@pytest.mark.parametrize("name", KINDS_OF_VIT)
@torch.no_grad()
def test_vit_units_composed_equal_timm(name):
    source = timm.create_model(name, num_classes=0, img_size=64, depth=3).eval()
    network = TokenBackbone(copy.deepcopy(source), is_fixed=True)
    images = torch.randn(2, 3, 64, 64)
    state = network(images)
    assert torch.equal(state[0], source.forward_features(images))
    (want,) = source.forward_intermediates(images, 1, norm=True, intermediates_only=True)
    assert torch.equal(network.feature(state), want)
    info = network.info[network.last]
    assert want.shape == (2, info.channels, 64 // info.stride, 64 // info.stride)


def test_a_convnext_takes_width_and_a_small_stem():
    network = build("convnext_atto", width=0.5, stem="small")
    shapes = network.shapes(3, 32, 32)
    assert shapes["stem"] == (20, 32, 32)
    assert shapes[network.resolve("stages.2")] == (80, 8, 8)
    assert network.info[network.last].stride == 8


@torch.no_grad()
def test_convnexts_classifier_is_timms():
    source = timm.create_model("convnext_zepto_rms", num_classes=7).eval()
    head = build("convnext_zepto_rms").classifier(7).eval()
    head.load_state_dict(source.head.state_dict())
    last = torch.randn(2, source.num_features, 2, 2)
    assert torch.equal(head(last), source.head(last))


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    return build("vit_tiny_patch16_224").eval()


def test_a_vit_runs_images_of_any_size_that_its_patches_divide(vit):
    state = vit(torch.randn(2, 3, 32, 48), "stage1")
    assert vit.feature(state).shape == (2, 192, 2, 3)
    assert vit.stages["stage1"] == "blocks.2"
    with pytest.raises(UserError) as caught:
        vit.shapes(3, 40, 48)
    (fault,) = caught.value.faults
    assert fault.where == "image_size"
    assert "40×48" in fault.problem
    assert "16" in fault.problem


def test_the_map_of_a_token_state_can_be_replaced(vit):
    state = vit(torch.randn(2, 3, 32, 48), "blocks.1")
    other = torch.randn(2, 192, 2, 3)
    replaced = vit.replace(state, other)
    assert torch.equal(vit.feature(replaced), other)
    assert torch.equal(replaced[0][:, 0], state[0][:, 0])


@torch.no_grad()
def test_the_rest_of_a_network_runs_on_some_images_of_a_token_state():
    source = timm.create_model("vit_pe_core_tiny_patch16_384", num_classes=0, depth=2).eval()
    network = TokenBackbone(source, is_fixed=False)
    images = torch.randn(3, 3, 384, 384)
    rows = torch.tensor([0, 2])
    taken = network.unit("blocks.1")(network.take(network(images, "blocks.0"), rows))
    alone = network(images[rows])
    torch.testing.assert_close(network.feature(taken), network.feature(alone))


@torch.no_grad()
def test_weights_of_another_image_size_are_resampled_as_timm_does(ours):
    source = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()
    network = ours("vit_tiny_patch16_224", source, size=(64, 64))
    source.set_input_size((64, 64))
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(network(images)[0], source.forward_features(images))


def test_positions_made_for_one_size_refuse_another():
    with torch.device("meta"):
        network = build("vit_tiny_patch16_224", size=(64, 64))
    with pytest.raises(UserError, match=r"32×32.*\(64, 64\)"):
        network.shapes(3, 32, 32)


def test_a_norm_behind_global_pooling_is_the_classifiers():
    with torch.device("meta"):
        network = build("vit_relpos_small_patch16_224")
        norm = network.classifier(5)[2]
    assert isinstance(norm, torch.nn.LayerNorm)
    assert not any("fc_norm" in name for name, _ in network.named_parameters())


def test_a_vit_refuses_width_and_small_stem_at_once():
    with pytest.raises(UserError) as caught:
        build("vit_tiny_patch16_224", width=0.5, stem="small", open="layer4")
    places = {fault.where for fault in caught.value.faults}
    assert places == {"backbone.width", "backbone.stem", "backbone.open"}


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("vit_tinny_patch16_224", "vit_tiny_patch16_224"),
        ("convnext_ato", "convnext_atto"),
        ("vit_tiny_patch16_224.augreg_in21", "vit_tiny_patch16_224.augreg_in21k"),
    ],
)
def test_a_name_that_timm_lacks_is_told_with_the_nearest(name, near):
    with pytest.raises(UserError) as caught:
        build(name)
    (fault,) = caught.value.faults
    assert fault.where == "backbone.name"
    assert f'"{name}"' in fault.problem
    assert f'"{near}' in fault.hint
