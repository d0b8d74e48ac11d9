"""Where the object is: masks that keep synthetic anomalies off an empty ground, for any category.

Used by the synthesis alone. The rule looks at one picture and knows no category names: the ground is what the border of
the picture looks like, the object is what differs from it, and a picture without such a ground is all foreground.
"""

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

BORDER = 0.04  # width of the border ring, share of the side
SEPARABILITY = 0.65  # Otsu's between-class over total variance, below which there is no clear object
GROUND_IN_RING = 0.9  # share of the ring that must be ground
OBJECT_SHARE = (0.03, 0.9)  # share of the picture an object may cover
OPENING = 0.012  # side of the structuring element, share of the picture's side


def foreground_mask(image: np.ndarray) -> np.ndarray:
    """The object in ``image`` [H,W,3] (any scale), [H,W] bool, never empty.

    The distance of every pixel to the median colour of the border ring is split by Otsu's threshold. The far part is the
    object if the split is clear, the ring is nearly all ground and the part has a sane size; else everything is
    foreground, as for textures that fill the picture.
    """
    height, width, _ = image.shape
    ring = np.ones((height, width), bool)
    border = max(1, round(BORDER * min(height, width)))
    ring[border:-border, border:-border] = False
    ground = np.median(image[ring], axis=0)
    distance = np.abs(image.astype(np.float32) - ground).max(axis=2)
    distance = ndimage.uniform_filter(distance, 3)
    spread = float(distance.var())
    everything = np.ones((height, width), bool)
    if spread < 1e-12:
        return everything
    far = distance > threshold_otsu(distance)
    share = float(far.mean())
    between = share * (1 - share) * float(distance[far].mean() - distance[~far].mean()) ** 2
    side = max(1, round(OPENING * min(height, width)))
    mask = ndimage.binary_opening(ndimage.binary_closing(far, iterations=side), iterations=side)
    covered = float(mask.mean())
    clear = between / spread >= SEPARABILITY and (~far[ring]).mean() >= GROUND_IN_RING
    return mask if clear and OBJECT_SHARE[0] <= covered <= OBJECT_SHARE[1] else everything
