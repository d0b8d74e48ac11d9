"""The file scores.safetensors of a cell: what ``fit`` leaves for ``evaluate`` and the galleries, patch-grid sized."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from foundad.files import write_beside


@dataclass(frozen=True)
class Scores:
    """Of all test images, rows in the manifest's order.

    patch_scores: [n,h,w] float32, or the ground truth as uint8. image_scores: [n] float32. thresholds: [n] float32, image
    score above which the model calls an image anomalous, NaN where it has none. windows: [n,4] float64, where each
    picture lies on the encoder's input (:mod:`foundad.data.frame`); None where it fills it.
    """

    patch_scores: np.ndarray
    image_scores: np.ndarray
    thresholds: np.ndarray
    windows: np.ndarray | None = None


def write_scores(path: Path, scores: Scores) -> None:
    """Write ``scores``, whole or not at all."""
    with write_beside(path) as temporary:
        save_file({name: array for name, array in vars(scores).items() if array is not None}, temporary)


def read_scores(path: Path) -> Scores:
    """What :func:`write_scores` wrote, scores as float32."""
    with safe_open(path, framework="numpy") as file:
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - safetensors is no dict
    return Scores(**arrays | {"patch_scores": arrays["patch_scores"].astype(np.float32)})


def top_k_mean(patch_scores: np.ndarray, k: int, inside: np.ndarray | None = None) -> np.ndarray:
    """Image scores [B] float32: mean of the ``k`` largest patch scores [B,N] (paper section 3); of all where k > N.

    Args:
        inside: [B,N] bool, patches that count, at least one an image; None = all. The others are padding.
    """
    if inside is not None:
        rows = zip(patch_scores, inside, strict=True)
        return np.concatenate([np.empty(0, np.float32), *(top_k_mean(row[kept][None], k) for row, kept in rows)])
    count = min(k, patch_scores.shape[1])
    largest = np.partition(patch_scores, patch_scores.shape[1] - count, axis=1)[:, -count:]
    return np.sort(largest, axis=1).mean(axis=1, dtype=np.float64).astype(np.float32)
