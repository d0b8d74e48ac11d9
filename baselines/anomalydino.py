"""AnomalyDINO (Damm et al., WACV 2025, arXiv 2405.14529): cosine distance to the nearest patch of rotated references.

The bank rotates the references (its key ``rotations``); the mean of the top 1 % is the common key ``top_share``. If the
key ``mask`` says that a category has a background, patches of a test image score zero where the image's own first
principal component marks background. Padding is not remembered, and the mask is computed from the picture alone.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from foundad.config.method import MemoryMethod
from foundad.detection import protocol
from foundad.detection.bank import BankTokens
from foundad.detection.shared.grids import picture_of, side
from foundad.detection.shared.search import Memory, cosine, unit

CENTRE, COVERED = (0.2, 0.8), 0.35  # the foreground covers more than this share of the picture's centre
WINDOW = np.ones(3, bool)


class Settings(MemoryMethod):
    """Keys of AnomalyDINO beside the common ones."""

    detector: Literal["anomalydino"] = "anomalydino"
    mask: bool | list[str] = Field(
        False, description="mask the background of all or of these categories; a pooled model masks if all are listed"
    )
    mask_threshold: float = Field(10.0, description="first principal component above which a patch is foreground")


class Detector(protocol.Detector):
    """Memory [M,D] of patch tokens of length one, and whether the background of test images is masked."""

    settings: Settings

    def fit(self, bank: BankTokens) -> dict[str, Any]:
        """Remember every patch token of the drawn images."""
        mask = self.settings.mask
        masks = mask if isinstance(mask, bool) else set(bank.normal_categories) <= set(mask)
        self.restore({"memory": unit(bank.normal_vectors()), "masks": np.array(masks)})
        return {"memory_patches": len(self.memory), "masks": masks}

    def score_images(self, tokens: np.ndarray, inside: np.ndarray | None = None) -> tuple[np.ndarray, None]:
        """Cosine distance of every patch of [B,N,D] to its nearest normal patch, [B,N] float32; background scores zero.

        With a mask, patches that are not ``inside`` [B,N] are background.
        """
        distances = self.memory.distances(unit(tokens.reshape(-1, tokens.shape[-1])), self.settings.local_mean)
        scores = cosine(distances).reshape(tokens.shape[:2])
        if self.masks:
            shown = [None] * len(tokens) if inside is None else inside
            threshold = self.settings.mask_threshold
            scores *= np.stack([foreground(image, threshold, kept) for image, kept in zip(tokens, shown, strict=True)])
        return scores, None

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take the memory, ready to be searched, and whether to mask."""
        super().restore(state)
        self.memory = Memory(state["memory"], self.settings.search, self.compute.device)
        self.masks = bool(state["masks"])


def foreground(tokens: np.ndarray, threshold: float, inside: np.ndarray | None = None) -> np.ndarray:
    """Which patches of one image [N,D] show the object, [N] bool; only patches ``inside`` [N] (None = all) are used.

    The foreground is where the first principal component exceeds ``threshold``, or, if that leaves the picture's centre
    uncovered, where it is below ``-threshold``. The mask is then dilated and closed by one patch. Neighbours are those
    in row order, to the left and right and from the end of a row to the next. This is as in the released code, which
    gives its 3 x 3 windows a mask of one column.
    """
    from scipy import ndimage  # imported here: planning does not need it

    grid = side(tokens[None])
    rows, columns = (slice(0, grid), slice(0, grid)) if inside is None else picture_of(inside)
    picture = tokens.reshape(grid, grid, -1)[rows, columns]
    shape, tokens = picture.shape[:2], picture.reshape(-1, picture.shape[2])
    centred = tokens.astype(np.float64) - tokens.mean(axis=0, dtype=np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    axis = vectors[:, -1]
    # The sign of an eigenvector is arbitrary: make the largest loading positive.
    component = centred @ (axis * np.sign(axis[np.abs(axis).argmax()]))
    centre = tuple(slice(int(length * CENTRE[0]), max(1, int(length * CENTRE[1]))) for length in shape)
    mask = component > threshold
    if mask.reshape(shape)[centre].mean() <= COVERED:
        mask = component < -threshold
    mask = ndimage.binary_dilation(mask, WINDOW, iterations=2)
    mask = ndimage.binary_erosion(mask, WINDOW, border_value=1)
    result = np.zeros((grid, grid), bool)
    result[rows, columns] = mask.reshape(shape)
    return result.ravel()
