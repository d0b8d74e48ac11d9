"""Nearest normal patch: the plainest rival, on the very features FoundAD reads.

Patch score = Euclidean distance to the nearest of all patch tokens of the drawn images (PatchCore, arXiv 2106.08265,
without pooling, coreset and re-weighting). Exact: one blocked matrix product, nothing approximated.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from foundad.config import Method
from foundad.detector import BankTokens

# Distances of one block of query patches to the whole memory are held at once: BLOCK * memory * 4 bytes.
BLOCK = 1024


class Settings(Method):
    """Keys of a nearest-neighbour method beside the common ones."""

    detector: Literal["knn"] = "knn"


class Detector:
    """Memory of all normal patch tokens [M,D]."""

    def __init__(self, settings: Settings, seed: int, device: str = "cpu") -> None:
        self.memory = np.empty((0, 0), np.float32)

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Remember every patch token of the drawn images."""
        self.memory = np.ascontiguousarray(bank.normal.reshape(-1, bank.normal.shape[-1]), np.float32)
        return {"memory_patches": len(self.memory)}

    def score(self, tokens: np.ndarray) -> np.ndarray:
        """Distance of every patch of [B,N,D] to its nearest normal patch, [B,N] float32."""
        queries = tokens.reshape(-1, tokens.shape[-1]).astype(np.float32)
        half_squares = np.einsum("md,md->m", self.memory, self.memory) / 2
        distances = np.empty(len(queries), np.float32)
        for start in range(0, len(queries), BLOCK):
            block = queries[start : start + BLOCK]
            nearest = np.argmax(block @ self.memory.T - half_squares, axis=1)
            # The expanded square finds the neighbour; the distance itself is taken from the difference, which is exact.
            distances[start : start + BLOCK] = np.linalg.norm(block - self.memory[nearest], axis=1)
        return distances.reshape(tokens.shape[:2])

    def state(self) -> dict[str, np.ndarray]:
        """The memory."""
        return {"memory": self.memory}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take the memory back."""
        self.memory = state["memory"]
