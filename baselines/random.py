"""The control ``random``: scores that know nothing, the floor every method must clear.

Uniform noise for every patch, from the cell's seed and the image's id: neither order, batch, machine nor precision matters.
"""

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from foundad.config import Method, Need
from foundad.detection import protocol


class Settings(Method):
    """The control has no keys of its own."""

    detector: Literal["random"] = "random"

    @property
    def needs(self) -> frozenset[Need]:
        """No images to learn from, and the ids that its noise comes from."""
        return frozenset({"features", "ids"})


class Detector(protocol.Detector):
    """Learns nothing."""

    def score_named(
        self, tokens: np.ndarray, image_ids: Sequence[str], inside: np.ndarray | None = None
    ) -> tuple[np.ndarray, None]:
        """Uniform noise in [0,1), [B,N] float32, of images with these ids."""
        patches = tokens.shape[1]
        scores = [self._noise(image_id, patches) for image_id in image_ids]
        return np.stack(scores) if scores else np.empty((0, patches), np.float32), None

    def _noise(self, image_id: str, patches: int) -> np.ndarray:
        """Noise [N] float32 of one image; the little-endian words of the digest are the same on every machine."""
        digest = np.frombuffer(hashlib.sha256(image_id.encode("utf-8", "surrogateescape")).digest(), "<u4")
        generator = np.random.default_rng([self.seed, *digest.tolist()])
        return generator.random(patches, dtype=np.float32)
