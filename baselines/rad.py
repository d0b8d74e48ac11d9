"""RAD (ICML 2026, arXiv 2601.22763): nearest normal patch, every layer searched alone and the distances averaged.

Cosine distance, one memory for all categories as published, optionally only among patches at about the same place (key
``radius``). The layers are the encoder's (its key ``features.layers``, or the stages with ``features.channels``); with one
layer and no radius it is plain search by the cosine.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from foundad.config import Layer, MemoryMethod
from foundad.detector import BankTokens
from foundad.grids import as_array, from_array, resized, side, split
from foundad.search import Memory, cosine, unit


class Settings(MemoryMethod):
    """Keys of RAD beside the common ones."""

    detector: Literal["rad"] = "rad"
    radius: int | None = Field(None, ge=0, description="patches to either side that are searched; absent = everywhere")


class Detector:
    """One memory a layer, [S,n,C] tokens of length one of S drawn images."""

    def __init__(self, settings: Settings, seed: int, device: str = "cpu") -> None:
        self.settings, self.device = settings, device

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Remember every patch token of the drawn images, layer by layer."""
        parts = split(bank.normal, bank.layers)
        state = {f"layer{number}": unit(part) for number, part in enumerate(parts)}
        self.restore(state | {"layers": as_array(bank.layers)})
        return {"memory_patches": bank.normal.shape[0] * bank.normal.shape[1], "layers": len(parts)}

    def score(self, tokens: np.ndarray) -> np.ndarray:
        """Mean over layers of the cosine distance of every patch of [B,N,D] to its nearest normal patch, [B,N] float32."""
        found: list[np.ndarray] = []
        for part, tokens_of_layer in zip(self.parts, split(tokens, self.layers), strict=True):
            queries = unit(tokens_of_layer)
            if self.settings.radius is None:
                distances, _ = self.memories[len(found)].nearest(queries.reshape(-1, queries.shape[2]))
                distances = cosine(distances).reshape(queries.shape[:2])
            else:
                distances = nearby(queries, part, self.settings.radius)
            found.append(resized(distances[:, :, None], side(tokens))[:, :, 0])
        return np.stack(found).mean(axis=0)

    def state(self) -> dict[str, np.ndarray]:
        """The memories, and the layers they belong to."""
        return {f"layer{n}": part for n, part in enumerate(self.parts)} | {"layers": as_array(self.layers)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take them back."""
        self.layers: tuple[Layer, ...] = from_array(state["layers"])
        self.parts = [state[f"layer{number}"] for number in range(len(state) - 1)]
        self.memories = [
            Memory(part.reshape(-1, part.shape[2]), self.settings.search, self.device) for part in self.parts
        ]


def nearby(queries: np.ndarray, memory: np.ndarray, radius: int) -> np.ndarray:
    """Cosine distance [B,N] of tokens [B,N,C] to the nearest of ``memory`` [S,N,C] at most ``radius`` patches away.

    Both of length one; away in either direction, so that a window of 2 * radius + 1 patches a side is searched.
    """
    grid = side(queries)
    at = queries.reshape(-1, grid, grid, queries.shape[2]).transpose(1, 2, 0, 3)
    of = memory.reshape(-1, grid, grid, memory.shape[2]).transpose(1, 2, 3, 0)
    best = np.full((grid, grid, len(queries)), -np.inf, np.float32)
    for down in range(-min(radius, grid - 1), min(radius, grid - 1) + 1):
        for right in range(-min(radius, grid - 1), min(radius, grid - 1) + 1):
            here = slice(max(0, -down), grid - max(0, down)), slice(max(0, -right), grid - max(0, right))
            there = slice(max(0, down), grid - max(0, -down)), slice(max(0, right), grid - max(0, -right))
            cosines = np.matmul(at[here], of[there]).max(axis=3)
            np.maximum(best[here], cosines, out=best[here])
    return np.maximum(1 - best.transpose(2, 0, 1).reshape(len(queries), -1), 0)
