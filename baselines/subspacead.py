"""SubspaceAD (CVPR 2026, arXiv 2602.23013): distance from the subspace that the normal patch tokens span.

A principal component analysis of all patch tokens of the drawn images and their rotations (the bank's key
``rotations``) keeps the components that explain the share ``variance``. Patch score = squared length of the residual.
"""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from foundad.config.method import Method
from foundad.detection import protocol
from foundad.detection.bank import BankTokens

if TYPE_CHECKING:
    from foundad.config.encoder import Encoder


class Settings(Method):
    """Keys of SubspaceAD beside the common ones."""

    detector: Literal["subspacead"] = "subspacead"
    variance: float = Field(0.99, gt=0, lt=1, description="share of the variance that is kept")

    def numbers(self, drawn: int, encoder: "Encoder") -> float:
        """A mean and the components of most of the variance, in float64."""
        return 2.0 * encoder.channels * (1 + encoder.channels / 2)


class Detector(protocol.Detector):
    """Mean [D] and kept components [K,D], float64."""

    settings: Settings

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Find the components of the drawn images' tokens."""
        tokens = bank.normal_vectors().astype(np.float64)
        mean = tokens.mean(axis=0)
        tokens -= mean
        variances, vectors = np.linalg.eigh(tokens.T @ tokens)
        variances = np.maximum(variances[::-1], 0)
        shares = np.cumsum(variances) / max(variances.sum(), np.finfo(np.float64).tiny)
        # Tokens that do not vary span nothing.
        kept = int(np.searchsorted(shares, self.settings.variance, side="right")) + 1 if variances[0] > 0 else 0
        components = np.ascontiguousarray(vectors.T[::-1][:kept])
        self.restore({"mean": mean, "components": components})
        return {"components": len(components), "explained": float(shares[len(components) - 1]) if kept else 0.0}

    def score(self, tokens: np.ndarray) -> np.ndarray:
        """Squared residual of every patch of [B,N,D], [B,N] float32."""
        components = self.learned["components"]
        centred = tokens.reshape(-1, tokens.shape[-1]) - self.learned["mean"]
        centred -= (centred @ components.T) @ components
        return np.einsum("md,md->m", centred, centred).astype(np.float32).reshape(tokens.shape[:2])
