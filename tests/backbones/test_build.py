"""Names and options of backbones: what is found without torch, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from polytask.backbones import build, find
from polytask.errors import UserError


def test_a_name_is_checked_without_torch():
    code = (
        "import sys; from polytask.backbones import find; find('resnet18');"
        "find('vit_large_patch14_dinov2'); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_told_with_the_nearest():
    with pytest.raises(UserError) as caught:
        find("resnet81", "config.yaml:3 backbone.name")
    (fault,) = caught.value.faults
    assert fault.where == "config.yaml:3 backbone.name"
    assert '"resnet81"' in fault.problem
    assert '"resnet18"' in fault.hint


def test_all_wrong_options_are_told_at_once():
    with pytest.raises(UserError) as caught:
        build("resnet18", channels=0, stem="tiny", width=float("nan"))
    places = {fault.where for fault in caught.value.faults}
    assert places == {"backbone.channels", "backbone.stem", "backbone.width"}


@pytest.mark.parametrize("name", ["vgg11", "mobilenet_v2", "alexnet_reduced", "convnext_atto"])
def test_networks_without_residual_units_to_open_say_so(name):
    with pytest.raises(UserError) as caught:
        build(name, open=("layer4",))
    (fault,) = caught.value.faults
    assert fault.where == "backbone.open"
    assert name in fault.problem


def test_the_same_random_state_gives_the_same_weights():
    networks = []
    for _ in range(2):
        torch.manual_seed(3)
        networks.append(build("resnet18", width=0.125).state_dict())
    assert all(torch.equal(networks[0][key], networks[1][key]) for key in networks[0])
