"""RAD (ICML 2026, arXiv 2601.22763): nearest normal patch in every layer alone, with the distances averaged.

Cosine distance, one memory for all categories as published, of which a picture searches the drawn images with the most
similar class tokens (key ``neighbours``), optionally only among patches at about the same place (key ``radius``). The
layers are the encoder's (its key ``features.layers``, or the stages with ``features.channels``). With few drawn images, one
layer and no radius it is plain cosine search. Padding is not searched. If a radius holds only padding, as can happen when
a wide picture meets tall drawn ones, everywhere is searched.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from foundad.config.encoder import Layer
from foundad.config.method import MemoryMethod, Need
from foundad.detection import protocol
from foundad.detection.bank import BankTokens
from foundad.detection.pictures import Pictures
from foundad.detection.shared.grids import (
    as_array,
    blanked,
    coarser,
    counts_of,
    extended,
    from_array,
    resized,
    side,
    split,
    vectors_of,
)
from foundad.detection.shared.search import Memory, cosine, unit
from foundad.paths import CLASS


class Settings(MemoryMethod):
    """Keys of RAD beside the common ones."""

    detector: Literal["rad"] = "rad"
    radius: int | None = Field(None, ge=0, description="patches searched to either side; absent = everywhere")
    neighbours: int | None = Field(
        150,
        ge=1,
        description="drawn images that a picture searches, by their class tokens; all if absent or fewer are drawn",
    )

    @property
    def needs(self) -> frozenset[Need]:
        """Class tokens where the drawn images are chosen by them."""
        return super().needs | ({"class"} if self.neighbours is not None else set())


class Detector(protocol.Detector):
    """One memory per layer: tokens [S,n,C] of length one from S drawn images, and their class tokens of length one."""

    settings: Settings

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Remember every patch token of the drawn images, layer by layer."""
        parts = split(bank.normal, bank.layers)
        inside = bank.inside_normal
        parts = [blanked(part, coarser(inside, side(part))) for part in parts]
        state = {f"layer{number}": unit(part) for number, part in enumerate(parts)} | {"layers": as_array(bank.layers)}
        if self.settings.neighbours is not None:
            state["images"] = unit(bank.array_of_normal(CLASS))
        self.restore(state if inside is None else state | {"inside": inside})
        return {"memory_patches": len(bank.normal_vectors()), "layers": len(parts)}

    def score_pictures(self, pictures: Pictures) -> tuple[np.ndarray, None]:
        """Mean over layers of the cosine distance of every patch of [B,N,D] to its nearest normal patch, [B,N] float32.

        Padding does not reach into the picture when a coarse layer is resized.
        """
        tokens, similar = pictures.tokens, self._similar(pictures)
        found: list[np.ndarray] = []
        for number, tokens_of_layer in enumerate(split(tokens, self.layers)):
            queries = unit(tokens_of_layer)
            distances = self._distances(number, queries) if similar is None else self._of(number, queries, similar)
            distances = extended(distances[:, :, None], coarser(pictures.inside, side(tokens_of_layer)))
            found.append(resized(distances, side(tokens))[:, :, 0])
        return np.stack(found).mean(axis=0), None

    def _similar(self, pictures: Pictures) -> np.ndarray | None:
        """Numbers [B,k] of the drawn images with the most similar class tokens; None if all are searched."""
        wanted = self.settings.neighbours
        if wanted is None or len(self.learned["images"]) <= wanted:
            return None
        return Memory(self.learned["images"]).nearest(unit(pictures.arrays[CLASS]), wanted)[1]

    def _distances(self, number: int, queries: np.ndarray) -> np.ndarray:
        """Cosine distance [B,n] of tokens [B,n,C] of length one to the nearest in a layer's memory."""
        distances = np.full(queries.shape[:2], np.inf, np.float32)
        if self.settings.radius is not None:
            distances = nearby(queries, self.parts[number], self.settings.radius, self.shown[number])
        far = np.isinf(distances)
        if far.any():
            distances[far] = cosine(self.memories[number].nearest(queries[far])[0][:, 0])
        return distances

    def _of(self, number: int, queries: np.ndarray, similar: np.ndarray) -> np.ndarray:
        """As :meth:`_distances`, to the nearest in those drawn images that are ``similar`` [B,k] to each picture."""
        part, shown = self.parts[number], self.shown[number]
        distances = np.full(queries.shape[:2], np.inf, np.float32)
        if self.settings.radius is not None:
            for row, chosen in enumerate(similar):
                kept = None if shown is None else shown[chosen]
                distances[row] = nearby(queries[row : row + 1], part[chosen], self.settings.radius, kept)[0]
        far = np.isinf(distances)
        if far.any():
            distances[far] = cosine(self.memories[number].nearest_in(queries, counts_of(part, shown), similar))[far]
        return distances

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take the memories (zeros on the padding), ready to be searched, class tokens, and which tokens are no padding."""
        super().restore(state)
        self.layers: tuple[Layer, ...] = from_array(state["layers"])
        inside = state.get("inside")
        self.parts = [state[f"layer{number}"] for number in range(max(1, len(self.layers)))]
        self.shown = [coarser(inside, side(part)) for part in self.parts]
        self.memories = [
            Memory(vectors_of(part, kept), self.settings.search, self.compute.device)
            for part, kept in zip(self.parts, self.shown, strict=True)
        ]


def nearby(queries: np.ndarray, memory: np.ndarray, radius: int, inside: np.ndarray | None = None) -> np.ndarray:
    """Cosine distance [B,N] of tokens [B,N,C] to the nearest in ``memory`` [S,N,C] at most ``radius`` patches away.

    Both have length one. The radius holds in every direction, so the window has 2 * radius + 1 patches per side. The
    distance is infinite if the window holds nothing of the memory that is ``inside`` [S,N] bool (None = all).
    """
    grid = side(queries)
    at = queries.reshape(-1, grid, grid, queries.shape[2]).transpose(1, 2, 0, 3)
    of = memory.reshape(-1, grid, grid, memory.shape[2]).transpose(1, 2, 3, 0)
    shown = None if inside is None else inside.reshape(-1, grid, grid).transpose(1, 2, 0)[:, :, None]
    best = np.full((grid, grid, len(queries)), -np.inf, np.float32)
    for down in range(-min(radius, grid - 1), min(radius, grid - 1) + 1):
        for right in range(-min(radius, grid - 1), min(radius, grid - 1) + 1):
            here = slice(max(0, -down), grid - max(0, down)), slice(max(0, -right), grid - max(0, right))
            there = slice(max(0, down), grid - max(0, -down)), slice(max(0, right), grid - max(0, -right))
            cosines = np.matmul(at[here], of[there])
            if shown is not None:
                cosines = np.where(shown[there], cosines, np.float32(-np.inf))
            np.maximum(best[here], cosines.max(axis=3), out=best[here])
    return np.maximum(1 - best.transpose(2, 0, 1).reshape(len(queries), -1), 0)
