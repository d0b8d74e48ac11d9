"""The file scores.safetensors of a cell, at patch-grid size: ``fit`` writes it, ``evaluate`` and galleries read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foundad.cells import Cell
from foundad.sealed import Seal, broken, ids_digest, read_tensors, write_tensors


@dataclass(frozen=True)
class Scores:
    """Scores of all test images; rows are in the manifest's order.

    patch_scores: [n,h,w] float32, or the ground truth as uint8. image_scores: [n] float32. thresholds: [n] float32, the
    image score above which the model calls an image anomalous, NaN if it has none. windows: [n,4] float64, where each
    picture lies on the encoder's input (:mod:`foundad.data.frame`); None if all pictures fill it.
    """

    patch_scores: np.ndarray
    image_scores: np.ndarray
    thresholds: np.ndarray
    windows: np.ndarray | None = None


def write_scores(path: Path, scores: Scores, cell: Cell, image_ids: Sequence[str], key: str = "") -> int:
    """Write ``scores`` of ``cell``, one row for each of ``image_ids``; returns their checksum."""
    facts = {"cell": str(cell), "images": ids_digest(image_ids)}
    arrays = {name: array for name, array in vars(scores).items() if array is not None}
    return write_tensors(path, Seal("scores", key, facts), arrays)


def read_scores(path: Path, cell: Cell, image_ids: Sequence[str], key: str | None = None) -> tuple[Scores, int]:
    """Read what :func:`write_scores` wrote: the scores, patch scores as float32, and the file's checksum.

    Raises:
        BrokenFile: the file is damaged, or of another cell, other images or another key.
    """
    arrays, seal = read_tensors(path, "scores", key)
    try:
        if seal["cell"] != str(cell):
            raise broken(path, f"holds the scores of {seal['cell']}")
        if seal["images"] != ids_digest(image_ids):
            raise broken(path, "its rows are not the images of the manifest")
        scores = Scores(**arrays | {"patch_scores": arrays["patch_scores"].astype(np.float32)})
    except (KeyError, TypeError) as error:
        raise broken(path, f"holds no scores ({error})") from None
    if {len(array) for array in arrays.values()} != {len(image_ids)}:
        raise broken(path, f"does not have one row for each of {len(image_ids)} images")
    return scores, seal.checksum


def top_k_mean(
    patch_scores: np.ndarray, k: int, inside: np.ndarray | None = None, share: float | None = None
) -> np.ndarray:
    """Image scores [B] float32: mean of the ``k`` largest patch scores [B,N] (paper section 3); of all if k > N.

    Args:
        inside: [B,N] bool, patches that count, at least one per image; None = all. The others are padding.
        share: replaces ``k`` by this share of the patches that count, rounded down, at least one.
    """
    if inside is not None:
        rows = zip(patch_scores, inside, strict=True)
        found = (top_k_mean(row[kept][None], k, share=share) for row, kept in rows)
        return np.concatenate([np.empty(0, np.float32), *found])
    count = k if share is None else max(1, int(share * patch_scores.shape[1]))
    return largest(patch_scores, count).mean(axis=1, dtype=np.float64).astype(np.float32)


def largest(patch_scores: np.ndarray, k: int) -> np.ndarray:
    """The ``k`` largest patch scores of each image, ascending, [B,N] -> [B,k]; all if k > N."""
    count = min(k, patch_scores.shape[1])
    return np.sort(np.partition(patch_scores, patch_scores.shape[1] - count, axis=1)[:, -count:], axis=1)
