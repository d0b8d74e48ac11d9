"""PaDiM (Defard et al., arXiv 2011.08785): a multivariate Gaussian at every position of the grid.

Patch score = Mahalanobis distance to the normal tokens of the same position. With few images, a covariance equals its
ridge except in a few directions, so only these are kept: exact, in float64, and small. An image with padding at a
position is not used there. A position that no image shows takes the Gaussian of the nearest position that some image
shows.
"""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from foundad.config.method import Method
from foundad.detection import protocol
from foundad.detection.bank import BankTokens
from foundad.detection.shared.grids import nearest_places

if TYPE_CHECKING:
    from foundad.config.encoder import Encoder


class Settings(Method):
    """Keys of PaDiM beside the common ones."""

    detector: Literal["padim"] = "padim"
    dimensions: int | None = Field(None, ge=1, description="channels drawn at random, once; absent = all")
    ridge: float = Field(0.01, gt=0, description="added to the diagonal of every covariance")

    def numbers(self, drawn: int, encoder: "Encoder") -> float:
        """Means, and a direction per drawn image but one, in float64."""
        return 2.0 * encoder.grid**2 * min(self.dimensions or encoder.channels, encoder.channels) * max(1, drawn)


class Detector(protocol.Detector):
    """Per position: means [N,D], directions [N,R,D] and variances [N,R] of normal tokens; R < drawn images; float64."""

    settings: Settings

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Estimate the mean and covariance (n images: divided by n - 1) at every position."""
        channels = bank.normal.shape[2]
        count = min(self.settings.dimensions or channels, channels)
        chosen = np.sort(np.random.default_rng(self.seed).permutation(channels)[:count])
        tokens = bank.normal[:, :, chosen].transpose(1, 0, 2).astype(np.float64)
        inside = bank.inside_normal
        if inside is None:
            means = tokens.mean(axis=1)
            tokens -= means[:, None]
            counts = np.full((1, 1, 1), len(bank.normal))
        else:
            # The rows of padding become zeros, which add nothing to the products below.
            counts = inside.sum(axis=0)[:, None, None]
            means = np.where(inside.T[:, :, None], tokens, 0).sum(axis=1) / np.maximum(1, counts[:, 0])
            tokens = np.where(inside.T[:, :, None], tokens - means[:, None], 0)
        # The SVD of the centred tokens gives the covariance's eigenvectors and eigenvalues without the covariance.
        _, values, directions = np.linalg.svd(tokens / np.sqrt(np.maximum(1, counts - 1)), full_matrices=False)
        rank = min(len(bank.normal) - 1, count)
        found = {
            "means": means,
            "directions": np.ascontiguousarray(directions[:, :rank]),
            "variances": values[:, :rank] ** 2,
        }
        if inside is not None:
            nearest = nearest_places(inside)
            found = {name: array[nearest] for name, array in found.items()}
        self.restore({"channels": chosen} | found)
        return {"channels": count, "rank": rank}

    def score(self, tokens: np.ndarray) -> np.ndarray:
        """Mahalanobis distance of every patch of [B,N,D], [B,N] float32."""
        ridge, learned = self.settings.ridge, self.learned
        directions = learned["directions"]
        centred = tokens[:, :, learned["channels"]].transpose(1, 0, 2) - learned["means"][:, None]
        along = np.matmul(centred, directions.transpose(0, 2, 1))
        # (covariance + ridge)^-1 has 1 / (variance + ridge) along the directions and 1 / ridge across them.
        rest = centred - np.matmul(along, directions)
        squares = np.einsum("nbd,nbd->nb", rest, rest) / ridge
        squares += np.einsum("nbr,nr->nb", along**2, 1 / (learned["variances"] + ridge))
        return np.sqrt(squares).T.astype(np.float32)
