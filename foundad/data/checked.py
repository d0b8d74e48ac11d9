"""Remembers what earlier runs found in files, by path, size and modification time, so that unchanged ones are not read again.

The memory is a file beside the manifest and not an output of the workflow. Without it, everything is read. Broken files
are not in it.
"""

import json
import os
from pathlib import Path
from typing import Any

from foundad.data.entry import Entry
from foundad.files import write_text

FACTS = ("sha256", "width", "height", "mode", "mask_sha256")


class Checked:
    """Facts of verified images below one root.

    Args:
        path: file of the memory; None: nothing is kept.
        root: folder that the entries' paths are relative to.
        settings: what a verification depends on besides the files; facts stored under other settings are dropped.
    """

    def __init__(self, path: Path | None, root: Path, settings: str) -> None:
        self.path, self.root, self.settings = path, root, settings
        self.known: dict[str, Any] = {}
        self.found: dict[str, Any] = {}
        if path is not None and path.is_file():
            try:
                stored = json.loads(path.read_text(encoding="utf-8"))
                if stored["settings"] == settings and stored["root"] == str(root) and isinstance(stored["files"], dict):
                    self.known = stored["files"]
            except (ValueError, KeyError, TypeError, OSError, RecursionError):
                pass  # a broken memory is ignored

    def facts(self, entry: Entry) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Facts for the row of ``entry`` and facts seen in its files; None if the files are new or have changed."""
        known = self.known.get(entry.image_path)
        try:
            if known is None or known[0] != self.stamp(entry):
                return None
            facts, seen = dict(zip(FACTS, known[1], strict=True)), dict(known[2])
        except (LookupError, TypeError, ValueError):
            return None  # not in the format of keep()
        self.found[entry.image_path] = known
        return facts, seen

    def keep(self, entry: Entry, stamp: list[Any], facts: dict[str, Any], seen: dict[str, Any]) -> None:
        """Remember what a verification found; ``stamp`` was taken before the files were read."""
        self.found[entry.image_path] = [stamp, [facts[name] for name in FACTS], seen]

    def save(self) -> None:
        """Write the facts of this run's files. If several processes save at once, the last file stays, whole."""
        if self.path is not None:
            stored = {"settings": self.settings, "root": str(self.root), "files": self.found}
            write_text(self.path, json.dumps(stored, sort_keys=True))

    def stamp(self, entry: Entry) -> list[Any]:
        """Sizes and modification times of the image and its mask; for a mask folder also those of its files."""
        stamp: list[Any] = [entry.mask_path]
        for name in (entry.image_path, entry.mask_path):
            if name is None:
                continue
            path = self.root / name
            try:
                found = os.stat(path)
                stamp += [found.st_size, found.st_mtime_ns]
                if path.is_dir():
                    stamp += [
                        [part.name, part.stat().st_size, part.stat().st_mtime_ns]
                        for part in sorted(path.iterdir(), key=lambda part: part.name)
                    ]
            except OSError:
                stamp.append(None)
        return stamp
