"""The file scores.safetensors of a cell: what ``fit`` leaves for ``evaluate`` and the galleries, patch-grid sized."""

from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from foundad.files import write_beside


def write_scores(path: Path, patch_scores: np.ndarray, image_scores: np.ndarray) -> None:
    """Patch scores [n,h,w] (float32, or uint8 ground truth) and image scores [n] float32, rows in manifest order."""
    with write_beside(path) as temporary:
        save_file({"patch_scores": patch_scores, "image_scores": image_scores}, temporary)


def read_scores(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """What :func:`write_scores` wrote, both as float32."""
    with safe_open(path, framework="numpy") as file:
        return file.get_tensor("patch_scores").astype(np.float32), file.get_tensor("image_scores")
