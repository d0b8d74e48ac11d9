"""Remembers hashes of the contents of files: a file that has not changed is not read again.

The keys of the plan (:mod:`foundad.plan.keys`) depend on the contents of data and weights: a copy or a touch makes
nothing stale, every edit does. A file counts as unchanged if its size, mtime, ctime and inode are the same; a ctime
cannot be set back. The memory is a file that may be deleted at any time.
"""

import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from foundad.files import sha256, write_text

FRESH_NANOSECONDS = 2_000_000_000  # a file that changed this recently may change again within one clock tick
ABSENT = "absent"
THREADS = 8
SHOWN = 200  # a progress bar is shown from this number of files to read


class Hashes:
    """SHA-256 of files, by path.

    Args:
        memory: file that keeps them between calls; None: they are not kept.
    """

    def __init__(self, memory: Path | None = None) -> None:
        self.memory = memory
        self.known: dict[str, Any] = {}
        self.found: dict[str, Any] = {}
        if memory is not None:
            try:
                stored = json.loads(memory.read_text(encoding="utf-8"))
                self.known = {str(name): list(entry) for name, entry in stored.items()}
            except (ValueError, TypeError, AttributeError, OSError):
                pass  # a damaged memory is ignored

    def of(self, files: Iterable[Path], name: str = "files") -> dict[Path, str]:
        """The hash of each of ``files``: for a folder one hash over its files, ``absent`` for what cannot be read."""
        found: dict[Path, str] = {}
        unread: dict[Path, list[int]] = {}
        for path in dict.fromkeys(files):
            try:
                stamp = _stamp(path)
            except OSError:
                found[path] = ABSENT
                continue
            if stamp is None:
                found[path] = self._of_folder(path)
                continue
            entry = self.known.get(str(path))
            if entry is not None and entry[:-1] == stamp:
                found[path] = entry[-1]
                self.found[str(path)] = entry
            else:
                unread[path] = stamp
        if unread:
            found |= self._read(unread, name)
        return found

    def save(self) -> None:
        """Write the hashes that were asked for since this object was made, and no others, if anything changed."""
        if self.memory is not None and self.found != self.known:
            with suppress(OSError):  # results of another user: everything works, only slower
                write_text(self.memory, json.dumps(self.found, ensure_ascii=True))

    def _of_folder(self, path: Path) -> str:
        try:
            parts = sorted(path.iterdir())
        except OSError:
            return ABSENT
        lines = [f"{part.name} {digest}" for part, digest in self.of(part for part in parts if part.is_file()).items()]
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    def _read(self, unread: dict[Path, list[int]], name: str) -> dict[Path, str]:
        from tqdm import tqdm

        now = time.time_ns()
        found = {}
        with ThreadPoolExecutor(THREADS) as pool:
            hidden = None if len(unread) >= SHOWN else True  # None: shown on a terminal
            hashes = tqdm(
                pool.map(_hash, unread), f"{name}: hashes", len(unread), file=sys.stderr, disable=hidden, leave=False
            )
            for (path, stamp), digest in zip(unread.items(), hashes, strict=True):
                found[path] = digest
                if digest != ABSENT and max(stamp[1:3]) < now - FRESH_NANOSECONDS:
                    self.found[str(path)] = [*stamp, digest]
        return found


def _stamp(path: Path) -> list[int] | None:
    """Size, mtime, ctime and inode of a file; None for a folder."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _hash(path: Path) -> str:
    try:
        return sha256(path)
    except OSError:
        return ABSENT
