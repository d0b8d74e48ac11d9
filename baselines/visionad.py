"""VisionAD (arXiv 2504.11895): plain cosine search, with many views of the references and of the picture.

The bank makes the views: rotated and flipped references (keys ``rotations``, ``flips``) and query views (``queries``).
Each query view is searched among the references under the same view, and the maps are summed. This file finds the
nearest normal patch by cosine distance. A pooled model first chooses the category of the reference with the most similar
class token, and searches only there. Padding is not searched.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from foundad.config.method import MemoryMethod, Need
from foundad.detection import protocol
from foundad.detection.bank import BankTokens
from foundad.detection.pictures import Pictures
from foundad.detection.shared.grids import blanked, vectors_of
from foundad.detection.shared.search import Memory, cosine, unit
from foundad.paths import CLASS


class Settings(MemoryMethod):
    """Keys of VisionAD beside the common ones."""

    detector: Literal["visionad"] = "visionad"
    class_aware: bool = Field(
        True,
        description="a pooled model only searches the category of the drawn image with the most similar class token",
    )

    @property
    def needs(self) -> frozenset[Need]:
        """Class tokens where there are categories to choose from."""
        return super().needs | ({"class"} if self.class_aware and self.scope == "pooled" else set())


class Detector(protocol.Detector):
    """Tokens of length one [S,N,D] of the references, category by category, and their class tokens [S,C] of length one."""

    settings: Settings

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Remember every patch token of the drawn images, and where there are categories to choose from the class tokens."""
        names, numbers = np.unique(bank.normal_categories, return_inverse=True)
        order = np.argsort(numbers, kind="stable")
        inside = None if bank.inside_normal is None else bank.inside_normal[order]
        state = {"tokens": blanked(unit(bank.normal[order]), inside)}
        if "class" in self.settings.needs:
            state["images"] = unit(bank.array_of_normal(CLASS)[order])
        else:
            numbers[:] = 0
        state["categories"] = numbers[order].astype(np.int64)
        self.restore(state if inside is None else state | {"inside": inside})
        return {"memory_patches": len(bank.normal_vectors()), "categories": len(names)}

    def score_pictures(self, pictures: Pictures) -> tuple[np.ndarray, None]:
        """Cosine distance of every patch of [B,N,D] to its nearest normal patch, [B,N] float32."""
        queries, looks_like = unit(pictures.tokens), np.zeros(len(pictures.tokens), np.int64)
        if "images" in self.learned:
            nearest = Memory(self.learned["images"]).nearest(unit(pictures.arrays[CLASS]))[1][:, 0]
            looks_like = self.categories[nearest]
        scores = np.empty(queries.shape[:2], np.float32)
        for category in np.unique(looks_like):
            rows = np.flatnonzero(looks_like == category)
            found, _ = self.memories[category].nearest(queries[rows].reshape(-1, queries.shape[2]))
            scores[rows] = cosine(found).reshape(len(rows), -1)
        return scores, None

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take tokens (zeros on the padding), class tokens, which tokens are not padding; one memory per category."""
        super().restore(state)
        self.categories, inside = state["categories"], state.get("inside")
        self.memories = {}
        for category in np.unique(self.categories):
            rows = self.categories == category
            vectors = vectors_of(state["tokens"][rows], None if inside is None else inside[rows])
            self.memories[category] = Memory(vectors, self.settings.search, self.compute.device)
