"""ANoCo (CVPR 2026, arXiv 2605.28428), our reading: how far a patch moves when normal patches pull at it.

No code is published. For a patch q and the normal patches r_j, s_j is the cosine of q and r_j; the anchor r* is the patch
with the largest, s*. Neighbours are the first normal patches in the order of s_j, up to the first one whose cosine with
the anchor is not above s*; the anchor always belongs to them. They pull with the weights
w_j = s_j * 2 |q| |r_j| / (|q| + |r_j|). The energy lambda |x - q|^2 + sum_j w_j |x - r_j|^2 is least at

    q~ = (lambda q + sum_j w_j r_j) / (lambda + sum_j w_j)

Patch score = |q~ - q|^2 (1 - cos(q~, q)). The paper does not say how much of the order is looked at (key ``neighbours``)
nor what lambda is (key ``weight``); docs/baselines.md says how their values were chosen. With a large lambda, or a cosine
near zero, nothing would pull at a patch that resembles nothing, and it would count as normal. So lambda is small, and
cosines count as at least LEAST_COSINE in a weight. Padding is not remembered.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from foundad.config.method import MemoryMethod
from foundad.detection import protocol
from foundad.detection.bank import BankTokens
from foundad.detection.shared.search import Memory, unit

if TYPE_CHECKING:
    from foundad.config.encoder import Encoder

GATHERED = 1 << 17  # numbers of neighbours that are gathered at a time: half a MiB, which fits a cache
LEAST_COSINE = 0.05  # in a weight: the energy stays convex, and a patch that resembles nothing is still pulled
TINY = np.finfo(np.float32).tiny


class Settings(MemoryMethod):
    """Keys of ANoCo beside the common ones."""

    detector: Literal["anoco"] = "anoco"
    neighbours: int = Field(8, ge=1, description="number of most similar normal patches that are looked at")
    anchors: bool = Field(
        True,
        description="neighbours end before the first that the anchor resembles less than the patch does; false = all",
    )
    weight: float = Field(0.01, ge=0, description="lambda: pull of the patch itself, in mean lengths of a normal token")

    def numbers(self, drawn: int, encoder: "Encoder") -> float:
        """A direction and a length per patch."""
        return super().numbers(drawn, encoder) * (1 + 1 / encoder.channels)


class Detector(protocol.Detector):
    """Directions [M,D] of all normal patch tokens, of length one, and the lengths [M] of the tokens."""

    settings: Settings

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Remember every patch token of the drawn images."""
        vectors = bank.normal_vectors()
        self.restore({"directions": unit(vectors), "lengths": np.linalg.norm(vectors, axis=1)})
        return {"memory_patches": len(self.memory)}

    def score(self, tokens: np.ndarray) -> np.ndarray:
        """How far and how much to the side every patch of [B,N,D] is pulled, [B,N] float32."""
        patches = tokens.reshape(-1, tokens.shape[-1])
        directions = unit(patches)
        rows = self.memory.candidates(directions, self.settings.neighbours)
        scores = np.empty(len(patches), np.float32)
        size = max(1, GATHERED // (rows.shape[1] * tokens.shape[-1]))
        buffer = np.empty((size, rows.shape[1], tokens.shape[-1]), np.float32)
        for start in range(0, len(patches), size):
            span = slice(start, start + size)
            near = buffer[: len(patches[span])]
            # Into one buffer: fresh memory for every block takes ten times as long. Rows are valid; clip only skips a copy.
            np.take(self.memory.vectors, rows[span], axis=0, out=near, mode="clip")
            scores[span] = self._pulled(patches[span], directions[span], near, rows[span])
        return scores.reshape(tokens.shape[:2])

    def _pulled(self, patches: np.ndarray, directions: np.ndarray, near: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores [Q] of ``patches`` [Q,D], given the directions [Q,K,D] of the most similar normal patches and their rows."""
        cosines = np.matmul(near, directions[:, :, None])[:, :, 0]
        own, lengths = np.einsum("qd,qd->q", patches, directions)[:, None], self.learned["lengths"][rows]
        weights = np.maximum(cosines, LEAST_COSINE) * 2 * own * lengths / np.maximum(own + lengths, TINY)
        if self.settings.anchors:
            weights *= neighbours(cosines, near)
        pull = weights.sum(axis=1, keepdims=True)
        drift = np.matmul((weights * lengths)[:, None], near)[:, 0]
        drift -= pull * patches
        drift /= np.maximum(self.weight + pull, TINY)
        turn = unit(patches + drift)
        turn -= directions  # half of its squared length is one minus the cosine
        return np.einsum("qd,qd->q", drift, drift) * np.einsum("qd,qd->q", turn, turn) / 2

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take the memory, ready to be searched, and lambda."""
        super().restore(state)
        self.memory = Memory(state["directions"], self.settings.search, self.compute.device)
        self.weight = np.float32(self.settings.weight * state["lengths"].mean(dtype=np.float64))


def neighbours(cosines: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Which of the most similar normal patches are neighbours, [Q,K] bool.

    Args:
        cosines: of the query and each of these patches, [Q,K], in any order.
        near: directions of these patches, [Q,K,D].
    """
    everyone, anchor = np.arange(len(cosines)), cosines.argmax(axis=1)
    alike = np.matmul(near, near[everyone, anchor][:, :, None])[:, :, 0] > cosines[everyone, anchor][:, None]
    # The order ends at the most similar patch that the anchor resembles no more than the query does.
    alike &= cosines > np.where(alike, -np.inf, cosines).max(axis=1, keepdims=True)
    alike[everyone, anchor] = True
    return alike
