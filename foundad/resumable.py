"""An array that is written row by row and goes on where a killed job stopped.

Used by the stage ``features``, whose jobs may take hours. Until the array is whole it lies beside its final name, with a
small file that says how many rows are safe and what they were made of; a job that would make other rows begins anew.
"""

import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

from foundad.files import write_text

SAVE_SECONDS = 5.0  # what a kill may cost


class ResumableArray:
    """A .npy file of float16 rows, appended to in order; memory-mappable once :meth:`finish` has renamed it.

    Args:
        path: final name; its folder is made if it is missing.
        shape: [n, ...] of the whole array.
        key: names all that the rows depend on; rows that were left under another key are dropped.

    Attributes:
        rows: how many rows are written, those of an earlier job included.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], key: str) -> None:
        self.path, self.shape, self.key = path, shape, key
        self.partial = path.with_name(f".{path.name}.partial")
        self.progress = path.with_name(f".{path.name}.progress.json")
        self.row_bytes = 2 * int(np.prod(shape[1:]))
        self.rows = 0

    def __enter__(self) -> "ResumableArray":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.rows = self._rows_of_an_earlier_job()
        self.file: IO[bytes] = open(self.partial, "r+b" if self.rows else "w+b")
        np.lib.format.write_array_header_1_0(self.file, {"descr": "<f2", "fortran_order": False, "shape": self.shape})
        # What an earlier job wrote behind the rows that it called safe is written again.
        self.file.truncate(self.file.tell() + self.rows * self.row_bytes)
        self.file.seek(0, os.SEEK_END)
        self.saved = time.monotonic()
        return self

    def append(self, rows: np.ndarray) -> None:
        """Write ``rows`` [b, ...] behind those that are there; every few seconds they are made safe."""
        self.file.write(np.ascontiguousarray(rows, np.float16).tobytes())
        self.rows += len(rows)
        if time.monotonic() - self.saved > SAVE_SECONDS:
            self._save()

    def finish(self) -> None:
        """Give the whole array its final name."""
        assert self.rows == self.shape[0], f"{self.rows} rows of {self.shape[0]}"
        self.file.flush()
        os.fsync(self.file.fileno())
        self.partial.replace(self.path)
        self.progress.unlink(missing_ok=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.partial.exists():  # the job failed: keep what it has
            self._save()
        self.file.close()

    def _save(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        write_text(self.progress, json.dumps({"key": self.key, "rows": self.rows}))
        self.saved = time.monotonic()

    def _rows_of_an_earlier_job(self) -> int:
        try:
            left = json.loads(self.progress.read_text(encoding="utf-8"))
            size = self.partial.stat().st_size
        except (OSError, ValueError):
            return 0
        rows = int(left["rows"]) if left.get("key") == self.key else 0
        return rows if rows * self.row_bytes < size else 0
