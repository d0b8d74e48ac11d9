"""VisionAD (arXiv 2504.11895): plain search by the cosine, with many views of the references and of the picture.

The views are the bank's work: turned and flipped references (keys ``rotations``, ``flips``), and query views (``queries``),
each searched among the references under the same view, the maps summed. What is left is the nearest normal patch by the
cosine; a pooled model first chooses the category whose reference looks most alike, and searches there alone. Padding is
neither searched nor part of what a picture looks like.
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
        True, description="a pooled model searches the category whose mean patch token is nearest alone"
    )


class Detector(protocol.Detector):
    """Tokens of length one [S*N,D], category by category, and the mean tokens [S,D] of the references."""

    settings: Settings

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Remember every patch token of the drawn images, and what each image looks like as a whole."""
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

        A picture looks like the mean of its tokens ``inside`` [B,N].
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
        """Take tokens (zeros where the padding is), a memory a category, descriptions, and which tokens are no padding."""
        super().restore(state)
        self.categories, inside = state["categories"], state.get("inside")
        self.memories = {}
        for category in np.unique(self.categories):
            rows = self.categories == category
            vectors = vectors_of(state["tokens"][rows], None if inside is None else inside[rows])
            self.memories[category] = Memory(vectors, self.settings.search, self.compute.device)
