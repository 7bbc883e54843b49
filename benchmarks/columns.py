"""Columns: cross-stitch against a hard step, kernel sharing against plain columns, MTDA by hand.

Steps of linked columns against the same by hand stand in `step`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from benchmarks.by_hand.linked import discriminant_logits
from benchmarks.by_hand.trunks import Hard
from benchmarks.step import LARGE, PARTIAL
from benchmarks.timing import Result, Target, alternate, in_turn, ratios
from benchmarks.workload import Workload
from polytask.sharing.columns.kernel_bank import KernelBank
from polytask.sharing.columns.kernel_sharing import KernelSharing
from polytask.sharing.columns.mtda import NearestMean

FULL = Workload(sets=3, side=64, batch=96)  # ResNet-18 at its own widths, 32 images a task
NEVER = 10**9
REFRESH = 50  # updates between searches for pairs, by default


def run(rounds: int | None) -> Iterator[Result]:
    """Time the methods of columns that a target names."""
    yield _cross_stitch(rounds or 8)
    for workload, words, usual in ((PARTIAL, "¼ width", 16), (FULL, "64 px", 8)):
        for init in ("independent", "common"):
            yield from _kernel_sharing(workload, init, words, rounds or usual)
    yield _similarity(rounds or 8)
    yield _discriminants(rounds or 8)


def _cross_stitch(rounds: int) -> Result:
    """Three columns that all see every image: three trunks against one."""
    ours, hard = LARGE.training("cross_stitch"), Hard(LARGE)
    hard.load(LARGE.training("hard").loop.method)
    seconds = alternate({"ours": ours.turns(), "hard": in_turn(hard.step, ours.batches)}, rounds)
    found = ratios(seconds["ours"], seconds["hard"])
    work = "columns: cross_stitch, 3 columns, 64 px"
    return Result(work, "the hard step by hand; limit 3×", found, Target(high=3.15))


def _kernel_sharing(workload: Workload, init: str, words: str, rounds: int) -> Iterator[Result]:
    """A step with pairs that are known, and the search for them, which comes every so often.

    Columns that start independently have few pairs; from a common start every kernel has one.
    """
    plain = workload.training("single")
    sharing = workload.training("kernel_sharing", {"refresh_every": NEVER, "init": init})
    method = sharing.loop.method
    assert isinstance(method, KernelSharing)
    seconds = alternate(
        {"plain": plain.turns(), "sharing": sharing.turns(), "search": method.refresh}, rounds
    )
    pairs = "few pairs" if init == "independent" else "all paired"
    for every in (REFRESH, 1):
        times = zip(seconds["sharing"], seconds["search"], strict=True)
        found = ratios([step + search / every for step, search in times], seconds["plain"])
        yield Result(
            f"columns: kernel_sharing, {pairs}, {words}",
            f"plain columns, search every {every}",
            found,
            Target(high=1.05) if every == REFRESH else None,
        )


def _similarity(rounds: int) -> Result:
    """All pairs of three columns' 64 kernels of 576 numbers, against one cosine at a time."""
    draw = torch.Generator().manual_seed(0)
    kernels = [torch.randn(64, 576, generator=draw) for _ in range(3)]
    bank = KernelBank([64] * 3, [(0, 1), (0, 2), (1, 2)], threshold=0.1)
    by_loop = _linked_by_loop(kernels, bank.pairs, bank.threshold)
    bank.refresh(kernels)
    assert all(torch.equal(bank.linked(*pair), by_loop[pair]) for pair in bank.pairs)
    seconds = alternate(
        {
            "loop": lambda: _linked_by_loop(kernels, bank.pairs, bank.threshold),
            "bank": lambda: bank.refresh(kernels),
        },
        rounds,
    )
    found = ratios(seconds["loop"], seconds["bank"])
    work = "columns: similarity of 3 × 64 kernels, speed"
    return Result(work, "a Python loop over pairs", found)


def _discriminants(rounds: int) -> Result:
    """MTDA on one task: 1,200 images of 784 pixels, 64 components, ten classes."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(1200) % 10
    centers = torch.randn(10, 784, generator=draw)
    images = torch.randn(1200, 784, generator=draw) + centers[labels] / 2
    head = NearestMean(784, 9, 10)

    def ours() -> Tensor:
        head.fit(images, labels, components=64, ridge=1e-3)
        logits: Tensor = head(images)
        return logits

    def theirs() -> Tensor:
        return discriminant_logits(images, labels, 9, 64)

    assert_close(ours().detach().double(), theirs(), rtol=1e-3, atol=1e-3)
    seconds = alternate({"ours": ours, "theirs": theirs}, rounds)
    found = ratios(seconds["ours"], seconds["theirs"])
    work = "columns: mtda, 1,200 images of 784 pixels"
    return Result(work, "by hand in NumPy and SciPy", found, Target(high=1.05))


def _linked_by_loop(
    kernels: list[Tensor], pairs: list[tuple[int, int]], threshold: float
) -> dict[tuple[int, int], Tensor]:
    found = {}
    for i, j in pairs:
        cosines = [[F.cosine_similarity(a, b, dim=0) for b in kernels[j]] for a in kernels[i]]
        found[i, j] = torch.stack([torch.stack(row) for row in cosines]) >= threshold
    return found
