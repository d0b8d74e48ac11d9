"""The file scores.safetensors of a cell: what ``fit`` leaves for ``evaluate`` and the galleries, patch-grid sized."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from foundad.files import write_beside


@dataclass(frozen=True)
class Scores:
    """Of all test images, rows in the manifest's order.

    patch_scores: [n,h,w] float32, or the ground truth as uint8. image_scores: [n] float32. thresholds: [n] float32, image
    score above which the model calls an image anomalous, NaN where it has none.
    """

    patch_scores: np.ndarray
    image_scores: np.ndarray
    thresholds: np.ndarray


def write_scores(path: Path, scores: Scores) -> None:
    """Write ``scores``, whole or not at all."""
    with write_beside(path) as temporary:
        save_file(asdict(scores), temporary)


def read_scores(path: Path) -> Scores:
    """What :func:`write_scores` wrote, all as float32."""
    with safe_open(path, framework="numpy") as file:
        arrays = {field.name: file.get_tensor(field.name) for field in fields(Scores)}
    return Scores(**arrays | {"patch_scores": arrays["patch_scores"].astype(np.float32)})
