"""AUPIMO: recall of every defective image at very low false-positive rates on normal images.

Bertoldo, Ameln, Vaidya, Akçay: AUPIMO, arXiv 2401.01984. The false-positive rate is the mean over normal images of the
share of their pixels that are detected. Recall of an image is averaged over the logarithm of that rate between 1e-5 and
1e-4. Only images with the label normal are normal: a defect too small for the evaluation size does not make its image
normal, and it has no recall either.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from foundad.metrics.metric import Undefined

if TYPE_CHECKING:
    from foundad.metrics.pixels import Pixels

BOUNDS = (1e-5, 1e-4)


def aupimo(pixels: "Pixels", bounds: tuple[float, float] = BOUNDS) -> float:
    """Mean over defective images of the normalised area under their recall, in [0,1], exact.

    Only the few highest pixels of normal images are sorted: those that pass at the upper bound.

    Raises:
        Undefined: there is no defective pixel or no normal image, or scores are not finite.
    """
    pixels.require()
    highest, normal = pixels.scene.highest(bounds[1])
    if not normal:
        raise Undefined("no normal image")
    images = (pixels.of_image(number) for number in np.flatnonzero(~pixels.scene.normal).tolist())
    defective = [np.sort(scores) for scores in images if len(scores)]
    return float(np.mean(image_recalls(defective, highest, normal, bounds)))


def image_recalls(
    defective: Sequence[np.ndarray], highest: np.ndarray, normal: int, bounds: tuple[float, float]
) -> np.ndarray:
    """Normalised area under the recall of every defective image, [n] in [0,1].

    Args:
        defective: ascending scores of the defective pixels of each image.
        highest: descending scores of the highest normal pixels, at least ``bounds[1] * normal + 1`` or all of them.
        normal: number of pixels of all normal images.
    """
    # At a rate of k / normal, recall rises while the threshold falls to the next lower normal score. On the way to that
    # score's own rate, recall rises by the pixels tied with it, linearly in the logarithm.
    scores, counts = np.unique(highest, return_counts=True)
    scores, reached = scores[::-1], np.cumsum(counts[::-1])
    starts = np.concatenate([[0], reached[:-1]]) / normal
    ends = reached / normal
    low, high = np.log(bounds)
    with np.errstate(divide="ignore"):
        left, right = np.log(starts), np.log(ends)
    begin, end = np.clip(left, low, high), np.clip(right, low, high)
    width = end - begin
    used = np.flatnonzero(width > 0)
    areas = []
    for pixels in defective:
        above = 1 - np.searchsorted(pixels, scores[used], side="right") / len(pixels)
        at = 1 - np.searchsorted(pixels, scores[used], side="left") / len(pixels)
        # A rate of zero has no logarithm: recall keeps its value at zero until the first normal pixel passes.
        first = ~np.isfinite(left[used])
        span = np.where(first, 1.0, right[used] - np.where(first, 0.0, left[used]))
        middle = (begin[used] + end[used]) / 2
        share = np.where(first, 0.0, (middle - np.where(first, 0.0, left[used])) / span)
        area = float(np.sum(width[used] * (above + share * (at - above))))
        # Past the last normal score everything is detected.
        area += max(0.0, high - max(low, float(right[-1])))
        areas.append(area / (high - low))
    return np.array(areas)
