"""How a model's own threshold does on test images."""

from typing import TYPE_CHECKING

import numpy as np

from foundad.metrics.metric import Undefined

if TYPE_CHECKING:
    from foundad.metrics.category import Category


def false_positive_rate(category: "Category") -> float:
    """Share of the normal test images that the model's threshold calls anomalous, in [0,1].

    Raises:
        Undefined: there is no normal image or no threshold.
    """
    normal = category.labels == 0
    if not normal.any():
        raise Undefined("no normal image")
    if category.thresholds is None or np.isnan(category.thresholds[normal]).any():
        raise Undefined("no threshold: too few normal images to learn one from")
    return float((category.image_scores[normal] > category.thresholds[normal]).mean())
