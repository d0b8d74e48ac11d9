"""Exact nearest-neighbour search in a memory of patch tokens, shared by all methods that have a memory.

Stands between a memory and the patch scores of a detector. Blocked matrix products find the neighbours. Their distances
are computed from differences, so a patch of the memory has distance zero. Only bfloat16 approximates: it finds eight
candidates per query and orders them by their exact distances. Besides memory and queries, a search holds at most
QUERIES * TILE * 4 bytes = 8 MiB (128 MiB on a GPU) of products, whatever the sizes.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from foundad.config.method import Search
from foundad.device import float32_products

QUERIES, TILE, TILE_ON_GPU = 1024, 2048, 32768
LEAST = (
    128  # queries whose products with a whole memory are looked through at once, where several neighbours are wanted
)
GROUP = 16  # products of which the largest stands for all while the largest are looked for
CANDIDATES = 8  # per query in bfloat16, whose products are wrong by up to 1/256


class Memory:
    """Vectors that queries are compared with.

    Args:
        vectors: [M,D].
        settings: library and precision of the products.
        device: on which torch computes.
    """

    def __init__(self, vectors: np.ndarray, settings: Search | None = None, device: str = "cpu") -> None:
        self.settings, self.device = settings or Search(), device
        self.vectors = np.ascontiguousarray(vectors, np.float32)
        self.half_squares = np.einsum("md,md->m", self.vectors, self.vectors) / 2
        self._on_device: Any = None

    def __len__(self) -> int:
        return len(self.vectors)

    def nearest(self, queries: np.ndarray, count: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The ``count`` nearest vectors of every query, nearest first (all, if the memory holds fewer).

        Args:
            queries: [Q,D] float32.

        Returns:
            Euclidean distances [Q,count] float32 and rows of the memory [Q,count] int64.
        """
        count = min(count, len(self))
        wanted = min(len(self), max(count, CANDIDATES)) if self.settings.dtype == "bfloat16" else count
        distances = np.empty((len(queries), count), np.float32)
        rows = np.empty((len(queries), count), np.int64)
        for span, block, found in self._blocks(queries, wanted):
            distances[span], rows[span] = self._ordered(block, found, count)
        return distances, rows

    def distances(self, queries: np.ndarray, neighbours: int = 1) -> np.ndarray:
        """Euclidean distance [Q] float32 of every query [Q,D] to the mean of its ``neighbours`` nearest vectors.

        With one neighbour that is the distance to the nearest vector. The mean of several lies among them: a query
        between normal patches is then as near as one that equals a patch, and a single odd patch of the memory counts
        less.
        """
        if neighbours == 1:
            return self.nearest(queries)[0][:, 0]
        found = np.empty(len(queries), np.float32)
        for start in range(0, len(queries), QUERIES):
            block = np.ascontiguousarray(queries[start : start + QUERIES], np.float32)
            _, rows = self.nearest(block, neighbours)
            differences = block - self.vectors[rows].mean(axis=1)
            found[start : start + QUERIES] = np.sqrt(np.einsum("qd,qd->q", differences, differences))
        return found

    def candidates(self, queries: np.ndarray, count: int) -> np.ndarray:
        """Rows [Q,count] int64 of the ``count`` nearest vectors of every query [Q,D], in no order (all, if fewer)."""
        rows = np.empty((len(queries), min(count, len(self))), np.int64)
        for span, _, found in self._blocks(queries, rows.shape[1]):
            rows[span] = found
        return rows

    def _blocks(self, queries: np.ndarray, count: int) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Block by block: its place among the queries, its queries [q,D], and rows [q,count] of their nearest vectors."""
        several = count > 1 and self.settings.backend == "numpy"
        # Fewer queries and more of the memory at a time: one selection in all products beats a merge of many.
        size = min(QUERIES, max(LEAST, QUERIES * TILE // len(self))) if several else QUERIES
        for start in range(0, len(queries), size):
            span = slice(start, start + size)
            block = np.ascontiguousarray(queries[span], np.float32)
            if self.settings.backend == "torch":
                yield span, block, self._nearest_with_torch(block, count)
            else:
                yield span, block, self._several_nearest(block, count) if several else self._nearest(block)

    def nearest_of_each(self, queries: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Distance [Q,S] float32 of every query to the nearest vector of every segment of the memory.

        ``starts`` [S] are the first rows of the segments, ascending from 0; no segment is empty.
        """
        distances = np.empty((len(queries), len(starts)), np.float32)
        ends = [*starts[1:], len(self)]
        for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
            part = Memory(self.vectors[start:end], self.settings, self.device)
            distances[:, number] = part.nearest(queries)[0][:, 0]
        return distances

    def nearest_in(self, queries: np.ndarray, counts: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Distance [B,N] float32 of every query of a picture to the nearest vector of the images chosen for that picture.

        Args:
            queries: [B,N,D] float32.
            counts: [S], number of vectors of each image in the memory, image by image; none is zero.
            chosen: [B,k], numbers of images.
        """
        each = self.nearest_of_each(queries.reshape(-1, queries.shape[2]), np.cumsum(counts) - counts)
        each = each.reshape(*queries.shape[:2], len(counts))
        found: np.ndarray = np.take_along_axis(each, chosen[:, None], axis=2).min(axis=2)
        return found

    def _ordered(self, queries: np.ndarray, rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Exact distances and rows [Q,count] of the nearest candidates ``rows`` [Q,K], in order; ties by row."""
        distances = np.empty(rows.shape, np.float32)
        for column in range(rows.shape[1]):
            differences = self.vectors[rows[:, column]]
            np.subtract(queries, differences, out=differences)
            distances[:, column] = np.sqrt(np.einsum("qd,qd->q", differences, differences))
        if rows.shape[1] > 1:
            order = np.lexsort((rows, distances))[:, :count]
            distances, rows = np.take_along_axis(distances, order, 1), np.take_along_axis(rows, order, 1)
        return distances, rows

    def _products(self, queries: np.ndarray, tile: int) -> Iterator[tuple[int, np.ndarray]]:
        """First row of every ``tile`` rows of the memory, and their products [Q,tile] with the queries.

        Half the squared length of a row is subtracted, so that the nearest vector has the largest product.
        """
        for start in range(0, len(self), tile):
            products = queries @ self.vectors[start : start + tile].T
            products -= self.half_squares[start : start + tile]
            yield start, products

    def _nearest(self, queries: np.ndarray) -> np.ndarray:
        """Row [Q,1] of the nearest vector."""
        best = np.full(len(queries), -np.inf, np.float32)
        rows = np.zeros((len(queries), 1), np.int64)
        everyone = np.arange(len(queries))
        for start, products in self._products(queries, TILE):  # a tile fits a cache
            found = products.argmax(axis=1)
            values = products[everyone, found]
            better = np.flatnonzero(values > best)
            best[better], rows[better, 0] = values[better], start + found[better]
        return rows

    def _several_nearest(self, queries: np.ndarray, count: int) -> np.ndarray:
        """Rows [Q,count] of the nearest vectors, unordered."""
        best = np.empty((len(queries), 0), np.float32)
        rows = np.empty((len(queries), 0), np.int64)
        for start, products in self._products(queries, QUERIES * TILE // min(len(queries), QUERIES)):
            found = largest(products, count)
            best = np.concatenate([best, np.take_along_axis(products, found, 1)], axis=1)
            rows = np.concatenate([rows, start + found], axis=1)
            kept = largest(best, count)
            best, rows = np.take_along_axis(best, kept, 1), np.take_along_axis(rows, kept, 1)
        return rows

    def _nearest_with_torch(self, queries: np.ndarray, count: int) -> np.ndarray:
        """As :meth:`_several_nearest`, on the device."""
        import torch  # imported here: only needed if the settings ask for it

        dtype = getattr(torch, self.settings.dtype)
        if self._on_device is None:
            vectors = torch.from_numpy(self.vectors).to(self.device, dtype)
            self._on_device = vectors, torch.from_numpy(self.half_squares).to(self.device)
        vectors, half_squares = self._on_device
        block = torch.from_numpy(queries).to(self.device, dtype)
        on_cpu = block.device.type == "cpu"
        tile = TILE if on_cpu else TILE_ON_GPU
        best: torch.Tensor | None = None
        rows: torch.Tensor | None = None
        with torch.inference_mode(), float32_products(block.device, "float32"):
            for start in range(0, len(self), tile):
                products = (block @ vectors[start : start + tile].T).float() - half_squares[start : start + tile]
                if count == 1 and not on_cpu:  # on a GPU several times faster than the largest one of a sort
                    values, found = products.max(dim=1, keepdim=True)
                else:
                    values, found = products.topk(min(count, products.shape[1]), dim=1)
                found += start
                if best is not None and rows is not None:
                    values, found = torch.cat([best, values], 1), torch.cat([rows, found], 1)
                    values, kept = values.topk(count, dim=1)
                    found = found.gather(1, kept)
                best, rows = values, found
        assert rows is not None, "a memory is never empty"
        return rows.cpu().numpy()


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Columns [Q,count] of the largest ``values`` [Q,C] of every row, in no order (all, if there are fewer).

    They lie in the ``count`` groups of columns with the largest maxima, so that few values are compared.
    """
    columns = values.shape[1]
    groups = columns // GROUP
    if columns <= count:
        return np.broadcast_to(np.arange(columns), values.shape)
    if groups <= 4 * count:
        return np.argpartition(values, -count, axis=1)[:, -count:]
    whole = groups * GROUP
    maxima = values[:, :whole].reshape(-1, GROUP, groups).max(axis=1)  # column c belongs to group c % groups
    best = np.argpartition(maxima, -count, axis=1)[:, -count:]
    inside = (best[:, None] + groups * np.arange(GROUP)[:, None]).reshape(len(values), -1)
    rest = np.broadcast_to(np.arange(whole, columns), (len(values), columns - whole))
    candidates = np.concatenate([inside, rest], axis=1)
    kept = np.argpartition(np.take_along_axis(values, candidates, 1), -count, axis=1)[:, -count:]
    return np.take_along_axis(candidates, kept, 1)


def unit(vectors: np.ndarray) -> np.ndarray:
    """``vectors`` [...,D] scaled to length one, float32; zeros stay zeros."""
    vectors = vectors.astype(np.float32, copy=False)
    squares = np.einsum("...d,...d->...", vectors, vectors)[..., None]
    return vectors / np.sqrt(np.maximum(squares, 1e-24))


def cosine(distances: np.ndarray) -> np.ndarray:
    """Cosine distances (one minus the cosine) from Euclidean distances between vectors of length one."""
    return np.square(distances) / 2
