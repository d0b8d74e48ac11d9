"""The cells in a results folder, whichever runs made them. Reads the names of folders, never what is in a file."""

import re

from foundad.cells import AXES, NAMED_AXES, Cell
from foundad.paths import Results

# Cell.__str__ with a group for every axis.
_GROUPS: tuple[str, ...] = tuple(f"(?P<{axis}>{'[^/.][^/]*' if axis in NAMED_AXES else '[0-9]+'})" for axis in AXES)
_CELL = re.compile(str(Cell(*_GROUPS)))  # type: ignore[arg-type]
_ANY = str(Cell(*"*" * len(AXES)))


def finished_cells(results: Results) -> list[Cell]:
    """The cells in ``results`` that have a record and metrics, or failures in their place, sorted.

    A cell that lacks one of them is unfinished: a job is working on it, or was killed.
    """
    folders = (path.parent.relative_to(results.cells) for path in results.cells.glob(f"{_ANY}/record.json"))
    found = (named(folder.as_posix()) for folder in folders)
    return sorted(cell for cell in found if cell is not None and results.cell_metrics(cell).is_file())


def named(path: str) -> Cell | None:
    """The cell whose path is ``path``, such as ``textures/efficientnet-lite0/knn/k4-s0``; None if it is none."""
    match = _CELL.fullmatch(path)
    if match is None:
        return None
    values: list[str | int] = [text if axis in NAMED_AXES else int(text) for axis, text in match.groupdict().items()]
    cell = Cell(*values)  # type: ignore[arg-type]
    return cell if str(cell) == path else None
