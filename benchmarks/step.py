"""A training step against the same mathematics by hand, which must give the same losses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.testing import assert_close

from benchmarks.by_hand import ByHand
from benchmarks.by_hand.attention import Mtan
from benchmarks.by_hand.dense import AttendedSegNet, Pyramid, SegNet, Stitched, UNet
from benchmarks.by_hand.linked import CrossStitch, Nddr, Snr
from benchmarks.by_hand.trunks import (
    EarlyExit,
    Filtered,
    Hard,
    LayerLasso,
    Mmoe,
    MultiExit,
    Single,
)
from benchmarks.by_hand.views import Adapters, AdaShare, AdaSharePolicies, NestedNet, PackNet
from benchmarks.timing import Result, Target, alternate, in_turn, ratios
from benchmarks.workload import ANY, TASKS, Training, Turn, Workload
from polytask.sharing.trunk import adashare

LARGE = Workload(side=64, batch=32)
SMALL = Workload(side=32, batch=64, width=0.25, stem="small")
HALF = Workload(side=32, batch=64, width=0.5, stem="small")
PARTIAL = Workload(sets=3, side=32, batch=63, width=0.25, stem="small")
EXITS = {"exits": dict(zip(TASKS, MultiExit.exits, strict=True))}
EARLY = {"exits": dict(zip(TASKS, EarlyExit.exits, strict=True))}
PACKED = {"capacities": list(PackNet.capacities)}
NESTED = {"ratios": list(NestedNet.ratios)}
OPEN = {"open_every": 1}
SECOND = Turn("train_second")
WEIGHTS = Turn("search", AdaShare.epoch, only=adashare.WEIGHTS)
POLICIES = Turn("search", AdaShare.epoch, only=adashare.POLICIES)
BRANCHES = {"branches": list(MultiExit.exits), "distill": False}


@dataclass(frozen=True)
class Work:
    """A method and its counterpart; `most` is the target of its time, `rounds` what it takes."""

    name: str
    workload: Workload
    method: str
    by_hand: type[ByHand]
    options: Mapping[str, Any] = field(default_factory=dict)
    turn: Turn = ANY
    most: float = 1.05
    rounds: int = 20


WORK = (
    Work("hard, 64 px, batch 32", LARGE, "hard", Hard, most=1.03),
    Work("hard, ¼ width, 32 px, batch 64", SMALL, "hard", Hard, most=1.03, rounds=30),
    Work("hard with filter, ¼ width", SMALL, "hard", Filtered, {"filter": True}),
    Work("single, ¼ width, partial labels", PARTIAL, "single", Single),
    Work("multi_exit, ¼ width, partial labels", PARTIAL, "multi_exit", MultiExit, EXITS),
    Work("multi_exit 1/1/4, ¼ width, partial", PARTIAL, "multi_exit", EarlyExit, EARLY),
    Work("multi_path, ¼ width, partial labels", PARTIAL, "multi_path", MultiExit, BRANCHES),
    Work("layer_lasso, ¼ width", SMALL, "layer_lasso", LayerLasso),
    Work("packnet, second task, ¼ width", SMALL, "packnet", PackNet, PACKED, SECOND),
    Work("nested_net, ½ width", HALF, "nested_net", NestedNet, NESTED, rounds=12),
    Work("adapters, ¼ width", SMALL, "adapters", Adapters, turn=Turn("joint"), rounds=12),
    Work("adashare, weights, ¼ width", SMALL, "adashare", AdaShare, OPEN, WEIGHTS, rounds=12),
    Work(
        "adashare, policies, ¼ width",
        SMALL,
        "adashare",
        AdaSharePolicies,
        OPEN,
        POLICIES,
        rounds=12,
    ),
    Work("mtan, ¼ width", SMALL, "mtan", Mtan, rounds=12),
    Work("mmoe, ¼ width", SMALL, "mmoe", Mmoe, rounds=12),
    Work("cross_stitch, ¼ width", SMALL, "cross_stitch", CrossStitch, rounds=12),
    Work("nddr, ¼ width", SMALL, "nddr", Nddr, rounds=12),
    Work("snr, ¼ width", SMALL, "snr", Snr, rounds=12),
)

OUTLINES = Workload(side=64, batch=16, width=0.5)
SEGNET = replace(OUTLINES, stem="small", backbone="residual_segnet", decoder="conv")
FPN, UNET = (replace(OUTLINES, decoder=decoder) for decoder in ("fpn", "unet"))
DENSE = tuple(
    Work(f"{name}, {side} px", replace(workload, side=side), method, by_hand, rounds=10)
    for side in (64, 128)
    for name, workload, method, by_hand in (
        ("hard, SegNet", SEGNET, "hard", SegNet),
        ("hard, ResNet-18 and pyramid", FPN, "hard", Pyramid),
        ("hard, ResNet-18 and U-Net", UNET, "hard", UNet),
        ("cross_stitch, SegNet", SEGNET, "cross_stitch", Stitched),
        ("mtan, SegNet", SEGNET, "mtan", AttendedSegNet),
    )
)


def run(rounds: int | None) -> Iterator[Result]:
    """Time every method in turn with its counterpart."""
    for work in (*WORK, *DENSE):
        ours = work.workload.training(work.method, work.options, turn=work.turn)
        theirs = work.by_hand(work.workload)
        theirs.load(ours.loop.method)
        check(work.name, ours, theirs)
        seconds = alternate(
            {"ours": ours.turns(), "theirs": in_turn(theirs.step, ours.batches)},
            rounds or work.rounds,
        )
        found = ratios(seconds["ours"], seconds["theirs"])
        yield Result(f"step: {work.name}", "by hand in PyTorch", found, Target(high=work.most))


def check(name: str, ours: Training, theirs: ByHand) -> None:
    """Refuse to compare what does not compute the same."""
    for batch in ours.batches[:2]:
        ours.step(batch)
        theirs.step(batch)
        mine = torch.tensor(list(ours.loop.last_losses.values()))
        other = torch.stack(theirs.losses).detach()
        assert_close(mine, other, rtol=1e-4, atol=1e-5, msg=lambda said: f"{name}: {said}")
