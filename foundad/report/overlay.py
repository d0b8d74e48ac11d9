"""An anomaly map laid over its picture, for galleries and ``foundad predict``."""

import numpy as np
from matplotlib import pyplot as plt

COLOURS = "inferno"


def overlay(image: np.ndarray, anomaly_map: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """``image`` [H,W,3] uint8 with the map [H,W] laid over it, more opaque where the map is higher; uint8.

    ``scale``: the map's values at the two ends of the colour scale.
    """
    low, high = scale
    heat = np.clip((anomaly_map - low) / max(high - low, 1e-12), 0, 1)
    colours = plt.get_cmap(COLOURS)(heat)[..., :3] * 255
    opacity = (0.75 * heat)[..., None]
    return np.rint(image * (1 - opacity) + colours * opacity).astype(np.uint8)
