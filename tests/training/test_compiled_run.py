"""A run with compiled units ends where a plain one does, and goes on where it was stopped."""

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from polytask.errors import UserError
from polytask.training.compiled import check_compiler
from polytask.training.run import Stopped

# torch asks tensors inside a graph for their gradient while it traces, and then minds that it did.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
SMALL = {"backbone": {"name": "alexnet_reduced", "width": 0.125}}


def test_a_compiled_run_ends_where_a_plain_one_does_and_resumes(config, run_in):
    """`eager` traces the units as every backend does and runs what was traced as it is."""
    _, plain = run_in(config(["hard"], SMALL, epochs=1), "hard", "plain")
    made = config(["hard"], SMALL, epochs=1, compile="eager")
    _, straight = run_in(made, "hard", "straight")
    with pytest.raises(Stopped):
        run_in(made, "hard", "stopped", stop_after=3)
    _, resumed = run_in(made, "hard", "stopped", resume=True)
    one, other = (folder / "model.safetensors" for folder in (straight, resumed))
    assert one.read_bytes() == other.read_bytes()
    assert_close(load_file(one), load_file(plain / "model.safetensors"), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_compiled_is_one_line():
    with pytest.raises(UserError, match=r"^shop\.yaml:7 train\.compile: .* does not work here: .*"):
        check_compiler("none_such", torch.device("cpu"), "shop.yaml:7 train.compile")


def test_true_is_inductor_and_other_backends_have_names(config):
    assert config(["hard"], compile=True).train.compile is True
    with pytest.raises(UserError, match=r"train\.compile: .*indcutor"):
        config(["hard"], compile="indcutor")
