"""The control ``random``: scores without any knowledge, the floor that every method must clear.

Uniform noise for every patch, seeded by the cell's seed and the image's id, so that order, batch, machine and precision
do not matter.
"""

from typing import Literal

import numpy as np

from foundad.config.method import Method, Need
from foundad.detection import protocol
from foundad.detection.pictures import Pictures
from foundad.generators import generator_of


class Settings(Method):
    """The control has no keys of its own."""

    detector: Literal["random"] = "random"

    @property
    def needs(self) -> frozenset[Need]:
        """The features, and the ids that seed its noise; no images to learn from."""
        return frozenset({"features", "ids"})


class Detector(protocol.Detector):
    """Learns nothing."""

    def score_pictures(self, pictures: Pictures) -> tuple[np.ndarray, None]:
        """Uniform noise in [0,1), [B,N] float32, seeded by the ids of the images."""
        patches = pictures.tokens.shape[1]
        scores = [generator_of(name, self.seed).random(patches, dtype=np.float32) for name in pictures.ids]
        return np.stack(scores) if scores else np.empty((0, patches), np.float32), None
