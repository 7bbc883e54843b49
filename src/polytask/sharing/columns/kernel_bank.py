"""The kernels of one layer in all columns: which are similar, and what sharing makes of them.

Source: Feng and Chen, "Twofold heterogeneous multi-task learning by sharing similar kernel pairs",
§3, eq. 3-6.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.sharing.columns.kernel_mixture import Mixture, rows_of, weighed

Pairing: TypeAlias = Literal["all", "same_index", "mutual_best"]
Phi: TypeAlias = Literal["half", "learned", "similarity"]


class KernelBank(nn.Module):
    """Links kernels of different columns whose cosine is at least `threshold`, and mixes them.

    Args:
        sizes: how many kernels each column has.
        pairs: the columns (i, j), i < j, whose kernels may be linked.
        threshold: the least cosine; anti-parallel kernels are never linked above 0.
        pairing: any two kernels, those of one index, or each other's nearest.
        phi: the weight of a kernel in its own pairs: `own`, sigmoid of a parameter per pair of
            columns (1 - that for the other column), or 1 / (1 + cosine).
    """

    def __init__(
        self,
        sizes: Sequence[int],
        pairs: Sequence[tuple[int, int]],
        threshold: float,
        pairing: Pairing = "all",
        phi: Phi = "half",
        own: float = 0.5,
    ) -> None:
        super().__init__()
        self.sizes, self.pairs = list(sizes), list(pairs)
        self.threshold, self.pairing, self.rule, self.own = threshold, pairing, phi, own
        self._made: tuple[Any, list[Mixture]] | None = None
        for i, j in pairs:
            shape = (sizes[i], sizes[j])
            self.register_buffer(f"linked_{i}_{j}", torch.zeros(shape, dtype=torch.bool))
            if phi == "similarity":
                self.register_buffer(f"cosine_{i}_{j}", torch.zeros(shape))
            if phi == "learned":
                self.register_parameter(f"phi_{i}_{j}", nn.Parameter(torch.zeros(())))

    def linked(self, i: int, j: int) -> Tensor:
        """Which kernels of column i are paired with which of column j, [m_i, m_j]."""
        return self._matrix("linked", i, j)

    def partners(self, i: int) -> list[int]:
        """The columns with a kernel in a pair with one of column i; none on the meta device."""
        others = [b if a == i else a for a, b in self.pairs if i in (a, b)]
        return [j for j in others if not self.linked(i, j).is_meta and self.linked(i, j).any()]

    @torch.no_grad()
    def refresh(self, kernels: Sequence[Tensor]) -> None:
        """Find the pairs of kernels [m, …] (eq. 3 and 4), by one matrix product a column."""
        units = [F.normalize(rows_of(raw), dim=1) for raw in kernels]
        for i in dict.fromkeys(i for i, _ in self.pairs):
            others = [j for first, j in self.pairs if first == i]
            if self.pairing == "same_index":
                cosines = [_of_equal_index(units[i], units[j]) for j in others]
            else:
                product = units[i] @ torch.cat([units[j] for j in others]).T
                cosines = list(torch.split(product, [self.sizes[j] for j in others], dim=1))
            for j, cosine in zip(others, cosines, strict=True):
                linked = cosine >= self.threshold
                if self.pairing == "mutual_best":
                    linked &= cosine == cosine.amax(dim=0)
                    linked &= cosine == cosine.amax(dim=1, keepdim=True)
                self.linked(i, j).copy_(linked)
                if self.rule == "similarity":
                    self._matrix("cosine", i, j).copy_(cosine)

    def forward(self, kernels: Sequence[Tensor]) -> dict[int, Tensor]:
        """The effective kernels (eq. 5 and 6) of the columns with a linked kernel, [m, …] each."""
        found: dict[int, Tensor] = {}
        for mixture in self._mixtures(kernels[0].dtype):
            mixed = mixture.of([kernels[k] for k in mixture.members])
            found |= dict(zip(mixture.outs, mixed, strict=True))
        return found

    def _mixtures(self, dtype: torch.dtype) -> list[Mixture]:
        """How columns mix, made anew when pairs were found or weights learn."""
        if self.rule == "learned":
            return list(self._mix(dtype))
        # Whatever writes pairs counts up their version: a search as well as a loaded state.
        known = [(pairs.device, pairs._version) for pairs in self.buffers()]
        if self._made is None or self._made[0] != (dtype, known):
            with torch.no_grad():
                self._made = (dtype, known), list(self._mix(dtype))
        return self._made[1]

    def _mix(self, dtype: torch.dtype) -> Iterator[Mixture]:
        """Columns with the same partners are summed at once, unless they have weights that learn:
        the gradient of a column reaches its partners, and what it shares with them, alone."""
        alike: dict[tuple[tuple[int, ...], int | None], list[int]] = {}
        for i in range(len(self.sizes)):
            partners = self.partners(i)
            if partners:
                alone = i if self.rule == "learned" else None
                alike.setdefault((tuple(sorted([i, *partners])), alone), []).append(i)
        for (members, _), outs in alike.items():
            sizes = [self.sizes[i] for i in outs]
            if len(outs) == len(members) and self._are_twins(members):
                lean = self.own - (1 - self.own) / (len(members) - 1)
                yield Mixture(members, outs, sizes, lean)
                continue
            rows, entries, weights = [], [], []
            for i in outs:
                first = sum(self.sizes[out] for out in outs[: outs.index(i)])
                for row, j, b, weight in self._mixture(i, members, dtype):
                    rows.append(row + first)
                    entries.append(b + sum(self.sizes[k] for k in members if k < j))
                    weights.append(weight)
            count = sum(self.sizes[k] for k in members)
            sums = weighed(sum(sizes), count, *map(torch.cat, (rows, entries, weights)))
            yield Mixture(members, outs, sizes, sums)

    def _are_twins(self, members: Sequence[int]) -> bool:
        """Whether each kernel is linked to those of its index, to no other, and all count alike."""
        pairs = [self.linked(i, j) for i, j in combinations(members, 2)]
        return self.rule == "half" and all(
            len(linked) == linked.shape[1] == int(linked.sum()) and bool(linked.diagonal().all())
            for linked in pairs
        )

    def _mixture(
        self, i: int, members: Sequence[int], dtype: torch.dtype
    ) -> Iterator[tuple[Tensor, int, Tensor, Tensor]]:
        """What the kernels of column i are made of: (kernel, column j, its kernel, weight)."""
        links = {j: self.linked(i, j) for j in members if j != i}
        size = torch.stack([linked.sum(dim=1) for linked in links.values()]).sum(dim=0)
        share = 1 / size.clamp(min=1).to(dtype)
        kept = (size == 0).to(dtype)
        for j, linked in links.items():
            a, b = linked.nonzero(as_tuple=True)
            phi = self._phi(i, j, a, b, dtype)
            kept = kept.index_add(0, a, phi * share[a])
            yield a, j, b, (1 - phi) * share[a]
        everyone = torch.arange(len(kept), device=kept.device)
        yield everyone, i, everyone, kept

    def phi(self, i: int, j: int) -> nn.Parameter | None:
        """The parameter a of phi_ij = sigmoid(a), i < j, where it is learned."""
        return self._parameters.get(f"phi_{min(i, j)}_{max(i, j)}")

    def _phi(self, i: int, j: int, a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
        """The weight of kernel a of column i in its pairs with kernels b of column j."""
        learned = self.phi(i, j)
        if learned is not None:
            return torch.sigmoid(learned if i < j else -learned).to(dtype).expand(len(a))
        if self.rule == "similarity":
            return 1 / (1 + self._matrix("cosine", i, j)[a, b].to(dtype))
        return torch.full(a.shape, self.own, dtype=dtype, device=a.device)

    def ratios(self) -> tuple[float, float]:
        """Participation and compression of the layer.

        Participation is the share of kernels in a pair, compression the share that storing every
        connected set of kernels once would save.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        first = np.cumsum([0, *self.sizes])
        ends = []
        for i, j in self.pairs:
            a, b = self.linked(i, j).cpu().numpy().nonzero()
            ends.append(np.stack([a + first[i], b + first[j]]))
        rows, columns = np.concatenate(ends, axis=1)
        count = int(first[-1])
        graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(count, count))
        sets, _ = connected_components(graph, directed=False)
        linked = np.union1d(rows, columns)
        return len(linked) / count, 1 - sets / count

    def _matrix(self, kind: str, i: int, j: int) -> Tensor:
        kept: Tensor = getattr(self, f"{kind}_{min(i, j)}_{max(i, j)}")
        return kept if i < j else kept.T


def _of_equal_index(one: Tensor, other: Tensor) -> Tensor:
    """Cosines of the kernels of one index on the diagonal, less than any threshold elsewhere."""
    cosine = one.new_full((len(one), len(other)), -torch.inf)
    both = min(len(one), len(other))
    cosine.diagonal().copy_((one[:both] * other[:both]).sum(dim=1))
    return cosine
