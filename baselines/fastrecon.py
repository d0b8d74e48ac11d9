"""FastRecon (Fang et al., ICCV 2023): reconstructs a query's tokens from a few normal ones, by closed-form regression.

With the coreset S [K,D] of the drawn images' tokens, their mean mu at every position and the weight lambda, the tokens
Q of an image become Q' = (Q + lambda mu) S^T [(1 + lambda) S S^T]^-1 S. Patch score = length of Q - Q'. Everything is
in float64. Padding is in no coreset and no mean. A position that no drawn image shows takes the mean of the nearest
position that some image shows.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from foundad.config.base import Fraction, Odd
from foundad.config.encoder import Layer
from foundad.config.method import Method
from foundad.detection import protocol
from foundad.detection.bank import BankTokens
from foundad.detection.shared.coreset import greedy_k_centre, project
from foundad.detection.shared.grids import (
    as_array,
    averaged,
    blanked,
    coarser,
    from_array,
    nearest_places,
    repeated,
    side,
    split,
)

TOLERANCE = 1e-6  # singular values below this share of the largest count as zero: S S^T can be singular

if TYPE_CHECKING:
    from foundad.config.encoder import Encoder


class Settings(Method):
    """Keys of FastRecon beside the common ones."""

    detector: Literal["fastrecon"] = "fastrecon"
    neighbourhood: Odd = Field(1, description="side of the window that tokens are averaged over (published: 3)")
    coreset: Fraction = Field(0.01, gt=0, description="share of the tokens that queries are reconstructed from")
    least: int = Field(32, ge=1, description="least number of tokens in the coreset, if there are so many")
    projection: int = Field(128, ge=1, description="dimensions of the random projection in which the coreset is chosen")
    weight: float = Field(2.0, ge=0, description="lambda: pull towards the mean of the same position")

    def numbers(self, drawn: int, encoder: "Encoder") -> float:
        """A projection and the means of all positions, in float64."""
        return 2.0 * encoder.channels * (encoder.channels + encoder.grid**2)


class Detector(protocol.Detector):
    """The projection [D,D] on the span of the coreset, divided by 1 + lambda, and the means [N,D]; float64."""

    settings: Settings

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Choose the coreset and solve the regression once, for all queries."""
        self.layers: tuple[Layer, ...] = bank.layers
        inside = bank.inside_normal
        tokens = self._averaged(bank.normal, inside)
        vectors = tokens.reshape(-1, tokens.shape[2])
        if inside is None:
            means = tokens.mean(axis=0, dtype=np.float64)
        else:
            vectors = tokens[inside]
            sums = np.where(inside[:, :, None], tokens, 0).sum(axis=0, dtype=np.float64)
            means = (sums / np.maximum(1, inside.sum(axis=0))[:, None])[nearest_places(inside)]
        count = min(len(vectors), max(self.settings.least, round(self.settings.coreset * len(vectors))))
        first = int(np.random.default_rng(self.seed).integers(len(vectors)))
        chosen = greedy_k_centre(project(vectors, self.settings.projection, self.seed), count, first)
        support = vectors[np.sort(chosen)].astype(np.float64)
        # S^T (S S^T)^-1 S projects on the span of S, which the right singular vectors give also where S S^T is singular.
        _, values, directions = np.linalg.svd(support, full_matrices=False)
        directions = directions[values > TOLERANCE * values[0]]
        regression = directions.T @ directions / (1 + self.settings.weight)
        self.restore({"means": means, "regression": regression, "layers": as_array(bank.layers)})
        return {"coreset": count, "rank": len(directions)}

    def score_images(self, tokens: np.ndarray, inside: np.ndarray | None = None) -> tuple[np.ndarray, None]:
        """Length of the reconstruction residual of every patch of [B,N,D], [B,N] float32.

        Neighbourhoods treat patches that are not ``inside`` [B,N] as beyond the grid.
        """
        queries = self._averaged(tokens, inside).astype(np.float64)
        means, regression = self.learned["means"], self.learned["regression"]
        rest = queries - (queries + self.settings.weight * means) @ regression
        return np.sqrt(np.einsum("bnd,bnd->bn", rest, rest)).astype(np.float32), None

    def _averaged(self, tokens: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
        """[B,N,D] with every layer averaged over windows of its own grid."""
        width, grid = self.settings.neighbourhood, side(tokens)
        if width == 1:
            return tokens
        parts = [blanked(part, coarser(inside, side(part))) for part in split(tokens, self.layers)]
        return np.concatenate([repeated(averaged(part, width), grid) for part in parts], axis=2)

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take means, regression, and the layers that are averaged."""
        super().restore(state)
        self.layers = from_array(state["layers"])
