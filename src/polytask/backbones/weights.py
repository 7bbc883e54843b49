"""Weights in the source library's key names, loaded into a network before it is cut into units."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from polytask.backbones.options import Options
from polytask.errors import Fault, UserError

State: TypeAlias = Mapping[str, Tensor]
SECONDS_TO_CONNECT = 5.0
SHOWN = 3


def load(
    network: nn.Module,
    options: Options,
    *,
    offered: Callable[[], tuple[Path, str]],
    first: str,
    head: tuple[str, ...],
    translated: Callable[[dict[str, Tensor]], State] | None = None,
) -> None:
    """Load what `weights` or `pretrained` ask for; change nothing otherwise.

    Args:
        network: the source network, uncut, with the library's key names.
        offered: the file that `pretrained` means, downloaded if need be, and its description.
        first: the first convolution; its weights are adapted to the images' channels as timm does,
            and stay initial where `stem: small` gave it another kernel.
        head: prefixes of the classifier's keys, which are ignored.
        translated: rewrites the keys of other origins, asked only where the keys do not fit.

    Raises:
        UserError: the file is no file of weights, or of another network; or no weights are offered.
    """
    if options.weights:
        file = Path(options.weights)
        where = str(options.weights)
        if not file.is_file():
            problem = f"no file {where}; expected weights as .safetensors or .pth."
            options.refuse(Fault("backbone.weights", problem))
    elif options.pretrained:
        file, where = offered()
    else:
        return
    expected = {k: v for k, v in network.state_dict().items() if not k.startswith(head)}
    state: State = read(file, where)
    if translated and _fault(where, expected, _of_trunk(state, head)):
        state = translated(dict(state))
    found = _of_trunk(state, head)
    _adapt_first(found, f"{first}.weight", network.get_submodule(first), options)
    options.refuse(_fault(where, expected, found))
    network.load_state_dict(found, strict=False)


def read(file: Path, where: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file; nothing in the file can run code.

    Raises:
        UserError: the file is damaged, or holds more than tensors.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # damaged bytes make the readers raise anything
        problem = "is damaged, or holds more than tensors and could run code; it was not loaded."
        raise UserError.at(where, problem, "Save model.state_dict().") from None
    for wrapper in ("state_dict", "model"):  # how training scripts save their weights
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        problem = f"holds a {type(content).__name__}; expected a dict of tensors."
        raise UserError.at(where, problem, "Save model.state_dict().")
    return content


def _of_trunk(state: State, head: tuple[str, ...]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith(head)}


def _adapt_first(found: dict[str, Tensor], key: str, conv: nn.Module, options: Options) -> None:
    """Fit the first convolution in `found` to the images' channels or the small stem."""
    weight = found.get(key)
    if weight is None or weight.ndim != 4 or not isinstance(conv, nn.Conv2d):
        return
    if options.stem == "small" and weight.shape[2:] != conv.weight.shape[2:]:
        found[key] = conv.weight.detach()
    elif weight.shape[1] != options.channels:
        from timm.models import adapt_input_conv

        found[key] = adapt_input_conv(options.channels, weight)


def _fault(where: str, expected: State, found: State) -> Fault | None:
    """What keeps tensors from being the network's, in one sentence."""
    # Counts of batches are younger than many published files; torch fills them in.
    missing = [k for k in expected if k not in found and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in found if k not in expected]
    shapes = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in found and found[key].shape != value.shape
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    parts = [f"{len(keys)} {kind} ({_first(keys)})" for kind, keys in kinds if keys]
    if not parts:
        return None
    hint = "Check backbone.name, width and stem."
    return Fault(where, f"its weights are of another network: {'; '.join(parts)}.", hint)


def _first(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN]) + (", …" if len(keys) > SHOWN else "")


def from_torchvision(name: str) -> tuple[Path, str]:
    """The file of torchvision's default weights, from its cache or downloaded."""
    from torchvision.models import get_model_weights

    url = get_model_weights(name).DEFAULT.url
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name
    if not file.exists():
        _reach(url, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        digest = file.stem.rsplit("-", 1)[-1]
        torch.hub.download_url_to_file(url, str(file), hash_prefix=digest, progress=False)
    return file, f"torchvision's weights of {name}"


def from_timm(name: str) -> tuple[Path, str]:
    """The file of timm's default weights of a model, from the hub's cache or downloaded."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from timm.models import get_pretrained_cfg

    where = f"timm's weights of {name}"
    config = get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        problem = f"timm offers no pretrained weights of {name}."
        raise UserError.at("backbone.pretrained", problem, "Set it to false, or set weights: FILE.")
    part = config.hf_hub_filename or "model.safetensors"
    cached = try_to_load_from_cache(config.hf_hub_id, part)
    if isinstance(cached, str):
        return Path(cached), where
    _reach(os.environ.get("HF_ENDPOINT", "https://huggingface.co"), name)
    return Path(hf_hub_download(config.hf_hub_id, part)), where


def _reach(url: str, name: str) -> None:
    """Ask the server once: the libraries themselves retry for most of a minute when offline."""
    try:
        request = urllib.request.Request(url, method="HEAD")
        urllib.request.urlopen(request, timeout=SECONDS_TO_CONNECT).close()
    except urllib.error.HTTPError:
        return  # it answers, if only to refuse this request
    except OSError as error:
        host = urlsplit(url).netloc
        problem = f"the weights of {name} are not on this machine and {host} is not reachable"
        hint = "Download them elsewhere and set weights: FILE."
        problem = f"{problem} ({getattr(error, 'reason', error)})."
        raise UserError.at("backbone.pretrained", problem, hint) from None
