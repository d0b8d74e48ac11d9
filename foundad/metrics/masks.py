"""Stage ``masks``: finds the defective pixels of a dataset at evaluation size, once for all cells of that size.

``strict`` takes a binary mask by nearest neighbour, ``released`` takes the pixels that are exactly 1 after a bilinear
resize (:data:`foundad.metrics.metric.PROTOCOLS`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from foundad.data.manifest import Manifest
from foundad.data.masks import load_mask, resize_mask, soft_mask
from foundad.metrics.defects import PROTOCOLS, Defects, write_defects
from foundad.metrics.runs import NO_RUNS, connected, runs_of


def prepare_masks(manifest: Manifest, side: int, out: Path, key: str = "") -> None:
    """Write the defects of all test images of ``manifest`` at ``side`` x ``side`` pixels.

    Raises:
        UserError: a mask cannot be read.
    """
    paths = (None if row.mask_path is None else manifest.root / row.mask_path for row in manifest.test)
    masks = (None if path is None else load_mask(path, manifest.mask_threshold) for path in paths)
    image_ids = [row.image_id for row in manifest.test]
    write_defects(out, find_defects(masks, (side, side)), image_ids, manifest.has_masks, key)


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
    starts, lengths, values = (np.concatenate(part) for part in zip(*(found or [NO_RUNS]), strict=True))
    regions = {}
    for number, protocol in enumerate(PROTOCOLS):
        runs = np.flatnonzero(values & (1 << number))
        regions[protocol] = np.zeros(len(values), np.int32)
        regions[protocol][runs] = connected(images[runs], starts[runs], lengths[runs], size, corners)
    released = np.bincount(images, lengths * (regions["released"] > 0), len(found))
    return Defects(
        size, offsets, starts.astype(np.int32), lengths.astype(np.int32), regions, size[0] * size[1] - released
    )
