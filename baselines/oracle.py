"""The control ``oracle``: reads the ground truth, the ceiling that shows that the evaluation is sound.

It declares that it needs the truth: instead of patch tokens the stage ``fit`` hands it labels and masks of the test images,
and its maps are those masks at evaluation size.
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
        """Refused: patch tokens do not tell the truth.

        Raises:
            UserError: always.
        """
        raise UserError("the control 'oracle' needs the ground truth and cannot score pictures; choose another run")
