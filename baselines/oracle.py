"""The control ``oracle`` reads the ground truth: a ceiling, which shows that the evaluation is sound.

It declares that it needs the truth. The stage ``fit`` then takes the labels and masks of the test images as its scores,
without patch tokens.
"""

from typing import Literal

import numpy as np

from foundad.config.method import Method, Need
from foundad.detection import protocol
from foundad.errors import UserError


class Settings(Method):
    """The control has no keys of its own."""

    detector: Literal["oracle"] = "oracle"

    @property
    def needs(self) -> frozenset[Need]:
        """The ground truth instead of features."""
        return frozenset({"truth"})


class Detector(protocol.Detector):
    """Learns nothing; the stage ``fit`` takes the ground truth as its scores."""

    def score(self, tokens: np.ndarray) -> np.ndarray:
        """Always refused: patch tokens do not hold the ground truth.

        Raises:
            UserError: always.
        """
        raise UserError("the control 'oracle' needs the ground truth and cannot score pictures; choose another run")
