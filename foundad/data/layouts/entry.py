"""What every layout says of an image, before its file is opened."""

from dataclasses import dataclass
from pathlib import Path

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
