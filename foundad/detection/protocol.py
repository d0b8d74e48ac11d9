"""The contract of a method, and nothing else."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from foundad.config.method import Method
from foundad.detection.bank import BankTokens
from foundad.detection.pictures import Pictures
from foundad.device import ON_CPU, Compute


class Detector:
    """One method: it learns from a bank and scores patch tokens. A subclass defines at least this:

    >>> class FromMean(Detector):
    ...     def fit(self, bank):
    ...         self.restore({"mean": bank.normal_vectors().mean(axis=0)})
    ...         return {"images": len(bank.normal)}
    ...
    ...     def score(self, tokens):
    ...         return np.abs(tokens - self.learned["mean"]).mean(axis=2)

    >>> normal = np.ones((2, 4, 3), np.float32)
    >>> detector = FromMean(Method(id="mean", title="Mean", detector="mean"), seed=0)
    >>> detector.fit(BankTokens(normal, ["nut", "bolt"], normal[:0], normal[:0], []))
    {'images': 2}
    >>> detector.score(normal[:1] + 2).tolist()
    [[2.0, 2.0, 2.0, 2.0]]
    >>> again = FromMean(detector.settings, seed=0)
    >>> again.restore(detector.state())
    >>> again.score(normal[:1]).tolist()
    [[0.0, 0.0, 0.0, 0.0]]

    It defines one of ``score``, ``score_images`` and ``score_pictures``: the first whose arguments are enough.

    Args:
        settings: of the method, an object of its own settings class.
        seed: of the cell; everything random derives from it.
        compute: device, precision and threads, for methods whose settings say that they use the device.

    Attributes:
        learned: name -> array, all that scoring needs; a saved model holds these arrays.
    """

    def __init__(self, settings: Method, seed: int, compute: Compute = ON_CPU) -> None:
        self.settings, self.seed, self.compute = settings, seed, compute
        self.learned: Mapping[str, np.ndarray] = {}

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Learn from prepared tokens and pass what was learned to :meth:`restore`. The default learns nothing.

        Returns:
            Facts for the record of the cell (losses, sizes), as JSON types.
        """
        return {}

    def score(self, tokens: np.ndarray) -> np.ndarray:
        """Patch scores [B,N] float32, higher = more anomalous, of prepared tokens [B,N,D] float32."""
        if type(self).score_images is Detector.score_images:
            raise NotImplementedError(f"{type(self).__module__}: its detector defines no way to score; define score")
        return self.score_images(tokens)[0]

    def score_images(
        self, tokens: np.ndarray, inside: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """As :meth:`score`, for methods that use more of an image than one token at a time.

        Args:
            tokens: [B,N,D] float32.
            inside: [B,N] bool, patches that show the picture; None = all. Scores of the others, padding, are ignored.

        Returns:
            Patch scores [B,N] float32, and image scores [B] float32 or None. With None, an image score is the mean of
            the largest patch scores.
        """
        return self.score(tokens), None

    def score_pictures(self, pictures: Pictures) -> tuple[np.ndarray, np.ndarray | None]:
        """As :meth:`score_images`, with all that the settings need: class tokens, or the ids of the images."""
        return self.score_images(pictures.tokens, pictures.inside)

    def state(self) -> dict[str, np.ndarray]:
        """All that scoring needs, as arrays: what :meth:`restore` received."""
        return dict(self.learned)

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take what was learned, from ``fit`` or a saved model. Subclasses prepare here what they score with."""
        self.learned = state
