"""Finds the object in a picture, so that no synthetic anomaly lies on an empty background.

Used by the synthesis alone. :func:`foreground_mask` looks at one picture and knows no category names: the background
looks like the border of the picture, the object is what differs from it, and a picture without such a background is all
foreground. :func:`category_mask` follows the released code's table of category names.
"""

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from foundad.errors import UserError

BORDER = 0.04  # width of the border ring, share of the side
SEPARABILITY = 0.65  # Otsu's between-class over total variance, below which there is no clear object
GROUND_IN_RING = 0.9  # share of the ring that must be background
OBJECT_SHARE = (0.03, 0.9)  # share of the picture an object may cover
OPENING = 0.012  # side of the structuring element, share of the picture's side


def foreground_mask(image: np.ndarray) -> np.ndarray:
    """The object in ``image`` [H,W,3] (any scale), [H,W] bool, never empty.

    Otsu's threshold splits the pixels by their distance to the median colour of the border ring. The far part is the
    object if the split is clear, the ring is nearly all background and the part has a plausible size; else everything
    is foreground, as for textures that fill the picture.
    """
    height, width, _ = image.shape
    ring = np.ones((height, width), bool)
    border = max(1, round(BORDER * min(height, width)))
    ring[border:-border, border:-border] = False
    ground = np.median(image[ring], axis=0)
    distance = np.zeros((height, width), np.float32)
    for channel in range(3):  # plane by plane: a third of the memory
        plane = image[..., channel].astype(np.float32)
        np.maximum(distance, np.abs(np.subtract(plane, ground[channel], out=plane), out=plane), out=distance)
    distance = ndimage.uniform_filter(distance, 3)
    spread = float(distance.var())
    everything = np.ones((height, width), bool)
    if spread < 1e-12:
        return everything
    far = distance > threshold_otsu(distance)
    share = float(far.mean())
    between = share * (1 - share) * float(distance[far].mean() - distance[~far].mean()) ** 2
    if between / spread < SEPARABILITY or (~far[ring]).mean() < GROUND_IN_RING:
        return everything
    side = max(1, round(OPENING * min(height, width)))
    mask = ndimage.binary_opening(ndimage.binary_closing(far, iterations=side), iterations=side)
    return mask if OBJECT_SHARE[0] <= float(mask.mean()) <= OBJECT_SHARE[1] else everything


# The released code's table: rule of :func:`category_mask` -> categories.
_RULES = {
    "everything": "carpet leather tile wood cable transistor capsules",
    "bright": "pill",
    "bright-triangle": "hazelnut metal_nut toothbrush",
    "dark": "bottle capsule grid screw zipper",
    "blue-triangle": "pcb1 pcb2 pcb3 pcb4",
    "bright-closed": "candle cashew chewinggum fryum macaroni1 macaroni2 pipe_fryum",
    "not-green": "bracket_black bracket_brown connector",
    "blue": "bracket_white tubes",
    "dark-plate": "metal_plate",
}
CATEGORY_RULES = {category: rule for rule, names in _RULES.items() for category in names.split()}


def category_mask(pixels: np.ndarray, category: str) -> np.ndarray:
    """Foreground by category name as in the released code, [H,W] bool, of ``pixels`` [H,W,3] uint8 RGB; may be empty.

    Raises:
        UserError: the table has no rule for ``category``.
    """
    if category not in CATEGORY_RULES:
        raise UserError(
            f"category '{category}': the released code's foreground has no rule for it; set bank.synthesis.foreground of "
            f"the method to adaptive or whole (known: {', '.join(sorted(CATEGORY_RULES))})"
        )
    rule = CATEGORY_RULES[category]
    if rule == "everything":
        return np.ones(pixels.shape[:2], bool)
    if rule == "bright-triangle":
        grey = luma(pixels)
        mask = grey > triangle_threshold(grey)
    elif rule == "dark":
        grey = luma(pixels)
        mask = grey <= otsu_threshold(grey)
    elif rule == "blue-triangle":
        blue = pixels[..., 2]
        mask = opened(closed(blue > triangle_threshold(blue), 8), 3)
    elif rule == "bright-closed":
        grey = luma(pixels)
        mask = opened(closed(grey > otsu_threshold(grey), 3), 3)
    elif rule == "not-green":
        green = 255 - pixels[..., 1]
        mask = green > otsu_threshold(green)
    elif rule == "blue":
        blue = pixels[..., 2]
        mask = blue > otsu_threshold(blue)
    elif rule == "dark-plate":
        grey = 255 - luma(pixels)
        mask = grey > otsu_threshold(grey)
    else:
        grey = luma(pixels)
        mask = grey > otsu_threshold(grey)
    return opened(closed(mask, 6), 6)


def luma(pixels: np.ndarray) -> np.ndarray:
    """Grey values [H,W] uint8 of RGB [H,W,3] uint8 (ITU-R BT.601, OpenCV's 15-bit integers)."""
    weighted = np.multiply(pixels[..., 0], 9798, dtype=np.int32)
    weighted += np.multiply(pixels[..., 1], 19235, dtype=np.int32)
    weighted += np.multiply(pixels[..., 2], 3735, dtype=np.int32)
    weighted += 1 << 14
    weighted >>= 15
    return weighted.astype(np.uint8)


def otsu_threshold(grey: np.ndarray) -> int:
    """Otsu's threshold of uint8 values, as :func:`skimage.filters.threshold_otsu` finds it, from their histogram."""
    histogram = np.bincount(grey.ravel(), minlength=256)
    filled = np.flatnonzero(histogram)
    first, last = int(filled[0]), int(filled[-1])
    if first == last:
        return first
    return int(threshold_otsu(hist=(histogram[first : last + 1], np.arange(first, last + 1))))


def triangle_threshold(grey: np.ndarray) -> int:
    """Triangle threshold of uint8 values (Zack et al., 1977) with OpenCV's conventions.

    In the histogram's longer tail, the bin farthest below the line from the tail's end (one bin beyond the last filled
    one) to the peak is found; the threshold is the bin before it.
    """
    histogram = np.bincount(grey.ravel(), minlength=256)
    filled = np.flatnonzero(histogram)
    first, last, peak = max(int(filled[0]) - 1, 0), min(int(filled[-1]) + 1, 255), int(histogram.argmax())
    flipped = peak - first < last - peak
    if flipped:
        histogram, first, peak = histogram[::-1], 255 - last, 255 - peak
    bins = np.arange(first + 1, peak + 1)
    heights = histogram[peak] * bins + (first - peak) * histogram[bins]
    best = int(bins[heights.argmax()]) if len(bins) and heights.max() > 0 else first
    return 255 - (best - 1) if flipped else best - 1


def closed(mask: np.ndarray, side: int) -> np.ndarray:
    """Morphological closing of ``mask`` [H,W] bool with a square of ``side``, placed as in scikit-image if even."""
    shorter, longer = (side - 1) // 2, side // 2
    return ~_window_any(~_window_any(mask, shorter, longer), longer, shorter)


def opened(mask: np.ndarray, side: int) -> np.ndarray:
    """Morphological opening of ``mask`` [H,W] bool, with the square of :func:`closed`."""
    shorter, longer = (side - 1) // 2, side // 2
    return _window_any(~_window_any(~mask, shorter, longer), longer, shorter)


def _window_any(mask: np.ndarray, before: int, after: int) -> np.ndarray:
    """Whether any pixel is true from ``before`` rows and columns before each pixel to ``after`` behind it, [H,W] bool.

    Only pixels of the picture count. Each axis is done in turn, by doubling: a window of 4 pixels joins two of 2 pixels.
    """
    height, width = mask.shape
    wide = np.zeros((height + before + after, width + before + after), bool)
    wide[before : before + height, before : before + width] = mask
    reach, window = 1, before + after + 1
    while reach < window:
        step = min(reach, window - reach)
        wide = wide[:-step] | wide[step:]
        wide = wide[:, :-step] | wide[:, step:]
        reach += step
    return wide
