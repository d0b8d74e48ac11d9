"""The control ``random``: scores that know nothing, the floor every method must clear.

Uniform noise for every patch, from the cell's seed and the image's id: neither order, batch, machine nor precision matters.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from foundad.config.method import Method, Need
from foundad.detection import protocol
from foundad.generators import generator_of


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
        scores = [generator_of(name, self.seed).random(patches, dtype=np.float32) for name in image_ids]
        return np.stack(scores) if scores else np.empty((0, patches), np.float32), None
