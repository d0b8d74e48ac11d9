"""The contract of a method, and nothing else."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from foundad.detection.bank import BankTokens


class Detector(Protocol):
    """One method: built from (settings, seed, device), it learns from a bank and scores patch tokens.

    Two methods are there for those that need them, and are called instead of ``score``:

    ``score_images(tokens, inside)`` gives the patch scores [B,N] and the image scores [B] of tokens [B,N,D], or None for the
    latter where they are the mean of the largest patch scores after all. ``inside`` [B,N] bool says which patches show the
    picture, None where all do; the others are padding. For methods that look at more of an image than one token at a time.

    ``score_named(tokens, image_ids)`` gives the patch scores of images whose ids count, as in the control ``random``.
    """

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Learn from prepared tokens; returns what the record should hold (losses, sizes)."""

    def score(self, tokens: np.ndarray) -> np.ndarray:
        """Patch scores [B,N] float32, higher = more anomalous, of prepared tokens [B,N,D] float32."""

    def state(self) -> dict[str, np.ndarray]:
        """All that :meth:`score` needs, as arrays."""

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take back what :meth:`state` gave."""
