"""What every layout says of an image, before its file is opened."""

import csv
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from foundad.errors import UserError

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True, order=True)
class Entry:
    """One image: ids and paths as strings relative to the dataset's root, label 0 normal or 1 anomalous."""

    image_id: str
    category: str
    split: str
    label: int
    defect: str
    image_path: str
    mask_path: str | None


def listed_path(value: Any, source: str) -> str:
    """The path that a list names, relative to the root.

    Raises:
        UserError: it is empty, absolute or leads out of the root; ``source`` is the place in the list.
    """
    name = "" if value is None else str(value).strip()
    if not name or "\\" in name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise UserError(f"{source}: '{name}' is no path below the root with / between folders; mend the list")
    return name


def read_rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """The rows of a CSV with a header; line n of the file is row n - 2.

    Raises:
        UserError: it cannot be read, is no UTF-8, or lacks one of ``columns``.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names, rows = reader.fieldnames or [], list(reader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; root must hold it") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: is no CSV in UTF-8 ({error}); save it as such") from None
    missing = [column for column in columns if column not in names]
    if missing:
        raise UserError(f"{path}: has no column {', '.join(missing)}; its first line must name {', '.join(columns)}")
    return rows


def images_in(folder: Path) -> list[Path]:
    """Image files right below ``folder``, sorted by name; hidden files and other kinds are left out."""
    if not folder.is_dir():
        return []
    found = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    return sorted(found, key=lambda path: path.name)


def folders_in(folder: Path) -> list[Path]:
    """Folders right below ``folder``, sorted by name, hidden ones left out."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=lambda p: p.name)
