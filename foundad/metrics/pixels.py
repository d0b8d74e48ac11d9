"""All pixels of a category: anomaly maps, defects, and the one order that all pixel metrics of all protocols share.

Maps are made from patch scores part by part. The pixels that no protocol calls defective are sorted part by part, and
the defective ones are ranked among them. Every protocol takes from these ranks what it calls defective. In memory are
one part (about 9 bytes per pixel, of at most ``PIXELS_AT_ONCE``) and about 60 bytes per defective pixel.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from foundad.metrics.defects import Defects
from foundad.metrics.maps import smooth, upsample
from foundad.metrics.metric import Undefined
from foundad.metrics.ranking import Ordering, Ranks, ordering_of, passing, rank, sort_with

PIXELS_AT_ONCE = 1 << 25


class Maps:
    """Anomaly maps of patch scores, part by part; if there is only one part, it is made once and kept."""

    def __init__(
        self, patch_scores: np.ndarray, size: tuple[int, int], smoothing: float, windows: np.ndarray | None = None
    ) -> None:
        self.patch_scores, self.size, self.smoothing, self.windows = patch_scores, size, smoothing, windows
        ends = np.array([(scores.min(), scores.max()) for scores in patch_scores])
        self.finite = bool(np.isfinite(ends).all())
        self._kept: np.ndarray | None = None

    @property
    def pixels(self) -> int:
        """Number of pixels of all maps."""
        return len(self.patch_scores) * self.size[0] * self.size[1]

    @property
    def parts(self) -> list[slice]:
        """The images of every part."""
        images = max(1, PIXELS_AT_ONCE // (self.size[0] * self.size[1]))
        return [slice(start, start + images) for start in range(0, len(self.patch_scores), images)]

    def part(self, rows: slice) -> np.ndarray:
        """The maps [b,H,W] float32 of the images ``rows``."""
        if self._kept is not None:
            return self._kept
        windows = None if self.windows is None else self.windows[rows]
        part = upsample(self.patch_scores[rows], self.size, windows)
        part = smooth(part, self.smoothing) if self.smoothing else part
        if len(self.parts) == 1:
            self._kept = part
        return part

    def copy(self, rows: slice) -> np.ndarray:
        """As :meth:`part`, in an array that the caller may change."""
        part = self.part(rows)
        return part.copy() if self._kept is not None or np.may_share_memory(part, self.patch_scores) else part


class Scene:
    """The maps and defects of the images of a category; sorts their pixels when they are first asked for.

    Args:
        maps: of all images.
        defects: of the same images.
        normal: [n] bool, images whose label is normal.
    """

    def __init__(self, maps: Maps, defects: Defects, normal: np.ndarray) -> None:
        self.maps, self.defects, self.normal = maps, defects, normal
        self._kept: Any = None

    def under(self, protocol: str) -> "Pixels":
        """The pixels as ``protocol`` sees them."""
        return Pixels(self, protocol)

    # ------------------------------------------------------------------------------------------ defective pixels

    @cached_property
    def scores(self) -> np.ndarray:
        """Scores [P] float32 of the pixels that any protocol calls defective, in the order of the runs."""
        return np.concatenate([self._defective(rows) for rows in self.maps.parts])

    @cached_property
    def runs(self) -> np.ndarray:
        """The run of each of the :attr:`scores`, [P] uint32."""
        lengths = self.defects.lengths
        return np.repeat(np.arange(len(lengths), dtype=np.uint32), lengths)

    @cached_property
    def places(self) -> np.ndarray:
        """Where the :attr:`scores` of every image begin, and their number, [n+1] int64."""
        return np.concatenate([[0], np.cumsum(self.defects.lengths, dtype=np.int64)])[self.defects.offsets]

    # ------------------------------------------------------------------------------------------ all pixels

    @cached_property
    def ranks(self) -> tuple[Ranks, np.ndarray]:
        """The :attr:`scores` in ascending order among the other pixels, and their runs [P] in that order; ties by run."""
        ascending, runs = sort_with(self.scores, self.runs)
        return rank(ascending, self.others()), runs

    def passing(self, levels: np.ndarray) -> np.ndarray:
        """How many of the other pixels are above each of ``levels`` [L] float64; [L] int64."""
        return passing(levels, self.others())

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """The lowest and the highest score of all pixels."""
        ends = [float(part[end]) for part in self.others() if len(part) for end in (0, -1)]
        ends += [float(self.scores.min()), float(self.scores.max())]
        return min(ends), max(ends)

    def highest(self, share: float) -> tuple[np.ndarray, int]:
        """The highest scores of the normal images, descending, ``share`` of their pixels and one more; and their pixels."""
        normal = int(self.normal.sum()) * self.maps.size[0] * self.maps.size[1]
        count = int(np.ceil(share * normal)) + 1
        found = np.empty(0, np.float32)
        for rows in self.maps.parts:
            for image in self.maps.part(rows)[self.normal[rows]]:
                # What is not above the lowest of enough scores does not change them.
                candidates = image.ravel() if len(found) < count else image[image > found.min()]
                found = np.concatenate([found, candidates])
                found = found if len(found) <= count else np.partition(found, len(found) - count)[-count:]
        return np.sort(found)[::-1], normal

    # ------------------------------------------------------------------------------------------ parts

    def _defective(self, rows: slice) -> np.ndarray:
        """Scores [p] float32 of the pixels of the images ``rows`` that any protocol calls defective."""
        part = self.maps.part(rows)
        images = enumerate(part.reshape(len(part), -1), rows.start)
        return np.concatenate([image[self.defects.pixels(number)] for number, image in images])

    def others(self) -> Iterator[Any]:
        """Ascending scores of the pixels that no protocol calls defective, part by part; a single part is kept."""
        for rows in self.maps.parts:
            found = self._ascending(rows) if self._kept is None else self._kept
            if len(self.maps.parts) == 1:
                self._kept = found
            yield found

    def _ascending(self, rows: slice) -> Any:
        """Ascending scores [m] of the other pixels of the images ``rows``."""
        found = self.maps.copy(rows)
        images = found.reshape(len(found), -1)
        count = 0
        for number, image in enumerate(images, rows.start):
            pixels = self.defects.pixels(number)
            image[pixels] = np.inf  # sorted behind all others, and left out
            count += len(pixels)
        found = images.reshape(-1)
        found.sort()
        return found[: len(found) - count]


class Pixels:
    """The pixels of a category as one protocol sees them, from which pixel metrics are computed.

    Attributes:
        scene: the maps and defects of all protocols.
        regions: [R], the region of every run of the defects; 0 = not defective under this protocol.
        positives: number of defective pixels.
    """

    def __init__(self, scene: Scene, protocol: str) -> None:
        self.scene, self.regions = scene, scene.defects.regions[protocol]
        self.positives = int(scene.defects.lengths[self.regions > 0].sum(dtype=np.int64))

    def require(self) -> None:
        """Raise :class:`~foundad.metrics.metric.Undefined` with the reason if pixel metrics have no value."""
        if not self.scene.maps.finite:
            raise Undefined("scores are not finite")
        if not self.positives:
            raise Undefined("no anomalous pixel")
        if self.positives == self.scene.maps.pixels:
            raise Undefined("no normal pixel")

    @cached_property
    def ordering(self) -> Ordering:
        """All pixels in one order, with the :attr:`weights` of the positives.

        Raises:
            Undefined: there is no order; the message says why.
        """
        self.require()
        ranks, runs = self.scene.ranks
        chosen = None if self.regions.all() else (self.regions > 0)[runs]
        return ordering_of(ranks, chosen, self.weights[runs])

    @cached_property
    def count(self) -> int:
        """Number of regions."""
        return len(np.unique(self.regions[self.regions > 0]))

    @cached_property
    def weights(self) -> np.ndarray:
        """Weight [R] of every pixel of a run: 1 / area of its region, or 0 if it is not defective.

        The weights of detected pixels, divided by the number of regions, add up to PRO.
        """
        areas = np.bincount(self.regions, self.scene.defects.lengths)
        areas[0] = np.inf
        return 1 / areas[self.regions]

    @property
    def remark(self) -> str | None:
        """How many defects vanish at this size; None if none do."""
        seen = np.zeros(len(self.scene.normal), bool)
        seen[np.repeat(np.arange(len(seen)), np.diff(self.scene.defects.offsets))[self.regions > 0]] = True
        defects = ~self.scene.normal
        vanished = np.count_nonzero(defects & ~seen)
        if not vanished:
            return None
        height, width = self.scene.maps.size
        return f"{vanished} of {np.count_nonzero(defects)} defects have no pixel at {width} x {height}"

    def of_image(self, number: int) -> np.ndarray:
        """Scores [p] float32 of the defective pixels of one image."""
        first, last = self.scene.places[number : number + 2]
        return self.scene.scores[first:last][self.regions[self.scene.runs[first:last]] > 0]
