"""FastRecon (Fang et al., ICCV 2023): a query's tokens reconstructed from a few normal ones, by a regression in closed form.

With the coreset S [K,D] of the drawn images' tokens, their mean mu at every position and the weight lambda, the tokens Q of
an image become Q' = (Q + lambda mu) S^T [(1 + lambda) S S^T]^-1 S; patch score = length of Q - Q'. All of it in float64.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from foundad.config import Fraction, Layer, Method, Odd
from foundad.coreset import greedy_k_centre, project
from foundad.detector import BankTokens
from foundad.grids import as_array, averaged, from_array, repeated, side, split

TOLERANCE = 1e-6  # singular values below this share of the largest are none: S S^T can be singular


class Settings(Method):
    """Keys of FastRecon beside the common ones."""

    detector: Literal["fastrecon"] = "fastrecon"
    neighbourhood: Odd = Field(1, description="side of the window that tokens are averaged over (published: 3)")
    coreset: Fraction = Field(0.01, gt=0, description="share of the tokens that reconstruct")
    least: int = Field(32, ge=1, description="tokens that reconstruct at least, where they are so many")
    projection: int = Field(128, ge=1, description="dimensions of the random projection that the coreset is chosen in")
    weight: float = Field(2.0, ge=0, description="lambda: pull towards the mean of the same position")


class Detector:
    """The projection [D,D] on the span of the coreset, over 1 + lambda, and the means [N,D]; float64."""

    def __init__(self, settings: Settings, seed: int, device: str = "cpu") -> None:
        self.settings, self.seed = settings, seed

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Choose the coreset and solve the regression once for all queries."""
        self.layers: tuple[Layer, ...] = bank.layers
        tokens = self._averaged(bank.normal)
        self.means = tokens.mean(axis=0, dtype=np.float64)
        vectors = tokens.reshape(-1, tokens.shape[2])
        count = min(len(vectors), max(self.settings.least, round(self.settings.coreset * len(vectors))))
        first = int(np.random.default_rng(self.seed).integers(len(vectors)))
        chosen = greedy_k_centre(project(vectors, self.settings.projection, self.seed), count, first)
        support = vectors[np.sort(chosen)].astype(np.float64)
        # S^T (S S^T)^-1 S projects on the span of S, which the right singular vectors give also where S S^T is singular.
        _, values, directions = np.linalg.svd(support, full_matrices=False)
        directions = directions[values > TOLERANCE * values[0]]
        self.regression = directions.T @ directions / (1 + self.settings.weight)
        return {"coreset": count, "rank": len(directions)}

    def score(self, tokens: np.ndarray) -> np.ndarray:
        """Length of what the reconstruction of every patch of [B,N,D] leaves over, [B,N] float32."""
        queries = self._averaged(tokens).astype(np.float64)
        rest = queries - (queries + self.settings.weight * self.means) @ self.regression
        return np.sqrt(np.einsum("bnd,bnd->bn", rest, rest)).astype(np.float32)

    def _averaged(self, tokens: np.ndarray) -> np.ndarray:
        """[B,N,D] with every layer averaged over windows of its own grid."""
        width, grid = self.settings.neighbourhood, side(tokens)
        if width == 1:
            return tokens
        return np.concatenate([repeated(averaged(p, width), grid) for p in split(tokens, self.layers)], axis=2)

    def state(self) -> dict[str, np.ndarray]:
        """Means, regression, and the layers that are averaged."""
        return {"means": self.means, "regression": self.regression, "layers": as_array(self.layers)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take them back."""
        self.means, self.regression, self.layers = state["means"], state["regression"], from_array(state["layers"])
