"""Reads the stored patch tokens of the test images: the stage ``features`` writes them, ``fit`` reads them.

It is separate from the stage, because reading needs neither torch nor an encoder.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from foundad.sealed import broken, read_json, row_checksum


class Features:
    """The patch tokens of the test images as the stage wrote them; every row is compared with its checksum when it is read.

    Args:
        path: the array (.npy); its .json lies beside it.
        image_ids: ids of the images that the rows must belong to, in order.
        key: the key that the features must have (None: any).

    Raises:
        BrokenFile: array or JSON is damaged, of other images or of another key.
    """

    def __init__(self, path: Path, image_ids: Sequence[str], key: str | None = None) -> None:
        self.path = path
        seal = read_json(path.with_suffix(".json"), "features", key)
        try:
            self.checksums: list[int] = list(seal["checksums"])
            known, shape = list(seal["image_ids"]), tuple(map(int, seal["shape"]))
            self.tokens: np.ndarray = _mapped(path, shape)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise broken(path, f"is damaged ({error})") from None
        if known != list(image_ids) or len(self.checksums) != len(known) or shape[0] != len(known):
            raise broken(path, "its rows are not the images of the manifest")

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Tokens [b,N,D] float16 of ``rows`` [b] integers; BrokenFile if one does not match its checksum."""
        found = self.tokens[rows]
        for row, tokens in zip(rows.tolist(), found, strict=True):
            if row_checksum(tokens) != self.checksums[row]:
                raise broken(self.path, f"row {row} is damaged")
        return found


def _mapped(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The float16 array of ``shape`` in the .npy file ``path``, memory-mapped; ValueError if it holds anything else."""
    start = io.BytesIO()
    np.lib.format.write_array_header_1_0(start, {"descr": "<f2", "fortran_order": False, "shape": shape})
    header = start.getvalue()
    with path.open("rb") as file:
        if file.read(len(header)) != header or path.stat().st_size != len(header) + 2 * int(np.prod(shape)):
            raise ValueError(f"it is not the float16 array of {shape} that its .json names")
    return np.memmap(path, np.float16, "r", len(header), shape)
