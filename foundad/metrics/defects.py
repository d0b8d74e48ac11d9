"""The defective pixels of images at evaluation size, under every protocol, and the file that keeps them.

The stage ``masks`` finds them (:mod:`foundad.metrics.masks`); ``evaluate`` reads them, and ``fit`` for a method that is
told the truth. Runs with the numbers of their regions take a few bytes per row of a defect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foundad.sealed import Seal, broken, ids_digest, read_tensors, write_tensors

PROTOCOLS = ("strict", "released")  # words on both: foundad.metrics.metric


@dataclass(frozen=True)
class Defects:
    """Runs of defective pixels of n images. A run belongs to one image, one row, and to one region per protocol.

    Attributes:
        size: height and width in pixels of every image.
        offsets: [n+1] int64; the runs of image i are those from ``offsets[i]`` up to ``offsets[i+1]``.
        starts: [R] int32, first pixel of a run, in row-major order within its image.
        lengths: [R] int32, pixels of a run.
        regions: protocol -> [R] int32, number of the 8-connected region of a run, counted from 1 over all images; 0 if
            its pixels are not defective under that protocol.
        soft: [n] float64, sum of 1 - mask over the pixels of an image with a bilinear mask: the released code's number of
            normal pixels.
    """

    size: tuple[int, int]
    offsets: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    regions: dict[str, np.ndarray]
    soft: np.ndarray

    def of(self, images: np.ndarray) -> "Defects":
        """The defects of the images with these numbers [m], in this order."""
        counts = np.diff(self.offsets)[images]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        runs = np.repeat(self.offsets[images] - offsets[:-1], counts) + np.arange(offsets[-1])
        regions = {protocol: numbers[runs] for protocol, numbers in self.regions.items()}
        return Defects(self.size, offsets, self.starts[runs], self.lengths[runs], regions, self.soft[images])

    def pixels(self, image: int) -> np.ndarray:
        """Numbers [p] int64 of the pixels of all runs of one image, ascending."""
        runs = slice(self.offsets[image], self.offsets[image + 1])
        lengths = self.lengths[runs]
        ends = np.cumsum(lengths, dtype=np.int64)
        return np.repeat(self.starts[runs] + lengths - ends, lengths) + np.arange(ends[-1] if len(ends) else 0)

    def mask(self, image: int, protocol: str = "strict") -> np.ndarray:
        """The mask [H,W] uint8 of one image under ``protocol``, 1 = defective."""
        runs = slice(self.offsets[image], self.offsets[image + 1])
        found = np.zeros(self.size[0] * self.size[1], np.uint8)
        found[self.pixels(image)] = np.repeat(self.regions[protocol][runs] > 0, self.lengths[runs])
        return found.reshape(self.size)


def write_defects(path: Path, defects: Defects, image_ids: Sequence[str], has_masks: bool, key: str = "") -> None:
    """Write the ``defects`` of the images ``image_ids``; ``has_masks``: whether the dataset has masks at all."""
    facts = {"size": list(defects.size), "images": ids_digest(image_ids), "has_masks": has_masks}
    arrays = {name: array for name, array in vars(defects).items() if isinstance(array, np.ndarray)}
    write_tensors(path, Seal("masks", key, facts), arrays | defects.regions)


def read_defects(path: Path, image_ids: Sequence[str], key: str | None = None) -> Defects | None:
    """Read what :func:`write_defects` wrote; None if the dataset has no masks.

    Raises:
        BrokenFile: the file is damaged, or of other images or another key.
    """
    arrays, seal = read_tensors(path, "masks", key)
    try:
        if seal["images"] != ids_digest(image_ids):
            raise broken(path, "its rows are not the images of the manifest")
        height, width = seal["size"]
        regions = {protocol: arrays.pop(protocol) for protocol in PROTOCOLS}
        defects = Defects((height, width), regions=regions, **arrays)
        counts = {len(defects.starts), len(defects.lengths), *map(len, regions.values()), int(defects.offsets[-1])}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise broken(path, f"holds no masks ({error})") from None
    if len(counts) > 1 or {len(defects.offsets) - 1, len(defects.soft)} != {len(image_ids)}:
        raise broken(path, f"does not have the masks of {len(image_ids)} images")
    return defects if seal["has_masks"] else None
