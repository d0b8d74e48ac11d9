"""What a detector is told of the pictures that it scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Unread:
    """Patch tokens [n,N,D] of many images, read where they are indexed: for methods that look at a whole test set.

    array: what holds them, indexed by numbers of images; it need not fit into memory. rows: [n], those that count. shape:
    of the whole. prepare: how they become what methods read.
    """

    array: Any
    rows: np.ndarray
    shape: tuple[int, int, int]
    prepare: Callable[[np.ndarray], np.ndarray] = np.asarray

    @classmethod
    def of(cls, array: np.ndarray) -> "Unread":
        """An array in memory, as if it were to be read."""
        return cls(array, np.arange(len(array)), array.shape)

    def prepared(self, prepare: Callable[[np.ndarray], np.ndarray]) -> "Unread":
        """The same, prepared."""
        return replace(self, prepare=prepare)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, images: slice) -> np.ndarray:
        """Prepared tokens [b,N,D] of some images."""
        return self.prepare(self.array[self.rows[images]])


@dataclass(frozen=True)
class Pictures:
    """Pictures under one query view, as a detector reads them.

    tokens: [B,N,D] float32, prepared patch tokens. A method that needs the ``test set`` gets all images of a category in
    one call; their tokens are :class:`Unread`, and slices of them are read. inside: [B,N] bool, patches that show the
    picture; None = all. The others are padding. arrays: further arrays of the encoder by name, such as ``class`` [B,C]
    float32, as they are stored. ids: of the images. A detector gets those arrays and ids that its settings need.
    """

    tokens: np.ndarray
    inside: np.ndarray | None = None
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    ids: Sequence[str] = ()
