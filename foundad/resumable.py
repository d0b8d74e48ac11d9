"""An array that is written row by row and resumes where a killed job stopped.

Used by the stage ``features``, whose jobs may take hours. Until the array is complete it lies beside its final path,
with a small file that holds its key and the checksums of the rows that are safely on disk. A job with another key
starts over. A job that finds another one still writing also starts over, in a file of its own.
"""

import fcntl
import json
import os
import tempfile
import time
import zlib
from pathlib import Path
from types import TracebackType

import numpy as np

from foundad.files import TEMPORARY, write_text
from foundad.sealed import row_checksum

SAVE_SECONDS = 5.0  # seconds of work that a kill can lose


class ResumableArray:
    """A .npy file of float16 rows, appended to in order; memory-mappable once :meth:`finish` has renamed it.

    Args:
        path: final path; its folder is made if it is missing.
        shape: [n, ...] of the whole array; [n] alone if the first rows show what follows.
        key: stands for everything that the rows depend on; rows left under another key are dropped.

    Attributes:
        checksums: CRC-32 of the written rows, including those of an earlier job.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], key: str) -> None:
        self.path, self.shape, self.key = path, shape, key
        self.partial = path.with_name(f".{path.name}.partial")
        self.progress: Path | None = path.with_name(f".{path.name}.progress.json")
        self.begun = False  # whether the file has its header
        self.checksums: list[int] = []

    @property
    def rows(self) -> int:
        """How many rows are written."""
        return len(self.checksums)

    @property
    def row_bytes(self) -> int:
        """Size of a row."""
        return 2 * int(np.prod(self.shape[1:]))

    def __enter__(self) -> "ResumableArray":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = self._claimed()
        self.file = os.fdopen(handle, "r+b")
        self.checksums = self._of_an_earlier_job() if self.progress is not None else []
        if len(self.shape) > 1:
            self._begin()
        self.saved = time.monotonic()
        return self

    def _begin(self) -> None:
        """Write the header, and drop what an earlier job wrote after its last safe row."""
        self.file.seek(0)
        np.lib.format.write_array_header_1_0(self.file, {"descr": "<f2", "fortran_order": False, "shape": self.shape})
        self.file.truncate(self.file.tell() + self.rows * self.row_bytes)
        self.file.seek(0, os.SEEK_END)
        self.begun = True

    def append(self, rows: np.ndarray) -> None:
        """Append ``rows`` [b, ...], converted to float16; every ``SAVE_SECONDS`` they are saved to disk."""
        rows = np.ascontiguousarray(rows, np.float16)
        if not self.begun:
            self.shape = (self.shape[0], *rows.shape[1:])
            self._begin()
        self.file.write(rows.tobytes())
        self.checksums += [row_checksum(row) for row in rows]
        if time.monotonic() - self.saved > SAVE_SECONDS:
            self._save()

    def finish(self) -> None:
        """Give the whole array its final name."""
        assert self.rows == self.shape[0], f"{self.rows} rows of {self.shape[0]}"
        if not self.begun:  # of no rows
            self._begin()
        self.file.flush()
        os.fsync(self.file.fileno())
        self.partial.replace(self.path)
        if self.progress is not None:
            self.progress.unlink(missing_ok=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self.partial.exists():  # the job failed: keep what it has
                self._save() if self.progress is not None else self.partial.unlink()
        finally:
            self.file.close()

    def _claimed(self) -> int:
        """A locked handle on the partial file; if another process holds that, on a new file of this process."""
        handle = os.open(self.partial, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), os.stat(self.partial)):
                return handle
        except OSError:
            pass  # another job writes it, or has just finished it
        os.close(handle)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.stem}.", suffix=TEMPORARY)
        os.fchmod(handle, 0o644)
        fcntl.flock(handle, fcntl.LOCK_EX)
        self.partial, self.progress = Path(name), None
        return handle

    def _save(self) -> None:
        assert self.progress is not None or self.file is not None
        self.file.flush()
        os.fsync(self.file.fileno())
        if self.progress is not None:
            write_text(self.progress, json.dumps({"key": self.key, "checksums": self.checksums}))
        self.saved = time.monotonic()

    def _of_an_earlier_job(self) -> list[int]:
        """The checksums of the rows that an earlier job left, up to the first row that does not match."""
        assert self.progress is not None
        try:
            left = json.loads(self.progress.read_text(encoding="utf-8"))
            if left["key"] != self.key:
                return []
            known = [int(value) for value in left["checksums"]][: self.shape[0]]
            self.file.seek(0)
            np.lib.format.read_magic(self.file)
            shape = np.lib.format.read_array_header_1_0(self.file)[0]
            if shape[: len(self.shape)] != self.shape:
                return []
            self.shape = shape
        except (OSError, ValueError, KeyError, TypeError):
            return []
        for number, checksum in enumerate(known):
            row = self.file.read(self.row_bytes)
            if len(row) < self.row_bytes or zlib.crc32(row) != checksum:
                return known[:number]
        return known
