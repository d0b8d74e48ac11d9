"""The ground truth in the place of scores, for the control that declares that it needs the truth."""

import numpy as np

from foundad.data.manifest import Manifest
from foundad.data.masks import load_mask, resize_mask


def score_truth(manifest: Manifest, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The ground truth as scores: masks [n,size,size] uint8 (one value an image where there are none) and labels [n]."""
    labels = np.array([row.label for row in manifest.test], np.float32)
    if not manifest.has_masks:
        return labels.astype(np.uint8).reshape(-1, 1, 1), labels
    masks = np.zeros((len(labels), size, size), np.uint8)
    for number, row in enumerate(manifest.test):
        if row.mask_path is not None:
            masks[number] = resize_mask(load_mask(manifest.root / row.mask_path, manifest.mask_threshold), size)
    return masks, labels
