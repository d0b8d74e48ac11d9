"""Nearest normal patch: the simplest rival, on the same features that FoundAD reads.

Patch score = Euclidean distance to the nearest of all patch tokens of the drawn images (PatchCore, arXiv 2106.08265,
without pooling, coreset and re-weighting).
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from foundad.config.method import MemoryMethod
from foundad.detection import protocol
from foundad.detection.bank import BankTokens
from foundad.detection.shared.search import Memory


class Settings(MemoryMethod):
    """Keys of a nearest-neighbour method beside the common ones."""

    detector: Literal["knn"] = "knn"


class Detector(protocol.Detector):
    """Memory of all normal patch tokens [M,D]."""

    settings: Settings

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Remember every patch token of the drawn images."""
        self.restore({"memory": bank.normal_vectors()})
        return {"memory_patches": len(self.memory)}

    def score(self, tokens: np.ndarray) -> np.ndarray:
        """Distance of every patch of [B,N,D] to its nearest normal patch, or to their local mean, [B,N] float32."""
        distances = self.memory.distances(tokens.reshape(-1, tokens.shape[-1]), self.settings.local_mean)
        return distances.reshape(tokens.shape[:2])

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take the memory, ready to be searched."""
        super().restore(state)
        self.memory = Memory(state["memory"], self.settings.search, self.compute.device)
