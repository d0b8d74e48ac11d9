"""What earlier runs found out about files, so that unchanged ones are not read again: keyed by path, size and time of change.

A file beside the manifest, never an output of the workflow and never needed: without it everything is read. Files that were
broken are not in it.
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
        path: of the file; None keeps nothing.
        root: folder that the entries' paths are relative to.
        settings: what a verification depends on beside the files; other settings forget everything.
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
                pass  # a broken file is as good as none

    def facts(self, entry: Entry) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """What is known of ``entry`` for its row, and what was seen beside that, if its files are as they were."""
        known = self.known.get(entry.image_path)
        try:
            if known is None or known[0] != self.stamp(entry):
                return None
            facts, seen = dict(zip(FACTS, known[1], strict=True)), dict(known[2])
        except (LookupError, TypeError, ValueError):
            return None  # not what is written here
        self.found[entry.image_path] = known
        return facts, seen

    def keep(self, entry: Entry, stamp: list[Any], facts: dict[str, Any], seen: dict[str, Any]) -> None:
        """Remember what a verification found in files that were as ``stamp`` says before they were read."""
        self.found[entry.image_path] = [stamp, [facts[name] for name in FACTS], seen]

    def save(self) -> None:
        """Write what is known of the files that are there now; of calls at the same time the last one's stays, whole."""
        if self.path is not None:
            stored = {"settings": self.settings, "root": str(self.root), "files": self.found}
            write_text(self.path, json.dumps(stored, sort_keys=True))

    def stamp(self, entry: Entry) -> list[Any]:
        """Sizes and times of the image and of its mask, of a mask's folder those of its files."""
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
