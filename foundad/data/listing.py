"""Lists pictures, folders and other files of a folder, judged by their names; no file is opened."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from foundad.errors import UserError

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
HEATMAP = "_anomaly.png"  # end of the names of predict's heatmaps


def children(folder: Path) -> list[Path]:
    """Everything directly in ``folder``, sorted by name; nothing if there is no such folder.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        return sorted(folder.iterdir(), key=lambda path: path.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}; fix its permissions") from None


def is_heatmap(path: Path, names: set[str]) -> bool:
    """Whether ``path`` is a heatmap that ``foundad predict`` wrote beside its picture; ``names``: stems of the folder."""
    return path.name.endswith(HEATMAP) and path.name.removesuffix(HEATMAP) in names


def images_in(folder: Path) -> list[Path]:
    """Image files directly in ``folder``, sorted by name; hidden files, heatmaps and other kinds are left out.

    Raises:
        UserError: the folder cannot be read.
    """
    found = [p for p in children(folder) if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    stems = {path.stem for path in found}
    return [path for path in found if not is_heatmap(path, stems)]


def folders_in(folder: Path) -> list[Path]:
    """Folders directly in ``folder``, sorted by name, without hidden ones.

    Raises:
        UserError: the folder cannot be read.
    """
    return [path for path in children(folder) if not path.name.startswith(".") and os.path.isdir(path)]


def walk(root: Path, folders: Iterable[str]) -> Iterator[str]:
    """Every file below ``folders``, relative to ``root``.

    A folder that several links lead to is walked once. Hidden folders are given like files and not walked.

    Raises:
        UserError: a folder cannot be read.
    """
    waiting = [root / name for name in folders]
    seen: set[tuple[int, int]] = set()
    while waiting:
        folder = waiting.pop()
        try:
            about = os.stat(folder)
            if (about.st_dev, about.st_ino) in seen:
                continue
            seen.add((about.st_dev, about.st_ino))
            with os.scandir(folder) as inside:
                for item in inside:
                    path = folder / item.name
                    if item.is_dir() and not item.name.startswith("."):
                        waiting.append(path)
                    else:
                        yield path.relative_to(root).as_posix()
        except FileNotFoundError:
            continue  # a missing category is reported as empty
        except OSError as error:
            name = os.fsencode(folder).decode("utf-8", "backslashreplace")
            raise UserError(f"{name}: cannot be read: {error.strerror}; fix its permissions") from None
