"""The defective pixels of images at evaluation size, under every protocol.

``strict`` takes a binary mask by nearest neighbour, ``released`` takes the pixels that are exactly 1 after a bilinear
resize (:data:`foundad.metrics.metric.PROTOCOLS`). Both are stored together as runs with the numbers of their regions.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from foundad.data.masks import resize_mask, soft_mask
from foundad.metrics.metric import PROTOCOLS
from foundad.metrics.runs import NO_RUNS, connected, runs_of


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


def find_defects(masks: Iterable[np.ndarray | None], size: tuple[int, int]) -> Defects:
    """The defects of images with these original 0/1 masks [H,W] at ``size``; None = an image without a mask."""
    soft = []

    def pictures() -> Iterator[np.ndarray | None]:
        for mask in masks:
            bilinear = None if mask is None else soft_mask(mask, size)
            soft.append(float(size[0] * size[1]) if bilinear is None else float((1 - bilinear).sum(dtype=np.float64)))
            yield None if mask is None or bilinear is None else resize_mask(mask, *size) | (bilinear == 1) << 1

    return replace(defects_of(pictures(), size), soft=np.array(soft))


def defects_of(pictures: Iterable[np.ndarray | None], size: tuple[int, int], corners: bool = True) -> Defects:
    """The defects of images given at ``size``, whose ``soft`` is that of binary masks.

    Args:
        pictures: [H,W] bool or uint8, bit i set where a pixel is defective under protocol i; None = no defective pixel.
        size: height and width.
        corners: whether pixels that meet at a corner belong to one region.
    """
    found = [NO_RUNS if picture is None else runs_of(picture) for picture in pictures]
    offsets = np.cumsum([0, *(len(runs.starts) for runs in found)])
    images = np.repeat(np.arange(len(found)), np.diff(offsets))
    starts, lengths, values = (np.concatenate(part) for part in zip(*found, strict=True))
    regions = {}
    for number, protocol in enumerate(PROTOCOLS):
        runs = np.flatnonzero(values & (1 << number))
        regions[protocol] = np.zeros(len(values), np.int32)
        regions[protocol][runs] = connected(images[runs], starts[runs], lengths[runs], size, corners)
    released = np.bincount(images, lengths * (regions["released"] > 0), len(found))
    return Defects(
        size, offsets, starts.astype(np.int32), lengths.astype(np.int32), regions, size[0] * size[1] - released
    )
