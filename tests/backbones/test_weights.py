"""Weights by the source library's names: files, other channels, faults, and no network."""

from __future__ import annotations

import pickle
import socket
import time

import huggingface_hub.constants
import pytest
import torch
from timm.models import adapt_input_conv
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from polytask.backbones import build
from polytask.errors import UserError


@pytest.fixture
def source(randomised):
    """A ResNet-18 as torchvision makes it, with a classifier."""
    return randomised(ResNet(BasicBlock, [2, 2, 2, 2], num_classes=3))


@pytest.fixture
def file(source, tmp_path):
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    return tmp_path / "resnet18.pth"


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_a_pth_file_is_loaded_and_its_classifier_ignored(source, tmp_path, wrapper):
    state = source.state_dict()
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "w.pth")
    network = build("resnet18", weights=tmp_path / "w.pth")
    block = network.unit("layer3.1")
    theirs = source.layer3[1].state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in block.state_dict().items())
    assert torch.equal(network.unit("stem").conv1.weight, source.conv1.weight)


@pytest.mark.parametrize("channels", [1, 4])
def test_the_first_convolution_follows_the_images_channels_as_in_timm(source, file, channels):
    network = build("resnet18", weights=file, channels=channels)
    want = adapt_input_conv(channels, source.conv1.weight)
    assert torch.equal(network.unit("stem").conv1.weight, want)
    if channels == 1:
        assert torch.equal(want, source.conv1.weight.sum(1, keepdim=True))


def test_a_small_stem_keeps_its_own_first_convolution_and_loads_the_rest(source, file):
    torch.manual_seed(1)
    initial = build("resnet18", stem="small").unit("stem").conv1.weight
    torch.manual_seed(1)
    network = build("resnet18", stem="small", weights=file)
    assert torch.equal(network.unit("stem").conv1.weight, initial)
    assert torch.equal(network.unit("layer1.0").conv1.weight, source.layer1[0].conv1.weight)


def fault(**options):
    with pytest.raises(UserError) as caught:
        build(**options)
    (found,) = caught.value.faults
    return found


def test_a_file_of_another_width_is_one_fault_with_shapes(file):
    found = fault(name="resnet18", width=0.5, weights=file)
    assert found.where == str(file)
    assert "conv1.weight (64, 3, 7, 7) instead of (32, 3, 7, 7)" in found.problem
    assert "backbone.width" in found.hint or "width" in found.hint


def test_a_file_of_another_depth_is_one_fault_with_keys(file):
    found = fault(name="resnet34", weights=file)
    assert found.where == str(file)
    assert "missing (layer1.2.conv1.weight, " in found.problem
    assert "backbone.name" in found.hint


@pytest.mark.parametrize("name", ["convnext_zepto_rms", "vit_tiny_patch16_224"])
def test_a_file_of_another_family_is_one_fault(name, file):
    found = fault(name=name, weights=file)
    assert found.where == str(file)
    assert "missing" in found.problem
    assert "unexpected" in found.problem


def test_a_missing_file_is_told():
    found = fault(name="resnet18", width=0.1, weights="absent.safetensors")
    assert found.where == "backbone.weights"
    assert "no file absent.safetensors" in found.problem


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\x80"])
def test_a_damaged_file_is_told(tmp_path, suffix, content):
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(content)
    assert fault(name="resnet18", width=0.1, weights=path).where == str(path)


def test_a_file_that_would_run_code_is_refused_without_running_it(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    path = tmp_path / "w.pth"
    path.write_bytes(pickle.dumps({"conv1.weight": Trap()}))
    found = fault(name="resnet18", width=0.1, weights=path)
    assert found.where == str(path)
    assert not (tmp_path / "sprung").exists()
    assert "weights_only" not in str(found)


def test_a_file_of_other_things_than_tensors_is_told(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    assert "tensors" in fault(name="resnet18", width=0.1, weights=tmp_path / "w.pth").problem


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network and empty caches."""

    def refuse(*args, **kwargs):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet26", "convnext_atto"])
def test_pretrained_without_a_network_says_at_once_what_to_do(name, offline):
    start = time.monotonic()
    found = fault(name=name, pretrained=True)
    assert time.monotonic() - start < 40  # timm alone retries for most of a minute
    assert found.where == "backbone.pretrained"
    assert name in found.problem
    assert "weights: FILE" in found.hint


def test_pretrained_weights_come_from_torchvisions_cache(source, offline, tmp_path):
    from torchvision.models import ResNet18_Weights

    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(source.state_dict(), cache / ResNet18_Weights.DEFAULT.url.rsplit("/", 1)[-1])
    network = build("resnet18", pretrained=True)
    assert torch.equal(network.unit("layer4.1").conv2.weight, source.layer4[1].conv2.weight)


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"name": "alexnet_reduced", "pretrained": True}, "backbone.pretrained"),
        ({"name": "resnet18", "pretrained": True, "width": 0.5}, "backbone.width"),
        ({"name": "resnet18", "pretrained": True, "weights": "w.pth"}, "backbone.weights"),
    ],
)
def test_weights_that_cannot_be_had_are_told(options, where):
    assert fault(**options).where == where


def test_batch_counts_may_be_absent_from_older_files(source, tmp_path):
    state = {k: v for k, v in source.state_dict().items() if "num_batches" not in k}
    torch.save(state, tmp_path / "w.pth")
    network = build("resnet18", weights=tmp_path / "w.pth")
    assert isinstance(network.unit("stem").bn1, nn.BatchNorm2d)
    assert torch.equal(network.unit("stem").bn1.running_var, source.bn1.running_var)
