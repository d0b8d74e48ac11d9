"""SPADE (Cohen and Hoshen, arXiv 2005.02357): finds the most similar normal images, then the nearest of their patches.

Image score = mean Euclidean distance of the pooled features to the ``neighbours`` nearest drawn images. Patch score = mean
over a pyramid of layers of the distance to the nearest patch of those images. Padding is neither pooled nor searched.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from foundad.config.encoder import Layer
from foundad.config.method import MemoryMethod
from foundad.detection import protocol
from foundad.detection.bank import BankTokens
from foundad.detection.shared.grids import (
    as_array,
    blanked,
    coarser,
    counts_of,
    extended,
    from_array,
    image_means,
    resized,
    side,
    split,
    vectors_of,
)
from foundad.detection.shared.search import Memory

if TYPE_CHECKING:
    from foundad.config.encoder import Encoder


class Settings(MemoryMethod):
    """Keys of SPADE beside the common ones."""

    detector: Literal["spade"] = "spade"
    neighbours: int = Field(50, ge=1, description="most similar images; all if fewer are drawn")
    retrieval: Literal["last", "all"] = Field(
        "last", description="layers that images are compared by; with last, that layer is not part of the pyramid"
    )

    def numbers(self, drawn: int, encoder: "Encoder") -> float:
        """Every layer on its own grid."""
        return float(drawn * self.bank.views * sum(layer.channels * layer.grid**2 for layer in encoder.layers))


class Detector(protocol.Detector):
    """Memories [S,n,C] of the layers of S drawn images, and their pooled features [S,P]."""

    settings: Settings

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Remember the drawn images."""
        inside = bank.inside_normal
        pooled, pyramid = self._split(bank.normal, bank.layers, inside)
        state = {f"layer{number}": blanked(p, coarser(inside, side(p))) for number, p in enumerate(pyramid)}
        state |= {"images": pooled, "layers": as_array(bank.layers)}
        self.restore(state if inside is None else state | {"inside": inside})
        return {"memory_patches": len(bank.normal_vectors()), "pyramid": len(pyramid)}

    def score_images(self, tokens: np.ndarray, inside: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Patch scores [B,N] and image scores [B], float32; patches that are not ``inside`` [B,N] are not pooled."""
        pooled, pyramid = self._split(tokens, self.layers, inside)
        distances, similar = Memory(self.images).nearest(pooled, self.settings.neighbours)
        found = []
        for part, queries in zip(self.parts, pyramid, strict=True):
            kept = coarser(self.inside, side(part))
            memory = Memory(vectors_of(part, kept), self.settings.search, self.compute.device)
            if similar.shape[1] == len(self.images):
                nearest = memory.nearest(queries.reshape(-1, queries.shape[2]))[0].reshape(queries.shape[:2])
            else:
                nearest = memory.nearest_in(queries, counts_of(part, kept), similar)
            nearest = extended(nearest[:, :, None], coarser(inside, side(queries)))
            found.append(resized(nearest, side(tokens))[:, :, 0])
        return np.stack(found).mean(axis=0), distances.mean(axis=1)

    def _split(
        self, tokens: np.ndarray, layers: tuple[Layer, ...], inside: np.ndarray | None
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Pooled features [B,P] and the pyramid's layers [B,n,C] at their own grids."""
        parts = split(tokens, layers)
        means = [image_means(part, coarser(inside, side(part))) for part in parts]
        if self.settings.retrieval == "all" or len(parts) == 1:
            return np.concatenate(means, axis=1), parts
        return means[-1], parts[:-1]

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take layers (zeros on the padding), pooled features, and which tokens are not padding."""
        super().restore(state)
        self.images, self.layers = state["images"], from_array(state["layers"])
        self.inside: np.ndarray | None = state.get("inside")
        count = len(state.keys() - {"images", "layers", "inside"})
        self.parts = [state[f"layer{number}"] for number in range(count)]
