"""Sums of many Gaussian kernels at many points of a line, in time that is linear in both."""

import itertools
import math

import numpy as np
import torch
from torch import Tensor

STEPS = 4  # nodes in the smallest standard deviation of an octave
DEGREE = 15  # of the polynomials between nodes: with 4 nodes a deviation, their error is 1.4e-9 of the largest kernel nearby
REACH = 18 * STEPS  # nodes on either side of a mean: 9 standard deviations of the widest kernel of an octave, where it is 3e-18
TILE = 2**12  # nodes in memory at once
PIECE = 224  # kernels that are evaluated together: just too few numbers for torch to share them among threads
LOG2_SLOPE = math.sqrt(0.5 / math.log(2))  # powers of two take a third of the time of `exp`
MOST_NODES = 2.0**50  # places of nodes are exact in double precision


class KernelSums:
    r"""Sums of Gaussian kernels at points z of a line, for every octave o of the deviations.

    $g_o(z) = \sum_b \frac{2^o}{\sigma_b} \exp\bigl(-\frac{(z - \mu_b)^2}{2 \sigma_b^2}\bigr)$ over b with
    $2^o \le \sigma_b < 2^{o+1}$. Kernels are added up on nodes of distance $2^o / 4$, within nine deviations of their means,
    and a polynomial of degree 15 through the sixteen nodes around a point is read off there. B kernels at S points cost 145 B
    evaluations, and not B S. The error of a sum is 1.4e-9 of the largest value that it has within eight nodes.

    Arguments:
        means, deviations: of the kernels, (B,), float64.

    >>> sums = KernelSums(torch.tensor([0.0, 1.0]).double(), torch.tensor([1.0, 1.0]).double())
    >>> [round(values.item(), 6) for _, values, _ in sums.octaves(torch.zeros(1).double())]
    [1.606531]
    """

    def __init__(self, means: Tensor, deviations: Tensor) -> None:
        order = means.argsort()
        self.means, self.deviations = means[order], deviations[order]
        self.octave = self.deviations.log2().floor()

    def octaves(self, points: Tensor) -> "list[tuple[float, Tensor, Stencils]]":
        """For every octave o: o, the sums at points (S,), and the stencils that read them off."""
        found = []
        for octave in self.octave.unique().tolist():
            here = self.octave == octave
            stencils = Stencils(points, 2.0**octave / STEPS)
            found.append((octave, _sum_octave(self.means[here], self.deviations[here], stencils), stencils))
        return found

    def resolves(self, points: Tensor) -> bool:
        """Whether double precision holds the places of all nodes."""
        furthest = max(self.means.abs().max().item(), points.abs().max().item())
        return furthest * STEPS < MOST_NODES * 2.0 ** self.octave.min().item()


class Stencils:
    """The nodes around points, and the weights of their values in the polynomial through them.

    Attributes:
        spacing: of nodes, which are at its multiples. first: the first node of each point, (S,). weights: (S, DEGREE + 1).
    """

    def __init__(self, points: Tensor, spacing: float) -> None:
        self.spacing = spacing
        place = points / spacing
        self.first = place.floor() - DEGREE // 2
        distance = (place - self.first)[:, None] - torch.arange(DEGREE + 1)
        signs = torch.tensor([(-1.0) ** j * math.comb(DEGREE, j) for j in range(DEGREE + 1)], dtype=torch.float64)
        terms = signs / torch.where(distance.abs() < 1e-12, 1e-12, distance)
        self.weights = terms / terms.sum(1, keepdim=True)

    def read(self, which: Tensor, means: Tensor, deviations: Tensor) -> Tensor:
        """What is read off at some points for M kernels each, (K, M), 0 for those of other octaves.

        Arguments:
            which: indices of the points, (K,). means, deviations: of the kernels, (K, M).
        """
        nodes = (self.first[which, None] + torch.arange(DEGREE + 1)) * self.spacing
        scaled = (nodes[:, None] - means[..., None]) * (LOG2_SLOPE / deviations)[..., None]
        read = (self.weights[which, None] * torch.exp2(-scaled.square())).sum(2) * (self.spacing * STEPS / deviations)
        return read.where(deviations.log2().floor() == math.log2(self.spacing * STEPS), 0.0)


def _sum_octave(means: Tensor, deviations: Tensor, stencils: Stencils) -> Tensor:
    """The sums of one octave at the points of the stencils; means are sorted."""
    cells, sums = (means / stencils.spacing).round(), torch.zeros(len(stencils.first), dtype=torch.float64)
    order = stencils.first.argsort()
    sorted_first = stencils.first[order]
    start = 0
    while start < len(order):
        # A tile begins at the first point that is left, so that gaps between points cost nothing.
        low = sorted_first[start].item()
        stop = int(torch.searchsorted(sorted_first, low + TILE))
        high = sorted_first[stop - 1].item() + DEGREE  # the last node that is read
        a, b = (
            int(torch.searchsorted(cells, bound, right=right)) for bound, right in ((low - REACH, False), (high + REACH, True))
        )
        if b > a:
            grid = _fill(low, int(high - low) + 1, cells[a:b], means[a:b], deviations[a:b], stencils.spacing)
            mine = order[start:stop]
            index = (stencils.first[mine] - low).long()[:, None] + torch.arange(DEGREE + 1)
            sums[mine] = (stencils.weights[mine] * grid[index]).sum(1)
        start = stop
    return sums


def _fill(low: float, count: int, cells: Tensor, means: Tensor, deviations: Tensor, spacing: float) -> Tensor:
    """Sums of kernels at nodes low, low + 1, ..., (count,)."""
    width = 2 * REACH + 1
    grid = np.zeros(count + 2 * width)  # kernels beyond either end reach into the margins
    slope, height = LOG2_SLOPE / deviations, (spacing * STEPS / deviations).numpy()
    offset, step = ((cells * spacing - means) * slope)[:, None], (spacing * slope)[:, None]
    nodes, memory = torch.arange(-REACH, REACH + 1, dtype=torch.float64), torch.empty(PIECE, width, dtype=torch.float64)
    at = (cells - low).long().numpy() + width - REACH  # the first node of each kernel, from the margin's begin
    for top in range(0, len(cells), PIECE):
        rows = slice(top, min(len(cells), top + PIECE))
        values = torch.addcmul(offset[rows], step[rows], nodes, out=memory[: rows.stop - top]).square_().neg_().exp2_().numpy()
        places = at[rows]
        starts = [0, *(np.flatnonzero(places[1:] != places[:-1]) + 1), len(places)]  # kernels of one cell are added by BLAS
        for first, last in itertools.pairwise(starts):
            grid[places[first] : places[first] + width] += height[top + first : top + last] @ values[first:last]
    return torch.from_numpy(grid[width : width + count])
