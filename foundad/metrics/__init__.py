"""Every metric of one category, under both protocols side by side.

``strict``: masks binarised at original resolution, nearest resizing, exact curves. ``released``: as the authors' published
code scores. Image-level metrics need no masks. What is undefined is absent with a reason, never 0.

Maps are made of patch scores a part at a time: what stays in memory is the part (about 9 bytes a pixel of at most
``PIXELS_AT_ONCE``), one bit a pixel for each protocol's masks, and about 40 bytes a defective pixel.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from foundad.data.images import resize_mask
from foundad.metrics.maps import smooth, soft_mask, upsample
from foundad.metrics.pimo import aupimo
from foundad.metrics.pro import ReleasedPro, region_weights
from foundad.metrics.ranking import Ordering, auroc, average_precision, curve_area, f1_max, order

PIXELS_AT_ONCE = 1 << 25
Slices = Iterator[tuple[slice, np.ndarray]]


@dataclass(frozen=True)
class Value:
    """One metric of one category: its value (a share in [0,1], or a score where the registry says so), or None and why.

    Beside a value ``reason`` is what a reader must know of it, such as defects that have no pixel at the evaluation size.
    """

    metric: str
    value: float | None
    reason: str | None = None


def evaluate_category(
    image_scores: np.ndarray,
    labels: np.ndarray,
    patch_scores: np.ndarray,
    load_mask: Callable[[int], np.ndarray | None],
    has_masks: bool,
    size: tuple[int, int],
    smoothing: float = 0.0,
    device: str = "cpu",
    windows: np.ndarray | None = None,
) -> list[Value]:
    """All metrics of one category.

    Args:
        image_scores: [n]. labels: [n], 1 = anomalous. patch_scores: [n,h,w], higher = more anomalous.
        load_mask: gives the original 0/1 mask [H,W] of image i, None for normal images; called once an image.
        has_masks: false leaves the pixel metrics out.
        size: height and width of the maps and masks that are compared.
        smoothing: deviation of a Gaussian over the maps, in pixels of ``size``; 0 = none (as published).
        device: where pixels are ordered: ``cpu`` by numpy, every other one by torch.
        windows: [n,4], where each picture lies on its patches, see :func:`foundad.metrics.maps.upsample`.
    """
    values = list(_ranked("i_", _image_ordering(image_scores[labels == 1], image_scores[labels == 0])))
    if not has_masks:
        return values
    maps = Maps(patch_scores, size, smoothing, windows)
    strict, released = Masks(size), Masks(size)
    complement = 0.0  # of the released code's soft masks
    for number in range(len(labels)):
        mask, normal = load_mask(number), not labels[number]
        if mask is None:
            strict.append(None, normal)
            released.append(None, normal)
            complement += size[0] * size[1]
            continue
        binary = (mask > 0).astype(np.uint8)
        soft = soft_mask(binary, size)
        strict.append(resize_mask(binary, *size) > 0, normal)
        released.append(soft == 1, normal)
        complement += float((1 - soft).sum(dtype=np.float64))
    values += (_remarked(value, strict) for value in _strict(maps, strict, device))
    return [*values, *(_remarked(value, released) for value in _released(maps, released, complement, device))]


def _remarked(value: Value, masks: "Masks") -> Value:
    """``value``, which says how many defects vanish at the size of ``masks``, if any do."""
    if not masks.vanished:
        return value
    defects = len(masks.normal) - sum(masks.normal)
    remark = f"{masks.vanished} of {defects} defects have no pixel at {masks.size[1]} x {masks.size[0]}"
    return replace(value, reason=remark if value.reason is None else f"{value.reason}; {remark}")


class Maps:
    """Anomaly maps of patch scores, a part at a time; a single part is made once and kept."""

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
        """The maps [b,H,W] float32 of some images."""
        windows = None if self.windows is None else self.windows[rows]
        part = upsample(self.patch_scores[rows], self.size, windows)
        return smooth(part, self.smoothing) if self.smoothing else part


class Masks:
    """Binary masks at evaluation size, one bit a pixel; images without a defect take none."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.bits: list[np.ndarray | None] = []
        self.normal: list[bool] = []
        self.positives = 0

    def append(self, mask: np.ndarray | None, normal: bool | None = None) -> None:
        """Add the mask [H,W] bool of the next image; None = no defect.

        normal: whether the image is normal by its label; None = it is where it has no defective pixel.
        """
        count = 0 if mask is None else int(np.count_nonzero(mask))
        self.positives += count
        self.normal.append(not count if normal is None else bool(normal))
        self.bits.append(np.packbits(mask) if mask is not None and count else None)

    @property
    def vanished(self) -> int:
        """Defective images without a defective pixel at this size."""
        return sum(bits is None and not normal for bits, normal in zip(self.bits, self.normal, strict=True))

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Masks [b,H,W] bool of images."""
        chosen = self.bits[rows]
        masks = np.zeros((len(chosen), *self.size), bool)
        for mask, bits in zip(masks, chosen, strict=True):
            if bits is not None:
                mask[:] = np.unpackbits(bits, count=mask.size).reshape(self.size)
        return masks


def pixel_ordering(maps: Maps, masks: Masks, device: str = "cpu") -> Ordering | str:
    """All pixels of a category in one order, positives weighted so that detected weights add up to PRO; or why not."""
    pixels = len(masks.bits) * maps.size[0] * maps.size[1]
    if not maps.finite:
        return "scores are not finite"
    if not masks.positives:
        return "no anomalous pixel"
    if masks.positives == pixels:
        return "no normal pixel"
    if device != "cpu":
        return _ordering_on(device, maps, masks)
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
    """Scores of all defective or all normal pixels [m] float32, a part at a time, image by image."""
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
    """Their weights [P]: one over the area of the region and the number of regions."""
    found = np.empty(masks.positives)
    start = regions = 0
    for first in range(0, len(masks.bits), maps.images):
        weights, count = region_weights(masks[slice(first, first + maps.images)])
        found[start : start + len(weights)] = weights * count
        start += len(weights)
        regions += count
    found /= regions
    return found


def _strict(maps: Maps, masks: Masks, device: str) -> Iterator[Value]:
    ordering = pixel_ordering(maps, masks, device)
    yield from _ranked("strict/p_", ordering)
    for metric, limit in (("strict/aupro_30", 0.3), ("strict/aupro_05", 0.05)):
        if isinstance(ordering, str):
            yield Value(metric, None, ordering)
        else:
            yield Value(metric, curve_area(ordering.weights, ordering, limit))
    found = ordering if isinstance(ordering, str) else aupimo(maps, masks)
    yield Value("strict/aupimo", *((None, found) if isinstance(found, str) else (found, None)))


def _released(maps: Maps, masks: Masks, complement: float, device: str) -> Iterator[Value]:
    ordering = pixel_ordering(maps, masks, device)
    yield from _ranked("released/p_", ordering)
    if isinstance(ordering, str):
        yield Value("released/aupro_30", None, ordering)
        return
    lows, highs = zip(*((part.min(), part.max()) for _, part in maps), strict=True)
    pro = ReleasedPro(float(min(lows)), float(max(highs)), complement)
    for rows, part in maps:
        pro.add(part, masks[rows])
    value = pro.value()
    yield Value("released/aupro_30", value, None if value is not None else "all kept false-positive rates are equal")


def _ranked(prefix: str, ordering: Ordering | str) -> Iterator[Value]:
    for name in ("auroc", "ap", "f1max"):
        if isinstance(ordering, str):
            yield Value(prefix + name, None, ordering)
        elif name == "auroc":
            yield Value(prefix + name, auroc(ordering))
        elif name == "ap":
            yield Value(prefix + name, average_precision(ordering))
        else:
            value, threshold = f1_max(ordering)
            yield Value(prefix + name, value)
            if prefix == "i_":
                yield Value("i_f1max_threshold", threshold)


def _image_ordering(positives: np.ndarray, negatives: np.ndarray) -> Ordering | str:
    """The ordering of image scores, or why there is none."""
    if not len(positives):
        return "no anomalous image"
    if not len(negatives):
        return "no normal image"
    if not (np.isfinite(positives).all() and np.isfinite(negatives).all()):
        return "scores are not finite"
    return order(positives, negatives)
