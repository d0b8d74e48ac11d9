"""PatchCore (Roth et al., CVPR 2022, arXiv 2106.08265): nearest neighbour in a coreset of locally aware patch vectors.

Patch score = mean Euclidean distance to the nearest ``neighbours`` vectors of the memory. Image score = the largest
patch score, re-weighted (equation 7), if the key ``reweight`` is set; otherwise the common keys apply. With the key
``dimensions`` patch vectors are made as in the published code; otherwise every layer is averaged over its
neighbourhoods. Padding is not remembered, and neighbourhoods treat it as beyond the grid.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from foundad.config.base import Fraction, Odd
from foundad.config.encoder import Layer
from foundad.config.method import MemoryMethod
from foundad.detection import protocol
from foundad.detection.bank import BankTokens
from foundad.detection.shared.coreset import greedy_k_centre, project
from foundad.detection.shared.grids import (
    as_array,
    averaged,
    blanked,
    coarser,
    extended,
    from_array,
    resized,
    side,
    split,
)
from foundad.detection.shared.search import Memory

if TYPE_CHECKING:
    from scipy import sparse

    from foundad.config.encoder import Encoder


class Settings(MemoryMethod):
    """Keys of PatchCore beside the common ones."""

    detector: Literal["patchcore"] = "patchcore"
    neighbourhood: Odd = Field(3, description="side of the window around a patch")
    dimensions: int | None = Field(
        None,
        ge=1,
        description="length that the windows of a layer, and then all layers, are pooled to (published: 1024)",
    )
    coreset: Fraction = Field(1.0, gt=0, description="share of the patch vectors that is kept")
    projection: int = Field(128, ge=1, description="dimensions of the random projection in which the coreset is chosen")
    neighbours: int = Field(1, ge=1, description="nearest vectors whose distances are averaged")
    reweight: int = Field(
        0, ge=0, description="vectors around the match that weight the image score; 0 = no re-weighting"
    )

    def numbers(self, drawn: int, encoder: "Encoder") -> float:
        """The coreset."""
        return self.coreset * drawn * self.bank.views * encoder.grid**2 * (self.dimensions or encoder.channels)


class Detector(protocol.Detector):
    """Memory [M,D] of patch vectors."""

    settings: Settings

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Remember the coreset of the patch vectors of the drawn images."""
        self.layers: tuple[Layer, ...] = bank.layers
        vectors = self._vectors(bank.normal, bank.inside_normal)
        if bank.inside_normal is not None:
            vectors = vectors[bank.inside_normal.ravel()]
        count = max(1, round(self.settings.coreset * len(vectors)))
        if count < len(vectors):
            first = int(np.random.default_rng(self.seed).integers(len(vectors)))
            chosen = greedy_k_centre(project(vectors, self.settings.projection, self.seed), count, first)
            vectors = vectors[np.sort(chosen)]
        self.restore({"memory": vectors, "layers": as_array(bank.layers)})
        return {"memory_patches": len(vectors)}

    def score_images(
        self, tokens: np.ndarray, inside: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Distance of every patch of [B,N,D] to the memory, [B,N] float32, and image scores [B] if re-weighted."""
        vectors = self._vectors(tokens, inside)
        distances, matches = self.memory.nearest(vectors, self.settings.neighbours)
        patch_scores = distances.mean(axis=1).reshape(tokens.shape[:2])
        if not self.settings.reweight:
            return patch_scores, None
        # The worst patch of every image, its match, and how crowded the memory is around the match.
        counted = patch_scores if inside is None else np.where(inside, patch_scores, -1)
        worst = counted.argmax(axis=1) + np.arange(len(tokens)) * tokens.shape[1]
        queries, nearest = vectors[worst], matches[worst, 0]
        _, around = self.memory.nearest(self.memory.vectors[nearest], self.settings.reweight)
        differences = queries[:, None].astype(np.float64) - self.memory.vectors[around]
        to_around = np.sqrt(np.einsum("bkd,bkd->bk", differences, differences))
        to_nearest = distances[worst, 0].astype(np.float64)
        # A softmax, shifted by its largest exponent so that it cannot overflow.
        shift = np.maximum(to_around.max(axis=1), to_nearest)
        weights = 1 - np.exp(to_nearest - shift) / np.exp(to_around - shift[:, None]).sum(axis=1)
        return patch_scores, (weights * counted.max(axis=1)).astype(np.float32)

    def _vectors(self, tokens: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
        """Patch vectors [B*N,D] float32 of tokens [B,N,D]; those that are not ``inside`` are not used."""
        width, grid = self.settings.neighbourhood, side(tokens)
        parts = split(tokens, self.layers)
        shown = [coarser(inside, side(part)) for part in parts]
        parts = [blanked(part, kept) for part, kept in zip(parts, shown, strict=True)]
        if self.settings.dimensions is None:
            means = [averaged(part, width) for part in parts]
            found = [resized(extended(part, kept), grid) for part, kept in zip(means, shown, strict=True)]
            joined = found[0] if len(found) == 1 else np.concatenate(found, axis=2)
            return joined.reshape(-1, joined.shape[2])
        vectors = []
        for number in range(len(tokens)):
            masks = None if inside is None else [kept[number] for kept in shown if kept is not None]
            vectors.append(pooled([part[number] for part in parts], width, self.settings.dimensions, grid, masks))
        return np.concatenate(vectors)

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take the memory, ready to be searched, and the layers that patch vectors are made from."""
        super().restore(state)
        self.memory = Memory(state["memory"], self.settings.search, self.compute.device)
        self.layers = from_array(state["layers"])


def pooled(
    parts: Sequence[np.ndarray], width: int, dimensions: int, grid: int, shown: Sequence[np.ndarray] | None = None
) -> np.ndarray:
    """Patch vectors of one image as the published code makes them, [grid*grid,dimensions] float32.

    Every layer's ``width`` x ``width`` windows (zeros around the grid, a channel's values side by side) are pooled to
    ``dimensions`` values, resized to the grid, joined to those of the other layers, and pooled to ``dimensions`` again.

    Args:
        parts: layers of the image at their own grids, [n,C], zeros on the padding.
        shown: which tokens of each layer are not padding, [n] bool; None = all.
    """
    found = []
    for number, part in enumerate(parts):
        own, half = side(part[None]), width // 2
        padded = np.pad(part.reshape(own, own, -1), ((half, half), (half, half), (0, 0)))
        windows = [padded[y : y + own, x : x + own] for y in range(width) for x in range(width)]
        values = np.stack(windows, axis=-1).reshape(own * own, -1)
        vectors = (values @ _pooling(values.shape[1], dimensions))[None].astype(np.float32)
        found.append(resized(extended(vectors, None if shown is None else shown[number][None]), grid)[0])
    joined = np.concatenate(found, axis=1)
    return np.asarray(joined @ _pooling(joined.shape[1], dimensions), np.float32)


@cache
def _pooling(source: int, target: int) -> "sparse.csc_array":
    """[source,target] float32: mean i is over floor(i * source / target) up to ceil((i + 1) * source / target)."""
    from scipy import sparse  # imported here: planning does not need it

    starts = np.arange(target) * source // target
    ends = -(-(np.arange(target) + 1) * source // target)
    rows = np.concatenate([np.arange(start, end) for start, end in zip(starts, ends, strict=True)])
    columns = np.repeat(np.arange(target), ends - starts)
    shares = np.repeat(1 / (ends - starts), ends - starts).astype(np.float32)
    return sparse.csc_array((shares, (rows, columns)), (source, target))
