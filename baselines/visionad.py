"""VisionAD (arXiv 2504.11895): plain cosine search, with many views of the references and of the picture.

The bank makes the views: rotated and flipped references (keys ``rotations``, ``flips``) and query views (``queries``).
Each query view is searched among the references under the same view, and the maps are summed. This file finds the
nearest normal patch by cosine distance. A pooled model first chooses the category of the reference with the nearest
mean patch token, and searches only there. Padding is neither searched nor part of a mean token.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from foundad.config.method import MemoryMethod
from foundad.detection import protocol
from foundad.detection.bank import BankTokens
from foundad.detection.shared.grids import blanked, image_means, vectors_of
from foundad.detection.shared.search import Memory, cosine, unit


class Settings(MemoryMethod):
    """Keys of VisionAD beside the common ones."""

    detector: Literal["visionad"] = "visionad"
    class_aware: bool = Field(
        True, description="a pooled model only searches the category whose mean patch token is nearest"
    )


class Detector(protocol.Detector):
    """Tokens of length one [S*N,D], category by category, and the mean tokens [S,D] of the references."""

    settings: Settings

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Remember every patch token of the drawn images, and the mean token of each image."""
        names, numbers = np.unique(bank.normal_categories, return_inverse=True)
        order = np.argsort(numbers, kind="stable")
        inside = None if bank.inside_normal is None else bank.inside_normal[order]
        tokens = blanked(unit(bank.normal[order]), inside)
        if not self.settings.class_aware:
            numbers[:] = 0
        described = unit(image_means(tokens, inside))
        state = {"tokens": tokens, "images": described, "categories": numbers[order].astype(np.int64)}
        self.restore(state if inside is None else state | {"inside": inside})
        return {"memory_patches": len(bank.normal_vectors()), "categories": len(names)}

    def score_images(self, tokens: np.ndarray, inside: np.ndarray | None = None) -> tuple[np.ndarray, None]:
        """Cosine distance of every patch of [B,N,D] to its nearest normal patch, [B,N] float32.

        The mean token of a picture is that of its tokens ``inside`` [B,N].
        """
        queries = unit(tokens)
        looks_like = self.categories[
            Memory(self.learned["images"]).nearest(unit(image_means(queries, inside)))[1][:, 0]
        ]
        scores = np.empty(tokens.shape[:2], np.float32)
        for category in np.unique(looks_like):
            rows = np.flatnonzero(looks_like == category)
            found, _ = self.memories[category].nearest(queries[rows].reshape(-1, tokens.shape[2]))
            scores[rows] = cosine(found).reshape(len(rows), -1)
        return scores, None

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take tokens (zeros on the padding), mean tokens, which tokens are not padding; one memory per category."""
        super().restore(state)
        self.categories, inside = state["categories"], state.get("inside")
        self.memories = {}
        for category in np.unique(self.categories):
            rows = self.categories == category
            vectors = vectors_of(state["tokens"][rows], None if inside is None else inside[rows])
            self.memories[category] = Memory(vectors, self.settings.search, self.compute.device)
