"""What every layout says about an image before its file is opened, and readers for lists of images."""

import csv
from pathlib import Path, PurePosixPath
from typing import Any

from foundad.data.listing import folders_in, images_in
from foundad.data.manifest import Entry
from foundad.errors import UserError
from foundad.names import delimiter

__all__ = ["Entry", "cut", "folders_in", "images_in", "listed_name", "listed_path", "read_rows"]
LONGEST_PATH, LONGEST_PART, LONGEST_NAME = 1024, 255, 100


def place(entry: Entry) -> tuple[str | int, ...]:
    """The sort key of an entry: its values in order, a missing mask first."""
    return tuple("" if value is None else value for value in vars(entry).values())


def listed_path(value: Any, source: str) -> str:
    """The path that a list names, relative to the root.

    Raises:
        UserError: it is empty, absolute, too long, or leads out of the root; ``source`` is the place in the list.
    """
    name = "" if value is None else str(value).strip()
    path = PurePosixPath(name)
    odd = not name.isprintable() or "\\" in name or len(name) > LONGEST_PATH
    if odd or not path.name or path.is_absolute() or ".." in path.parts or _too_long(path):
        raise UserError(f"{source}: '{cut(name)}' is not a path below the root with / between folders; fix the list")
    return name


def listed_name(value: Any, source: str) -> str:
    """The name of a category or a defect that a list gives.

    Raises:
        UserError: it is empty, too long, not printable, or holds a slash; ``source`` is the place in the list.
    """
    name = "" if value is None else str(value).strip()
    if not name or not name.isprintable() or "/" in name or len(name) > LONGEST_NAME:
        raise UserError(f"{source}: '{cut(name)}' is not a name of a category or a defect; fix the list")
    return name


def cut(value: str) -> str:
    """``value`` for a message: one line, printable, and at most eighty characters."""
    line = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in value[:80])
    return line + "…" * (len(value) > 80)


def _too_long(path: PurePosixPath) -> bool:
    return any(len(part.encode("utf-8", "surrogatepass")) > LONGEST_PART for part in path.parts)


def read_rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """The rows of a CSV with a header; line n of the file is row n - 2.

    Raises:
        UserError: it cannot be read, is not UTF-8, or lacks one of ``columns``.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names, rows = reader.fieldnames or [], list(reader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; check the key root") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: is not a CSV in UTF-8 ({error}); save it as such") from None
    missing = [column for column in columns if column not in names]
    if missing:
        raise UserError(
            f"{path}: has no column {', '.join(missing)}; its first line must name {', '.join(columns)}{delimiter(names)}"
        )
    return rows
