"""The control ``random``: scores that know nothing, the floor every method must clear.

Uniform noise for every patch, from the cell's seed and the image's own tokens, so that neither order nor batch matters.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from foundad.config import Method, Need
from foundad.detector import BankTokens


class Settings(Method):
    """The control has no keys of its own."""

    detector: Literal["random"] = "random"

    @property
    def needs(self) -> frozenset[Need]:
        """No images to learn from."""
        return frozenset({"features"})


class Detector:
    """Learns nothing."""

    def __init__(self, settings: Settings, seed: int, device: str = "cpu") -> None:
        self.seed = seed

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Nothing to learn."""
        return {}

    def score(self, tokens: np.ndarray) -> np.ndarray:
        """Uniform noise in [0,1), [B,N] float32."""
        return np.stack([self._noise(image) for image in tokens])

    def _noise(self, tokens: np.ndarray) -> np.ndarray:
        digest = hashlib.sha256(tokens.tobytes()).digest()
        generator = np.random.default_rng([self.seed, *np.frombuffer(digest, np.uint32).tolist()])
        return generator.random(len(tokens), dtype=np.float32)

    def state(self) -> dict[str, np.ndarray]:
        """Nothing to keep."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Nothing to take back."""
