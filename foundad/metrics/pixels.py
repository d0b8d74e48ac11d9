"""All pixels of a category: anomaly maps, masks of one protocol, and the one ordering that pixel metrics share.

Maps are made from patch scores part by part. In memory are one part (about 9 bytes per pixel, of at most
``PIXELS_AT_ONCE``), one bit per pixel for each protocol's masks, and about 40 bytes per defective pixel.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from foundad.metrics.maps import smooth, upsample
from foundad.metrics.metric import Undefined
from foundad.metrics.pro import region_weights
from foundad.metrics.ranking import Ordering, order

PIXELS_AT_ONCE = 1 << 25
Slices = Iterator[tuple[slice, np.ndarray]]


class Maps:
    """Anomaly maps of patch scores, part by part; if there is only one part, it is made once and kept."""

    def __init__(
        self, patch_scores: np.ndarray, size: tuple[int, int], smoothing: float, windows: np.ndarray | None = None
    ) -> None:
        self.patch_scores, self.size, self.smoothing, self.windows = patch_scores, size, smoothing, windows
        self.images = max(1, PIXELS_AT_ONCE // (size[0] * size[1]))
        self.finite = bool(np.isfinite(patch_scores).all())
        self.kept: np.ndarray | None = None

    def __iter__(self) -> Slices:
        for start in range(0, len(self.patch_scores), self.images):
            rows = slice(start, start + self.images)
            if self.kept is not None:
                yield rows, self.kept
                continue
            part = self.part(rows)
            if len(self.patch_scores) <= self.images:
                self.kept = part
            yield rows, part

    def part(self, rows: slice) -> np.ndarray:
        """The maps [b,H,W] float32 of the images ``rows``."""
        windows = None if self.windows is None else self.windows[rows]
        part = upsample(self.patch_scores[rows], self.size, windows)
        return smooth(part, self.smoothing) if self.smoothing else part


class Masks:
    """Binary masks at evaluation size, one bit per pixel; images without a defect take no memory."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.bits: list[np.ndarray | None] = []
        self.normal: list[bool] = []
        self.positives = 0

    def append(self, mask: np.ndarray | None, normal: bool | None = None) -> None:
        """Add the mask [H,W] bool of the next image; None = no defect.

        normal: whether the image's label is normal; None = normal if it has no defective pixel.
        """
        count = 0 if mask is None else int(np.count_nonzero(mask))
        self.positives += count
        self.normal.append(not count if normal is None else bool(normal))
        self.bits.append(np.packbits(mask) if mask is not None and count else None)

    @property
    def vanished(self) -> int:
        """Number of defective images without a defective pixel at this size."""
        return sum(bits is None and not normal for bits, normal in zip(self.bits, self.normal, strict=True))

    @property
    def remark(self) -> str | None:
        """How many defects vanish at this size; None if none do."""
        if not self.vanished:
            return None
        defects = len(self.normal) - sum(self.normal)
        return f"{self.vanished} of {defects} defects have no pixel at {self.size[1]} x {self.size[0]}"

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Masks [b,H,W] bool of the images ``rows``."""
        chosen = self.bits[rows]
        masks = np.zeros((len(chosen), *self.size), bool)
        for mask, bits in zip(masks, chosen, strict=True):
            if bits is not None:
                mask[:] = np.unpackbits(bits, count=mask.size).reshape(self.size)
        return masks


@dataclass(frozen=True)
class Pixels:
    """The maps of a category and the masks of one protocol, from which pixel metrics are computed.

    complement: sum of 1 - mask over all pixels of soft masks, the released code's number of normal pixels; 0 if masks
    are binary. device: where pixels are ordered, ``cpu`` by numpy, any other by torch.
    """

    maps: Maps
    masks: Masks
    complement: float = 0.0
    device: str = "cpu"

    def require(self) -> None:
        """Raise :class:`~foundad.metrics.metric.Undefined` with the reason if pixel metrics have no value."""
        if not self.maps.finite:
            raise Undefined("scores are not finite")
        if not self.masks.positives:
            raise Undefined("no anomalous pixel")
        if self.masks.positives == len(self.masks.bits) * self.maps.size[0] * self.maps.size[1]:
            raise Undefined("no normal pixel")

    @cached_property
    def ordering(self) -> Ordering:
        """All pixels in one order; the weights of the detected positives add up to PRO.

        Raises:
            Undefined: there is no order; the message says why.
        """
        self.require()
        maps, masks = self.maps, self.masks
        if self.device != "cpu":
            return _ordering_on(self.device, maps, masks)
        # The positives are not kept here, so that their memory is free when the negatives are sorted.
        positives = chosen_pixels(maps, masks, True)
        return order(np.concatenate(list(positives)), chosen_pixels(maps, masks, False), _weights(maps, masks))


def _ordering_on(device: str, maps: Maps, masks: Masks) -> Ordering:
    import torch

    from foundad.metrics import on_device

    def parts(defective: bool) -> Iterator[torch.Tensor]:
        for start in range(0, len(masks.bits), maps.images):
            rows = slice(start, start + maps.images)
            if maps.smoothing or maps.windows is not None:
                part = torch.from_numpy(maps.part(rows)).to(device)
            else:
                part = on_device.upsampled(maps.patch_scores[rows], maps.size, device)
            chosen = torch.from_numpy(masks[rows]).to(device)
            yield part[chosen if defective else ~chosen]

    # Integers are exact everywhere; weights are summed in float64, which MPS does not have.
    weights = torch.from_numpy(_weights(maps, masks)).to(device)
    return on_device.order(torch.cat(list(parts(True))), parts(False), weights)


def chosen_pixels(maps: Maps, masks: Masks, defective: bool) -> Iterator[np.ndarray]:
    """Scores [m] float32 of all defective or all normal pixels, part by part, within a part image by image."""
    for rows, part in maps:
        found = np.empty(part.size, np.float32)
        end = 0
        for number, image in enumerate(part, rows.start):
            mask = masks[slice(number, number + 1)][0]
            scores = image[mask if defective else ~mask]
            found[end : end + len(scores)] = scores
            end += len(scores)
        found.resize(end, refcheck=False)
        yield found


def _weights(maps: Maps, masks: Masks) -> np.ndarray:
    """Weights [P] of the defective pixels: 1 / (area of the region * number of regions)."""
    found = np.empty(masks.positives)
    start = regions = 0
    for first in range(0, len(masks.bits), maps.images):
        weights, count = region_weights(masks[slice(first, first + maps.images)])
        found[start : start + len(weights)] = weights * count
        start += len(weights)
        regions += count
    found /= regions
    return found
